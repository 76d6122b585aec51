"""How many bytes a network takes, as plain storage that decodes bit for bit.

A convention to compare networks by in tables: it hangs on how many weights are zero, and on nothing
else. The smallest file that can be made of one network is that of kd_jax.encode.
"""

import dataclasses
from typing import Any, Literal

import jax
import numpy as np

from kd_jax.encode.entries import words_of
from kd_jax.encode.places import Bitmask
from kd_jax.tree import Tree, named_leaves

BITMASK = Bitmask()

CONVENTION = (
    "Bytes: all parameters and collections (batch statistics) as they are, dense; a masked tensor "
    "is stored as a bitmask (a bit an entry, rounded up to bytes) and its non-zero values, where "
    "that is smaller. Names and shapes are not counted."
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
    float32). Every other tensor is dense, batch statistics included. Names, shapes and the choice
    between the two are not counted. No entropy coding, no shared values.
    """
    return sum(len(tensor.data) for tensor in pack(params, collections, masks).values())


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
