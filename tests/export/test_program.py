"""Programs of a batch of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from kd_jax import UsageError
from kd_jax.export.program import any_batch


def test_a_function_that_counts_its_batch_takes_a_symbolic_one():
    def function(x):
        rows = np.prod(x.shape) // 2  # no symbolic size could do this
        return jnp.ones(int(rows)).reshape(len(x), -1) * jax.nn.relu(x[:, :1])

    made = any_batch(function, (4,), jnp.float32)
    (size,) = export.symbolic_shape("b")
    like = jax.ShapeDtypeStruct((size, 4), jnp.float32)
    assert jax.eval_shape(made, like).shape == (size, 2)
    x = jnp.arange(28.0).reshape(7, 4) - 12
    np.testing.assert_array_equal(made(x), function(x))


def test_loops_and_calls_take_a_symbolic_batch():
    @jax.jit
    def function(x):
        turn = lambda state, row: (state + row.sum(), state * jnp.ones(len(x)))  # noqa: E731
        return jax.lax.scan(turn, jnp.zeros(len(x)), x.T)[1].T

    made = any_batch(function, (4,), jnp.float32)
    x = jnp.arange(28.0).reshape(7, 4)
    np.testing.assert_array_equal(made(x), function(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + np.arange(len(x), dtype=np.float32)[:, None],
        lambda x: jnp.sin(x) if len(x) > 4 else jnp.cos(x),
        lambda x: jnp.sin(jnp.sin(x)) if len(x) > 4 else jnp.sin(x),
    ],
    ids=["a constant", "a branch", "more operations"],
)
def test_other_things_at_another_size_are_refused(function):
    with pytest.raises(UsageError, match="at another batch size"):
        any_batch(function, (4,), jnp.float32)(jnp.ones((2, 4)))
