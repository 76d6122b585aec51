"""Files that several processes may write at once, or that a kill leaves half written."""

import errno
import os

import pytest

from kd_jax import writing


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
