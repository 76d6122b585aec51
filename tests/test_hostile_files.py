"""Arrays, caches and data sets from strangers or bad disks: read whole or refused in one line."""

import gc
import io
import json
import os
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
import tensorstore
import tiny_tfds
from hostile import changed, damaged, harmed, head_of, read, safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kd_jax import arrays, cache, jsons, pretrained, sources, state
from kd_jax.checkpoint import Store
from kd_jax.cuts import Cut
from kd_jax.data import load as load_data
from kd_jax.datasets import Data
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.models import MLP
from kd_jax.prune import Widths
from kd_jax.replay import Replay
from kd_jax.tree import named_leaves

# Where Orbax fails, it leaves coroutines behind that nobody waits for.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
FAST = settings(deadline=None, derandomize=True, database=None, max_examples=60)
HARD = settings(deadline=None, derandomize=True, database=None, max_examples=3000)
often = pytest.mark.parametrize("how", [FAST, pytest.param(HARD, marks=pytest.mark.slow)])


def same(found, known):
    return found.keys() == known.keys() and all(
        (found[n].dtype, found[n].shape, found[n].tobytes()) == (x.dtype, x.shape, x.tobytes())
        for n, x in known.items()
    )


# safetensors ---------------------------------------------------------------------------------

KEPT = {
    "logits": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "ids": np.arange(3, dtype=np.int32),
    "none": np.zeros((0, 3), np.uint8),
    "one": np.float64(7),
}


@often
def test_kept_arrays_come_back_as_they_were_or_not_at_all(tmp_path, how):
    store = Store(tmp_path)
    store.keep("it", KEPT)
    path = tmp_path / "it.safetensors"
    raw = path.read_bytes()
    assert same(store.kept("it"), {name: np.asarray(x) for name, x in KEPT.items()})
    kept = []

    @how
    @given(damaged(raw, head_of(raw)))
    def check(data):
        path.write_bytes(data)
        found = read(store.kept, "it")
        kept.append(found is not None)
        assert found is None or same(found, {name: np.asarray(x) for name, x in KEPT.items()})

    check()
    assert sum(kept) < len(kept) / 4
    path.unlink()
    with pytest.raises(UsageError, match=r"it\.safetensors: damaged \(.*: delete it, and the same"):
        store.kept("it")


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_no_part_of_a_file_of_arrays_is_taken_for_it(tmp_path, cut):
    arrays.write(tmp_path / "a", KEPT)
    raw = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(raw[: -cut - 1])
    assert read(arrays.read, tmp_path / "a", "delete it") is None


CONFIG = MLP(widths=(4,))
SHAPES = jax.eval_shape(
    from_linen(CONFIG.build(10, "float32")).init,
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32),
)
SHAPES = dict(SHAPES)


def weights(path, kind="float32"):
    rng = np.random.default_rng(0)
    draw = lambda x: rng.normal(size=x.shape).astype(np.float32)  # noqa: E731
    pretrained.save(path, CONFIG, jax.tree.map(draw, SHAPES), "kd_jax")
    return path.read_bytes()


@often
def test_weights_are_of_the_network_or_refused(tmp_path, how):
    """Their numbers carry no checksum: whoever has one gives it, as weights-sha256."""
    path = tmp_path / "w.safetensors"
    raw = weights(path)
    shapes = {name: x.shape for name, x in named_leaves(SHAPES).items()}

    @how
    @given(damaged(raw, head_of(raw)))
    def check(data):
        path.write_bytes(data)
        found = read(pretrained.load, path, CONFIG, SHAPES, (8, 8, 1))
        if found is not None:
            assert {name: x.shape for name, x in found.items()} == shapes
            assert all(x.dtype == np.float32 and np.isfinite(x).all() for x in found.values())

    check()


def retyped(raw, kind, size, number=b""):
    """All tensors as of another kind, whose numbers have so many bytes."""
    header, at = json.loads(raw[8 : head_of(raw)]), 0
    for one in header.values():
        if "shape" in one:
            length = size * int(np.prod(one["shape"]))
            one |= {"dtype": kind, "data_offsets": [at, at + length]}
            at += length
    return safetensors(header, (number * at)[:at] if number else bytes(at))


