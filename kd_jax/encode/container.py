"""The file: a network's tensors and what else is known of it, as bytes that decode bit for bit.

magic           8 bytes; the last is the format's version
header length   4 bytes, the lowest first, as all numbers here
header          JSON, deflated, with WORDS as what came before:
                {"about": ..., "tensors": [[name, dtype, shape, form, kind, bytes], ...]}
tensors         their bytes, one after another
checksum        4 bytes: CRC-32 of all before it
"""

import dataclasses
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from kd_jax.arrays import machine_memory
from kd_jax.encode import tensors
from kd_jax.encode.bits import Damaged, sound
from kd_jax.encode.entries import Grid
from kd_jax.encode.places import size_of
from kd_jax.encode.streams import CODERS, checked
from kd_jax.encode.tensors import Coded
from kd_jax.errors import UsageError, require, shortened
from kd_jax.jsons import parsed
from kd_jax.tree import Tree, named_leaves

MAGIC, VERSION = b"\x89KDZ\r\n\x1a", 1  # text transfers would damage it, and be noticed
DTYPES = {
    str(jnp.dtype(name)): jnp.dtype(name)
    for name in ("float32", "bfloat16", "float16", "float64", "bool")
    + ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
}
HEADER = 1 << 21  # bytes of the longest header, inflated: as lists it takes thirty times as many
WORDS = (
    b'"classes":10,"mean":["scale":255.0,"size":[32,32],"names":["0","1","2","3","4","5","6","7","8"'
    b',"9"]"origin":{"experiment":"stage":"train"distill"prune"shrink"gate"quantize","seed":"0"},'
    b'"made":"shrunk","of":{"groups":{"made":"gated","amount":0.5,"hidden":32,"keep":[]'
    b'"uint32",[],"int32"batch_stats/norm/mean/var","float32",[512],"dense","raw"'
    b'",[[1,1,64,64],"gaps6","grid",_conv/kernel","float32",[3,3,"bitmask","codebook",scale",'
    b'["params/bias","float32",[10],"dense","raw",40],["params/classifier/kernel","float32",['
    b'{"about":{"made":{"made":"plain","config":{"class":"MLP","widths":[300,100],"width":1.0,'
    b'"dropout":0.0,"compute":"float32","data":{"class":"Data","name":"digits","dir":"",'
    b'"validation":0.1,"train_limit":0,"test_limit":0,"image_size":0,"memory_mb":2048,'
    b'"split_seed":0},"spec":{"name":"mnist"cifar10"tensors":['
)
"""What headers are made of, so that it need not be spelt out in each. Part of the format: another
text is another version."""
MOST = 1 << 30  # numbers in a file
# So many numbers are always fine; and so many for each byte of the file, which is about what a
# network has of which one weight in a thousand is kept; of these no more than there is memory to
# decode them, unless each has a bit of the file.
FEW, EACH = 1 << 20, 1 << 10
TAKES = 50  # bytes of memory that decoding takes at most for each number


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A network as the bytes of a file, and what each tensor takes of them."""

    data: bytes
    tensors: dict[str, Coded]

    @property
    def dense_bytes(self) -> int:
        """Of the arrays alone, as float32 or whatever they are: no names, no header."""
        return sum(size_of(one.shape) * one.dtype.itemsize for one in self.tensors.values())


def encoded(
    variables: Mapping[str, Tree],
    grids: Mapping[str, Grid] | None = None,
    about: Any = None,
    coders: Sequence[str] = CODERS,
) -> Encoded:
    """The smallest file of one network that decodes to it bit for bit.

    Each tensor is stored in the form that takes the fewest bytes. Its places: all entries; a
    bitmask; compressed rows; or gaps of so many bits with fillers. Its entries: their bytes;
    indices of a codebook where few are distinct; or whole numbers, where a grid is given and they
    lie on it. Each stream of these is coded in fixed width, by Huffman's code, or by asymmetric
    numeral systems.

    After Han, Mao, Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained
    Quantization and Huffman Coding", 2016, https://arxiv.org/abs/1510.00149, where the forms are
    gaps, codebooks and Huffman's code alone, and sizes are of these without names and header.

    Args:
      variables: {"params": tree, other collections}; nested dictionaries of arrays.
      grids: {name of a tensor, such as params/dense1/kernel: its Grid}.
      about: anything that JSON can hold.
      coders: those of CODERS that may be used; fixed always is.

    Raises:
      UsageError: the variables are of other kinds, a grid is of no tensor or of another shape.
    """
    coders, grids = checked(coders), dict(grids or {})
    leaves = {name: np.asarray(leaf) for name, leaf in named_leaves(variables).items()}
    for name, leaf in leaves.items():
        known = ", ".join(DTYPES)
        require(str(leaf.dtype) in DTYPES, f"{name} is of {leaf.dtype}, and a file holds {known}")
    require(
        {*_paths(variables)} == {*leaves},
        "variables: they must be nested dictionaries whose names are strings without strokes",
    )
    for name in grids:
        require(
            name in leaves, f"grids: {name!r} names no tensor, such as {next(iter(leaves), '')!r}"
        )
    coded = {name: tensors.encode(x, grids.get(name), coders) for name, x in leaves.items()}
    data = _file(coded, about)
    back = named_leaves(decoded(data, MOST)[0])
    same = all(back[name].tobytes() == x.tobytes() for name, x in leaves.items())
    assert same, "the file does not decode to the network"
    return Encoded(data, coded)


def decoded(data: bytes, most: int | None = None) -> tuple[dict[str, Tree], Any]:
    """(variables, about) of what `encoded` made: arrays of NumPy.

    Args:
      most: how many numbers it may hold; None: as many as a file of its length can be expected to,
        so that a few hostile bytes don't fill the memory.

    Raises:
      UsageError: no such file, or a damaged one, or a part of one.
    """
    try:
        return _decoded(data, most)
    except Damaged as error:  # which may tell of a name of any length
        raise Damaged(shortened(str(error), 400)) from None
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise Damaged(f"it is damaged ({type(error).__name__})") from error


def _file(coded: Mapping[str, Coded], about: Any) -> bytes:
    listed = [
        [name, str(one.dtype), one.shape, one.form, one.kind, len(one.data)]
        for name, one in coded.items()
    ]
    try:
        said = json.dumps({"about": about, "tensors": listed}, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise UsageError(f"about: it is not what JSON can hold ({error})") from error
    deflate = zlib.compressobj(9, zdict=WORDS)
    header = deflate.compress(said.encode()) + deflate.flush()
    front = MAGIC + bytes([VERSION]) + len(header).to_bytes(4, "little") + header
    return sealed(front + b"".join(one.data for one in coded.values()))


def sealed(data: bytes) -> bytes:
    """With its checksum."""
    return data + zlib.crc32(data).to_bytes(4, "little")


def _decoded(data: bytes, most: int | None) -> tuple[dict[str, Tree], Any]:
    listed, about, payload = _opened(data)
    most = _most(len(data)) if most is None else most
    leaves: dict[str, np.ndarray] = {}
    total, at = 0, 0
    for name, dtype, shape, form, kind, size in listed:
        sound(isinstance(name, str), "it has a tensor of no name")
        shape = tuple(shape)
        sound(dtype in DTYPES, f"it holds numbers of the unknown kind {dtype!r}")
        fine = all(type(axis) is int and axis >= 0 for axis in shape)
        sound(fine and len(shape) <= 32 and name not in leaves, "it has a tensor of no shape")
        total += max(size_of(shape), *shape, 1)  # an axis may be long where another is empty
        sound(
            total <= most,
            f"it says that it holds {total:,} numbers, more than {most:,}: say --most {total} if "
            "whoever made it is to be trusted",
        )
        sound(type(size) is int and 0 <= size <= len(payload) - at, "it ends too early")
        part, at = payload[at : at + size], at + size
        leaves[name] = tensors.decode(part, shape, DTYPES[dtype], form, kind)
    sound(at == len(payload), "it goes on after its end")
    return _nested(leaves), about


def _most(size: int) -> int:
    """How many numbers a file of so many bytes may hold, whoever made it."""
    memory = machine_memory()
    there = MOST if memory is None else max(FEW, 8 * size, memory // TAKES)
    return min(MOST, max(FEW, EACH * size), there)


def _opened(data: bytes) -> tuple[list[Any], Any, bytes]:
    """(the list of tensors, about, their bytes)."""
    sound(data[:7] == MAGIC, "it is no file of a network by kd_jax (.kdz)")
    sound(len(data) >= 16, "it ends too early")
    sound(data[7] == VERSION, f"it is of format {data[7]}, and this kd_jax reads {VERSION}")
    body, check = data[:-4], int.from_bytes(data[-4:], "little")
    sound(zlib.crc32(body) == check, "it is damaged or cut short: its checksum is wrong")
    end = 12 + int.from_bytes(body[8:12], "little")
    sound(end <= len(body), "it ends too early")
    inflate = zlib.decompressobj(zdict=WORDS)
    try:
        said = inflate.decompress(body[12:end], HEADER)
    except zlib.error as error:
        raise Damaged("its header is damaged") from error
    sound(inflate.eof and not inflate.unused_data, "its header is damaged or too long")
    header = parsed(said)
    return header["tensors"], header["about"], body[end:]


def _paths(tree: Any, before: str = "") -> list[str]:
    """The names of the leaves of nested dictionaries; of anything else that can't be told so, an
    empty one."""
    if not isinstance(tree, Mapping):
        return [before]
    sound_ = all(isinstance(name, str) and name and "/" not in name for name in tree)
    inner = [path for name, child in tree.items() for path in _paths(child, f"{before}/{name}")]
    return [path.removeprefix("/") for path in inner] if sound_ else [""]


def _nested(leaves: Mapping[str, np.ndarray]) -> dict[str, Tree]:
    made: dict[str, Any] = {}
    for name, leaf in leaves.items():
        *path, last = name.split("/")
        node = made
        for part in path:
            node = node.setdefault(part, {})
        sound(isinstance(node, dict) and last not in node, "it has a tensor within another")
        node[last] = leaf
    return made
