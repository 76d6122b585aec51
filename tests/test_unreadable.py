"""Disks that can't be read for a while: one line says so, and nothing that may be whole is taken
for damaged. What is damaged stays where nothing else can be read in its place."""

import dataclasses
import errno
import os
import shutil
from pathlib import Path

import orbax.checkpoint as ocp
import pytest
import tiny
import tiny_runs
from test_checkpoint import MASKS, PARAMS, carry, files, harmed, left_behind
from test_checkpoint import made as made  # a fixture
from test_checkpoint import tidy as tidy  # a fixture

from kd_jax import pieces
from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError
from kd_jax.state import Snapshot

FAILING = Path("/proc/self/mem")  # whose first byte can't be read by anybody: EIO
PERMISSION = os.strerror(errno.EACCES)


def kept(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def names(folder):
    return sorted(path.name for path in (folder / "steps").iterdir())


def restored(folder):
    """(step or None, the store) of what comes back."""
    store = Store(folder)
    try:
        found = store.restore(carry(0.0))
    finally:
        store.close()
    return found and found[0], store


def raising(monkeypatch, error, *steps):
    """Orbax fails at some steps."""
    restore = ocp.CheckpointManager.restore

    def failing(self, step, *rest, **more):
        if step in steps:
            raise error
        return restore(self, step, *rest, **more)

    monkeypatch.setattr(ocp.CheckpointManager, "restore", failing)


# What is not read for now ----------------------------------------------------------------------


@left_behind
@pytest.mark.usefixtures("tidy")
@pytest.mark.skipif(not FAILING.exists(), reason="no file here fails to be read")
def test_no_checkpoint_of_which_a_file_fails_to_be_read_is_given_up(made, tmp_path):
    """Each file in turn; what Orbax does not need may fail."""
    said = []
    for i, path in enumerate(files(made / "steps" / "2")):
        folder = tmp_path / str(i)
        shutil.copytree(made, folder)
        harm, before = folder / path.relative_to(made), kept(folder)
        harm.unlink()
        harm.symlink_to(FAILING)
        store = Store(folder)
        try:
            found = store.restore(carry(0.0))
        except UsageError as error:
            said.append((harm, folder / "steps" / "2", str(error)))
        else:
            assert found is not None
            assert found[0] == 2
        store.close()
        assert (store.damaged, kept(folder)) == ([], before)
        harm.unlink()
        shutil.copy(path, harm)
        step, again = restored(folder)
        assert (step, again.damaged) == (2, [])
    assert len(said) > 2
    for file, step, words in said:
        assert words == (
            f"{file}: can't be read ({os.strerror(errno.EIO)}): make that possible, or delete "
            f"{step}, and it is gone on without it"
        )


TENSORSTORE = 'PERMISSION_DENIED: Error reading local file "/a/steps/2/default/": Failed to open: '
TENSORSTORE += '"/a/steps/2/default/d/8b": Permission denied'
SPEC = '[tensorstore_spec=\'{\\"path\\":\\"/elsewhere/\\"}\']'


def because_of(error):
    outer = ValueError("it can't be had")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, PERMISSION, "/a/b"), f"/a/b: can't be read ({PERMISSION})"),
        *(
            (OSError(code, os.strerror(code)), f"2: can't be read ({os.strerror(code)})")
            for code in (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT)
        ),
        (TimeoutError("too slow"), "2: can't be read (too slow)"),
        (because_of(OSError(errno.EIO, "bad", "/a/c")), "/a/c: can't be read (bad)"),
        *(
            (ValueError(f"{TENSORSTORE} {words}"), f"/d/8b: can't be read ({PERMISSION})")
            for words in (f"[os_error_code='13'] {SPEC}", f"{SPEC} [os_error_code='13']")
        ),
    ],
    ids=lambda x: repr(x)[:40],
)
def test_what_is_no_damage_ends_the_run_and_deletes_nothing(made, monkeypatch, error, said):
    before = kept(made)
    with monkeypatch.context() as patch:
        raising(patch, error, 2)
        with pytest.raises(UsageError) as told:
            restored(made)
    assert f"{said}: make that possible, or delete {made}/steps/2, and it is" in str(told.value)
    assert "\n" not in str(told.value)
    assert kept(made) == before
    assert restored(made)[0] == 2


