"""Every published method on one pair of networks."""

import dataclasses

import made_results
import pytest

from experiments import cifar10_kd_zoo, digits_kd_zoo, digits_kd_zoo_vit
from kd_jax import notes, tables
from kd_jax.distill import TERMS
from kd_jax.distill.presets import PRESETS
from kd_jax.runs import Run
from kd_jax.zoo import scaled

ZOOS = [digits_kd_zoo.CONFIG, cifar10_kd_zoo.CONFIG]
OF_TRANSFORMERS = {"tinybert_hidden", "tinybert_attention", "minilm", "soft_cross_entropy"}


@pytest.mark.parametrize("zoo", ZOOS, ids=lambda zoo: zoo.name)
def test_every_method_is_there_with_the_same_budget(zoo):
    stages = {name: stage for name, stage in zoo.stages.items() if name != "train"}
    assert {name.replace("+", "_") for name in PRESETS} <= set(stages)
    terms = {name for stage in stages.values() for name in getattr(stage, "terms", {})}
    assert terms == set(TERMS) - OF_TRANSFORMERS
    alone = stages["alone"]
    for name, stage in stages.items():
        before = stages[stage.start].epochs if stage.start else 0
        assert stage.epochs + before == alone.epochs or name.endswith("_before")
        for field in ("batch", "fraction"):
            assert getattr(stage, field) == getattr(alone, field)
        assert dataclasses.replace(stage.augment, mixup=None) == alone.augment
        assert dataclasses.replace(stage.optim, name="sgd") == alone.optim


def test_transformers_have_a_zoo_of_their_own():
    stages = digits_kd_zoo_vit.CONFIG.stages.values()
    assert {name for stage in stages for name in getattr(stage, "terms", {})} >= OF_TRANSFORMERS


def test_what_is_published_for_the_pair_is_taken():
    stages = cifar10_kd_zoo.CONFIG.stages
    assert stages["dkd"].terms["dkd"].beta == 2.0
    assert stages["reviewkd"].terms["reviewkd"].weight == 0.6


def test_times_are_shares_of_the_epochs():
    terms = scaled(PRESETS["reviewkd"].terms, 60)
    assert terms["reviewkd"].warmup == 5.0
    assert scaled(PRESETS["ft"].terms, 120)["ft"].paraphrase == 15.0
    assert scaled(PRESETS["kd"].terms, 60) == PRESETS["kd"].terms


def test_who_teaches_whom():
    stages = digits_kd_zoo.CONFIG.stages
    assert stages["tfkd_self"].teacher == "alone"
    assert stages["byot"].teacher == stages["label_smoothing"].teacher == ""
    assert stages["simkd"].classifier == "teacher"
    assert stages["ab"].start == "ab_before"
    assert (stages["dml"].taught_by, stages["average"].taught_by) == ("peers", "average")
    assert stages["crd"].terms["crd"].negatives == 256


def test_labels_tell_methods_apart(tmp_path):
    run = Run(digits_kd_zoo.CONFIG, tmp_path, None, {})  # type: ignore[arg-type]
    labels = {stage: run.label(stage) for stage in run.experiment.stages}
    assert len(set(labels.values())) == len(labels)
    assert labels["crd_kd"] == "student distilled, crd_kd"
    assert labels["alone"] == "student alone"
    assert labels["label_smoothing"] == "student alone, label_smoothing"


def test_what_each_is_compared_with(tmp_path):
    run = Run(digits_kd_zoo.CONFIG, tmp_path, None, {})  # type: ignore[arg-type]
    order = tuple(run.experiment.stages)
    assert run.baselines("train", order) == ()
    assert run.baselines("alone", order) == ()
    assert run.baselines("kd", order) == ("alone",)
    assert run.baselines("at", order) == ("alone", "kd")


def test_the_table_by_hand():
    """Of made results: prune is compared with two, seed by seed."""
    rows = made_results.rows()
    steps = [
        dataclasses.replace(row, step_ms=ms) for row, ms in zip(rows, (8, 1, 2, 3), strict=True)
    ]
    text = tables.markdown([made_results.make(rows=steps)])
    table = text.split(notes.VERSUS)[1].strip().split("\n\n")[0].splitlines()
    head = "| network | accuracy % | against student alone, points | "
    assert table[0] == head + "against student distilled, points | training step, ms |"
    # 1.0, 0.5, 0.5 and -1.0, -1.0, -0.5: t = 4 and -5 with two degrees of freedom.
    assert table[-1] == (
        "| student distilled and pruned | 91.67 ± 0.76 | +0.67 ± 0.29 (p = 0.057) | "
        "-0.83 ± 0.29 (p = 0.038) | 3.00 (1.5×) |"
    )
    assert table[2].startswith("| teacher | 98.00 ± 1.00 | – | – | 8.00 |")
    assert notes.VERSUS not in tables.markdown([made_results.make(rows=rows[:3])])
    # Times of different devices are not compared.
    steps[-1] = dataclasses.replace(steps[-1], trained_on="TPU v5e")
    assert "| 3.00 |" in tables.markdown([made_results.make(rows=steps)])


def test_of_many_only_what_stands_out_is_said():
    teacher, alone, distilled, _ = made_results.rows()
    add = lambda gain, i: dataclasses.replace(  # noqa: E731
        distilled,
        stage=f"s{i}",
        label=f"method {i}",
        accuracy=[x + gain * (1 + 0.01 * seed) for seed, x in enumerate(alone.accuracy)],
    )
    gains = [0.0, 0.02, -0.01, 0.01] + [0.0] * notes.FEW
    many = [add(gain, i) for i, gain in enumerate(gains)]
    found = notes.findings([made_results.make(rows=[teacher, alone, *many])])
    assert found[0] == (
        f"Of {len(gains)} compared with student alone, by a 95 % interval, points: better: "
        "method 1 (+2.02), method 3 (+1.01); worse: method 2 (-1.01)."
    )
    assert found[1].startswith(f"These are {len(gains)} comparisons")
    assert len(found) == 2
