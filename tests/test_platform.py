import jax
import jax.numpy as jnp

from kd_jax.convolution import convolve
from kd_jax.platform import platform, tracing_for


def test_a_program_is_for_the_backend_unless_said_otherwise():
    assert platform() == jax.default_backend() == "cpu"
    with tracing_for("tpu"):
        assert platform() == "tpu"
    assert platform() == "cpu"


def test_what_is_done_for_a_cpu_is_not_done_for_what_is_planned_elsewhere():
    x, kernel = jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 2))
    numbers = ("NHWC", "HWIO", "NHWC")

    def text(kind):
        with tracing_for(kind):
            again = lambda x, w: convolve(x, w, (1, 1), "SAME", dimension_numbers=numbers)  # noqa: E731
            return jax.jit(again).lower(x, kernel).as_text()

    assert "optimization_barrier" in text("cpu")
    assert "optimization_barrier" not in text("tpu")
