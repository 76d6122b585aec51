"""Parameters that are not trained stay as they are, to the bit."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from tiny_runs import DISTILL, QUIET, TRAIN, fit, taught

from kd_jax import freezing
from kd_jax.config import Train
from kd_jax.distill import KD
from kd_jax.errors import UsageError
from kd_jax.forward import from_apply, from_linen
from kd_jax.optim import Optim
from kd_jax.tree import named_leaves

HEAD_ALONE = ("^(?!classifier)",)
SGD = Optim(learning_rate=0.05, weight_decay=0.1, nesterov=True, clip_norm=0.5, max_norm=0.7)
# Every way in which an optimizer moves a parameter whose gradient is zero.
OPTIMS = {
    "sgd": SGD,
    "adamw": Optim(name="adamw", learning_rate=0.01, weight_decay=0.1),
}


def begun(seeds=2):
    """The network that stages start from here."""
    return taught(seeds)[1]


@pytest.mark.parametrize("name", OPTIMS)
def test_what_is_frozen_stays_and_the_rest_moves(name):
    stage = dataclasses.replace(TRAIN, optim=OPTIMS[name], freeze=HEAD_ALONE, ema=0.9)
    state, _ = fit(stage, start=begun())
    before, average = named_leaves(begun().params), named_leaves(state.extra["ema"]["params"])
    for path, after in named_leaves(state.params).items():
        same = np.array_equal(after, before[path])
        assert same != path.startswith("classifier"), path
        assert np.array_equal(average[path], before[path]) == same, path
    moments = {p: x for p, x in named_leaves(state.opt_state).items() if x.ndim > 1}
    idle = [p for p, x in moments.items() if "classifier" not in p and "count" not in p]
    assert idle
    assert not any(np.any(moments[path]) for path in idle)


def test_the_norm_of_the_gradient_is_of_what_is_trained():
    """Clipped to a bound that only the frozen layers' gradients reach, behind large weights: as if
    there was none."""
    start = begun()
    large = jax.tree.map(lambda x: 30 * x, start.params["classifier"])
    start = dataclasses.replace(start, params={**start.params, "classifier": large})
    optims = (dataclasses.replace(TRAIN.optim, clip_norm=bound) for bound in (None, 8.0))
    stages = [dataclasses.replace(TRAIN, optim=o, freeze=("hidden", "norm")) for o in optims]
    free, clipped = (fit(stage, start=start)[0].params["classifier"] for stage in stages)
    assert not tiny.differences(free, clipped)


def test_dot_takes_it_too():
    optim = Optim(name="dot", learning_rate=0.05, weight_decay=0.1)
    given = {"terms": {"kd": KD(temperature=2.0)}, "gradient_norms": False}
    stage = dataclasses.replace(DISTILL, optim=optim, freeze=HEAD_ALONE, **given)
    state, _ = fit(stage, start=begun())
    np.testing.assert_array_equal(
        state.params["hidden"]["kernel"], begun().params["hidden"]["kernel"]
    )
    assert np.any(state.params["classifier"]["kernel"] != begun().params["classifier"]["kernel"])


def test_statistics_move_unless_they_are_frozen_too():
    before = begun().collections["batch_stats"]["norm"]
    for still in (False, True):
        stage = dataclasses.replace(TRAIN, freeze=HEAD_ALONE, freeze_statistics=still, ema=0.9)
        state, _ = fit(stage, start=begun())
        for found in (state.collections, state.extra["ema"]["collections"]):
            for name, value in found["batch_stats"]["norm"].items():
                assert np.array_equal(value, before[name]) == still, name


def test_everything_may_be_frozen():
    stage = dataclasses.replace(TRAIN, freeze=(".",), freeze_statistics=True)
    state, _ = fit(stage, start=begun())
    assert not tiny.differences(state.params, begun().params)
    assert not tiny.differences(state.collections, begun().collections)


def test_pruning_makes_zeros_of_frozen_weights_and_nothing_else():
    stage = dataclasses.replace(QUIET, freeze=("hidden",), ema=None)
    state, _ = fit(stage, start=begun())
    kernel, mask = state.params["hidden"]["kernel"], state.masks["hidden"]["kernel"]
    assert 0 < np.sum(~mask) < mask.size
    kept = np.where(mask, begun().params["hidden"]["kernel"], 0)
    np.testing.assert_array_equal(np.where(mask, kernel, 0), kept)


# Norms ---------------------------------------------------------------------------------------


class Two(nn.Module):
    """Two norms, the second of which is told its mode by its call."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, name="first")(x)
        x = nn.Dense(4, name="dense")(nn.relu(x))
        x = nn.BatchNorm(name="second")(x, use_running_average=not train)
        return nn.Dropout(0.5, deterministic=not train)(x)


