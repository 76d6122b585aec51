"""Files as an attacker, or a bad disk, would have them: for the tests of what reads them."""

import copy
import json
import random
import struct
import zlib

import numpy as np
from hypothesis import strategies as st

from kd_jax.encode import container
from kd_jax.encode.bits import Writer
from kd_jax.errors import UsageError

ODD = (
    None,
    True,
    -1,
    0,
    10**9,
    10**15,
    10**30,
    1e300,
    float("nan"),
    "",
    "../x",
    "\x1b[2J",
    "\ud800",
)
ODD = (*ODD, [], {}, [[]], [10**9], [10**15] * 4, {"class": "os.system"}, "x" * 5000)


def read(reader, *given):
    """What a reader gives; None where it refuses, which it may do in one short line alone."""
    try:
        return reader(*given)
    except UsageError as error:
        said = str(error)
        assert "\n" not in said
        assert len(said) < 900, said
        return None


def harmed(raw: bytes, rng: random.Random, head: int = 0) -> bytes:
    """Bytes that are cut short, or of which some differ; of those most in the first `head`."""
    if rng.random() < 0.25:
        return raw[: rng.randrange(len(raw))]
    found = bytearray(raw)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(min(head or len(raw), len(raw)) if rng.random() < 0.8 else len(raw))
        found[place] = rng.choice((rng.randrange(256), found[place] ^ 1 << rng.randrange(8)))
    return bytes(found)


@st.composite
def damaged(draw, raw: bytes, head: int = 0) -> bytes:
    return harmed(raw, random.Random(draw(st.integers(0, 2**32))), head)


def places(node, path=()):
    """All places of a tree of dictionaries and lists."""
    of_list = enumerate(node) if isinstance(node, list) else ()
    for key, child in node.items() if isinstance(node, dict) else of_list:
        yield (*path, key)
        yield from places(child, (*path, key))


@st.composite
def changed(draw, data):
    """A copy of JSON with another value, or none, in one place or two."""
    data = json.loads(json.dumps(data))
    for _ in range(draw(st.integers(1, 2))):
        found = [*places(data)]
        *path, last = found[draw(st.integers(0, len(found) - 1))] if found else (None,)
        node = data
        for key in path:
            node = node[key]
        if last is None or (isinstance(node, dict) and draw(st.integers(0, 4)) == 0):
            node.pop(last, None)
        else:
            node[last] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return data


# Encoded networks ----------------------------------------------------------------------------


def parts(data: bytes):
    """(header, the tensors' bytes) of an encoded network."""
    end = 12 + int.from_bytes(data[8:12], "little")
    inflate = zlib.decompressobj(zdict=container.WORDS)
    return json.loads(inflate.decompress(data[12:end])), data[end:-4]


def kdz(header, payload: bytes = b"") -> bytes:
    """An encoded network with a right checksum, whatever its header and tensors say."""
    deflate = zlib.compressobj(9, zdict=container.WORDS)
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    packed = deflate.compress(raw) + deflate.flush()
    front = container.MAGIC + bytes([container.VERSION]) + len(packed).to_bytes(4, "little")
    return container.sealed(front + packed + payload)


def one_tensor(shape, dtype="float32", form="dense", kind="codebook", data=None, about=None):
    """A file of a tensor that is one number everywhere."""
    data = constant(dtype) if data is None else data
    return kdz(
        {"about": about, "tensors": [["params/x", dtype, shape, form, kind, len(data)]]}, data
    )


def constant(dtype: str) -> bytes:
    """A codebook of one word: its entries take no bit each."""
    out = Writer()
    out.block(np.ones(1, dtype).tobytes())
    out.data.append(0)
    return bytes(out.data)


# safetensors ---------------------------------------------------------------------------------


def head_of(raw: bytes) -> int:
    """Bytes before the numbers of a file of safetensors."""
    return 8 + struct.unpack("<Q", raw[:8])[0]


def safetensors(header, payload: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + payload
