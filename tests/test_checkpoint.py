import gc
import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny
from safetensors.numpy import load_file

from kd_jax import packing
from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError
from kd_jax.optim import Optim
from kd_jax.state import Snapshot, no_masks, start
from kd_jax.writing import write_json, write_text

PARAMS = {"dense": {"kernel": jnp.array([[1.0, 0.0], [3.0, 4.0]]), "bias": jnp.array([5.0, 6.0])}}
MASKS = {"dense": {"kernel": jnp.array([[True, False], [True, True]]), "bias": None}}
STATISTICS = {"batch_stats": {"norm": {"mean": jnp.array([0.5, 0.25])}}}


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "stage")
    yield store
    store.close()


def carry(value=1.0, masks=MASKS):
    snapshot = Snapshot(jax.tree.map(lambda x: value * x, PARAMS), STATISTICS, masks)
    return start(snapshot, Optim(name="adam"), ema=True), {"loss": jnp.full((1,), value)}


# The network at the end


@pytest.mark.parametrize(
    "snapshot",
    [
        Snapshot(PARAMS, STATISTICS, MASKS),
        Snapshot(PARAMS, {}, MASKS),
        Snapshot(PARAMS, STATISTICS, no_masks(PARAMS)),
        Snapshot(PARAMS, {"empty": {}}, no_masks(PARAMS)),
        Snapshot(jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS), {}, MASKS),
    ],
    ids=["all", "no collections", "no masks", "an empty collection", "half precision"],
)
def test_a_finished_stage_comes_back(store, snapshot):
    facts = {"accuracy": np.float64(0.5), "seeds": jnp.arange(2), "stage": "train"}
    assert store.facts() is None
    store.finish(snapshot, facts)
    assert store.facts() == {"accuracy": 0.5, "seeds": [0, 1], "stage": "train"}
    loaded = Store(store.folder).load()
    assert not tiny.differences(loaded.params, snapshot.params)
    assert not tiny.differences(loaded.masks, snapshot.masks)
    kept = {name: part for name, part in snapshot.collections.items() if jax.tree.leaves(part)}
    assert not tiny.differences(loaded.collections, kept)
    for a, b in zip(jax.tree.leaves(loaded.params), jax.tree.leaves(snapshot.params), strict=True):
        assert a.dtype == b.dtype


def test_finishing_again_replaces_what_was_there(store):
    store.finish(Snapshot(PARAMS, {}, MASKS), {"n": 1})
    doubled = Snapshot(jax.tree.map(lambda x: 2 * x, PARAMS), {}, no_masks(PARAMS))
    store.finish(doubled, {"n": 2})
    assert store.facts() == {"n": 2}
    assert not tiny.differences(store.load(), doubled)


LOAD = """
import sys, pathlib, jax
from kd_jax import packing
from kd_jax.checkpoint import Store
assert len(jax.devices()) == 1, jax.devices()
print(Store(pathlib.Path(sys.argv[1])).load().params["dense"]["kernel"].tolist())
"""


