"""What a program's values are while an ONNX graph is made of it: tensors with the order that their
axes are held in, and products that are still to be written."""

import dataclasses
from typing import Any

import numpy as np

from kd_jax.errors import UsageError

Dim = Any  # an int, or a multiple of the symbolic size of the batch


class Unsupported(UsageError):
    """An operation that has no form in ONNX here."""

    def __init__(self, primitive: str, why: str = "") -> None:
        super().__init__(
            f"--format onnx: no way is known to write the operation {primitive}"
            f"{f' ({why})' if why else ''} in ONNX: leave onnx out, --format stablehlo takes every "
            "network"
        )


@dataclasses.dataclass(frozen=True)
class Integers:
    """How a product of integers is meant: its input on a grid s (q − z) of int8, and the kernel as
    int8, of which each output channel has a factor, the scale of what the product sums.

    Attributes:
      scale, zero: s and z.
      factor: [O].
    """

    scale: np.ndarray
    zero: np.ndarray
    factor: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """A convolution or a matrix product with constants that is not written yet, since a factor or a
    summand of each channel may still be folded into it.

    Attributes:
      op: Conv or MatMul.
      x: name of the input.
      kernel: [O, I, ...] of Conv, [I, O] of MatMul.
      bias: [O] or None.
      axis: of the result, along which channels lie; as it is named, not as it is held.
      integers: where it is one of integers.
    """

    op: str
    x: str
    kernel: np.ndarray
    bias: np.ndarray | None
    axis: int
    attributes: dict[str, Any]
    integers: Integers | None = None

    def scaled(self, factor: np.ndarray) -> "Product":
        if self.integers is not None:
            return self._scaled(self.integers, factor.astype(np.float32))
        by = factor if self.op == "MatMul" else factor.reshape(-1, *[1] * (self.kernel.ndim - 1))
        bias = None if self.bias is None else self.bias * factor
        return dataclasses.replace(self, kernel=self.kernel * by, bias=bias)

    def _scaled(self, integers: Integers, by: np.ndarray) -> "Product":
        """Integers stay as they are, but for their sign: no scale is below zero."""
        sign = np.where(by < 0, -1, 1).astype(np.int8)
        ones = (1,) * (self.kernel.ndim - 1)
        kernel = self.kernel * (sign if self.op == "MatMul" else sign.reshape(-1, *ones))
        scales = dataclasses.replace(integers, factor=integers.factor * np.abs(by))
        bias = None if self.bias is None else self.bias * by
        return dataclasses.replace(self, kernel=kernel, bias=bias, integers=scales)

    def shifted(self, shift: np.ndarray) -> "Product":
        bias = shift if self.bias is None else self.bias + shift
        return dataclasses.replace(self, bias=bias)


@dataclasses.dataclass(eq=False)
class Tensor:
    """A value of the program.

    Attributes:
      shape: as the program has it.
      order: axis k, as it is held, is the program's axis order[k].
      held: the shape as it is held: 1 where entries along an axis are alike and written but once.
      array: a constant's entries, as held; or
      name: in the graph; or
      product: what is still to be written.
    """

    shape: tuple[Dim, ...]
    dtype: np.dtype
    order: tuple[int, ...]
    held: tuple[Dim, ...]
    array: np.ndarray | None = None
    name: str = ""
    product: Product | None = None

    @property
    def plain(self) -> np.ndarray:
        """Of a constant: in the program's order, still with ones."""
        assert self.array is not None
        return self.array.transpose(np.argsort(self.order))

    @property
    def entries(self) -> np.ndarray:
        """Of a constant of known shape: all of them."""
        return np.broadcast_to(self.plain, self.shape)


def constant(array: Any, shape: tuple[Dim, ...] | None = None) -> Tensor:
    array = np.asarray(array)
    full = array.shape if shape is None else shape
    return Tensor(full, array.dtype, tuple(range(array.ndim)), array.shape, array=array)
