import dataclasses
import functools

import pytest
from tiny_experiment import fake_data, tiny

from kd_jax import checks, cli
from kd_jax.config import Distill, Experiment, Prune, Train, smoke
from kd_jax.datasets import Data
from kd_jax.distill import TERMS
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("cls", "fields", "said"),
    [
        (Train, {"epochs": 0}, "epochs 0 must be at least 1"),
        (Train, {"epochs": -3}, "epochs -3 must be at least 1"),
        (Train, {"batch": 0}, "batch 0 must be at least 1"),
        (Train, {"evaluate_every": 0}, "evaluate-every 0 must be at least 1"),
        (Train, {"fraction": 0.0}, "fraction 0.0 must be in (0, 1]"),
        (Train, {"fraction": 1.1}, "fraction 1.1 must be in (0, 1]"),
        (Train, {"fraction": NAN}, "fraction is nan"),
        (Train, {"label_smoothing": 1.0}, "label-smoothing 1.0 must be in [0, 1)"),
        (Train, {"ema": 1.0}, "ema 1.0 must be in (0, 1)"),
        (Train, {"ema": 0.0}, "ema 0.0 must be in (0, 1)"),
        (Train, {"optim": Optim(learning_rate=INF)}, "optim.learning-rate is inf"),
        (Distill, {"hard_weight": -1.0}, "hard-weight -1.0 must not be negative"),
        (Distill, {"hard_weight": INF}, "hard-weight is inf"),
        (Distill, {"hard_weight": 0.0, "terms": {}}, "hard-weight 0.0 and no term"),
        (Distill, {"teacher": ""}, "teacher is empty"),
        (
            Distill,
            {"terms": {"mixture": TERMS["mixture"]}},
            "hard-weight 0.1 with the term mixture",
        ),
        (Prune, {"sparsity": 1.0}, "sparsity 1.0 must be in [0, 1)"),
        (Prune, {"sparsity": -0.1}, "sparsity -0.1 must be in [0, 1)"),
        (Prune, {"allocation": "std"}, "threshold 0.0 with allocation 'std'"),
        (Prune, {"threshold": 0.1}, "threshold 0.1 with allocation 'layer'"),
        (Prune, {"teacher": "train"}, "teacher 'train' without terms teaches nothing"),
    ],
)
def test_a_stage_refuses_what_can_not_be(cls, fields, said):
    with pytest.raises(UsageError) as error:
        cls(**fields)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"learning_rate": 0.0}, "learning-rate 0.0 must be above 0"),
        ({"learning_rate": NAN}, "learning-rate nan must be above 0"),
        ({"momentum": 1.0}, "momentum 1.0 must be in [0, 1)"),
        ({"drop": 0.0}, "drop 0.0 must be in (0, 1]"),
        ({"warmup": -1}, "warmup -1 must not be negative"),
        ({"clip_norm": 0.0}, "clip-norm 0.0 must be above 0"),
        ({"milestones": (0.5, 0.2)}, "milestones (0.5, 0.2) must be increasing"),
    ],
)
def test_the_optimizer_refuses_what_can_not_be(fields, said):
    with pytest.raises(UsageError) as error:
        Optim(**fields)
    assert str(error.value).startswith(said)


def stages(**changes):
    found = dict(tiny().stages)
    for name, fields in changes.items():
        found[name] = dataclasses.replace(found[name], **fields)
    return {"stages": found}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"seeds": 0}, "seeds 0 must be"),
        ({"seeds": 10**9}, "seeds 1000000000 must be"),
        ({"seed": -1}, "seed -1 must be"),
        ({"devices": -1}, "devices -1 must not be negative"),
        ({"latency_batch": 10**9}, "latency-batch 1000000000 must be"),
        ({"checkpoint_seconds": 0.0}, "checkpoint-seconds 0.0 must be"),
        ({"checkpoint_seconds": 61.0}, "checkpoint-seconds 61.0 must be"),
        ({"out": ""}, "out is empty"),
        ({"only": ("prun",)}, "only 'prun' is no stage. Did you mean 'prune'?"),
        ({"teacher": None}, "train.model is 'teacher', but the experiment has no teacher"),
        (
            stages(distill={"model": "assistant"}),
            "distill.model is 'assistant', but the experiment has no assistant: set --assistant",
        ),
        (
            {**stages(distill={"model": "assistant"}), "assistant": MLP(widths=(9,))},
            "prune.start 'distill' is of the assistant, but prune.model is 'student'",
        ),
        (stages(prune={"start": "distil"}), "prune.start 'distil' is no stage. Did you mean"),
        (
            stages(prune={"start": "train"}),
            "prune.start 'train' is of the teacher, but prune.model",
        ),
        (stages(distill={"teacher": "x"}), "distill.teacher 'x' is no stage."),
        (
            stages(distill={"teacher": "", "terms": {}}),
            "distill.teacher is empty, but to distil needs one",
        ),
        (
            stages(distill={"start": "prune"}),
            "prune.start 'distill' closes a circle of stages, distill -> prune -> distill",
        ),
        (
            {**stages(distill={"start": "distill"}), "only": ("train",)},
            "distill.start 'distill' closes a circle of stages, distill -> distill",
        ),
        (
            stages(train={"model": "student", "start": "prune"}),
            "distill.teacher 'train' closes a circle of stages, train -> prune -> distill -> train",
        ),
        ({"stages": {"a-b": Train()}}, "stages 'a-b': a stage is named by"),
        ({"stages": {"": Train()}}, "stages '': a stage is named by"),
        ({"stages": {"seeds": Train()}}, "stages 'seeds': a stage is named by"),
        ({"student": MLP(width=INF)}, "student.width is inf"),
    ],
)
def test_an_experiment_refuses_what_can_not_be(fields, said):
    with pytest.raises(UsageError) as error:
        tiny(**fields)
    assert str(error.value).startswith(said)


