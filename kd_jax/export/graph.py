"""An ONNX graph in the making."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_jax.export.tensors import Dim, Integers, Product, Tensor, Unsupported

OPSET = 18
IR = 9  # of the file's format, which fits the opset


class Graph:
    """Nodes and constants; `batch` is the symbolic size of the first axis of the input `source`."""

    def __init__(self, batch: Dim, source: str) -> None:
        self.batch, self.source = batch, source
        self.nodes: list[Any] = []
        self.constants: dict[Any, Any] = {}
        self.uses: Counter[Any] = Counter()
        self._number = itertools.count(1)
        self.stem = "graph"
        self._size = ""

    def within(self) -> "Graph":
        """A graph for the body of a loop: it reads what is around it, and shares constants."""
        self.size()  # written around the loop
        body = Graph(self.batch, self.source)
        body.constants, body._number, body._size = self.constants, self._number, self._size
        body.stem = f"body_{next(self._number)}"
        return body

    # Writing ------------------------------------------------------------------------------------

    def node(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """Name, or names, of what a new node puts out."""
        from onnx import helper

        stem = f"{op.lower()}_{next(self._number)}"
        names = [stem] if outputs == 1 else [f"{stem}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, stem, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, array: Any) -> str:
        """The name of a constant; equal ones are written once."""
        from onnx import numpy_helper

        array = np.ascontiguousarray(array) if np.ndim(array) else np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            name = f"constant_{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(array, name)
        return self.constants[key].name

    def read(self) -> list[Any]:
        """The constants that a node reads, here or in the body of a loop."""
        names: set[str] = set()

        def visit(nodes: Any) -> None:
            for node in nodes:
                names.update(node.input)
                for attribute in node.attribute:
                    visit(attribute.g.node)

        visit(self.nodes)
        return [c for c in self.constants.values() if c.name in names]

    def integers(self, values: Sequence[int]) -> str:
        return self.constant(np.asarray(values, np.int64).reshape(-1))

    def name_of(self, x: Tensor) -> str:
        """Where a tensor stands in the graph, as held; what was still to be written then is."""
        if x.array is not None:
            return self.constant(x.array)
        if not x.name:
            x.name = self._write(x)
        return x.name

    def _write(self, x: Tensor) -> str:
        product = x.product
        assert product is not None
        if product.integers is not None:
            inputs, bias = self._on_grids(product, product.integers)
        else:
            inputs = [product.x, self.constant(product.kernel)]
            bias = [] if product.bias is None else [self.constant(product.bias)]
        if product.op == "Conv":
            return self.node("Conv", inputs + bias, **product.attributes)
        if bias and len(x.shape) == 2:
            return self.node("Gemm", inputs + bias)
        made = self.node("MatMul", inputs)
        return self.node("Add", [made, *bias]) if bias else made

    def _on_grids(self, product: Product, whole: Integers) -> tuple[list[str], list[str]]:
        """(input and kernel, bias) as numbers of integers: what a runtime that computes in integers
        knows by these pairs of quantising and its opposite, and any other computes in floats. Where
        sums are requantised at once, they want a convolution's bias in int32 of their scale.

        A matrix product is one of uint8, all codes being moved by 128: x86 processors without VNNI
        add pairs of products of int8 in 16 bits, which onnxruntime lets overflow."""
        moved = product.op == "MatMul"
        step = [self.constant(whole.scale), self.constant(_unsigned(whole.zero, moved))]
        x = self.node("QuantizeLinear", [product.x, *step])
        # A channel without a factor says nothing but its bias.
        lone = whole.factor < np.finfo(np.float32).tiny
        factor = np.where(lone, 1.0, whole.factor).astype(np.float32)
        axis = 1 if product.op == "MatMul" else 0
        alive = ~lone if axis else (~lone).reshape(-1, *[1] * (product.kernel.ndim - 1))

        def numbers(q: np.ndarray, scale: np.ndarray, axis: int) -> str:
            moves = moved and q.dtype == np.int8
            q, zeros = (_unsigned(c, moves) for c in (q, np.zeros(scale.shape, q.dtype)))
            given = [self.constant(c) for c in (q, scale, zeros)]
            return self.node("DequantizeLinear", given, axis=axis)

        kernel = numbers((product.kernel * alive).astype(np.int8), factor / whole.scale, axis)
        pair = [self.node("DequantizeLinear", [x, *step]), kernel]
        if product.bias is None:
            return pair, []
        if product.op == "MatMul":
            return pair, [self.constant(product.bias.astype(np.float32))]
        ends = np.iinfo(np.int32)
        bias = np.clip(np.round(product.bias / factor.astype(float)), ends.min, ends.max)
        return pair, [numbers(bias.astype(np.int32), factor, 0)]

    def tensor(
        self,
        op: str,
        inputs: Sequence[str],
        out: Any,
        order: Sequence[int] | None = None,
        held: Sequence[Dim] | None = None,
        **attributes: Any,
    ) -> Tensor:
        """What a new node puts out, of the shape and dtype of `out`; held whole and in the
        program's order unless told otherwise."""
        shape = tuple(out.shape)
        order = tuple(range(len(shape))) if order is None else tuple(order)
        held = tuple(shape[a] for a in order) if held is None else tuple(held)
        name = self.node(op, inputs, **attributes)
        return Tensor(shape, np.dtype(out.dtype), order, held, name=name)

    # Sizes --------------------------------------------------------------------------------------

    def multiple(self, size: Dim) -> int:
        """How many times the batch a symbolic size is."""
        times, rest = divmod(size, self.batch)
        if not (isinstance(times, int) and rest == 0):
            raise Unsupported("reshape", f"to a size of {size}, no multiple of the batch")
        return times

    def size(self) -> str:
        """The batch's size, int64 [1]."""
        if not self._size:
            self._size = self.node("Shape", [self.source], start=0, end=1)
        return self._size

    def sizes(self, shape: Sequence[Dim], infer: bool = False) -> str:
        """A shape, int64 [rank]. With `infer` one symbolic size is left to the runtime."""
        symbolic = [d for d in shape if not isinstance(d, int)]
        if len(symbolic) <= infer:
            return self.integers([d if isinstance(d, int) else -1 for d in shape])
        parts = [
            self.integers([d])
            if isinstance(d, int)
            else self.node("Mul", [self.size(), self.integers([self.multiple(d)])])
            for d in shape
        ]
        return self.node("Concat", parts, axis=0)

    # How tensors are held -----------------------------------------------------------------------

    def ordered(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """Held in this order."""
        order = tuple(order)
        if order == x.order:
            return x
        turn = [x.order.index(a) for a in order]
        held = tuple(x.held[a] for a in turn)
        if x.array is not None:
            return Tensor(x.shape, x.dtype, order, held, array=x.array.transpose(turn))
        name = self.node("Transpose", [self.name_of(x)], perm=turn)
        return Tensor(x.shape, x.dtype, order, held, name=name)

    def expanded(self, x: Tensor) -> Tensor:
        """With every entry written out."""
        full = tuple(x.shape[a] for a in x.order)
        if x.held == full:
            return x
        if x.array is not None and all(isinstance(d, int) for d in full):
            array = np.broadcast_to(x.array, full)
            return Tensor(x.shape, x.dtype, x.order, full, array=array)
        name = self.node("Expand", [self.name_of(x), self.sizes(full)])
        return Tensor(x.shape, x.dtype, x.order, full, name=name)

    def whole(self, x: Tensor) -> Tensor:
        """With every entry written out, in the program's order."""
        return self.expanded(self.ordered(x, range(len(x.shape))))

    def cast(self, x: Tensor, dtype: Any) -> Tensor:
        from onnx import helper

        dtype = np.dtype(dtype)
        if dtype == x.dtype:
            return x
        if x.array is not None:
            return dataclasses.replace(x, dtype=dtype, array=x.array.astype(dtype))
        to = helper.np_dtype_to_tensor_dtype(dtype)
        name = self.node("Cast", [self.name_of(x)], to=to)
        return Tensor(x.shape, dtype, x.order, x.held, name=name)


def _unsigned(codes: np.ndarray, moves: bool) -> np.ndarray:
    """Codes of int8 as those of uint8, if they move."""
    return (codes.astype(np.int16) + 128).astype(np.uint8) if moves else codes
