import importlib

import pytest
from tiny_experiment import fake_data

from kd_jax import checks, cli, pipeline
from kd_jax.bench.cases import EXAMPLES
from kd_jax.config import ROLES, Experiment, smoke
from kd_jax.datasets import DATASETS
from kd_jax.forward import from_linen
from kd_jax.prune import Iterative


def module(name):
    return importlib.import_module(f"experiments.{name}")


def command(name):
    verb = "reproduce" if hasattr(module(name), "PUBLISHED") else "run"
    return f"python run.py {verb} {name}"


def test_the_experiments_are_all_there():
    assert {
        "digits",
        "digits_assistant",
        "mnist_lenet5",
        "mnist_hinton",
        "cifar10_resnet",
        "cifar10_resnet152_mobilenetv2",
        "cifar10_fast",
        "cifar10_fast_vgg",
        "cifar10_vgg16_prune",
    } <= set(cli.names())


@pytest.mark.parametrize("name", cli.names())
def test_an_experiment_says_what_it_is(name):
    lines = (module(name).__doc__ or "").strip().splitlines()
    assert lines[0].endswith(".")
    facts = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    assert facts["Data"]
    assert facts["Cost"]
    assert facts.get("Command", command(name)) == command(name)


# All pairs of the benchmark have the same stages: one stands for them.
ONE = [n for n in cli.names() if not n.startswith("cifar100_") or n == "cifar100_resnet56_resnet20"]


# Of the zoos, digits' has the same stages.
ONE = [pytest.param(n, marks=[pytest.mark.slow] * (n == "cifar10_kd_zoo")) for n in ONE]


@pytest.mark.parametrize("name", ONE)
def test_an_experiment_can_run_as_it_is(name):
    """Its models take its data, its batches fit, its schedules are long enough."""
    experiment = module(name).CONFIG
    assert isinstance(experiment, Experiment)
    assert experiment.name == name
    assert experiment.data.name in DATASETS
    assert set(experiment.order()) == set(experiment.stages)
    data = fake_data(
        experiment.data.name,
        EXAMPLES.get(experiment.data.name, 900),
        experiment.data.image_size,
    )
    models = {}
    for role in ROLES:
        config = getattr(experiment, role)
        if config is not None:
            models[role] = from_linen(config.build(data.spec.classes, experiment.compute))
    for stage in experiment.stages.values():
        checks.check(stage, models[stage.model], data)


@pytest.mark.parametrize("name", ["cifar10_fast_vgg", "digits_shrink"])
def test_what_is_cut_down_to_a_share_can_be_so_in_small_too(name):
    """The smallest of networks, in which few units are a multiple of eight."""
    small = smoke(cli.preset(name))
    assert pipeline.planned(small).experiment == small


# The pairs of the benchmark have a test of their own.
OWN = [n for n in cli.names() if not n.startswith(("cifar100_", "imagenet_"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_its_smoke_run_passes(name, tmp_path, capsys):
    made_up = [] if name.startswith("digits") else ["--data.synthetic", "True"]
    flags = ["--smoke", *made_up, "--devices", "1", "--out", str(tmp_path)]
    status = cli.main([*command(name).split()[2:], *flags])
    assert (status, capsys.readouterr().err) == (0, "")


def test_the_four_steps_of_distillation_and_the_five_of_pruning():
    four = module("cifar10_resnet152_mobilenetv2").CONFIG
    assert type(four.teacher).__name__ == "ResNet"
    assert four.teacher.blocks == (3, 8, 36, 3)
    assert type(four.student).__name__ == "MobileNetV2"
    assert four.needs("distill") == ("train",)
    five = module("cifar10_vgg16_prune").CONFIG
    assert type(five.student).__name__ == "VGG"
    assert five.stages["prune"].start == "train"
    assert five.stages["prune"].schedule == Iterative(rounds=5, shape="geometric")


def test_an_assistant_stands_between_and_generations_follow_one_another():
    config = module("digits_assistant").CONFIG
    assert config.needs("distill") == ("assist",)
    assert config.needs("assist") == ("train",)
    assert config.stages["assist"].model == "assistant"
    assert config.needs("and_again") == ("again",)
    assert config.needs("again") == ("alone",)
    students = [s for s in config.stages.values() if s.model == "student"]
    same = {(s.epochs, s.batch, s.fraction, s.optim, s.augment) for s in students}
    assert len(same) == 1


@pytest.mark.parametrize("name", cli.names())
def test_a_docstring_tells_paper_data_cost_and_command(name):
    text = importlib.import_module(f"experiments.{name}").__doc__
    for fact in ("Paper: ", "Data: ", "Cost: ", f"Command: {command(name)}", "Result: "):
        assert f"\n{fact}" in text
    assert "TODO" not in text
