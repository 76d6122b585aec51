"""Encoded networks from strangers: read whole or refused in one line, at little cost."""

import copy

import jax
import numpy as np
import pytest
from calls import refused
from hostile import changed, constant, damaged, kdz, one_tensor, parts, read
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_jax.datasets import DATASETS, Data
from kd_jax.encode import container, decoded, encoded, entries
from kd_jax.encode.bits import Damaged, Reader
from kd_jax.encode.entries import Grid
from kd_jax.encode.network import NESTED, About, Loaded, load, plain
from kd_jax.encode.places import FORMS
from kd_jax.encode.streams import read as read_stream
from kd_jax.encode.tensors import decode
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.models import MLP
from kd_jax.tree import named_leaves

FAST = settings(deadline=None, derandomize=True, database=None, max_examples=60)
HARD = settings(deadline=None, derandomize=True, database=None, max_examples=5000)
SPEC = DATASETS["digits"]


def file():
    """The file of a small network, some of whose weights are on a grid, shared, or zero."""
    config, rng = MLP(widths=(6, 5)), np.random.default_rng(0)
    shapes = jax.eval_shape(
        from_linen(config.build(10, "float32")).init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, *SPEC.shape), np.float32),
    )
    draw = lambda x: (rng.integers(-3, 4, x.shape) * (rng.random(x.shape) < 0.3)).astype(np.float32)  # noqa: E731
    made = jax.tree.map(draw, dict(shapes))
    about = About(plain(config), "float32", Data(name="digits"), SPEC, {"seed": "0"}).to_json()
    return encoded(made, {"params/dense1/kernel": Grid(1.0)}, about).data


FILE = file()
HEADER, PAYLOAD = parts(FILE)


def loads(data, path):
    path.write_bytes(data)
    found = read(load, path)
    assert found is None or isinstance(found, Loaded)
    return found


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("kdz") / "a.kdz"


def test_the_file_itself_is_read(path):
    assert loads(FILE, path) is not None


def _check_bytes(path, data):
    assert loads(data, path) is None  # its checksum tells


def _check_payload(path, payload):
    """Under a right checksum: other numbers, of the same shapes, or none."""
    found = read(decoded, kdz(HEADER, payload))
    if found is not None:
        shapes = [x.shape for x in named_leaves(found[0]).values()]
        assert shapes == [tuple(shape) for _, _, shape, *_ in HEADER["tensors"]]


def _check_header(path, header):
    found = loads(kdz(header, PAYLOAD), path)
    if found is not None:
        assert all(word.isprintable() for word in found.about.origin.values())


CHECKS = {
    "bytes": (_check_bytes, damaged(FILE).filter(lambda data: data != FILE)),
    "payload": (_check_payload, damaged(PAYLOAD)),
    "header": (_check_header, changed(HEADER)),
}


@pytest.mark.parametrize("what", CHECKS)
def test_damage(path, what):
    check, examples = CHECKS[what]
    FAST(given(examples)(lambda data: check(path, data)))()


@pytest.mark.slow
@pytest.mark.parametrize("what", CHECKS)
def test_damage_many_times(path, what):
    check, examples = CHECKS[what]
    HARD(given(examples)(lambda data: check(path, data)))()


TENSORS = st.tuples(
    st.binary(max_size=40),
    st.lists(st.integers(0, 40), max_size=3).map(tuple),
    st.sampled_from(["float32", "bool", "int8", "float64"]),
    st.sampled_from([*FORMS]),
    st.sampled_from([*entries.KINDS]),
)


def _check_tensor(made):
    data, shape, dtype, form, kind = made
    try:
        found = decode(data, shape, np.dtype(dtype), form, kind)
    except (Damaged, ValueError, OverflowError):  # `decoded` makes one of the others
        return
    assert (found.shape, found.dtype) == (shape, np.dtype(dtype))


def _check_stream(made):
    data, count, alphabet = made
    try:
        found = read_stream(Reader(data), count, alphabet)
    except Damaged:
        return
    assert found.shape == (count,)
    assert not count or 0 <= found.min() <= found.max() < alphabet


STREAMS = st.tuples(
    st.builds(lambda c, d: bytes([c]) + d, st.integers(0, 3), st.binary(max_size=60)),
    st.integers(0, 5000),
    st.sampled_from([0, 1, 2, 3, 256, 2**14, 2**14 + 1, 2**32, 2**32 + 1, 2**62]),
)


@settings(FAST, max_examples=150)
@given(TENSORS)
def test_any_bytes_as_a_tensor(made):
    _check_tensor(made)


@settings(FAST, max_examples=150)
@given(STREAMS)
def test_any_bytes_as_a_stream(made):
    _check_stream(made)


@pytest.mark.slow
def test_any_bytes_many_times():
    settings(HARD, max_examples=20_000)(given(TENSORS)(_check_tensor))()
    settings(HARD, max_examples=20_000)(given(STREAMS)(_check_stream))()


# Crafted -------------------------------------------------------------------------------------


