"""Attention maps and hints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_features import F_S, F_T, SMALL, wave

from kd_jax.distill import AT, FitNet
from kd_jax.errors import UsageError


def float32(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def of_places(*places):
    """A map [1, 2, 2, C] of four places' channels."""
    return jnp.array(places, jnp.float32).reshape(1, 2, 2, -1)


# Squares (2, 0, 0, 0) and (3, 4, 0, 0), as unit vectors (1, 0, 0, 0) and (0.6, 0.8, 0, 0).
HERE = of_places((1, -1), (0, 0), (0, 0), (0, 0))
THERE = of_places((3**0.5,), (-2,), (0,), (0,))


def test_attention_by_hand():
    np.testing.assert_allclose(AT()([(HERE, THERE)], {}), [0.8 / 4], rtol=1e-6)
    np.testing.assert_allclose(AT(form="paper")([(HERE, THERE)], {}), [0.8**0.5 / 2], rtol=1e-6)


@pytest.mark.parametrize("form", ["code", "paper"])
def test_attention_is_where_the_energy_lies_however_much_it_is(form):
    term, (f, g) = AT(form=form), float32(F_S, F_T)
    value = term([(f, g)], {})
    np.testing.assert_allclose(term([(-3 * f[..., ::-1], g)], {}), value, rtol=1e-5)
    a, b = (np.mean(x**2, axis=-1).reshape(4, 16) for x in (F_S, F_T))
    cosine = np.sum(a * b, 1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    expected = (2 - 2 * cosine) / 16 if form == "code" else np.sqrt(2 - 2 * cosine) / 2
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(term([(f, g), (g, g), (f, g)], {}), 2 * value, rtol=1e-5)


def test_the_larger_map_is_pooled():
    f, small = float32(F_S, SMALL)
    pooled = f.reshape(4, 2, 2, 2, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(AT()([(f, small)], {}), AT()([(pooled, small)], {}), rtol=1e-5)
    np.testing.assert_allclose(AT()([(small, f)], {}), AT()([(small, pooled)], {}), rtol=1e-5)


def test_a_hint_without_a_regressor_is_the_mean_squared_error():
    f, g = float32(F_S, F_T)
    error = np.mean((F_S - F_T) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(FitNet()([(f, g)], {}), error, rtol=1e-5)
    np.testing.assert_allclose(FitNet()([(f, g)] * 2, {}), 2 * error, rtol=1e-5)


def by_windows(x, kernel, stride, padding):
    """A convolution of [B, H, W, inputs], place by place."""
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    size = kernel.shape[0]
    places = range(0, x.shape[1] - size + 1, stride)
    cut = lambda i, j: x[:, i : i + size, j : j + size]  # noqa: E731
    each = [[np.einsum("bhwc,hwcd->bd", cut(i, j), kernel) for j in places] for i in places]
    return np.array(each).transpose(2, 0, 1, 3)


def by_impulses(x, kernel):
    """The transposed convolution with stride 2: each place adds its window to the result."""
    total = np.zeros((x.shape[0], 2 * x.shape[1] + 2, 2 * x.shape[2] + 2, kernel.shape[-1]))
    for i, j in np.ndindex(x.shape[1:3]):
        window = np.einsum("bc,hwcd->bhwd", x[:, i, j], kernel[::-1, ::-1])
        total[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += window
    return total[:, 1:-1, 1:-1]


@pytest.mark.parametrize(
    ("ours", "theirs", "window", "convolved"),
    [
        (4, 4, 1, lambda x, k: by_windows(x, k, 1, 0)),
        (4, 3, 2, lambda x, k: by_windows(x, k, 1, 0)),
        (5, 2, 4, lambda x, k: by_windows(x, k, 1, 0)),
        (4, 2, 3, lambda x, k: by_windows(x, k, 2, 1)),
        (2, 4, 4, by_impulses),
    ],
)
def test_a_regressor_is_a_convolution_batch_norm_and_relu(ours, theirs, window, convolved):
    f = wave(np.sin, 0.7, 0.2, 3, ours, ours, 2)
    g = wave(np.cos, 0.9, 0.4, 3, theirs, theirs, 5)
    pairs = [tuple(float32(f, g))]
    params = FitNet().connectors(jax.random.key(0), pairs)["regressor0"]
    assert params["conv"]["kernel"].shape == (window, window, 2, 5)
    assert params["conv"]["bias"].shape == (5,)
    kernel, bias = wave(np.sin, 0.3, 0.1, window, window, 2, 5), wave(np.cos, 1.3, 0, 5)
    scale, shift = wave(np.sin, 0.8, 0.9, 5) + 1.5, wave(np.cos, 0.6, 0.3, 5)
    y = convolved(f, kernel) + bias
    y = (y - y.mean((0, 1, 2))) / np.sqrt(y.var((0, 1, 2)) + 1e-5)
    expected = np.mean((np.maximum(y * scale + shift, 0) - g) ** 2, axis=(1, 2, 3))
    made = {"conv": {"kernel": kernel, "bias": bias}, "norm": {"scale": scale, "bias": shift}}
    value = FitNet()(pairs, jax.tree.map(jnp.float32, {"regressor0": made}))
    np.testing.assert_allclose(value, expected, rtol=1e-4)


def test_each_hint_has_a_regressor_of_its_own():
    (f, g) = float32(F_S, F_T)
    params = FitNet().connectors(jax.random.key(0), [(f, g)] * 2)
    assert params.keys() == {"regressor0", "regressor1"}
    first, second = (p["conv"]["kernel"] for p in params.values())
    assert jnp.all(first != second)
    together = FitNet()([(f, g)] * 2, params)
    each = [FitNet()([(f, g)], {"regressor0": params[f"regressor{i}"]}) for i in (0, 1)]
    np.testing.assert_allclose(together, sum(each), rtol=1e-5)


def test_a_map_that_is_smaller_but_not_half_as_large_is_refused():
    maps = [jnp.zeros((1, size, size, 1)) for size in (3, 4)]
    with pytest.raises(UsageError, match=r"^student-taps: a map of 3 pixels can't be .* 4 \(it"):
        FitNet().connectors(jax.random.key(0), [tuple(maps)])
