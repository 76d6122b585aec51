"""Grids by hand, and gradients through them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax.quantize.uniform import Grid, on_grid

X = jnp.array([1.0, -2.0, 0.5, 3.0])


def test_affine_by_hand():
    grid = Grid.affine(jnp.min(X), jnp.max(X), 8)
    assert float(grid.scale) == pytest.approx(5 / 255)
    assert float(grid.zero) == -26
    np.testing.assert_array_equal(grid.codes(X), [25, -128, 0, 127])
    np.testing.assert_allclose(grid(X), X, atol=5 / 255 / 2 + 1e-6)


def test_symmetric_by_hand():
    grid = Grid.symmetric(jnp.array(3.0), 8)
    assert float(grid.scale) == pytest.approx(3 / 127)
    np.testing.assert_array_equal(grid.codes(X), [42, -85, 21, 127])
    ternary = Grid.symmetric(jnp.array(3.0), 2)
    np.testing.assert_array_equal(ternary.codes(jnp.array([-9.0, -1.4, 1.6, 2.9])), [-1, 0, 1, 1])


def test_other_tools_integers_come_out_with_their_scale():
    """max |x| / 127.5, and a lowest of -128."""
    of = lambda x: jnp.array(x, jnp.float32)  # noqa: E731
    grid = Grid(of(3 / 127.5), of(0), of(-128), of(127))
    np.testing.assert_array_equal(grid.codes(X), [42, -85, 21, 127])


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_zero_is_zero_and_what_is_on_the_grid_stays(bits):
    x = jax.random.normal(jax.random.key(0), (64, 5)) * jnp.array([[1e-3, 1, 7, 0, 300]])
    extent = jnp.max(jnp.abs(x), axis=0, keepdims=True)
    for grid in (Grid.symmetric(extent, bits), Grid.affine(-extent / 3, extent, bits)):
        once = grid(x)
        np.testing.assert_array_equal(grid(jnp.zeros((1, 5))), 0)
        np.testing.assert_array_equal(grid(once), once)
        levels = [len(np.unique(np.asarray(once)[:, i])) for i in range(5)]
        assert max(levels) <= 2**bits
    np.testing.assert_array_equal(
        Grid.symmetric(extent, bits)(-x), -Grid.symmetric(extent, bits)(x)
    )


def test_a_range_is_widened_to_have_zero():
    grid = Grid.affine(jnp.array(1.0), jnp.array(3.0), 8)
    assert float(grid.values(grid.low)) == 0
    assert float(grid.values(grid.high)) == pytest.approx(3)


def test_gradients_by_hand():
    """s = 0.5, integers -2 to 1 (z = 0): x/s is -5 (beyond), -1.2, 0.6, 1.0, 7 (beyond)."""
    x = jnp.array([-2.5, -0.6, 0.3, 0.5, 3.5])
    of = lambda x: jnp.array([x], jnp.float32)  # noqa: E731
    f = lambda x, s: on_grid(x, s, of(0), of(-2), of(1), jnp.array(0.25))  # noqa: E731
    y, pull = jax.vjp(f, x, of(0.5))
    np.testing.assert_allclose(y, [-1, -0.5, 0.5, 0.5, 0.5])
    g = jnp.array([1.0, 2.0, 3.0, 5.0, 7.0])
    of_x, of_s = pull(g)
    np.testing.assert_allclose(of_x, [0, 2, 3, 5, 0])
    by_hand = [-2 * 1, (-1 + 1.2) * 2, (1 - 0.6) * 3, 0 * 5, 1 * 7]
    np.testing.assert_allclose(of_s, [0.25 * sum(by_hand)], rtol=1e-6)


def test_gradient_of_a_shifted_grid_is_that_of_numbers():
    """∂x̂/∂s = q - z beyond, where q is the first or last integer."""
    of = lambda x: jnp.array(x, jnp.float32)  # noqa: E731
    f = lambda s: on_grid(of(100.0), s, of(-3), of(-8), of(7), of(1.0))  # noqa: E731
    assert float(jax.grad(f)(of(0.5))) == 10


def test_jit_is_like_eager_and_half_floats_pass():
    grid = Grid.affine(jnp.array(-1.0), jnp.array(2.0), 4)
    x = jnp.linspace(-2, 3, 41)
    np.testing.assert_array_equal(jax.jit(Grid.__call__)(grid, x), grid(x))
    assert np.isfinite(np.asarray(grid(x.astype(jnp.bfloat16)), np.float32)).all()
    assert np.isfinite(grid(jnp.array([1e30, -1e30]))).all()
