"""TPU chips by their published figures, and slices of them that need not be attached."""

import dataclasses
import importlib.util
import math
import os
import re
from typing import Any

from kd_jax.errors import UsageError, did_you_mean


@dataclasses.dataclass(frozen=True)
class Chip:
    """What the vendor says of one chip.

    Attributes:
      flops: peak of bfloat16 matrix products, FLOP/s.
      memory: HBM, bytes.
      memory_speed: to and from HBM, bytes/s.
      link_speed: of one link to a neighbour in one direction, bytes/s.
      axes: dimensions of the network, two links each.
      wraps: length from which an axis of a slice is closed to a ring.
    """

    flops: float
    memory: float
    memory_speed: float
    link_speed: float
    axes: int
    wraps: int


CHIPS: dict[str, Chip] = {
    # https://docs.cloud.google.com/tpu/docs/v4: 275 TFLOP/s, 32 GiB, 1200 GB/s, 3D torus in
    # multiples of 4; links: 6 of 50 GB/s, Jouppi et al. 2023, https://arxiv.org/abs/2304.01433.
    "v4": Chip(275e12, 32 * 2**30, 1200e9, 300e9 / 6, axes=3, wraps=4),
    # https://docs.cloud.google.com/tpu/docs/v5e: 197 TFLOP/s, 16 GB, 819 GB/s, 400 GB/s over 4
    # ports in both directions together, 2D torus of 16x16.
    "v5e": Chip(197e12, 16e9, 819e9, 400e9 / 8, axes=2, wraps=16),
    # https://docs.cloud.google.com/tpu/docs/v5p: 459 TFLOP/s, 95 GiB, 2765 GB/s, 1200 GB/s in both
    # directions together, 3D torus from 4x4x4.
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 1200e9 / 12, axes=3, wraps=4),
    # https://docs.cloud.google.com/tpu/docs/v6e: 918 TFLOP/s, 32 GB, 1638 GB/s, 800 GB/s over 4
    # ports in both directions together, 2D torus of 16x16.
    "v6e": Chip(918e12, 32e9, 1638e9, 800e9 / 8, axes=2, wraps=16),
}
"""Peaks are those of bfloat16: at XLA's default precision a TPU multiplies float32 in it too."""


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips in a grid, and the devices that a program is compiled for.

    Attributes:
      name: such as v5e:4x4.
      chip: figures of one chip.
      shape: chips along each axis.
      devices: jax.Device, attached or not; with two cores a chip that are programmed apart, as
        the compiler has v4, there are two a chip.
    """

    name: str
    chip: Chip
    shape: tuple[int, ...]
    devices: tuple[Any, ...]

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def cores(self) -> int:
        """Devices a chip."""
        return len(self.devices) // self.chips

    @property
    def network_speed(self) -> float:
        """Bytes/s that a chip in a corner of the slice can send, over the links it has there: along
        an axis two where it is closed to a ring, one at an open end, none where it is alone."""
        links = sum((n > 1) + (n >= max(self.chip.wraps, 3)) for n in self.shape)
        return links * self.chip.link_speed


def parse(name: str) -> tuple[str, tuple[int, ...]]:
    """(chip, shape) of a slice's name, `v5e:4x4`.

    Raises:
      UsageError: no such chip, or not such a shape.
    """
    kind, _, grid = name.partition(":")
    if kind not in CHIPS:
        raise UsageError(f"--topology {name!r}: unknown chip {kind!r}.{did_you_mean(kind, CHIPS)}")
    axes = CHIPS[kind].axes
    if not re.fullmatch(r"[1-9]\d{0,3}(x[1-9]\d{0,3})" + f"{{{axes - 1}}}", grid):
        example = f"{kind}:{'x'.join(['2', '2', '1'][:axes])}"
        raise UsageError(f"--topology {name!r}: {kind} has {axes} axes; write {example}")
    return kind, tuple(int(n) for n in grid.split("x"))


def tpu_slice(name: str) -> Slice:
    """A slice by its name; none of its chips need be attached. For a process that only plans:
    libtpu is told that this machine has no TPU.

    Raises:
      UsageError: there is no such slice, or libtpu, which has the compiler, isn't installed.
    """
    kind, shape = parse(name)
    if importlib.util.find_spec("libtpu") is None:
        raise UsageError(
            f"--topology {name}: needs the TPU's compiler, libtpu, which is not installed: "
            'pip install "kd-jax[tpu]"'
        )
    # Without a TPU libtpu would ask the network for one, and complain of what it doesn't find.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # It compiles only: it takes no TPU from a process that has one.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    from jax.errors import JaxRuntimeError
    from jax.experimental import topologies  # has no other name yet

    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except JaxRuntimeError as error:
        raise UsageError(
            f"--topology {name}: no such slice ({str(error).splitlines()[0]}); take another shape"
        ) from error
    return Slice(name, CHIPS[kind], shape, tuple(found.devices))