def told(path, *place_and_value):
    """The one line that answers to a file which says something else of its network."""
    *place, last, value = place_and_value
    header = copy.deepcopy(HEADER)
    node = header["about"]
    for key in place:
        node = node[key]
    node[last] = value
    path.write_bytes(kdz(header, PAYLOAD))
    with pytest.raises(UsageError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


MADE = HEADER["about"]["made"]
HUGE = {"made": "plain", "config": {**MADE["config"], "widths": [10**8]}}
SHRUNK = {"made": "shrunk", "of": MADE, "shape": [2, 8, 8, 1], "dtype": "float32"}
QUANTISED = {"made": "quantised", "of": MADE, "codes": []}


def nested(times):
    made = MADE
    for _ in range(times):
        made = {"made": "quantised", "of": made, "codes": []}
    return made


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (nested(NESTED + 1), "made of more than 16 others"),
        (nested(900), "made of more than 16 others"),
        ({**SHRUNK, "of": HUGE, "groups": {}}, "its params/"),
        ({**SHRUNK, "shape": [2, 10**9, 8, 1], "groups": {}}, "examples of another shape"),
        ({**SHRUNK, "shape": [10**12, 8, 8, 1], "groups": {}}, "examples of another shape"),
        ({**SHRUNK, "groups": {"params/dense1/kernel:1": [10**9, 6]}}, "keep 1000000000 of the 6"),
        ({**SHRUNK, "groups": {"params/dense1/kernel:1": [-1, 6]}}, "keep -1 of the 6"),
        ({"made": "gated", "of": HUGE, "amount": 0.5, "hidden": 8, "keep": []}, "its params/"),
        ({"made": "reusing", "of": MADE, "teacher": HUGE, "reduction": None}, "its params/"),
        ({"made": "plain", "config": {"class": "MLP", "widths": [1] * 2000}}, "widths=2000"),
        ({"made": "plain", "config": {"class": "ViT", "depth": 10**9}}, "depth=1000000000"),
        ({"made": "plain", "config": {"class": "os.system"}}, ""),
        ([], "no network"),
        (None, "no network"),
    ],
)
def test_networks_that_nobody_could_make(path, made, said):
    assert said in told(path, "made", made)


@pytest.mark.parametrize(
    "origin", [{"seed": "\x1b[2J"}, {"seed": "\ud800"}, {"a\nb": ""}, {"a": {}}, {"a": 1}, [1]]
)
def test_words_for_the_screen_are_words(path, origin):
    told(path, "origin", origin)


def test_neither_folder_nor_memory_of_another_machine_counts(path):
    header = copy.deepcopy(HEADER)
    header["about"]["data"] |= {"dir": "gs://somewhere", "memory_mb": 10**6}
    found = loads(kdz(header, PAYLOAD), path)
    assert found is not None
    assert (found.about.data.dir, found.about.data.memory_mb) == ("", Data().memory_mb)


def test_names_are_names_and_no_paths(tmp_path, path):
    header = copy.deepcopy(HEADER)
    header["tensors"][0][0] = "../../params/x"
    assert loads(kdz(header, PAYLOAD), path) is None
    assert [*tmp_path.iterdir()] == []


def test_a_name_that_stands_twice(path):
    assert loads(kdz({**HEADER, "tensors": HEADER["tensors"] * 2}, PAYLOAD * 2), path) is None


@pytest.mark.parametrize(
    "header", [b"\xff\xfe{}", b'{"about":null,"tensors":[["\xff"]]}', b"[" * 900]
)
def test_headers_that_are_no_text(path, header):
    assert loads(kdz(header), path) is None


def test_what_is_no_file_is_not_read(tmp_path):
    (tmp_path / "zero.kdz").symlink_to("/dev/zero")
    for name in ("zero.kdz", "."):
        with pytest.raises(UsageError, match="it is no file"):
            load(tmp_path / name)


def test_a_number_everywhere_has_to_be_asked_for():
    """Few bytes that say to be many numbers."""
    data = one_tensor([3_000_000])
    with pytest.raises(UsageError, match="more than 1,048,576: say --most 3000000 if"):
        decoded(data)
    (found,) = named_leaves(decoded(data, 3_000_000)[0]).values()
    assert (found == 1).all()


def test_no_more_numbers_are_decoded_than_there_is_memory_for(monkeypatch):
    """A file of a mebibyte may say that it holds 2^30, and decoding takes 50 bytes for each."""
    monkeypatch.setattr(container, "machine_memory", lambda: 1 << 30)
    data = one_tensor([1 << 25], data=constant("float32") + bytes(1 << 15))
    with pytest.raises(UsageError, match="more than 21,474,836: say --most 33554432 if"):
        decoded(data)
    monkeypatch.setattr(container, "machine_memory", lambda: None)
    assert container._most(len(data)) >= 1 << 25


def test_numbers_that_have_a_bit_each_are_decoded_whatever_the_memory(monkeypatch):
    monkeypatch.setattr(container, "machine_memory", lambda: 1)
    assert container._most(1 << 10) == container.FEW
    assert container._most(1 << 20) == 1 << 23
    assert container._most(1 << 40) == container.MOST


def test_of_a_network_of_zeros_the_encoder_makes_a_file():
    made = encoded({"params": {"x": np.zeros(1_100_000, np.float32)}})
    assert len(made.data) < 300


def test_most_is_for_files_and_a_number(call, path):
    path.write_bytes(FILE)
    assert "--most many: give a whole number" in refused(call, "evaluate", path, "--most", "many")
    assert "more than 100: say --most" in refused(call, "evaluate", path, "--most", "100")
    assert "--most is for a file" in refused(call, "evaluate", path.parent, "--most", "100")