def test_a_network_made_on_four_devices_is_read_on_one(store):
    mesh = jax.sharding.Mesh(jax.devices()[:4], ("data",))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    store.finish(jax.device_put(Snapshot(PARAMS, {}, MASKS), everywhere), {})
    # A process of its own: here, there are four devices.
    command = [sys.executable, "-c", LOAD, str(store.folder)]
    environment = {"JAX_PLATFORMS": "cpu", "PATH": "", "HOME": str(store.folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "[[1.0, 0.0], [3.0, 4.0]]\n", done.stderr


# Checkpoints on the way


def test_a_checkpoint_comes_back_bit_for_bit(store):
    assert store.restore(carry()) is None
    third = carry(1 / 3)
    store.save(7, third)
    store.close()
    step, restored = Store(store.folder).restore(carry())
    assert step == 7
    assert jax.tree.structure(restored) == jax.tree.structure(third)
    assert not tiny.differences(restored, third)


def test_a_checkpoint_outlives_the_arrays_that_it_was_made_of(store):
    increase = jax.jit(lambda x: jax.tree.map(lambda y: y + 1, x), donate_argnums=0)
    tree = {"w": jnp.zeros((256, 256))}
    for step in range(1, 5):
        tree = increase(tree)
        store.save(step, tree)
    for _ in range(3):
        tree = increase(tree)
    store.close()
    step, restored = Store(store.folder).restore(tree)
    assert step == 4
    np.testing.assert_array_equal(restored["w"], np.full((256, 256), 4.0))


@pytest.mark.parametrize("spec", [(), ("data",), (None, "data")])
def test_masks_are_kept_as_bits_and_come_back_where_they_were(store, spec):
    mesh = jax.sharding.Mesh(jax.devices()[:4], ("data",))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
    mask = jax.random.bernoulli(jax.random.key(0), 0.3, (8, 20))
    tree = {"mask": jax.device_put(mask, place), "flag": jnp.ones((2,), bool)}
    store.save(1, tree)
    step, found = store.restore(jax.tree.map(jnp.zeros_like, tree))
    assert step == 1
    assert not tiny.differences(found, tree)
    assert found["mask"].sharding == jnp.zeros_like(tree["mask"]).sharding
    saved = store.manager.restore(1, args=ocp.args.StandardRestore())
    forms = {(x.shape, x.dtype.name) for x in jax.tree.leaves(saved)}
    assert forms == {((2,), "bool"), ((8, 3), "uint8"), ((2,), "uint32")}  # and the checksums


def test_a_network_whose_masks_were_saved_whole_is_read(store, monkeypatch):
    """As an earlier version did."""
    with monkeypatch.context() as patch:
        patch.setattr(packing, "packed", lambda leaf: leaf)
        store.finish(Snapshot(PARAMS, {}, MASKS), {})
    assert not tiny.differences(store.load(), Snapshot(PARAMS, {}, MASKS))


def test_the_latest_two_are_kept(store):
    for step in (3, 5, 8):
        store.save(step, carry(float(step)))
    store.close()
    names = sorted(path.name for path in (store.folder / "steps").iterdir() if path.is_dir())
    assert names == ["5", "8"]
    step, restored = Store(store.folder).restore(carry())
    assert (step, float(restored[1]["loss"][0])) == (8, 8.0)


def test_finishing_drops_the_checkpoints(store):
    store.save(3, carry())
    store.finish(Snapshot(PARAMS, {}, MASKS), {})
    assert not (store.folder / "steps").exists()
    assert store.restore(carry()) is None


# History


def test_history_is_what_was_logged(store):
    assert store.history() == []
    records = [{"step": 4, "train": {"loss": [0.1 + 0.2, 1e-30]}}, {"step": 8, "x": [True, None]}]
    for record in records:
        store.log(record)
    assert Store(store.folder).history() == records


def test_a_rewound_history_has_no_later_records(store):
    store.rewind(0)
    assert store.history() == []
    for step in (4, 8, 12):
        store.log({"step": step})
    store.rewind(12)
    assert [record["step"] for record in store.history()] == [4, 8, 12]
    store.rewind(9)
    assert [record["step"] for record in store.history()] == [4, 8]
    store.log({"step": 12, "new": 1})
    assert store.history()[-1] == {"step": 12, "new": 1}
    store.rewind(0)
    assert store.history() == []


def test_a_line_cut_short_is_left_out_and_mended(store):
    store.log({"step": 4})
    store.log({"step": 8})
    path = store.folder / "history.jsonl"
    path.write_text(path.read_text() + '{"step": 12, "tr')
    assert [record["step"] for record in store.history()] == [4, 8]
    store.rewind(8)
    store.log({"step": 12})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [4, 8, 12]


# Files


def test_kept_arrays(store):
    arrays = {"logits": np.arange(6, dtype=np.float32).reshape(2, 3).T, "ids": np.arange(3)}
    store.keep("teacher_outputs", arrays)
    assert not tiny.differences(load_file(store.folder / "teacher_outputs.safetensors"), arrays)
    assert [path.name for path in store.folder.iterdir()] == ["teacher_outputs.safetensors"]


def test_files_are_written_whole(tmp_path):
    path = tmp_path / "deep" / "facts.json"
    write_json(path, {"a": np.float32(0.5), "b": np.arange(2), "c": path})
    assert json.loads(path.read_text()) == {"a": 0.5, "b": [0, 1], "c": str(path)}
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["facts.json"]


def test_seconds_are_kept_until_the_stage_is_done(tmp_path):
    store = Store(tmp_path / "stage")
    assert store.spent() == 0.0
    store.spend(2.5)
    store.spend(3.5)
    assert Store(tmp_path / "stage").spent() == 3.5
    store.finish(Snapshot(PARAMS, {}, no_masks(PARAMS)), {})
    assert store.spent() == 0.0


# Damage


def harmed(path, how):
    """A file that is cut short, has a bit that differs, or is gone."""
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)


def files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)


