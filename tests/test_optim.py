import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_jax.errors import UsageError
from kd_jax.optim import Optim, average, learning_rate, project, transform

PARAMS = {
    "kernel": jnp.array([[1.0, -2.0], [0.5, 4.0]]),
    "bias": jnp.array([3.0, -1.0]),
}
GRADS = [
    {"kernel": jnp.array([[0.1, 0.2], [-0.3, 0.4]]), "bias": jnp.array([0.5, -0.6])},
    {"kernel": jnp.array([[-0.2, 0.1], [0.6, 0.0]]), "bias": jnp.array([0.3, 0.9])},
    {"kernel": jnp.array([[0.7, -0.4], [0.2, 0.3]]), "bias": jnp.array([-0.1, 0.2])},
]


def descend(optim, rate=0.1):
    """PARAMS after a step on each of GRADS."""
    params, state = PARAMS, transform(optim).init(PARAMS)
    for grads in GRADS:
        updates, state = transform(optim).update(grads, state, params)
        params = optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates))
    return params


def by_hand(rule, rate=0.1):
    """The same in NumPy: `rule(w, g, memory, step) -> direction`, for each parameter apart."""
    found = {}
    for name, w in PARAMS.items():
        w, memory = np.asarray(w, np.float64), {}
        for step, grads in enumerate(GRADS, start=1):
            w = w - rate * rule(w, np.asarray(grads[name], np.float64), memory, step)
        found[name] = w
    return found


def sgd(momentum=0.9, decay=0.0, nesterov=False):
    """PyTorch's: v = μv + (g + λw), and the direction is v, or g + λw + μv of Nesterov."""

    def rule(w, g, memory, step):
        g = g + decay * w
        memory["v"] = momentum * memory.get("v", 0) + g
        return g + momentum * memory["v"] if nesterov else memory["v"]

    return rule


def adam(decay=0.0, apart=False, beta1=0.9, beta2=0.999):
    """Kingma & Ba; the decay joins the gradient, or (Loshchilov & Hutter) stays apart from it."""

    def rule(w, g, memory, step):
        g = g if apart else g + decay * w
        memory["m"] = beta1 * memory.get("m", 0) + (1 - beta1) * g
        memory["v"] = beta2 * memory.get("v", 0) + (1 - beta2) * g**2
        m, v = memory["m"] / (1 - beta1**step), memory["v"] / (1 - beta2**step)
        return m / (np.sqrt(v) + 1e-8) + (decay * w if apart else 0)

    return rule


def close(found, expected, **tolerance):
    tolerance = {"rtol": 2e-5, "atol": 1e-6} | tolerance
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], err_msg=name, **tolerance)


@pytest.mark.parametrize(
    ("optim", "rule"),
    [
        (Optim(momentum=0.0), sgd(0.0)),
        (Optim(), sgd()),
        (Optim(momentum=0.8, weight_decay=0.05), sgd(0.8, 0.05)),
        (Optim(nesterov=True), sgd(nesterov=True)),
        (Optim(nesterov=True, weight_decay=0.05), sgd(decay=0.05, nesterov=True)),
        (Optim(name="adam"), adam()),
        (Optim(name="adam", weight_decay=0.05), adam(0.05)),
        (Optim(name="adam", beta1=0.5, beta2=0.9), adam(beta1=0.5, beta2=0.9)),
        (Optim(name="adamw", weight_decay=0.05), adam(0.05, apart=True)),
    ],
    ids=lambda x: f"{x.name}-{x.weight_decay}" if isinstance(x, Optim) else "",
)
def test_against_numpy(optim, rule):
    close(descend(optim), by_hand(rule))


def test_decay_inside_and_outside_of_adam_differ():
    # A guard on the test above: it would not tell the two conventions apart if they were close.
    inside, outside = by_hand(adam(0.05)), by_hand(adam(0.05, apart=True))
    assert np.abs(inside["kernel"] - outside["kernel"]).max() > 1e-3


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_decay_may_spare_biases(name):
    spared = descend(Optim(name=name, weight_decay=0.1, decay_all=False))
    all_of_them = descend(Optim(name=name, weight_decay=0.1))
    none = descend(Optim(name=name))
    np.testing.assert_array_equal(spared["bias"], none["bias"])
    np.testing.assert_array_equal(spared["kernel"], all_of_them["kernel"])
    assert np.all(all_of_them["bias"] != none["bias"])


