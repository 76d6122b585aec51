"""A student that ends in its teacher's classifier."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs
from calls import refused
from marks import slow_but

from kd_jax import cli, results, stages
from kd_jax.config import Distill
from kd_jax.distill import SimKD
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.optim import Optim
from kd_jax.reuse import REUSED, reused
from kd_jax.state import Snapshot, no_masks

SHAPE = (8, 8, 1)


class Maps(nn.Module):
    """A convolution whose map is a mean's input."""

    width: int
    stride: int = 1

    @nn.compact
    def __call__(self, inputs, train):
        strides = (self.stride, self.stride)
        x = nn.Conv(self.width, (3, 3), strides, kernel_init=tiny.sines, name="conv")(inputs)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        pooled = jnp.mean(x, axis=(1, 2))
        logits = nn.Dense(10, kernel_init=tiny.sines, name="classifier")(pooled)
        return logits, {"stage1": x, "pooled": pooled}


STUDENT, TEACHER = from_linen(Maps(3)), from_linen(Maps(8, stride=2))
STAGE = Distill(
    epochs=2,
    batch=16,
    optim=Optim(learning_rate=0.05, weight_decay=0.1),
    classifier="teacher",
    hard_weight=0.0,
    terms={"simkd": SimKD(reduction=4)},
    ema=0.5,
    gradient_norms=False,  # a program as large as a step's
)


def network(model, seeds=2):
    inputs = jnp.zeros((1, *SHAPE))
    keys = jax.random.split(jax.random.key(3), seeds)
    variables = jax.jit(jax.vmap(lambda key: model.init(key, inputs)))(keys)
    params = variables.pop("params")
    return Snapshot(params, variables, no_masks(params))


@functools.cache
def taught():
    return TEACHER, network(TEACHER)


def test_what_it_puts_out():
    model, inputs = (
        reused(STUDENT, TEACHER, SHAPE, 4),
        jax.random.normal(jax.random.key(1), (5, *SHAPE)),
    )
    variables = jax.jit(model.init)(jax.random.key(0), inputs[:1])
    theirs = jax.tree.map(lambda x: x[0], taught()[1].variables)
    variables |= model.adopts(theirs)
    assert "classifier" not in variables["params"]["student"]
    forward = jax.jit(model.forward, static_argnames="train")
    said, collections = forward(variables, inputs)
    projected = np.asarray(said.features["projected"])
    assert projected.shape == (5, 4, 4, 8)  # the student's 8x8 places are pooled to the teacher's
    assert variables["params"]["projector"]["conv1"]["kernel"].shape == (3, 3, 2, 2)
    layer = theirs["params"]["classifier"]
    by_hand = projected.mean((1, 2)) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    np.testing.assert_allclose(said.logits, by_hand, rtol=1e-5, atol=1e-6)
    before, after = (
        jax.tree.leaves(c) for c in (variables["batch_stats"], collections["batch_stats"])
    )
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    _, trained = forward(variables, inputs, train=True)
    for part in ("student", "projector"):
        moved = jax.tree.map(
            lambda a, b: jnp.any(a != b),
            trained["batch_stats"][part],
            variables["batch_stats"][part],
        )
        assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("variants", slow_but([1], [1, 2]))
def test_only_the_rest_is_trained(variants):
    """By weight decay, by an average, for each seed its own."""
    several = [
        dataclasses.replace(STAGE, optim=Optim(learning_rate=rate, weight_decay=0.1))
        for rate in (0.05, 0.01)
    ]
    given = {"seeds": (0, 1), "devices": 1, "teacher": taught()}
    model = reused(STUDENT, TEACHER, SHAPE, 4)
    found = stages.run(several[:variants], model, tiny.digits(), **given)
    classifier = taught()[1].params["classifier"]
    for name in ("kernel", "bias"):
        expected = np.repeat(classifier[name], variants, axis=0)
        np.testing.assert_allclose(found.collections[REUSED][name], expected, rtol=1e-6)
    slow = dataclasses.replace(STAGE, optim=Optim(learning_rate=1e-4, weight_decay=0.1))
    begun = stages.run(slow, model, tiny.digits(), **given)
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a[0] != b[0])), found.params, begun.params)
    assert all(jax.tree.leaves(moved))
    assert "classifier" not in found.params["student"]


@pytest.mark.slow
def test_the_projector_is_no_part_of_the_term():
    state, diary = tiny_runs.fit(STAGE, reused(STUDENT, TEACHER, SHAPE, 4), teacher=taught())
    assert "terms" not in state.extra
    losses = [np.mean(record["train"]["simkd"]) for record in diary.records]
    assert losses[-1] < losses[0]
    own, _ = tiny_runs.fit(dataclasses.replace(STAGE, classifier="own"), STUDENT, teacher=taught())
    assert own.extra["terms"]["simkd"].params["projector0"]


@pytest.mark.slow
def test_from_run_py(tmp_path):
    flags = "--teacher resnet8 --student resnet8 --distill simkd --prune.terms simkd"
    flags += " --prune.hard-weight 0.1 --prune.allocation layer --seeds 1 --only prune"
    arguments = ["run", "digits", "--smoke", *flags.split(), "--out", str(tmp_path)]
    assert cli.main(arguments) == 0
    (folder,) = tmp_path.iterdir()
    found = results.read(folder)
    teacher, student, pruned = found.rows
    assert student.model.endswith("and its teacher's classifier")
    assert student.model == pruned.model
    assert [*pruned.sparsity] == [0.5]
    assert student.similarity.namesakes["pooled"]
    # A student that is no smaller than its teacher, and a projector, without a classifier twice.
    assert student.parameters > teacher.parameters


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--distill.classifier teacher",
            "--distill.classifier teacher: the student's stage1 is of shape (32,), and it needs ",
        ),
        (
            "--distill.classifier teacher --distill.start alone",
            "--distill.start 'alone' with classifier teacher: that is another network ",
        ),
        (
            "--distill.classifier teacher --distill.teacher train+alone",
            "--distill.classifier teacher needs one teacher",
        ),
    ],
)
def test_where_it_can_not_be(call, flags, said):
    assert refused(call, "run", "digits", *flags.split()).startswith(said)


def test_without_a_teacher():
    with pytest.raises(UsageError, match="takes a part of its teacher's: name a teacher"):
        tiny_runs.fit(tiny_runs.TRAIN, reused(STUDENT, TEACHER, SHAPE))
