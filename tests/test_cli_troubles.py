"""What the command line says of a machine that can't do what it is asked."""

import errno
import json

import jax
import pytest
from calls import refused
from made_results import histories, make

from kd_jax import pipeline, report


def made_run(folder):
    report.write(folder, make(), histories())
    return folder


@pytest.mark.parametrize("out", ["/proc/x", "FILE", "FILE/deeper"])
def test_a_report_that_can_not_be_written_is_refused_before_its_table(call, tmp_path, out):
    (tmp_path / "file").write_text("in the way")
    out = out.replace("FILE", str(tmp_path / "file"))
    status, shown, error = call("report", made_run(tmp_path / "run"), "--out", out)
    assert (status, shown) == (2, "")
    assert error.startswith(f"error: can't write to or read from {out} (")
    assert error.endswith("): make it possible, or choose another folder\n")


@pytest.mark.slow
def test_a_folder_given_twice_is_shown_once(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = made_run(tmp_path / "a"), made_run(tmp_path / "b")
    assert call("report", "a", "a/", runs[0], "./b/../a")[0] == 0
    assert (tmp_path / "a" / "table.json").exists()
    assert call("report", "a", *runs, "--out", "both")[0] == 0
    assert len(json.loads((tmp_path / "both" / "table.json").read_text())) == 2


def test_a_folder_in_the_place_of_a_file(call, tmp_path):
    (tmp_path / "out" / "table.md").mkdir(parents=True)
    found = refused(call, "report", made_run(tmp_path / "run"), "--out", tmp_path / "out")
    assert found.startswith(f"can't write to or read from {tmp_path}/out/table.md (")


FULL = "No space left on device"
OF_ORBAX = (
    'RESOURCE_EXHAUSTED: Failed writing: "runs/x/d/59": Failed to write 1111 bytes to file 9: '
    f"{FULL} [os_error_code='28']"
)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, FULL), ValueError(OF_ORBAX)])
def test_a_full_disk(call, monkeypatch, error):
    def load(*_):
        raise error

    monkeypatch.setattr(pipeline, "load", load)
    found = refused(call, "run", "digits")
    assert found.startswith("can't write to or read from the disk (No space left on device): ")


@pytest.mark.parametrize("kind", [MemoryError, jax.errors.JaxRuntimeError])
def test_memory_that_runs_out(call, monkeypatch, kind):
    def load(*_):
        raise kind("RESOURCE_EXHAUSTED: Out of memory allocating 80000000000 bytes.")

    monkeypatch.setattr(pipeline, "load", load)
    said = "out of memory: lower a batch, --seeds or a model's width"
    assert refused(call, "run", "digits") == said


@pytest.mark.parametrize("kind", [ValueError, jax.errors.JaxRuntimeError])
def test_other_errors_are_no_mistake_of_the_user(call, monkeypatch, kind):
    def load(*_):
        raise kind("INTERNAL: a bug")

    monkeypatch.setattr(pipeline, "load", load)
    with pytest.raises(kind, match="a bug"):
        call("run", "digits")