def test_dot_has_a_momentum_for_each_of_two_gradients():
    optim = Optim(name="dot", momentum=0.8, dot_delta=0.1, weight_decay=0.5)
    w = {"w": jnp.array([[1.0, -2.0]])}
    move, state = transform(optim), transform(optim).init(w)
    task, soft = np.array([[1.0, 0.5]]), np.array([[-0.2, 3.0]])
    m_task, m_soft = np.zeros((1, 2)), np.zeros((1, 2))
    for _ in range(3):
        grads = ({"w": jnp.asarray(task, jnp.float32)}, {"w": jnp.asarray(soft, jnp.float32)})
        update, state = move.update(grads, state, w)
        m_task = 0.7 * m_task + task + 0.5 * np.array([[1.0, -2.0]])
        m_soft = 0.9 * m_soft + soft
        np.testing.assert_allclose(update["w"], m_task + m_soft, rtol=1e-6)


def test_clipping_comes_before_decay_and_momentum():
    optim = Optim(momentum=0.0, clip_norm=0.5, weight_decay=0.1)
    updates, _ = transform(optim).update(GRADS[0], transform(optim).init(PARAMS), PARAMS)
    norm = math.sqrt(sum(float(jnp.sum(g**2)) for g in GRADS[0].values()))
    assert norm > 0.5
    expected = {n: np.asarray(GRADS[0][n]) * 0.5 / norm + 0.1 * PARAMS[n] for n in PARAMS}
    close(updates, expected)
    wide = dataclasses.replace(optim, clip_norm=2 * norm)
    updates, _ = transform(wide).update(GRADS[0], transform(wide).init(PARAMS), PARAMS)
    close(updates, {n: GRADS[0][n] + 0.1 * PARAMS[n] for n in PARAMS})


def test_max_norm_shortens_the_weights_into_a_unit():
    params = {"kernel": jnp.array([[3.0, 0.3], [4.0, 0.4]]), "bias": jnp.array([9.0, 9.0])}
    found = project(Optim(max_norm=1.0), params)
    np.testing.assert_allclose(found["kernel"], [[0.6, 0.3], [0.8, 0.4]], rtol=1e-6)
    np.testing.assert_array_equal(found["bias"], params["bias"])
    assert project(Optim(), params) is params
    conv = {"kernel": jnp.ones((2, 2, 3, 5)), "zero": jnp.zeros((2, 2))}
    found = project(Optim(max_norm=1.0), conv)
    np.testing.assert_allclose(jnp.sum(found["kernel"] ** 2, axis=(0, 1, 2)), np.ones(5), rtol=1e-6)
    np.testing.assert_array_equal(found["zero"], np.zeros((2, 2)))


# Learning rates


def rates(optim, steps):
    return np.array([learning_rate(optim, step, steps) for step in range(steps)])


def test_constant_rate():
    np.testing.assert_array_equal(rates(Optim(schedule="constant"), 4), np.float32([0.1] * 4))


