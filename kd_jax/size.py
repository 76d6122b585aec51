"""How many bytes a network takes, as plain storage that decodes bit for bit.

A convention to compare networks by in tables: it hangs on how many weights are zero, and on nothing
else. The smallest file that can be made of one network is that of kd_jax.encode.
"""

import dataclasses
import math
from typing import Any, Literal

import jax
import numpy as np

from kd_jax.encode.entries import words_of
from kd_jax.encode.places import Bitmask
from kd_jax.quantize.network import INPUTS, QUANTISED, WEIGHTS, codes_of, grids
from kd_jax.tree import Tree, named_leaves

BITMASK = Bitmask()
BESIDE = 6  # bytes of a grid of inputs: a scale, its zero, and how many bits

CONVENTION = (
    "Bytes: all parameters and collections (batch statistics) as they are, dense; a masked tensor "
    "is stored as a bitmask (a bit an entry, rounded up to bytes) and its non-zero values, where "
    "that is smaller. Quantised weights take their bits each, and 4 bytes a scale; weights that "
    "share values the bits of an index each, and 4 bytes a value. Names and shapes are not counted."
)


@dataclasses.dataclass(frozen=True)
class Packed:
    """One stored tensor. Only `data` counts as size.

    Attributes:
      shape, dtype: of the tensor.
      encoding: "dense": the entries; "bitmask": a bit an entry, then the entries whose bit is 1.
      data: the bytes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    encoding: Literal["dense", "bitmask"]
    data: bytes


def stored_bytes(params: Tree, collections: dict[str, Tree], masks: Tree) -> int:
    """Bytes of one network (no axis of seeds): those of the data of `pack`.

    The convention: a tensor that has a mask takes the smaller of all its entries, dense, and a
    bitmask of n bits rounded up to bytes with the entries that are not zero (4 bytes each in
    float32). Every other tensor is dense, batch statistics included; but see `grid_bytes` and
    `coded_bytes` for what is quantised. Names, shapes and the choice between the two are not
    counted. No entropy coding.
    """
    quantised = collections.get(QUANTISED)
    own = {name: part for name, part in params.items() if name != QUANTISED}
    others = {name: part for name, part in collections.items() if name != QUANTISED}
    plain = pack(own, others, {name: masks[name] for name in own})
    total = 0 if quantised is None else _on_grids({"params": params, QUANTISED: quantised}, plain)
    return total + sum(len(tensor.data) for tensor in plain.values())


def _on_grids(variables: Tree, plain: dict[str, Packed]) -> int:
    """Bytes of what is quantised, which is taken out of the rest."""
    found, codes, leaves = grids(variables), codes_of(variables), named_leaves(variables["params"])
    total = BESIDE * len(found[INPUTS])
    for name, grid in found[WEIGHTS].items():
        bits = 1 + math.ceil(math.log2(float(np.max(grid.high)) + 1))
        total += grid_bytes(leaves[name].size, _alive(leaves[name]), bits, grid.scale.size)
    for name, code in codes.items():
        values = len(np.unique(np.asarray(code)[np.asarray(code) > 0]))
        total += coded_bytes(leaves[name].size, _alive(leaves[name]), values)
    for name in (*found[WEIGHTS], *codes):
        del plain[f"params/{name}"]
    return total


def grid_bytes(entries: int, alive: int, bits: int, scales: int) -> int:
    """Of a tensor on a grid: its integers, all of them or, after a bitmask, those that are not
    zero; the scales; and a byte that says how many bits."""
    return math.ceil(min(entries, alive + entries / bits) * bits / 8) + 4 * scales + 1


def coded_bytes(entries: int, alive: int, values: int) -> int:
    """Of a tensor whose entries that are not zero share values: indices of all entries or, after a
    bitmask, of those that are not zero; the values; and a byte that says how many they are."""
    index = lambda count: math.ceil(math.log2(max(count, 2)))  # noqa: E731
    every = entries * index(values + (alive < entries))
    return math.ceil(min(every, entries + alive * index(values)) / 8) + 4 * values + 1


def _alive(leaf: Any) -> int:
    return int(np.count_nonzero(np.asarray(leaf)))


def dense_bytes(params: Tree, collections: dict[str, Tree]) -> int:
    """Bytes of one network with every tensor dense."""
    return stored_bytes(params, collections, jax.tree.map(lambda _: None, params))


def pack(params: Tree, collections: dict[str, Tree], masks: Tree) -> dict[str, Packed]:
    """{tensor's name: Packed} of one network; what its mask prunes is stored as zero."""
    by_name = {f"params/{name}": mask for name, mask in named_leaves(masks).items()}
    leaves = named_leaves({"params": params, **collections})
    return {name: _pack(leaf, by_name.get(name)) for name, leaf in leaves.items()}


def unpack(packed: dict[str, Packed]) -> dict[str, np.ndarray]:
    """{tensor's name: array}, the inverse of `pack`, bit for bit."""
    return {name: _unpack(tensor) for name, tensor in packed.items()}


def _pack(leaf: Any, mask: Any) -> Packed:
    x = np.asarray(leaf)
    if mask is None:
        return Packed(x.shape, x.dtype, "dense", x.tobytes())
    x = np.where(np.asarray(mask), x, np.zeros((), x.dtype))
    # By its bits, since -0.0 == 0.0: a zero that would come back with another sign is kept.
    places = np.flatnonzero(words_of(x))
    (bits,) = BITMASK.split(places, x.shape)
    sparse = bits.tobytes() + x.reshape(-1)[places].tobytes()
    if len(sparse) < x.nbytes:
        return Packed(x.shape, x.dtype, "bitmask", sparse)
    return Packed(x.shape, x.dtype, "dense", x.tobytes())


def _unpack(tensor: Packed) -> np.ndarray:
    if tensor.encoding == "dense":
        return np.frombuffer(tensor.data, tensor.dtype).reshape(tensor.shape)
    ((bits, _),) = BITMASK.layout(tensor.shape, 0)
    places = BITMASK.join([np.frombuffer(tensor.data[:bits], np.uint8)], tensor.shape)
    x = np.zeros(int(np.prod(tensor.shape)), tensor.dtype)
    x[places] = np.frombuffer(tensor.data[bits:], tensor.dtype)
    return x.reshape(tensor.shape)
