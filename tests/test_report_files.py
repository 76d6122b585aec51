"""A report on disk: what is written, and what is refused when it is read."""

import json

import pytest
from made_results import histories, make

from kd_jax import jsons, report
from kd_jax.errors import UsageError


def test_write_and_read(tmp_path):
    files = report.write(tmp_path / "run", make(), histories())
    assert {file.name for file in files} == {
        "results.json",
        "table.md",
        "table.csv",
        "sizes.png",
        "training.png",
        "layers.png",
    }
    assert all(file.stat().st_size > 0 for file in files)
    assert report.read([tmp_path / "run"]) == [make()]


@pytest.mark.slow
def test_write_report_of_one_run_and_of_several(tmp_path):
    report.write(tmp_path / "a", make(), histories())
    report.write(tmp_path / "b", make(experiment="b"))
    runs = [tmp_path / "a", tmp_path / "b"]
    one = report.write_report(tmp_path / "one", report.read(runs[:1]), runs[:1])
    assert (tmp_path / "one" / "training.png") in one
    both = report.write_report(tmp_path / "both", report.read(runs), runs)
    names = ["table.json", "table.md", "table.csv", "pareto.png", "sizes.png"]
    assert [file.name for file in both] == names
    assert all(file.exists() for file in (*one, *both))
    assert len(json.loads((tmp_path / "both" / "table.json").read_text())) == 2


def test_a_run_without_results(tmp_path):
    with pytest.raises(UsageError, match=f"{tmp_path}: no results.json: run it first"):
        report.read([tmp_path])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1]",
        b"3",
        b"\xff\xfe\x00",
        b'{"train": 3}',
        b'{"train": [3]}',
        b'{"train": [{}]}',
    ]
    + [
        b'{"train": [{"epoch": 1, "train": {"loss": %s}}]}' % x for x in (b"3", b'["a"]', b"[null]")
    ],
)
def test_damaged_histories_are_named_before_anything_is_written(tmp_path, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / report.HISTORIES).write_bytes(content)
    with pytest.raises(UsageError, match=rf"^{tmp_path}/run/histories\.json: damaged \(.*evaluate"):
        report.write_report(tmp_path / "out", [make()], [tmp_path / "run"])
    assert not (tmp_path / "out").exists()


def test_a_number_of_histories_that_has_changed_is_refused(tmp_path):
    report.write(tmp_path, make(), histories())
    path = tmp_path / report.HISTORIES
    assert report._histories(tmp_path) == {
        stage: [report._checked(record) for record in records]
        for stage, records in histories().items()
    }
    kept = json.loads(path.read_text())
    stage = next(iter(histories()))
    kept[stage][0]["epoch"] += 1
    path.write_text(json.dumps(kept))
    with pytest.raises(UsageError, match=r"histories\.json: damaged .*checksum"):
        report._histories(tmp_path)
    del kept[jsons.SUM]  # of an earlier version, which wrote none
    path.write_text(json.dumps(kept))
    assert report._histories(tmp_path)[stage][0]["epoch"] == 1 + histories()[stage][0]["epoch"]


def test_results_that_are_no_text(tmp_path):
    (tmp_path / "results.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=f"^{tmp_path}/results.json is no JSON"):
        report.read([tmp_path])
