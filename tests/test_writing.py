"""Files that several processes may write at once, or that a kill leaves half written."""

import errno
import os

import numpy as np
import pytest
from safetensors import SafetensorError

from kd_jax import arrays, cache, halves, writing
from kd_jax.replay import Replay


def meanwhile(monkeypatch, name, happens):
    """Something happens just before the first call of a function of the operating system."""
    call, happened = getattr(os, name), []

    def first(*given):
        if not happened:
            happened.append(True)
            happens()
        return call(*given)

    monkeypatch.setattr(writing.os, name, first)


def test_another_who_writes_the_same_file_meanwhile_is_in_nobodys_way(tmp_path, monkeypatch):
    path = tmp_path / "identity.json"
    meanwhile(monkeypatch, "replace", lambda: writing.write_json(path, {"whose": "theirs"}))
    writing.write_json(path, {"whose": "ours"})
    assert '"ours"' in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def kept(path, text):
    with writing.whole(path, first=True) as own:
        own.write_text(text)


def test_what_is_there_first_stays_if_asked(tmp_path, monkeypatch):
    path = tmp_path / "file"
    meanwhile(monkeypatch, "link", lambda: kept(path, "theirs"))
    kept(path, "ours")
    assert path.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def link(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(writing.os, "link", link)
    for text in ("ours", "theirs"):
        kept(tmp_path / "file", text)
        assert (tmp_path / "file").read_text() == "ours"


def fails(path, half):
    with writing.whole(path) as own:
        half(own)
        raise ValueError("amid")


def in_the_way(own):
    own.mkdir()
    own.write_text("")


def test_what_fails_leaves_what_was_there_and_names_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(ValueError, match="amid"):
        fails(path, lambda own: own.write_text("half"))
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(IsADirectoryError) as found:
        fails(path, in_the_way)
    assert found.value.filename == str(path)
    assert path.read_text() == "before"


def test_what_killed_writers_have_left_goes_and_nothing_else(tmp_path):
    (tmp_path / "stage").mkdir()
    for name in ("mine.partial", "of-somebody.partial", "a.12-0123456g.partial", "done.json"):
        (tmp_path / "stage" / name).write_text("")
    others = {*tmp_path.rglob("*")}
    halves = []
    for path in (tmp_path / "config.json", tmp_path / "stage" / "done.json"):
        with writing.whole(path) as own:
            own.write_text("")
            halves.append(own)
    for half in halves:
        half.write_text("{")
    writing.tidy(tmp_path)
    assert {*tmp_path.rglob("*")} == others | {tmp_path / "config.json"}


# Arrays, and folders that many share ---------------------------------------------------------

ARRAYS = {"x": np.arange(3.0)}


@pytest.mark.parametrize(
    ("raised", "found", "said"),
    [
        (KeyboardInterrupt("now"), KeyboardInterrupt, "now"),
        (SafetensorError("of another kind"), SafetensorError, "another kind"),
        (
            SafetensorError("Error while serializing: I/O error: No space left (os error 28)"),
            OSError,
            "No space left on device: '.*/a'",
        ),
    ],
)
def test_arrays_that_fail_to_be_written_leave_nothing_and_say_what_the_disk_said(
    tmp_path, monkeypatch, raised, found, said
):
    arrays.write(tmp_path / "a", ARRAYS)

    def fail(given, path, words):
        path.write_bytes(b"half")
        raise raised

    monkeypatch.setattr(arrays, "save_file", fail)
    with pytest.raises(found, match=said):
        arrays.write(tmp_path / "a", {"x": np.zeros(9)})
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
    assert arrays.read(tmp_path / "a", "").keys() == ARRAYS.keys()


def test_arrays_that_a_kill_leaves_half_written_are_taken_away(tmp_path, monkeypatch):
    left = []
    monkeypatch.setattr(arrays, "save_file", lambda given, path, words: left.append(path))
    with pytest.raises(FileNotFoundError):
        arrays.write(tmp_path / "a", ARRAYS)
    left[0].write_bytes(b"half")
    writing.tidy(tmp_path)
    assert not list(tmp_path.iterdir())


def aged(path, days):
    path.write_bytes(b"half")
    then = path.parent.stat().st_mtime - 86_400 * days
    os.utime(path, (then, then))
    return path


def test_of_folders_that_are_shared_only_what_is_old_is_taken_away(tmp_path, monkeypatch):
    replay = Replay(tmp_path, {"teacher": "me"}, "float32").folder
    old, new, epoch = (
        aged(halves.beside(replay / "epoch-00001.array_record"), 1.1),
        aged(halves.beside(replay / "epoch-00002.array_record"), 0.9),
        aged(replay / "epoch-00003.array_record", 9),
    )
    Replay(tmp_path, {"teacher": "me"}, "float32")
    assert {*replay.iterdir()} == {new, epoch, replay / "identity.json"}
    assert not old.exists()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.save("it", ARRAYS)
    folder = cache.cache_dir()
    old, new = aged(folder / "it.x.npyabc.tmp", 1.1), aged(folder / "it.x.npydef.tmp", 0.9)
    other = aged(folder / "it.y.npy", 9)
    cache.save("it", ARRAYS)
    assert not old.exists()
    assert new.exists()
    assert other.exists()


def test_a_folder_that_can_not_be_cleared_is_nobodys_trouble(tmp_path):
    halves.clear(tmp_path / "nowhere")
    aged(tmp_path / "a.1-00000000.partial", 9).unlink()
    (tmp_path / "a.1-00000000.partial").mkdir()
    os.utime(tmp_path / "a.1-00000000.partial", (0, 0))
    halves.clear(tmp_path)
    assert (tmp_path / "a.1-00000000.partial").is_dir()