def two():
    model = from_linen(Two())
    x = jax.random.normal(jax.random.key(3), (6, 4)) + 2
    variables = model.init(jax.random.key(0), x)
    drawn = lambda v: jnp.linspace(0.5, 1.5, v.size).reshape(v.shape)  # noqa: E731
    return model, jax.tree.map(drawn, variables), x


def test_a_frozen_norm_is_in_evaluation_and_the_others_train():
    model, variables, x = two()
    assert model.freeze is not None
    key = jax.random.key(1)
    _, moved = model.forward(variables, x, train=True, key=key)
    first = model.freeze(("^first",))
    _, partly = first.forward(variables, x, train=True, key=key)
    for name in ("mean", "var"):
        before = variables["batch_stats"]
        assert np.array_equal(partly["batch_stats"]["first"][name], before["first"][name])
        assert not np.array_equal(partly["batch_stats"]["second"][name], before["second"][name])
        assert not np.array_equal(moved["batch_stats"]["first"][name], before["first"][name])


def test_with_all_norms_frozen_only_dropout_tells_training_from_evaluation():
    model, variables, x = two()
    still = model.freeze(("first", "second"))  # type: ignore[misc]
    evaluated = model.forward(variables, x)[0].logits
    trained = jax.jit(lambda v, x: still.forward(v, x, True, jax.random.key(1))[0].logits)
    kept = np.asarray(trained(variables, x))
    np.testing.assert_allclose(kept, np.where(kept == 0, 0, 2 * evaluated), rtol=1e-6)
    assert 0 < np.sum(kept == 0) < kept.size


def test_half_a_norm_is_not_frozen():
    assert freezing.still(("norm/",), "norm")
    assert not freezing.still(("norm/scale",), "norm")
    model, variables, x = two()
    half = model.freeze(("first/scale",))  # type: ignore[misc]
    _, moved = half.forward(variables, x, train=True, key=jax.random.key(1))
    assert not np.array_equal(
        moved["batch_stats"]["first"]["mean"], variables["batch_stats"]["first"]["mean"]
    )


def test_taps_and_frozen_norms_go_together():
    model, variables, x = two()
    tapped = model.freeze(("first",)).tapped(("first",))  # type: ignore[misc]
    outputs, updated = tapped.forward(variables, x, train=True, key=jax.random.key(1))
    running = variables["batch_stats"]["first"]
    by_hand = (x - running["mean"][None]) / np.sqrt(running["var"] + 1e-5)[None]
    by_hand = by_hand * variables["params"]["first"]["scale"][None]
    by_hand = by_hand + variables["params"]["first"]["bias"][None]
    np.testing.assert_allclose(outputs.features["first"], by_hand, rtol=1e-5, atol=1e-6)
    assert jax.tree.structure(updated) == jax.tree.structure(
        {"batch_stats": variables["batch_stats"]}
    )


# What is refused -----------------------------------------------------------------------------


def test_patterns_are_checked():
    with pytest.raises(UsageError, match=r"freeze pattern '\(' is no regular expression"):
        Train(freeze=("(",))
    with pytest.raises(UsageError, match="freeze-statistics True, but nothing is frozen"):
        Train(freeze_statistics=True)
    with pytest.raises(
        UsageError, match=r"'clasifier' finds no parameter: change it\. They are: cl"
    ):
        fit(dataclasses.replace(TRAIN, freeze=("clasifier",)))


def test_a_function_has_no_norms_that_could_be_told_apart():
    model = tiny.perceptron()
    plain = from_apply(lambda v, x, train: x, {"params": {}})
    assert plain.freeze is None
    bare = dataclasses.replace(model, freeze=None)
    stage = dataclasses.replace(TRAIN, freeze=(".",), freeze_statistics=True)
    with pytest.raises(UsageError, match="freeze-statistics True: the norms of this network"):
        fit(stage, bare)
