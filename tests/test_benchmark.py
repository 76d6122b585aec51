"""The pairs that distillation is compared on."""

import pytest

from kd_jax import UsageError, benchmark, cli, pipeline

NAMES = [f"cifar100_{teacher}_{student}" for teacher, student in benchmark.PAIRS]


def test_every_pair_is_an_experiment_with_what_was_published_of_it():
    assert set(NAMES) <= set(cli.names())
    known = benchmark.published()
    assert known["resnet56", "resnet20"]["kd"] == 70.66
    assert known["wrn_40_2", "shufflenet_v1"]["crd"] == 76.05
    assert "fsp" not in known["wrn_40_2", "wrn_40_1"]
    for name in NAMES:
        figures, remark = cli.published(name)
        experiment = cli.preset(name)
        assert experiment.name == name
        assert {figure.stage for figure in figures} <= set(experiment.stages)
        assert all(figure.published for figure in figures)
        assert "tenth" in remark


def test_small_networks_of_phones_begin_with_a_smaller_rate():
    rate = lambda name: cli.preset(name).stages["kd"].optim.learning_rate  # noqa: E731
    assert rate("cifar100_vgg13_mobilenet_v2_half") == 0.01
    assert rate("cifar100_resnet50_vgg8") == 0.05


def test_others_are_no_pairs():
    with pytest.raises(UsageError, match="the pairs are wrn_40_2/wrn_16_2, "):
        benchmark.pair("resnet20", "resnet56")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name != "cifar100_resnet56_resnet20"))
        for name in [*NAMES, "imagenet_resnet34_resnet18"]
    ],
)
def test_it_can_be_planned(name):
    """Its features fit each other, before any data are there."""
    run = pipeline.planned(cli.preset(name))
    assert len(run.experiment.order()) > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "imagenet_resnet34_resnet18"])
def test_its_smoke_run_passes_on_made_up_images(name, tmp_path, capsys):
    flags = ["--smoke", "--data.synthetic", "True", "--data.image-size", "32", "--seeds", "1"]
    flags += ["--devices", "1", "--out", str(tmp_path)]
    status = cli.main(["reproduce", name, *flags])
    out, error = capsys.readouterr()
    assert (status, error) == (0, "")
    assert "student alone" in out