def test_cosine_goes_from_the_peak_towards_zero():
    found = rates(Optim(learning_rate=0.4), 8)
    expected = [0.4 * (1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found[0] == np.float32(0.4)
    assert float(learning_rate(Optim(learning_rate=0.4), 8, 8)) == pytest.approx(0, abs=1e-7)
    assert found[-1] > 0


def test_steps_drop_at_their_milestones():
    optim = Optim(schedule="step", learning_rate=1.0, milestones=(0.5, 0.75), drop=0.1)
    np.testing.assert_allclose(rates(optim, 8), [1] * 4 + [0.1] * 2 + [0.01] * 2, rtol=1e-5)
    usual = Optim(schedule="step", learning_rate=1.0)
    drops = np.flatnonzero(np.diff(rates(usual, 240))) + 1
    np.testing.assert_array_equal(drops, [150, 180, 210])
    np.testing.assert_array_equal(
        rates(Optim(schedule="step", milestones=()), 2), np.float32([0.1] * 2)
    )


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_warmup_moves_at_once_and_ends_at_the_peak(schedule):
    found = rates(Optim(learning_rate=0.8, schedule=schedule, warmup=4), 24)
    np.testing.assert_allclose(found[:5], [0.2, 0.4, 0.6, 0.8, 0.8], rtol=1e-6)


def test_warmup_leaves_the_milestones_where_they_are():
    optim = Optim(schedule="step", learning_rate=1.0, milestones=(0.5,), warmup=3)
    assert np.flatnonzero(np.diff(rates(optim, 20)[3:])) + 4 == [10]


def test_cosine_after_warmup_ends_with_the_stage():
    optim = Optim(learning_rate=1.0, warmup=4)
    np.testing.assert_allclose(rates(optim, 12)[4:], rates(Optim(learning_rate=1.0), 8), rtol=1e-6)


def test_warmup_longer_than_the_stage():
    np.testing.assert_allclose(rates(Optim(learning_rate=1.0, warmup=9), 2), [0.5, 1.0])


# Traced settings


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_traced_settings_give_what_static_ones_give(name, schedule):
    optim = Optim(
        name=name, schedule=schedule, weight_decay=0.1, warmup=2, clip_norm=0.5, max_norm=2.0
    )

    def step(optim, step):
        state = transform(optim).init(PARAMS)
        updates, _ = transform(optim).update(GRADS[0], state, PARAMS)
        return learning_rate(optim, step, 10), updates, project(optim, PARAMS)

    traces = []

    @jax.jit
    def traced(optim, at):
        traces.append(optim)
        return step(optim, at)

    for at, factor in ((1, 1.0), (7, 0.5)):
        settings = dataclasses.replace(optim, learning_rate=factor * optim.learning_rate)
        for a, b in zip(
            jax.tree.leaves(traced(settings, at)), jax.tree.leaves(step(settings, at)), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert len(traces) == 1


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_state_hangs_on_static_settings_alone(name):
    one = Optim(name=name, clip_norm=1.0)
    other = Optim(
        name=name, learning_rate=3.0, momentum=0.1, beta1=0.2, weight_decay=1.0, clip_norm=9.0
    )
    a, b = (jax.eval_shape(transform(optim).init, PARAMS) for optim in (one, other))
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert jax.tree.leaves(a) == jax.tree.leaves(b)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.0}, "learning-rate 0.0 must be above 0"),
        ({"momentum": 1.0}, r"momentum 1.0 must be in \[0, 1\)"),
        ({"beta2": 1.0}, "beta2 1.0"),
        ({"weight_decay": -0.1}, "weight-decay -0.1"),
        ({"warmup": -1}, "warmup -1"),
        ({"milestones": (0.5, 0.25)}, "milestones"),
        ({"clip_norm": 0.0}, "clip-norm 0.0"),
        ({"max_norm": -1.0}, "max-norm -1.0"),
        ({"name": "dot", "dot_delta": 0.2}, "dot-delta 0.2 must leave momentum 0.9"),
        ({"name": "dot", "nesterov": True}, "name dot takes neither nesterov nor clip-norm"),
        ({"name": "dot", "clip_norm": float("inf")}, "clip-norm inf must be above 0, and finite"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UsageError, match=message):
        Optim(**settings)


def test_an_average_forgets_its_start():
    """By hand: d = 1/10, 2/11, then the decay itself, smaller than 3/12."""
    mean = {"w": jnp.array(8.0), "count": jnp.array(0)}
    for step, now in enumerate((2.0, 4.0, 6.0)):
        mean = average(mean, {"w": jnp.array(now), "count": jnp.array(step)}, 0.2, step)
    expected = 0.2 * (2 / 11 * (0.1 * 8 + 0.9 * 2) + 9 / 11 * 4) + 0.8 * 6
    assert float(mean["w"]) == pytest.approx(expected)
    assert int(mean["count"]) == 2  # what is no float is no average