@pytest.mark.parametrize(
    ("kind", "size", "number", "said"),
    [
        ("F8_E4M3", 1, b"", "is of F8_E4M3, and not of F16, BF16, F32, F64: take another file"),
        ("F8_E8M0", 1, b"", "is of F8_E8M0"),
        ("C64", 8, b"", "is of C64"),
        ("I32", 4, b"", "is of I32"),
        ("BOOL", 1, b"", "is of BOOL"),
        ("F64", 8, np.float64(1e300).tobytes(), "has entries that are not finite: take another"),
        ("F32", 4, np.float32("nan").tobytes(), "has entries that are not finite"),
    ],
)
def test_numbers_that_are_no_weights(tmp_path, kind, size, number, said):
    path = tmp_path / "w.safetensors"
    path.write_bytes(retyped(weights(path), kind, size, number))
    with pytest.raises(UsageError, match=said):
        pretrained.load(path, CONFIG, SHAPES, (8, 8, 1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(8),
        (2**63).to_bytes(8, "little") + b"{}",
        (2**40).to_bytes(8, "little") + b"{}",
        safetensors(b"[" * 100_000),
        safetensors(b"\xff\xfe"),
        safetensors({"x": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors(
            {"x": {"dtype": "F32", "shape": [2**40] * 4, "data_offsets": [0, 4]}}, bytes(4)
        ),
        safetensors({"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        safetensors({"x": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, bytes(4)),
        safetensors(
            {n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "xy"}, bytes(4)
        ),
        safetensors(b'{"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},' * 2 + b'"y":{}}'),
    ],
)
def test_headers_that_nobody_writes(tmp_path, data):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    assert read(arrays.read, path, "delete it") is None
    assert read(pretrained.load, path, CONFIG, SHAPES, (8, 8, 1)) is None


def test_weights_that_are_no_file(tmp_path):
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("zero", "."):
        with pytest.raises(UsageError, match=r"can't be read \(it is no file\)"):
            pretrained.digest(tmp_path / name)


# What is cut ---------------------------------------------------------------------------------

WIDTHS = Widths((2, 8, 8, 1), "float32", {"params/dense1/kernel:1": (3, 4)}, {"params/x": {1: 3}})


@often
def test_widths_are_read_whole_or_refused(tmp_path, how):
    path = tmp_path / "widths.json"
    cut, full = Cut(tmp_path), from_linen(CONFIG.build(10, "float32"))

    @how
    @given(st.one_of(changed(json.loads(WIDTHS.to_json())), damaged(WIDTHS.to_json().encode())))
    def check(data):
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        found = read(cut.widths)
        assert found is None or isinstance(found, Widths)

    check()
    for shape in ([2, 10**9, 8, 1], [10**9, 8, 8, 1], [2, 9, 9, 1], []):
        path.write_text(json.dumps(json.loads(WIDTHS.to_json()) | {"input_shape": shape}))
        assert read(cut.model, full, (8, 8, 1)) is None
    path.write_text("[" * 100_000)
    with pytest.raises(UsageError, match=r"widths\.json: nested too deeply: delete "):
        cut.widths()


def test_units_that_are_damaged_are_not_cut(tmp_path):
    units = {"params/dense1/kernel:1": np.arange(3, dtype=np.int32)[None]}
    arrays.write(tmp_path / "units.safetensors", units)
    path = tmp_path / "units.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(UsageError, match=r"units\.safetensors: damaged \(other numbers than were"):
        Cut(tmp_path).units()


# Caches --------------------------------------------------------------------------------------

IMAGES = {
    "inputs": np.arange(60, dtype=np.uint8).reshape(5, 3, 4),
    "labels": np.arange(5, dtype=np.int32),
}


@often
def test_a_cache_gives_what_was_saved_or_nothing(tmp_path, monkeypatch, how):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.save("it", IMAGES)
    files = [path for path in cache.cache_dir().iterdir() if path.suffix in (".npy", ".json")]
    raws = {path: path.read_bytes() for path in files}

    @how
    @given(st.integers(0, 2**32))
    def check(seed):
        rng = random.Random(seed)
        path = rng.choice(files)
        path.write_bytes(harmed(raws[path], rng, 128))
        found = cache.load("it", IMAGES)
        assert found is None or same(found, IMAGES)
        path.write_bytes(raws[path])

    check()


def npy(header: str) -> bytes:
    raw = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw + bytes(60)


@pytest.mark.parametrize(
    "header",
    [
        "-" * 9000 + "1",
        "(" * 5000,
        "'''",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (10**15,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000000000000000,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (5,)}",
        "{'descr': '|V999999999', 'fortran_order': False, 'shape': (1,)}",
        # The bytes that were saved, of another kind or in another order.
        "{'descr': '|i1', 'fortran_order': False, 'shape': (5, 3, 4)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 4, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3)}",
    ],
)
def test_a_cache_whose_header_says_something_else(tmp_path, monkeypatch, header):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.save("it", IMAGES)
    path = tmp_path / "kd_jax" / "it.inputs.npy"
    payload = path.read_bytes()[-60:]
    path.write_bytes(npy(header)[:-60] + payload)
    assert cache.load("it", IMAGES) is None


@often
@pytest.mark.parametrize("top", [0, 3])
def test_kept_teacher_outputs_come_back_as_they_were_or_not_at_all(tmp_path, top, how):
    kept = Replay(tmp_path, {"teacher": "me"}, "float32", top)
    logits = np.random.default_rng(0).normal(size=(2, 7, 10)).astype(np.float32)
    kept.write(1, logits)
    path, known = kept._path(1), kept.read(1, logits.shape)
    raw = path.read_bytes()
    used = [i for i, byte in enumerate(raw) if byte]  # most of the file fills a block

    @how
    @given(st.integers(0, 2**32))
    def check(seed):
        rng = random.Random(seed)
        found = bytearray(raw)
        for _ in range(rng.randrange(1, 4)):
            found[rng.choice(used)] ^= 1 << rng.randrange(8)
        cut = rng.random() < 0.2
        path.write_bytes(found[: rng.randrange(len(raw))] if cut else found)
        again = read(kept.read, 1, logits.shape)
        assert again is None or (again == known).all()

    check()


def records(path, *parts):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1")
    for part in parts:
        writer.write(part)
    writer.close()


@pytest.mark.parametrize(
    "parts",
    [
        (b'{"shape": [1, 2, 3]}', bytes(24)),
        (b'{"shape": [10000000000, 2, 3]}', bytes(24)),
        (b'{"shape": [2, 2, 3]}', bytes(40)),
        (b'{"shape": [2, 2, 3]}', bytes(48), bytes(48)),
        (b'{"shape": [2, 2, 3]}',),
        (b'{"shape": [[2, 2, 3]]}', bytes(48)),
        (b"[" * 100_000, bytes(48)),
        (b"\xff", bytes(48)),
        (b"[]", bytes(48)),
        (),
    ],
)
def test_teacher_outputs_of_another_shape(tmp_path, parts):
    kept = Replay(tmp_path, {"teacher": "me"}, "float32")
    records(kept._path(1), *parts)
    with pytest.raises(UsageError, match=r"epoch-00001\.array_record: damaged: delete it \("):
        kept.read(1, (2, 2, 3))


def test_few_kept_logits_of_many_classes_or_of_none_there_are(tmp_path):
    kept = Replay(tmp_path, {"teacher": "me"}, "float32", 1)
    one = np.zeros(1, np.float32).tobytes() + np.uint16(9).tobytes() + bytes(4)
    for classes in (10**10, 5):
        records(kept._path(1), json.dumps({"shape": [1, 1, classes]}).encode(), one)
        with pytest.raises(UsageError, match="damaged: delete it"):
            kept.read(1, (1, 1, 5))


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"\xff", b"[" * 100_000, b"null"])
def test_whose_outputs_they_are_is_damaged(tmp_path, content):
    folder = Replay(tmp_path, {"teacher": "me"}, "float32").folder
    (folder / "identity.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"identity\.json: damaged|of another precision, teacher"):
        Replay(tmp_path, {"teacher": "me"}, "float32")


# Data sets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["huggingface:mnist", "kaggle:a", "mnist/data_dir=gs://x", "../mnist", "a b", "mnist:x"]
)
def test_names_that_other_servers_would_be_asked_for(name):
    with pytest.raises(UsageError, match="no name of a data set: write NAME, NAME/CONFIG or"):
        load_data(Data(name=name))


def stored(image: bytes, channels=3):
    examples = [{"image": image, "label": 0}]
    return sources.StoredImages(examples, "image", "label", channels, 0, "tiny")


PNG = tiny_tfds.png(tiny_tfds.random_images(1)[0])


@often
def test_images_are_decoded_or_refused(how):
    known = stored(PNG)[0][0]

    @how
    @given(damaged(PNG, 40))
    def check(data):
        found = read(lambda: stored(data)[0][0])
        assert found is None or (found.dtype == np.uint8 and found.shape[-1] == known.shape[-1])

    check()


def written(form, size=(4, 4)):
    out = io.BytesIO()
    Image.new("RGB", size).save(out, form)
    return out.getvalue()


@pytest.mark.parametrize("data", [written("EPS"), written("TIFF"), b"", b"%!PS-Adobe\n", b"BM"])
def test_only_images_that_sets_are_made_of_are_opened(data):
    """Pillow has Ghostscript run what an EPS file says."""
    with pytest.raises(UsageError, match=r"--data\.name tiny: an example is damaged"):
        stored(data)[0]


def test_images_that_would_fill_the_memory(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UsageError, match="exceeds limit of 100 pixels"):
        stored(written("PNG", (11, 11)))[0]


def test_images_of_several_sizes_are_not_stretched_into_one():
    images = [tiny_tfds.png(np.zeros(shape, np.uint8)) for shape in ((4, 4, 3), (1, 4, 3))]
    examples = tiny_tfds.Examples([{"image": x, "label": 0} for x in images])
    source = sources.StoredImages(examples, "image", "label", 3, 0, "tiny")
    with pytest.raises(UsageError, match=r"\(1, 4, 3\) after others of \(4, 4, 3\)"):
        source.read(range(2))


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tiny_tfds.three_classes(tmp_path)
    return Data(name="tiny", dir=str(tmp_path))


@often
def test_a_prepared_set_is_read_whole_or_refused(prepared, tmp_path, how):
    files = [path for path in (tmp_path / "tiny").rglob("*") if path.is_file()]
    raws = {path: path.read_bytes() for path in files}

    @settings(how, max_examples=how.max_examples // 3)
    @given(st.integers(0, 2**32))
    def check(seed):
        rng = random.Random(seed)
        path = rng.choice(files)
        path.write_bytes(harmed(raws[path], rng, 400))
        read(load_data, prepared)
        path.write_bytes(raws[path])

    check()


# Finished networks ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a finished network."""
    folder = tmp_path_factory.mktemp("store") / "good"
    dense = {"kernel": jnp.ones((6, 5)), "bias": jnp.zeros(5)}
    Store(folder).finish(state.network({"dense": dense}, {"stats": {"m": jnp.arange(4.0)}}), {})
    return folder


def forged(finished, folder, change):
    """Says something else of an array than what its bytes are."""
    shutil.copytree(finished, folder)
    spec = {"driver": "ocdbt", "base": f"file://{folder}/final/"}
    files = tensorstore.KvStore.open(spec).result()
    key = next(key for key in files.list().result() if key.endswith(b"kernel/.zarray"))
    files[key] = json.dumps(json.loads(files[key]) | change).encode()
    return Store(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [1, 10**9, 10**6]},
        {"shape": [1, 10**5, 10**4]},
        {"shape": [2**40] * 3},
        {"shape": [1, 6, 5], "chunks": [1, 10**5, 10**4]},
    ],
)
def test_a_network_that_its_files_can_not_hold_is_refused_before_it_is_read(
    finished, tmp_path, change, monkeypatch
):
    store = forged(finished, tmp_path / "bad", change)
    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointer.restore", None)
    with pytest.raises(UsageError, match=r"final: damaged \(arrays of [\d,]+ bytes in files of"):
        store.load()


def hollow(folder, tmp_path):
    """A tebibyte that takes no disk; and, of bytes that are there, a hundred."""
    with (folder / "d" / "hollow").open("wb") as file:
        file.write(bytes(100))
        file.truncate(2**40)


def linked(folder, tmp_path):
    """What lies elsewhere is no part of the network."""
    (tmp_path / "elsewhere").write_bytes(bytes(2**20))
    (folder / "d" / "link").symlink_to(tmp_path / "elsewhere")


@pytest.mark.parametrize("made", [hollow, linked])
def test_bytes_that_are_not_there_hold_no_network(finished, tmp_path, made, monkeypatch):
    store = forged(finished, tmp_path / "bad", {"shape": [1, 10**5, 10**3]})
    made(tmp_path / "bad" / "final", tmp_path)
    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointer.restore", None)
    with pytest.raises(UsageError, match=r"final: damaged \(arrays of [\d,]+ bytes in files of"):
        store.load()


def test_bytes_are_counted_that_are_no_holes(tmp_path):
    path = tmp_path / "it"
    with path.open("wb") as file:
        for place in (0, 2**20, 2**22):
            file.seek(place)
            file.write(b"x" * 2**16)
    assert arrays._stored(tmp_path) == 3 * 2**16
    os.truncate(path, 2**23)
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "whole").write_bytes(b"x" * 1000)
    (tmp_path / "empty").touch()
    assert arrays._stored(tmp_path) == 3 * 2**16 + 1000


def test_a_network_that_no_memory_here_holds_is_not_called_damaged(finished, tmp_path, monkeypatch):
    """It may be whole: on a larger machine it can be read."""
    store = forged(finished, tmp_path / "large", {"shape": [1, 10**4, 10**3]})
    (tmp_path / "large" / "final" / "d" / "more").write_bytes(bytes(2**16))
    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointer.restore", None)
    monkeypatch.setattr("kd_jax.checkpoint.memory", lambda: 2**24)
    with pytest.raises(MemoryError, match=r"final: 40,[\d,]+ bytes of arrays, and 16,777,216 of"):
        store.load()


@pytest.mark.parametrize("change", [{"dtype": "<f8"}, {"compressor": None}, {"shape": [1, 60, 50]}])
def test_whatever_orbax_raises_of_a_network_is_told_in_one_line(finished, tmp_path, change):
    store = forged(finished, tmp_path / "bad", change)
    with pytest.raises(UsageError, match=r"final: damaged \(.*: delete .* trains this stage anew"):
        store.load()
    gc.collect()  # what Orbax left undone is told of here


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"nobody": np.ones((1, 6, 5), bool)}, "masks of no weight: nobody"),
        ({"dense": {"kernel": np.ones((1, 6, 1), np.uint8)}}, "masks of no weight: dense"),
        ({"kernel": {"a": np.ones((1, 6, 1), np.uint8)}}, "masks of no weight: kernel"),
        ({"dense/kernel": {"a": np.ones(1, bool)}}, "the mask of dense/kernel is not of its shape"),
        ({"dense/kernel": np.full((1, 7, 1), 255, np.uint8)}, "not of its shape [1, 6, 5]"),
        ({"dense/kernel": np.full((1, 6, 2), 255, np.uint8)}, "not of its shape [1, 6, 5]"),
        ({"dense/kernel": np.ones((1, 6, 1), bool)}, "not of its shape [1, 6, 5]"),
        ({"dense/kernel": np.ones((1, 6, 1), np.float32)}, "not of its shape [1, 6, 5]"),
        ({"dense/bias": np.ones((1, 5), np.uint8)}, "the mask of dense/bias is not of its shape"),
        (np.ones((1, 6, 1), np.uint8), "masks that name no weights"),
    ],
)
def test_masks_that_are_not_of_the_weights_are_damage(finished, tmp_path, masks, said):
    """Where nothing tells of checksums, as in what an earlier version wrote."""
    folder = tmp_path / "bad"
    shutil.copytree(finished, folder)
    done = jsons.unsummed(json.loads((folder / "done.json").read_text()))[0]
    done = {name: value for name, value in done.items() if name not in ("checksums", "format")}
    (folder / "done.json").write_text(json.dumps(done))
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        arrays = checkpointer.restore(finished / "final") | {"masks": masks}
        checkpointer.save(folder / "final", arrays, force=True)
    with pytest.raises(UsageError) as error:
        Store(folder).load()
    shown = str(error.value)
    assert shown.startswith(f"{folder}/final: damaged (")
    assert said in shown
    assert shown.endswith(f": delete {folder}, and the same command trains this stage anew")


