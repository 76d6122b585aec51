"""One process at a time in a run's folder."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from calls import refused
from made_results import histories, make

from kd_jax import cli, cli_run, locks, pipeline, report, reproduction
from kd_jax.config import smoke
from kd_jax.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
HOLD = "import sys, time; from pathlib import Path; from kd_jax import locks\n"
HOLD += "with locks.held(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)\n"


@contextmanager
def holding(folder):
    """Another process, that holds a folder."""
    words = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def holder(tmp_path):
    with holding(tmp_path) as process:
        yield process


def take(folder):
    with locks.held(folder):
        return (folder / locks.FILE).read_text()


def test_the_second_is_told_who_the_first_is(tmp_path, holder):
    with pytest.raises(UsageError, match=rf"^{tmp_path} is in use by process {holder.pid} on "):
        take(tmp_path)


def test_no_lock_outlives_its_process(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert f'"process": {os.getpid()},' in take(tmp_path)
    assert take(tmp_path)  # and once more


def test_a_lock_that_is_just_being_written(tmp_path, holder):
    (tmp_path / locks.FILE).write_text("{")
    with pytest.raises(UsageError, match="is in use by another process: wait for it or stop it"):
        take(tmp_path)


@pytest.mark.parametrize("what", ["link", "dangling", "pipe", "folder"])
def test_no_lock_is_written_to_what_a_link_leads_to(call, tmp_path, what):
    """In a stranger's folder it might be any file of ours."""
    experiment = dataclasses.replace(smoke(cli.preset("digits")), out=str(tmp_path))
    folder, ours = pipeline.folder_of(experiment), tmp_path / "ours"
    folder.mkdir()
    path = folder / locks.FILE
    if what in ("link", "dangling"):
        path.symlink_to(ours)
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    if what != "dangling":
        ours.write_text("ours")
    found = refused(call, "run", "digits", "--smoke", "--out", tmp_path)
    expected = "a link, or no regular file: put what is meant in its place, or delete it"
    assert found == f"{path}: {expected}"
    assert ours.exists() == (what != "dangling")
    assert not ours.exists() or ours.read_text() == "ours"
    assert not (folder / "config.json").exists()


def test_two_commands_do_not_train_in_one_folder(call, tmp_path):
    experiment = smoke(cli.preset("digits"))
    words = ("run", "digits", "--smoke", "--out", tmp_path)
    folder = tmp_path / pipeline.folder_of(experiment).name
    folder.mkdir()
    with holding(folder) as process:
        found = refused(call, *words)
    assert found.startswith(f"{folder} is in use by process {process.pid} on ")
    assert not list(folder.glob("train"))


@pytest.fixture(scope="module")
def in_use(tmp_path_factory):
    """The folder of a run in which another process is at work, and that process."""
    out = str(tmp_path_factory.mktemp("runs"))
    experiment = dataclasses.replace(smoke(cli.preset("digits")), out=out)
    folder = pipeline.folder_of(experiment)
    with pipeline.claimed(experiment, folder):
        report.write(folder, make(), histories())
    with holding(folder) as process:
        yield folder, process


