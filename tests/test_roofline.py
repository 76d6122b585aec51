"""The least times, by hand; and a program read as the compiler made it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from kd_jax.chips import CHIPS, Chip, Slice
from kd_jax.roofline import figures, seconds

CHIP = Chip(flops=100.0, memory=1e6, memory_speed=10.0, link_speed=2.0, axes=2, wraps=16)


@pytest.mark.parametrize(
    ("amounts", "times", "bound"),
    [
        ((300.0, 20.0, 8.0), (3.0, 2.0, 2.0), "compute"),
        ((300.0, 40.0, 8.0), (3.0, 4.0, 2.0), "memory"),
        ((300.0, 40.0, 20.0), (3.0, 4.0, 5.0), "network"),
    ],
)
def test_the_busiest_resource_bounds_the_step(amounts, times, bound):
    found = seconds(*amounts, Slice("two by two", CHIP, (2, 2), tuple(range(4))))
    assert tuple(found.values()) == times
    assert max(found, key=found.get) == bound


def test_one_chip_has_no_network():
    target = Slice("v5e:1x1", CHIPS["v5e"], (1, 1), (0,))
    assert seconds(197e12, 0.0, 0.0, target) == {"compute": 1.0, "memory": 0.0, "network": 0.0}


class Compiled:
    """A program of 70 FLOPs that negates 100 numbers and sums them over the devices."""

    def as_text(self):
        return (
            "ENTRY %main (p: f32[100]) -> f32[100] {\n"
            "  %p = f32[100]{0} parameter(0)\n"
            "  %n = f32[100]{0} negate(%p)\n"
            "  ROOT %a = f32[100]{0} all-reduce(%n), replica_groups={}, to_apply=%add\n}\n"
        )

    def memory_analysis(self):
        return SimpleNamespace(
            argument_size_in_bytes=400,
            output_size_in_bytes=300,
            alias_size_in_bytes=200,
            temp_size_in_bytes=50,
            generated_code_size_in_bytes=7,
        )

    def cost_analysis(self):
        return {"flops": 70.0, "bytes accessed": 1e9}


def test_a_program_is_read_for_one_device_and_told_for_a_chip():
    one = figures(Compiled(), Slice("one", CHIP, (2, 2), tuple(range(4))))
    assert (one.temporaries, one.peak, one.flops, one.moved) == (50, 557, 70.0, 1600)
    assert one.sent == 2 * 3 / 4 * 400
    assert one.seconds == {"compute": 0.7, "memory": 160.0, "network": 600 / 4.0}
    assert (one.bound, one.least_seconds) == ("memory", 160.0)
    two = figures(Compiled(), Slice("two", CHIP, (2, 1), tuple(range(4))))
    assert (two.temporaries, two.peak, two.flops, two.moved) == (100, 1114, 140.0, 3200)
    assert two.sent == 2 * one.sent


def test_a_matrix_product():
    shape = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    compiled = jax.jit(jnp.matmul).lower(shape, shape).compile()
    found = figures(compiled, Slice("one", CHIP, (1, 1), (0,)))
    assert found.flops == 2 * 64**3
    assert found.moved == 3 * 4 * 64**2
    assert found.peak >= found.moved
    assert found.collectives == []
