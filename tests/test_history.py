"""The records of a stage's epochs, where a disk or somebody has damaged them: what can be read is
kept, and what can not is told of in one line."""

import json
import random

import pytest
import tiny
import tiny_runs
from hostile import ODD, harmed
from test_pipeline import Told, again, run  # noqa: F401  a fixture

from kd_jax import history, jsons, pieces, pipeline, report, summary
from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError

RECORDS = [
    {"step": 3 * i, "epoch": i, "train": {"loss": [1 / i, 0.1]}, "validation_accuracy": [0.1, 0.2]}
    for i in range(1, 5)
]


@pytest.fixture
def store(tmp_path):
    for record in RECORDS:
        history.append(tmp_path, record)
    return Store(tmp_path)


def told(folder, what):
    return f"warning: {folder / 'history.jsonl'}: {what}: left out of curves"


def lines_of(folder):
    return (folder / "history.jsonl").read_bytes().splitlines(keepends=True)


def with_line(folder, place, line):
    lines = lines_of(folder)
    lines[place] = line + b"\n"
    (folder / "history.jsonl").write_bytes(b"".join(lines))


BAD = (b"\xff", b"3", b"[]", b"null", b'"x"', b"{", b"[" * 100_000, b"{}", b'{"epoch": 1}')
BAD = (*BAD, b"\0" * 40, b'{"step": "3"}', b'{"step": true}', b'{"step": -1}', b'{"step": 1e999}')


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("line", BAD, ids=lambda x: repr(x[:12]))
def test_a_bad_line_costs_its_own_record_alone(store, tmp_path, place, line):
    with_line(tmp_path, place, line)
    rest = RECORDS[:place] + RECORDS[place + 1 :]
    assert store.history() == store.history(2) == rest
    said = told(tmp_path, "1 line can't be read, 1 epoch has no record")
    assert store.rewind(12, 4) == said
    assert store.history() == rest  # none was erased
    assert store.rewind(12, 4) == told(tmp_path, "1 epoch has no record")


@pytest.mark.parametrize("cut", [1, 2, 30, -3])
def test_a_last_line_that_a_kill_has_cut_short_is_no_damage(store, tmp_path, cut):
    path, last = tmp_path / "history.jsonl", lines_of(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[: -len(last)] + last[:cut])
    assert store.rewind(9, 3) == ""
    assert store.history() == RECORDS[:3]
    history.append(tmp_path, RECORDS[3])
    assert store.history() == RECORDS


def test_no_record_is_written_to_what_a_link_leads_to(tmp_path):
    """In a stranger's folder it might be any file of ours."""
    path, ours = tmp_path / "run" / "history.jsonl", tmp_path / "ours"
    path.parent.mkdir()
    ours.write_text("ours")
    path.symlink_to(ours)
    with pytest.raises(UsageError, match=rf"^{path}: a link, or no regular file: "):
        history.append(path.parent, RECORDS[0])
    assert ours.read_text() == "ours"


def test_each_bit_that_differs_is_noticed(store, tmp_path):
    """Or changes nothing of what a line says."""
    (line, *_), rng = lines_of(tmp_path), random.Random(0)
    for place in range(len(line) - 1):
        bad = bytearray(line[:-1])
        bad[place] ^= 1 << rng.randrange(8)
        with_line(tmp_path, 0, bytes(bad))
        assert store.history() in (RECORDS, RECORDS[1:]), bad
        assert (store.history() == RECORDS) == (store.rewind(12, 4) == ""), bad
        history.write(tmp_path, RECORDS)


