import resource
import struct
import threading
import time

import numpy as np
import pytest
import tiny
import tiny_runs
from tensorboardX.proto.event_pb2 import Event, SessionLog

from kd_jax.checkpoint import Store
from kd_jax.logs import Several, Stopwatch, TensorBoard


def events(folder):
    """All events of a folder's files, in the order in which TensorBoard reads them. A record is
    its length (uint64), a checksum of that (4 bytes), the event, and a checksum of it (4 bytes)."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while len(data) >= 12:
            (length,) = struct.unpack("<Q", data[:8])
            if len(data) < 16 + length:
                break  # not written to its end yet
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def curves(folder):
    """{name: {step: value}} as TensorBoard shows them: a session that starts at a step hides all
    earlier points from that step on."""
    shown = {}
    for event in events(folder):
        if event.session_log.status == SessionLog.START:
            shown = {
                name: {step: value for step, value in points.items() if step < event.step}
                for name, points in shown.items()
            }
        for value in event.summary.value:
            shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown


def record(step, loss, **more):
    return {"step": step, "epoch": step // 10, "train": {"loss": loss}, **more}


def test_a_curve_a_seed_in_files_that_tensorboard_reads(tmp_path):
    board = TensorBoard(tmp_path, ["seed-3", "seed-4"])
    board.begin("train", 20, 0)
    board.epoch(record(10, [1.0, 2.0]))
    board.epoch(record(20, [0.5, 1.5], validation_accuracy=[0.25, 0.75], sparsity=[0.5, 0.5]))
    board.end("train", 1.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["seed-3", "seed-4"]
    assert curves(tmp_path / "seed-3") == {
        "train/loss": {10: 1.0, 20: 0.5},
        "validation_accuracy": {20: 0.25},
        "sparsity": {20: 0.5},
    }
    assert curves(tmp_path / "seed-4")["validation_accuracy"] == {20: 0.75}
    assert events(tmp_path / "seed-3")[0].file_version == "brain.Event:2"


def on_disk(folder, step):
    """Whether a point gets there within seconds, while the stage goes on."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if step in curves(folder).get("train/loss", {}):
            return True
        time.sleep(0.02)
    return False


def test_points_are_on_disk_soon(tmp_path):
    """A kill must not lose minutes: what a checkpoint comes after is not logged again."""
    board = TensorBoard(tmp_path, ["seed-0"])
    board.begin("train", 20, 0)
    for step in (1, 2):
        board.epoch(record(step, [float(step)]))
        assert on_disk(tmp_path / "seed-0", step)
    board.end("train", 1.0)


def test_a_resumed_stage_hides_what_came_after_its_checkpoint(tmp_path):
    killed = TensorBoard(tmp_path, ["seed-0"])
    killed.begin("train", 40, 0)
    for step in (10, 20, 30):
        killed.epoch(record(step, [float(step)]))
    assert on_disk(tmp_path / "seed-0", 30)
    resumed = TensorBoard(tmp_path, ["seed-0"])  # in the same second, yet in a file of its own
    resumed.begin("train", 40, 20)
    resumed.epoch(record(30, [-30.0]))
    resumed.epoch(record(40, [-40.0]))
    resumed.end("train", 1.0)
    expected = {10: 10.0, 20: 20.0, 30: -30.0, 40: -40.0}
    assert curves(tmp_path / "seed-0")["train/loss"] == expected
    killed.end("train", 1.0)


@pytest.fixture
def full():
    """A disk that takes no more than the beginning of any file, or so it seems."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_ends_the_logs_in_one_line_and_nothing_waits(tmp_path, full):
    diary, threads = tiny_runs.Diary(), threading.active_count()
    board = TensorBoard(tmp_path, ["seed-0", "seed-1"], diary)
    board.begin("train", 40, 0)
    for step in range(1, 41):
        board.epoch(record(step, [0.5, 0.25]))
    board.end("train", 1.0)
    (said,) = diary.notes
    assert said.startswith(f"warning: can't write to {tmp_path}/seed-0/events.out.tfevents.")
    assert said.endswith(
        " (File too large): no more curves for TensorBoard from this stage; history.jsonl has them "
        "too"
    )
    assert threading.active_count() == threads


def test_what_is_trained_has_no_need_of_the_logs(tmp_path):
    straight, told = tiny_runs.fit(tiny_runs.TRAIN)
    (tmp_path / "tensorboard").write_text("no folder")
    store, diary = Store(tmp_path), tiny_runs.Diary()
    board = TensorBoard(tmp_path / "tensorboard", ["seed-0", "seed-1"], diary)
    state, _ = tiny_runs.fit(tiny_runs.TRAIN, store=store, report=Several(board, diary))
    assert not tiny.differences(state, straight)
    assert [one["step"] for one in store.history()] == [one["step"] for one in told.records]
    assert len([note for note in diary.notes if "no more curves" in note]) == 1


def test_several_reporters_are_told_the_same():
    class Recorder:
        def __init__(self):
            self.told = []

        def __getattr__(self, name):
            return lambda *arguments: self.told.append((name, *arguments))

    one, other = Recorder(), Recorder()
    both = Several(one, other)
    both.begin("train", 10, 0)
    both.advance(5, 1.0)
    both.epoch({"step": 5})
    both.note("text")
    both.end("train", 1.0)
    assert one.told == other.told
    assert one.told == [
        ("begin", "train", 10, 0),
        ("advance", 5, 1.0),
        ("epoch", {"step": 5}),
        ("note", "text"),
        ("end", "train", 1.0),
    ]


def test_numbers_may_be_numpy(tmp_path):
    board = TensorBoard(tmp_path, ["seed-0"])
    board.begin("train", 1, 0)
    board.epoch(record(1, np.array([0.25], np.float32)))
    board.end("train", 1.0)
    assert curves(tmp_path / "seed-0")["train/loss"] == {1: 0.25}


def test_a_stopwatch_goes_on_from_the_seconds_before_and_writes_about_once_a_second(tmp_path):
    times = iter([50.0, 50.25, 51.5, 52.0, 53.0])
    Store(tmp_path).spend(100.0)
    watch = Stopwatch(Store(tmp_path), clock=lambda: next(times))
    kept = []
    for step in range(4):
        watch.advance(step, 0.0)
        kept.append(Store(tmp_path).spent())
    assert kept == [100.0, 101.5, 101.5, 103.0]