def test_sparsity_can_not_fall_along_a_chain_of_stages():
    chain = {
        "first": Prune(sparsity=0.9),
        "between": Train(start="first"),
        "second": Prune(sparsity=0.5, start="between"),
    }
    with pytest.raises(UsageError, match=r"^second\.sparsity 0\.5 is below the 0\.9"):
        Experiment(name="chain", stages=chain)
    chain["second"] = Prune(sparsity=0.9, start="between")
    assert Experiment(name="chain", stages=chain).order() == ("first", "between", "second")


def test_stages_run_after_what_they_need_and_only_those_asked_for():
    stages = {
        "prune": Prune(start="distill"),
        "distill": Distill(teacher="train"),
        "alone": Train(),
        "train": Train(model="teacher"),
    }
    experiment = tiny(stages=stages)
    assert experiment.order() == ("train", "distill", "prune", "alone")
    assert experiment.needs("distill") == ("train",)
    assert tiny(stages=stages, only=("prune",)).order() == ("train", "distill", "prune")
    assert tiny(stages=stages, only=("alone", "train")).order() == ("alone", "train")


@pytest.mark.parametrize(
    ("term", "hard_weight", "clips"), [("fsp", 0.0, 1.0), ("fsp", 1.0, None), ("kd", 0.0, None)]
)
def test_in_small_what_learns_features_without_labels_is_clipped(term, hard_weight, clips):
    stage = Distill(epochs=1, hard_weight=hard_weight, terms={term: TERMS[term]})
    assert stage.optim.clip_norm is None
    assert stage.small()["optim"].clip_norm == clips
    of_dot = dataclasses.replace(stage, optim=dataclasses.replace(stage.optim, name="dot"))
    assert of_dot.small()["optim"].clip_norm is None


# All pairs of the benchmark have the same stages: one stands for them.
ONE = [n for n in cli.names() if not n.startswith("cifar100_") or n == "cifar100_resnet56_resnet20"]


@pytest.mark.parametrize("name", ONE)
def test_smoke_is_small_valid_and_the_same_kind_of_experiment(name):
    full = cli.preset(name)
    small = smoke(full)
    assert list(small.stages) == list(full.stages)
    assert [type(s) for s in small.stages.values()] == [type(s) for s in full.stages.values()]
    assert type(small.student) is type(full.student)
    assert type(small.teacher) is type(full.teacher)
    assert type(small.assistant) is type(full.assistant)
    assert small.seeds <= 2
    assert small.data.train_limit <= 320
    assert small.data.test_limit <= 200
    assert smoke(small) == small
    data = fake_data(full.data.name, small.data.train_limit, small.data.image_size)
    # One network for all stages that train it, so that it is traced once.
    made = functools.cache(lambda c: from_linen(c.build(data.spec.classes, "float32")))
    for name, stage in small.stages.items():
        assert stage.epochs == min(full.stages[name].epochs, 2)
        assert stage.batch <= 32
        checks.check(stage, made(getattr(small, stage.model)), data)


def test_smoke_keeps_smaller_settings():
    base = tiny(data=Data(train_limit=50, test_limit=20), seeds=1)
    assert smoke(base).data == base.data
    assert smoke(base).seeds == 1
    assert smoke(base).latency_batch == 4


def test_smoothed_labels_beside_a_term_that_holds_the_labels_itself():
    with pytest.raises(UsageError, match=r"label-smoothing 0\.1 with the term mixture"):
        Distill(terms={"mixture": TERMS["mixture"]}, hard_weight=0.0, label_smoothing=0.1)