HARM = ("gone", "cut", "flipped")
# Where Orbax fails, it leaves coroutines behind that nobody waits for.
left_behind = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def made(tmp_path):
    """The folder of a stage with checkpoints of steps 1 and 2."""
    store = Store(tmp_path / "stage")
    for step in (1, 2):
        store.save(step, carry(float(step)))
    store.close()
    return store.folder


@pytest.fixture
def tidy():
    yield
    gc.collect()


@left_behind
@pytest.mark.parametrize("how", HARM)
@pytest.mark.usefixtures("tidy")
def test_whatever_is_damaged_no_other_numbers_come_back(tmp_path, how):
    """Of each file of the newest of two checkpoints in turn: what comes back is what was saved, or
    the one before it."""
    saved = {step: carry(float(step)) for step in (1, 2)}
    made = Store(tmp_path / "made")
    for step, tree in saved.items():
        made.save(step, tree)
    made.close()
    newest = tmp_path / "made" / "steps" / "2"
    passed_over = 0
    for i, path in enumerate(files(newest)):
        folder = tmp_path / str(i)
        shutil.copytree(tmp_path / "made", folder)
        harmed(folder / path.relative_to(tmp_path / "made"), how)
        store = Store(folder)
        step, found = store.restore(carry(0.0))
        assert not tiny.differences(found, saved[step])
        assert store.damaged == [2] * (step == 1)
        passed_over += step == 1
        store.close()
    assert passed_over  # some of the files matter


@left_behind
@pytest.mark.parametrize("how", HARM)
@pytest.mark.usefixtures("tidy")
def test_a_network_whose_files_are_damaged_is_refused(tmp_path, how):
    made = Store(tmp_path / "made")
    made.finish(Snapshot(PARAMS, STATISTICS, MASKS), {"n": 1})
    said = []
    for i, path in enumerate(files(tmp_path / "made" / "final")):
        folder = tmp_path / str(i)
        shutil.copytree(tmp_path / "made", folder)
        harmed(folder / path.relative_to(tmp_path / "made"), how)
        try:
            found = Store(folder).load()
        except UsageError as error:
            said.append((folder, str(error)))
        else:
            assert not tiny.differences(found, made.load())
    assert said
    for folder, words in said:
        assert words.startswith(f"{folder}/final: damaged (")
        assert words.endswith(f"delete {folder}, and the same command trains this stage anew")


def test_numbers_that_differ_are_refused_even_where_their_files_are_whole(tmp_path):
    store = Store(tmp_path / "stage")
    store.finish(Snapshot(PARAMS, {}, MASKS), {"n": 1})
    done = (tmp_path / "stage" / "done.json").read_bytes()
    doubled = jax.tree.map(lambda x: 2 * x, PARAMS)
    store.finish(Snapshot(doubled, {}, MASKS), {"n": 1})
    (tmp_path / "stage" / "done.json").write_bytes(done)
    with pytest.raises(UsageError, match="other numbers than were saved"):
        store.load()