def contents(folder):
    """Of each file what is in it, and when it was written."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in found
    }


ELSEWHERE = ", or give --out another folder"


@pytest.mark.parametrize(
    ("words", "way"),
    [
        ("run digits --smoke --out OUT", ELSEWHERE),
        ("evaluate RUN", ""),
        ("report RUN", ELSEWHERE),
        ("report RUN --out RUN/shown", ELSEWHERE),
        ("explain RUN", ""),
        ("latency RUN", ""),
        ("encode RUN", ELSEWHERE),
        ("encode RUN --out RUN/encoded/mine.kdz", ELSEWHERE),
        ("export RUN", ELSEWHERE),
    ],
)
def test_who_would_write_there_too_is_refused_and_has_changed_nothing(call, in_use, words, way):
    folder, process = in_use
    before = contents(folder)
    assert {"config.json", "versions.json", "results.json"} < before.keys()
    words = words.replace("OUT", str(folder.parent)).replace("RUN", str(folder)).split()
    found = refused(call, *words)
    assert found.startswith(f"{folder} is in use by process {process.pid} on ")
    assert found.endswith(f": wait for it or stop it{way}")
    assert contents(folder) == before


def test_what_is_written_elsewhere_needs_no_lock(call, tmp_path, in_use):
    folder, _ = in_use
    before = contents(folder)
    assert call("report", folder, "--out", tmp_path / "elsewhere")[0] == 0
    assert (tmp_path / "elsewhere" / "table.md").exists()
    for verb in ("encode", "export"):  # which look into it, and find no stage that is finished
        found = refused(call, verb, folder, "--out", tmp_path / "elsewhere")
        assert "in use" not in found
        assert "no stage of this run is finished" in found
    assert contents(folder) == before


def test_the_run_that_a_path_lies_in(tmp_path, monkeypatch, in_use):
    folder, _ = in_use
    exported = folder / "export" / "seed-0"
    exported.mkdir(parents=True)
    for content in ("{", "[]", '{"format": 1, "experiment": {}}'):  # no config of a run
        (exported / "config.json").write_text(content)
        with pytest.raises(UsageError, match=rf"^{folder} is in use by "), locks.around(exported):
            pass
    (tmp_path / "link").symlink_to(exported)
    monkeypatch.chdir(exported)
    for path in (Path("deeper/file"), tmp_path / "link" / "file"):
        with pytest.raises(UsageError, match=rf"^{folder} is in use by "), locks.around(path):
            pass
    with locks.around(tmp_path / "other"):
        assert not list(tmp_path.glob("other*"))
        assert not (tmp_path / locks.FILE).exists()


@pytest.mark.parametrize("verb", ["evaluate", "report", "explain", "latency", "encode", "export"])
def test_who_writes_there_holds_it_and_lets_it_go(call, tmp_path, monkeypatch, verb):
    """Whatever is done within: here it fails."""
    experiment = dataclasses.replace(smoke(cli.preset("digits")), out=str(tmp_path))
    folder = pipeline.folder_of(experiment)
    with pipeline.claimed(experiment, folder):
        report.write(folder, make(), histories())

    def within(*_):
        with locks.held(folder):  # an open file that is not the one that has the lock
            raise AssertionError("nobody holds it")

    monkeypatch.setattr(pipeline, "open_run", within)
    monkeypatch.setattr(report, "write_report", within)
    assert f"{folder} is in use by process {os.getpid()} on " in refused(call, verb, folder)
    assert take(folder)


def test_a_run_is_held_until_all_of_it_is_written(call, tmp_path, monkeypatch):
    """What reproduce adds too."""

    def compare(run, *_):
        with locks.held(run.folder):
            raise AssertionError("nobody holds it")

    monkeypatch.setattr(pipeline, "train", lambda *_: None)
    monkeypatch.setattr(cli_run.summary, "summarise", lambda *_: make())
    monkeypatch.setattr(cli_run.delivery, "delivered", lambda *_: make())
    monkeypatch.setattr(cli, "published", lambda name: ((object(),), ""))
    monkeypatch.setattr(reproduction, "compare", compare)
    monkeypatch.setattr(report, "write", lambda *_: None)  # plots take a while
    words = ("reproduce", "digits", "--smoke", "--out", tmp_path)
    assert f" is in use by process {os.getpid()} on " in refused(call, *words)


@pytest.mark.parametrize("locked", [False, True])
def test_where_a_file_system_has_no_locks_a_run_says_so_once(call, tmp_path, monkeypatch, locked):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if not locked:
        monkeypatch.setattr(locks.fcntl, "flock", none)
    monkeypatch.setattr(pipeline, "train", lambda *_: None)
    monkeypatch.setattr(cli_run.summary, "summarise", lambda *_: make())
    monkeypatch.setattr(cli_run.delivery, "delivered", lambda *_: make())
    monkeypatch.setattr(report, "write", lambda *_: None)
    status, shown, _ = call("run", "digits", "--smoke", "--out", tmp_path)
    folder = pipeline.folder_of(smoke(cli.preset("digits"))).name
    said = f"  warning: {tmp_path / folder}: the file system has no locks: nothing keeps another "
    said += "process from writing there; start none with this folder while this one runs\n"
    assert (status, shown.count(said), shown.count("no locks")) == (0, not locked, not locked)


def test_what_killed_writers_have_left_goes_when_the_run_goes_on(tmp_path):
    experiment = dataclasses.replace(smoke(cli.preset("digits")), out=str(tmp_path))
    folder = pipeline.folder_of(experiment)
    half = folder / "train" / "done.json.17-0123abcd.partial"
    half.parent.mkdir(parents=True)
    half.write_text("{")
    with pipeline.claimed(experiment, folder) as alone:
        assert alone
        assert not half.exists()
