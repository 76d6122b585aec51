"""A tensor of ours and the one of PyTorch's that holds the same numbers, and the way between them.

A layout is a list of these: it is read in both directions.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

Axes = tuple[int, ...]
CONV: Axes = (3, 2, 0, 1)  # [H, W, in, out] -> [out, in, H, W], depthwise too
LINEAR: Axes = (1, 0)  # [in, out] -> [out, in]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a layout.

    Attributes:
      theirs: its name there.
      ours: the path of ours; of several, those that lie there one after another along axis 0, such
        as queries, keys and values.
      axes: where each axis of theirs lies in ours; () where they agree.
      channels: of a dense layer that reads a flattened map, the channels of that: ours is
        [H·W·C, U], row by row, and theirs [U, C·H·W]; 0 elsewhere.
      flat: whether theirs is such a matrix, and not a convolution [U, C, H, W].
      head: whether it belongs to a classifier.
    """

    theirs: str
    ours: str | tuple[str, ...]
    axes: Axes = ()
    channels: int = 0
    flat: bool = True
    head: bool = False

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of ours."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    def exported(self, array: Any) -> Any:
        """One array of ours as theirs."""
        if self.channels:
            array = array.reshape(self._unflattened(array.shape))
        if self.axes:
            array = array.transpose(self.axes)
        flat = bool(self.channels) and self.flat
        return array.reshape(array.shape[0], -1) if flat else array

    def imported(self, array: Any, shape: Sequence[int]) -> Any:
        """One array of theirs as ours, which has this shape."""
        if not self.axes:
            return array
        between = self._unflattened(shape) if self.channels else tuple(shape)
        array = array.reshape([between[axis] for axis in self.axes])
        inverse = sorted(range(len(self.axes)), key=self.axes.__getitem__)
        return array.transpose(inverse).reshape(shape)

    def classes(self, shape: Sequence[int]) -> int:
        """Of a head's tensor of theirs: how many it tells apart, the last axis of ours."""
        return shape[self._class_axis(len(shape))]

    def fits(self, found: Sequence[int], needed: Sequence[int]) -> bool:
        """Whether a head's tensor is the needed one but for the number of classes."""
        if len(found) != len(needed):
            return False
        axis = self._class_axis(len(found))
        return all(a == b for i, (a, b) in enumerate(zip(found, needed, strict=True)) if i != axis)

    def _class_axis(self, rank: int) -> int:
        return self.axes.index(rank - 1) if self.axes else rank - 1

    def _unflattened(self, shape: Sequence[int]) -> tuple[int, int, int, int]:
        side = math.isqrt(shape[0] // self.channels)
        return (side, side, self.channels, shape[1])


def conv(ours: str, theirs: str, bias: bool = False) -> list[Tensor]:
    """A convolution."""
    kernel = Tensor(f"{theirs}.weight", f"params/{ours}/kernel", CONV)
    return [kernel, *[Tensor(f"{theirs}.bias", f"params/{ours}/bias")] * bias]


def linear(ours: str, theirs: str, bias: bool = True, head: bool = False) -> list[Tensor]:
    """A linear layer."""
    kernel = Tensor(f"{theirs}.weight", f"params/{ours}/kernel", LINEAR, head=head)
    return [kernel, *[Tensor(f"{theirs}.bias", f"params/{ours}/bias", head=head)] * bias]


def on_map(ours: str, theirs: str, channels: int, flat: bool) -> list[Tensor]:
    """A dense layer on all places of a map."""
    kernel = f"params/{ours}/kernel"
    bias = Tensor(f"{theirs}.bias", f"params/{ours}/bias")
    return [Tensor(f"{theirs}.weight", kernel, CONV, channels, flat), bias]


def layer_norm(ours: str, theirs: str) -> list[Tensor]:
    """The factor and the shift of a norm."""
    names = {"weight": "scale", "bias": "bias"}
    return [Tensor(f"{theirs}.{name}", f"params/{ours}/{own}") for name, own in names.items()]


def norm(ours: str, theirs: str) -> list[Tensor]:
    """Batch norm, with its running statistics."""
    names = {"running_mean": "mean", "running_var": "var"}
    running = [Tensor(f"{theirs}.{n}", f"batch_stats/{ours}/{own}") for n, own in names.items()]
    return [*layer_norm(ours, theirs), *running]