def test_records_of_earlier_versions_are_read_and_get_checksums(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    store = Store(tmp_path)
    assert store.history() == store.history(2) == RECORDS
    assert store.rewind(12, 4) == ""
    assert store.history() == RECORDS
    assert all(jsons.SUM in json.loads(line) for line in lines_of(tmp_path))


def test_a_line_that_has_lost_its_checksum_is_bad(store, tmp_path):
    with_line(tmp_path, 1, json.dumps(RECORDS[1]).encode())
    assert store.history() == [RECORDS[0], *RECORDS[2:]]


@pytest.mark.parametrize(
    "change",
    [
        *({"epoch": x} for x in (None, 0, -1, True, 99, 1.0, "1")),
        *({name: x} for name in ("train", "gradients") for x in (None, 3, [1.0, 2.0], {"a": 3})),
        *({"train": {"loss": x}} for x in ([1.0], [1.0, None], [1.0, "x"], [1.0, 10**400])),
        *({name: x} for name in ("sparsity", "validation_accuracy") for x in (0.5, None, [0.5])),
    ],
    ids=repr,
)
def test_records_of_no_use_are_left_out_of_the_curves(store, tmp_path, change):
    line = jsons.summed(RECORDS[1] | change)
    with_line(tmp_path, 1, json.dumps(line).encode())
    assert store.history(2) == [RECORDS[0], *RECORDS[2:]]


@pytest.mark.slow
def test_a_stage_that_goes_on_tells_of_damage_and_keeps_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.0)
    store, quitter = Store(tmp_path), tiny_runs.Quitter(11)
    with pytest.raises(tiny_runs.Stopped):
        tiny_runs.fit(tiny_runs.PRUNE, store=store, report=quitter, save_seconds=0.0)
    store.close()
    before = store.history()
    assert [record["step"] for record in before] == [4, 8]
    with_line(tmp_path, 0, b"\xff")
    _, diary = tiny_runs.fit(tiny_runs.PRUNE, store=Store(tmp_path))
    said = told(tmp_path, "1 line can't be read, 1 epoch has no record")
    assert [note for note in diary.notes if "history" in note] == [said]
    found = store.history()
    assert found[0] == before[1]
    assert [record["step"] for record in found] == [8, 12]


# Finished stages -----------------------------------------------------------------------------


@pytest.fixture
def finished(run, tmp_path):  # noqa: F811
    """(a run whose first stage is done, that stage's folder)."""
    one = again(run, tmp_path, only=("train",))
    pipeline.train(one, Told())
    return one, one.store("train", (0, 1)).folder


def notes(one):
    told = Told()
    found = summary.histories(one, told)
    return found["train"], told.notes


@pytest.mark.parametrize(
    ("harm", "what", "left"),
    [
        (lambda path: path, None, [1, 2]),
        (lambda path: path.unlink(), "it is missing", []),
        (lambda path: path.write_bytes(b""), "1 epoch has no record", []),
        (lambda path: path.write_bytes(b"\xff"), "1 line can't be read, 1 epoch has no record", []),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-9]),
            "1 line can't be read, 1 epoch has no record",
            [1],
        ),
        (
            lambda path: path.write_bytes(path.read_bytes().splitlines(keepends=True)[0]),
            "1 epoch has no record",
            [1],
        ),
        (
            lambda path: path.write_bytes(b"3" + path.read_bytes()),
            "1 line can't be read, 1 epoch has no record",
            [2],
        ),
    ],
    ids=["sound", "missing", "empty", "one byte", "cut", "a line gone", "first"],
)
def test_a_finished_stage_whose_history_is_damaged_is_told_of_in_a_line(finished, harm, what, left):
    one, folder = finished
    harm(folder / "history.jsonl")
    found, said = notes(one)
    assert said == ([told(folder, what)] if what else [])
    assert [record["epoch"] for record in found] == left
    results = summary.summarise(one, "again", Told())
    assert (results.rows[0].validation_accuracy is None) == (2 not in left)
    report.write(one.folder, results, {"train": found})


def test_what_one_group_of_seeds_has_lost_shifts_no_other(run, tmp_path):  # noqa: F811
    one = again(run, tmp_path, only=("train",), together=False)
    pipeline.train(one, Told())
    sound, said = notes(one)
    assert said == []
    with_line(one.store("train", (0,)).folder, 0, b"{")
    found, said = notes(one)
    assert found == sound[1:]
    assert len(said) == 1


def test_whatever_a_history_holds_is_read(finished):
    """Without checksums, as earlier versions wrote it: what differs may well go unnoticed."""
    one, folder = finished
    path, rng = folder / "history.jsonl", random.Random(0)
    records = [jsons.unsummed(json.loads(line))[0] for line in lines_of(folder)]
    for i in range(300):
        record = dict(records[0])
        record[rng.choice([*record])] = rng.choice(ODD)
        lines = [record, records[1]] if i % 3 else records
        raw = "".join(json.dumps(line) + "\n" for line in lines).encode()
        path.write_bytes(raw if i % 3 else harmed(raw, rng))
        found, said = notes(one)
        assert len(said) <= 1
        report.write_json(folder / report.HISTORIES, {"train": found})
        report._histories(folder)
        Store(folder).rewind(3, 1)


def test_the_state_is_the_same_whatever_became_of_the_history(tmp_path):
    whole, _ = tiny_runs.fit(tiny_runs.TRAIN)
    (tmp_path / "history.jsonl").write_bytes(b"\xff\n3\n")
    state, diary = tiny_runs.fit(tiny_runs.TRAIN, store=Store(tmp_path))
    assert not tiny.differences(state, whole)
    assert told(tmp_path, "2 lines can't be read") in diary.notes