@often
def test_a_finished_network_comes_back_as_it_was_or_not_at_all(finished, tmp_path, how):
    known = named_leaves(Store(finished).load().variables)
    files = [path.relative_to(finished) for path in finished.rglob("*") if path.is_file()]

    @settings(how, max_examples=how.max_examples // 3)
    @given(st.integers(0, 2**32))
    def check(seed):
        rng, folder = random.Random(seed), tmp_path / str(seed)
        shutil.copytree(finished, folder)
        path = folder / rng.choice(files)
        path.write_bytes(harmed(path.read_bytes(), rng))
        found = read(Store(folder).load)
        found = found and named_leaves(found.variables)
        assert found is None or all((found[n] == x).all() for n, x in known.items())
        shutil.rmtree(folder)

    check()
    gc.collect()


def test_a_network_of_which_little_is_left_is_read(tmp_path):
    """One weight in a thousand of twenty million bytes: its files are far smaller."""
    kernel = np.zeros((5000, 1000), np.float32)
    kernel.reshape(-1)[::1000] = np.random.default_rng(0).normal(size=5000)
    Store(tmp_path / "it").finish(state.network({"kernel": jnp.asarray(kernel)}), {})
    found = Store(tmp_path / "it").load()
    assert (np.asarray(found.params["kernel"][0]) == kernel).all()
    files = sum(path.stat().st_size for path in (tmp_path / "it").rglob("*") if path.is_file())
    assert files < kernel.nbytes / 100
