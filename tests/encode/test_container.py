"""The file: what is in it, how large it is, and what becomes of damaged and hostile ones."""

import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kd_jax
from kd_jax import size, tree
from kd_jax.encode import container
from kd_jax.encode.container import MAGIC, decoded, encoded, sealed
from kd_jax.errors import UsageError

settings.register_profile("container", deadline=None, max_examples=60)
settings.load_profile("container")


def variables(kept=0.1):
    """A pruned kernel of shared weights, a bias, statistics and a counter."""
    rng = np.random.default_rng(0)
    kernel = rng.choice(np.linspace(-1, 1, 16, dtype=np.float32), (60, 40))
    kernel = np.where(rng.random((60, 40)) < kept, kernel, np.float32(0))
    dense = {"kernel": kernel, "bias": jnp.asarray(rng.normal(size=40), jnp.float32)}
    norm = {"mean": rng.normal(size=40).astype(np.float32), "count": np.int32(7)}
    return {"params": {"dense": dense}, "batch_stats": {"norm": norm}}


FILE = encoded(variables(), about={"who": "somebody"}).data


def same(a, b):
    a, b = tree.named_leaves(a), tree.named_leaves(b)
    assert a.keys() == b.keys()
    for name, x in a.items():
        x = np.asarray(x)
        assert (x.dtype, x.shape) == (b[name].dtype, b[name].shape)
        assert x.tobytes() == b[name].tobytes()


def test_back_and_forth():
    back, about = kd_jax.decoded(FILE)
    same(variables(), back)
    assert about == {"who": "somebody"}


def test_sizes_are_those_of_the_file(tmp_path):
    made = kd_jax.encoded(variables())
    (tmp_path / "file").write_bytes(made.data)
    assert (tmp_path / "file").stat().st_size == len(made.data)
    header = int.from_bytes(made.data[8:12], "little")
    tensors = sum(one.index_bytes + one.value_bytes for one in made.tensors.values())
    assert len(made.data) == 8 + 4 + header + tensors + 4
    given = variables()
    assert made.dense_bytes == size.dense_bytes(given["params"], {"s": given["batch_stats"]})
    kernel = made.tensors["params/dense/kernel"]
    assert kernel.kept == np.count_nonzero(given["params"]["dense"]["kernel"])
    assert (kernel.size, made.tensors["batch_stats/norm/count"].shape) == (2400, ())


def test_fewer_coders_make_larger_files():
    symbols = np.minimum(np.random.default_rng(0).geometric(0.4, (60, 40)), 16)
    x = {"params": {"kernel": symbols.astype(np.float32)}}
    sizes = [len(encoded(x, coders=c).data) for c in ((), ("huffman",), ("ans",), kd_jax.CODERS)]
    assert sizes[0] > sizes[1]
    assert sizes[3] <= min(sizes)


def test_a_grid_makes_it_smaller():
    q = np.random.default_rng(0).integers(-127, 128, (60, 40)).astype(np.float32)
    scale = np.linspace(0.01, 0.02, 40, dtype=np.float32)
    x = {"params": {"kernel": q * scale}}
    without, grids = encoded(x), {"params/kernel": kd_jax.Grid(scale)}
    made = encoded(x, grids)
    same(x, decoded(made.data)[0])
    assert made.tensors["params/kernel"].kind == "grid"
    assert len(made.data) < 0.4 * len(without.data)


def test_no_arrays_at_all():
    assert decoded(encoded({"params": {}}).data) == ({}, None)


@pytest.mark.parametrize(
    ("given", "more", "message"),
    [
        ({"params": {"a/b": np.ones(2)}}, {}, "strings without strokes"),
        ({"params": [np.ones(2)]}, {}, "strings without strokes"),
        ({"params": {1: np.ones(2)}}, {}, "strings without strokes"),
        ({"params": {"a": np.ones(2, complex)}}, {}, "params/a is of complex128"),
        ({"params": {"a": np.array(["x"])}}, {}, "params/a is of <U1"),
        (variables(), {"grids": {"kernel": kd_jax.Grid(1.0)}}, "grids: 'kernel' names no tensor"),
        (variables(), {"about": {1j}}, "about: it is not what JSON can hold"),
        (variables(), {"coders": ("zip",)}, "--coders 'zip': no such coder"),
    ],
)
def test_mistakes(given, more, message):
    with pytest.raises(UsageError, match=message):
        encoded(given, **more)


# Damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no file of a network"),
        (b"PK\x03\x04" + bytes(99), "no file of a network"),
        (MAGIC, "ends too early"),
        (MAGIC + b"\x02" + FILE[8:], "of format 2, and this kd_jax reads 1"),
        (FILE[:-1], "checksum"),
        (FILE[: len(FILE) // 2], "checksum"),
        (FILE + b"\0", "checksum"),
    ],
)
def test_files_that_are_none(data, message):
    with pytest.raises(UsageError, match=message):
        decoded(data)


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_wrong_byte_is_noticed(place, flip):
    broken = bytearray(FILE)
    broken[place] ^= flip
    with pytest.raises(UsageError):
        decoded(bytes(broken))


@given(st.integers(0, len(FILE) - 1))
def test_a_file_cut_short_is_noticed(end):
    with pytest.raises(UsageError):
        decoded(FILE[:end])


def altered(change, payload=lambda data: data):
    """A file with another header or tensors, and the checksum for it."""
    end = 12 + int.from_bytes(FILE[8:12], "little")
    inflate = zlib.decompressobj(zdict=container.WORDS)
    header = change(json.loads(inflate.decompress(FILE[12:end])))
    deflate = zlib.compressobj(zdict=container.WORDS)
    packed = deflate.compress(header if isinstance(header, bytes) else json.dumps(header).encode())
    packed += deflate.flush()
    return sealed(FILE[:8] + len(packed).to_bytes(4, "little") + packed + payload(FILE[end:-4]))


def refused(data):
    with pytest.raises(UsageError) as error:
        decoded(data)
    message = str(error.value)
    assert "\n" not in message
    return message


def of_first(place, value):
    def change(header):
        header["tensors"][0][place] = value
        return header

    return altered(change)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (altered(lambda h: b"{"), "damaged"),
        (altered(lambda h: b"[" * 100_000), "damaged"),
        (altered(lambda h: b"7"), "damaged"),
        (altered(lambda h: {**h, "tensors": None}), "damaged"),
        (altered(lambda h: {**h, "tensors": [[1]]}), "damaged"),
        (altered(lambda h: {**h, "tensors": h["tensors"][:-1]}), "goes on after its end"),
        (altered(lambda h: {**h, "tensors": h["tensors"] * 2}), "no shape"),
        (altered(lambda h: h, lambda data: data[:-3]), "ends too early"),
        (altered(lambda h: h, lambda data: data + b"abc"), "goes on after its end"),
        (altered(lambda h: b" " * (container.HEADER + 1)), "too long"),
        (of_first(0, "params/dense/kernel/deeper"), "within another"),
        (of_first(1, "object"), "unknown kind 'object'"),
        (of_first(2, [10**9, 10**9]), "more than 1,048,576"),
        (of_first(2, [10**30]), "more than 1,048,576"),
        (of_first(2, [10**12, 0]), "more than 1,048,576"),
        (of_first(2, [-1, -1]), "no shape"),
        (of_first(2, [2.0]), "no shape"),
        (of_first(2, "ab"), "no shape"),
        (of_first(2, [1] * 65), "no shape"),
        (of_first(3, "zip"), "stored as 'zip'"),
        (of_first(4, ["raw"]), "damaged"),
        (of_first(5, -1), "ends too early"),
        (of_first(5, 10**9), "ends too early"),
        (of_first(5, True), "ends too early"),
    ],
)
def test_hostile_headers(data, message):
    assert message in refused(data)


def test_what_it_may_hold_is_the_readers_to_say():
    with pytest.raises(UsageError, match="more than 100"):
        decoded(FILE, most=100)
    decoded(FILE, most=2481)


@settings(max_examples=60)
@given(st.data())
def test_damage_under_a_right_checksum(data):
    """Any bytes of the tensors may be anything: an error in one line, or other numbers in the same
    shapes; nothing else."""
    header = int.from_bytes(FILE[8:12], "little")
    places = st.integers(12 + header, len(FILE) - 5)
    broken = bytearray(FILE[:-4])
    for place in data.draw(st.lists(places, min_size=1, max_size=4)):
        broken[place] = data.draw(st.integers(0, 255))
    try:
        found, _ = decoded(sealed(bytes(broken)))
    except UsageError:
        return
    shapes = lambda tree: jax.tree.map(np.shape, tree)  # noqa: E731
    assert shapes(found) == shapes(variables())