def test_a_folder_that_may_not_be_looked_into_is_not_empty(made, monkeypatch):
    """Orbax says of such a one that its parts aren't there."""
    scan, closed = os.scandir, made / "steps" / "2" / "default" / "d"

    def scandir(path="."):
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, PERMISSION, str(path))
        return scan(path)

    before = kept(made)
    with monkeypatch.context() as patch:
        raising(patch, FileNotFoundError("no parts there"), 2)
        patch.setattr(os, "scandir", scandir)
        with pytest.raises(UsageError, match=rf"^{closed}: can't be read \({PERMISSION}\): "):
            restored(made)
    assert kept(made) == before


def test_an_older_one_that_can_not_be_read_keeps_the_newer_damaged_one(made, monkeypatch):
    before = kept(made)

    def failing(self, step, *rest, **more):
        raise KeyError("damage") if step == 2 else OSError(errno.EIO, "bad", "/a/b")

    monkeypatch.setattr(ocp.CheckpointManager, "restore", failing)
    with pytest.raises(UsageError, match=r"^/a/b: can't be read \(bad\).* delete .*/steps/1, and"):
        restored(made)
    assert kept(made) == before


@pytest.mark.parametrize("error", [FileNotFoundError, NotADirectoryError, IsADirectoryError])
def test_parts_that_are_not_there_are_damage(made, monkeypatch, error):
    raising(monkeypatch, error("no parts there"), 2)
    step, store = restored(made)
    assert (step, store.damaged, names(made)) == (1, [2], ["1"])


@pytest.mark.skipif(not FAILING.exists(), reason="no file here fails to be read")
def test_a_network_that_fails_to_be_read_is_not_called_damaged(tmp_path):
    store = Store(tmp_path)
    store.finish(Snapshot(PARAMS, {}, MASKS), {"n": 1})
    path = tmp_path / "final" / "_METADATA"
    words = path.read_bytes()
    path.unlink()
    path.symlink_to(FAILING)
    with pytest.raises(UsageError, match=rf"^{path}: can't be read \(.*\): make that possible, or"):
        store.load()
    path.unlink()
    path.write_bytes(words)
    assert not tiny.differences(store.load(), Snapshot(PARAMS, {}, MASKS))


# What is damaged, and all there is --------------------------------------------------------------


def harm(folder, *steps):
    for step in steps:
        for path in (folder / "steps" / str(step)).rglob("d/*"):
            harmed(path, "flipped")


@left_behind
@pytest.mark.usefixtures("tidy")
def test_what_is_damaged_is_set_aside_where_no_other_can_be_read(made):
    harm(made, 1, 2)
    step, store = restored(made)
    assert (step, store.damaged) == (None, [2, 1])
    assert store.aside == {one: made / "steps" / f"{one}.damaged" for one in (1, 2)}
    assert names(made) == ["1.damaged", "2.damaged"]
    assert files(made / "steps" / "2.damaged")

    step, store = restored(made)  # it is not read again
    assert (step, store.damaged, store.aside) == (None, [], {})

    store.save(1, carry(5.0))  # and in nobody's way
    store.close()
    assert restored(made)[0] == 1
    harm(made, 1)
    step, store = restored(made)
    assert (step, store.damaged, names(made)) == (None, [1], ["1.damaged", "2.damaged"])

    store.finish(Snapshot(PARAMS, {}, MASKS), {})
    assert not (made / "steps").exists()


@pytest.mark.slow
@left_behind
@pytest.mark.usefixtures("tidy")
def test_a_run_goes_on_after_one_was_set_aside_and_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.0)
    stage = dataclasses.replace(tiny_runs.TRAIN, epochs=3)  # of four steps
    store = Store(tmp_path)
    with pytest.raises(tiny_runs.Stopped):
        tiny_runs.fit(stage, store=store, report=tiny_runs.Quitter(9), save_seconds=0.0)
    store.close()
    steps = sorted((int(name) for name in names(tmp_path)), reverse=True)
    harm(tmp_path, *steps)
    _, told = tiny_runs.fit(stage, store=Store(tmp_path))
    assert [note for note in told.notes if "damaged" in note] == [
        f"warning: the checkpoint of step {step} is damaged, and lies in "
        f"{tmp_path}/steps/{step}.damaged until the stage is done"
        for step in steps
    ]
    assert steps
    assert told.began[0][2] == 0
    assert (tmp_path / "done.json").exists()
    assert not (tmp_path / "steps").exists()
