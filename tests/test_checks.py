import dataclasses

import pytest
from tiny_experiment import fake_data

from kd_jax import checks
from kd_jax.augment import Augment
from kd_jax.config import Prune, Train
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.prune import Iterative, OneShot, Slimming


def model(config, classes=10):
    return from_linen(config.build(classes, "float32"))


DIGITS = fake_data("digits", 100)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Train(batch=101), "batch 101 is larger than the 100 training examples"),
        (
            Train(batch=52, fraction=0.5),
            "batch 52 is larger than the 50 training examples that fraction 0.5 leave: change that",
        ),
        (
            Train(batch=24, epochs=2, optim=Optim(warmup=8)),
            "optim.warmup 8 must be below the 8 steps of the stage: lower it",
        ),
        (Train(batch=63), "batch 63 does not divide over 8 devices"),
        (Train(batch=8, epochs=10**9), "epochs 1000000000 make 12000000000 steps"),
        (Train(batch=8, augment=Augment(crop=8)), "augment.crop 8 moves images of 8 pixels"),
        (Train(batch=8, augment=Augment(shift=9)), "augment.shift 9 moves images of 8 pixels"),
    ],
)
def test_checks_refuse_a_stage_that_does_not_fit_its_data(stage, said):
    with pytest.raises(UsageError) as error:
        checks.check(stage, model(MLP(widths=(4,))), DIGITS)
    assert str(error.value).startswith(said)


def test_what_leaves_too_few_examples_is_named():
    split = lambda count: fake_data("digits", count).train  # noqa: E731
    small = dataclasses.replace(DIGITS, train=split(8), validation=split(10), ids_below=100)
    for data, said in (
        (small, "8 training examples that --data.train-limit and --data.validation leave: change"),
        (dataclasses.replace(small, ids_below=18), "examples that --data.validation leave: change"),
        (dataclasses.replace(small, validation=split(2)), "examples that --data.train-limit leave"),
        (dataclasses.replace(small, validation=split(2), ids_below=10), "examples: lower it"),
    ):
        with pytest.raises(UsageError, match=said):
            checks.check(Train(batch=12), model(MLP(widths=(4,))), data)


def test_a_penalty_on_parameters_that_are_not_there():
    with pytest.raises(UsageError, match=r"^penalty.include .*scale\$ finds no parameter: name"):
        checks.check(Prune(batch=8, penalty=Slimming()), model(MLP(widths=(4,))), DIGITS)


def test_checks_refuse_more_devices_than_there_are():
    with pytest.raises(UsageError, match=r"^--devices 9: there are only 8 \(cpu\)"):
        checks.check(Train(batch=20), model(MLP(widths=(4,))), DIGITS, devices=9)
    checks.check(Train(batch=63), model(MLP(widths=(4,))), DIGITS, devices=1)
    checks.check(Train(batch=62), model(MLP(widths=(4,))), DIGITS, devices=2)


def test_checks_refuse_other_classes_than_those_of_the_data():
    with pytest.raises(UsageError, match=r"^--student gives outputs of shape \(7,\).*10 classes"):
        checks.check(Train(batch=8), model(MLP(widths=(4,)), classes=7), DIGITS)
    with pytest.raises(UsageError, match=r"^--teacher MLP gives outputs of shape \(7,\)"):
        checks.check_model("teacher", model(MLP(widths=(4,)), classes=7), DIGITS, "MLP")


def test_checks_refuse_a_model_that_can_not_take_the_data_whatever_it_raises():
    def init(key, inputs):
        raise ZeroDivisionError("first line\nsecond line")

    broken = dataclasses.replace(model(MLP(widths=(4,))), init=init)
    with pytest.raises(UsageError) as error:
        checks.check(Train(batch=8), broken, DIGITS, who="Net (stage alone)")
    assert str(error.value) == (
        "--student Net (stage alone) can't take inputs of shape (8, 8, 1), those of digits "
        "(first line): choose another model or --data.image-size"
    )


def test_checks_of_pruning_name_its_fields():
    small = model(MLP(widths=(4,)))
    with pytest.raises(UsageError, match=r"^include pattern 'x' finds no parameter"):
        checks.check(Prune(batch=8, include=("x",)), small, DIGITS)
    with pytest.raises(UsageError, match=r"^schedule\.rounds is 9, but the run has 2 steps"):
        checks.check(Prune(batch=96, epochs=2, schedule=Iterative(rounds=9)), small, DIGITS)
    checks.check(Prune(batch=96, epochs=2, schedule=OneShot(at=1.0)), small, DIGITS)


@pytest.mark.parametrize("stage", [Train(batch=8), Prune(batch=8)])
def test_checks_refuse_a_model_larger_than_the_memory_without_making_it(stage):
    huge = model(MLP(widths=(10**7, 10**7)))
    with pytest.raises(
        UsageError, match=r"^--student MLP \(stage x\): .* take [\d,]+ TB, and there"
    ):
        checks.check(stage, huge, DIGITS, who="MLP (stage x)")


def test_memory_of_a_step_by_hand(monkeypatch):
    """64 x 4 + 4 and 4 x 10 + 10 weights of 4 bytes: as weights, gradients, and sgd's
    momentum; and the step's number."""
    stage, small, needed = Train(batch=8), model(MLP(widths=(4,))), 310 * 4 * 3 + 4
    monkeypatch.setattr(checks, "memory", lambda: needed)
    checks.check(stage, small, DIGITS)
    for adam in (Train(batch=8, optim=Optim(name="adam")), Train(batch=8, ema=0.9)):
        with pytest.raises(
            UsageError, match=r"^--student: .* take 4\.9\d kB, and there are 3\.72 kB"
        ):
            checks.check(adam, small, DIGITS)
    with pytest.raises(UsageError, match=r"for 2 seeds at once.*--together False"):
        checks.check(stage, small, DIGITS, seeds=2)


def test_memory_that_is_not_known_bounds_nothing(monkeypatch):
    monkeypatch.setattr(checks, "memory", lambda: None)
    checks.check(Prune(batch=8), model(MLP(widths=(10**7, 10**7))), DIGITS)
