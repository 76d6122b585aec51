"""What kills and failing disks leave in a stage's folder: small files that are damaged, checkpoints
that are half written, those of a stage that is done."""

import jax.numpy as jnp
import pytest
import tiny_runs
from test_checkpoint import MASKS, PARAMS, carry
from test_locks import holding
from test_pipeline import again, run  # noqa: F401  a fixture

from kd_jax import locks, pipeline
from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError
from kd_jax.loop import Silent
from kd_jax.state import Snapshot, no_masks

NO_JSON = (b"", b"{", b"12.5.", b"\xff\xfe", b"[" * 100_000, b"\0" * 20)
NO_NUMBER = (b"null", b"true", b'"3"', b"[3]", b"{}", b"NaN", b"Infinity", b"-Infinity", b"-1")
HUGE = (b"1e300", b"1" * 400, b"1" * 5000)
SOUND = {b"0": 0.0, b"7": 7.0, b"0.25": 0.25, b"1e6": 1e6}


@pytest.mark.parametrize("content", [*NO_JSON, *NO_NUMBER, *HUGE], ids=lambda x: repr(x[:12]))
def test_times_that_are_damaged_count_for_nothing(tmp_path, content):
    for name in ("seconds.json", "pace.json"):
        (tmp_path / name).write_bytes(content)
    store = Store(tmp_path)
    assert store.spent() == 0.0
    assert store.pace() is None
    assert store.ignored == {"seconds.json"}


@pytest.mark.parametrize(("content", "number"), SOUND.items())
def test_times_that_are_sound_are_read(tmp_path, content, number):
    store = Store(tmp_path)
    assert (store.spent(), store.pace()) == (0.0, None)  # there are none yet
    for name in ("seconds.json", "pace.json"):
        (tmp_path / name).write_bytes(content)
    assert (store.spent(), store.pace(), store.ignored) == (number, number, set())


def test_a_stage_whose_time_is_damaged_says_so_and_goes_on(tmp_path):
    (tmp_path / "seconds.json").write_bytes(b"1")
    _, sound = tiny_runs.fit(tiny_runs.TRAIN, store=Store(tmp_path))
    (tmp_path / "done.json").unlink()
    (tmp_path / "seconds.json").write_bytes(b"")
    _, harmed = tiny_runs.fit(tiny_runs.TRAIN, store=Store(tmp_path))
    said = "warning: seconds.json is damaged: what the stage took before is not counted"
    assert said not in sound.notes
    assert harmed.notes.count(said) == 1
    assert (tmp_path / "done.json").exists()


@pytest.mark.parametrize(
    "content",
    [
        *NO_JSON,
        b"null",
        b"3",
        b"[]",
        b'"done"',
        b'{"seconds": "3"}',
        b'{"seconds": NaN}',
        b'{"seconds": -1}',
        b'{"seconds": 1e300}',
        b'{"checksums": 3}',
        b'{"checksums": [-1]}',
        b'{"checksums": ["1"]}',
        b'{"checksums": [1e300]}',
    ],
    ids=lambda x: repr(x[:24]),
)
def test_a_stage_of_which_what_is_known_is_damaged_is_refused(tmp_path, content):
    store = Store(tmp_path)
    store.finish(Snapshot(PARAMS, {}, MASKS), {"n": 1})
    (tmp_path / "done.json").write_bytes(content)
    for ask in (store.facts, store.load, store.check):
        with pytest.raises(UsageError, match=rf"^{tmp_path}/done\.json: damaged \(") as error:
            ask()
        assert str(error.value).endswith(
            "): delete it, and the same command trains this stage anew"
        )
        assert len(str(error.value)) < 400
        assert "\n" not in str(error.value)
    assert (tmp_path / "final").is_dir()
    (tmp_path / "done.json").unlink()  # as it says
    assert store.facts() is None
    store.finish(Snapshot(PARAMS, {}, no_masks(PARAMS)), {"n": 2})
    assert store.facts() == {"n": 2}


# What is half written ------------------------------------------------------------------------


def left_by_a_kill(folder):
    """Folders as Orbax leaves them, with a part of their arrays."""
    halves = [folder / "steps" / "7.orbax-checkpoint-tmp", folder / "final.orbax-checkpoint-tmp"]
    for half in halves:
        (half / "default" / "d").mkdir(parents=True)
        (half / "default" / "d" / "1234").write_bytes(b"half")
    return halves


def test_what_was_left_half_written_is_taken_away_and_whole_checkpoints_stay(tmp_path):
    store = Store(tmp_path)
    for step in (3, 5):
        store.save(step, carry(float(step)))
    store.spend(2.0)
    store.close()
    halves = left_by_a_kill(tmp_path)
    store.tidy()
    assert not any(half.exists() for half in halves)
    assert sorted(path.name for path in (tmp_path / "steps").iterdir()) == ["3", "5"]
    assert store.spent() == 2.0
    found = Store(tmp_path).restore(carry())
    assert found is not None
    assert found[0] == 5


def test_a_stage_killed_between_its_end_and_the_last_cleaning(tmp_path):
    store = Store(tmp_path)
    store.finish(Snapshot(PARAMS, {}, MASKS), {"n": 1})
    other = Store(tmp_path)
    other.save(5, {"w": jnp.ones(3)})
    other.spend(2.0)
    other.close()
    store.tidy()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done.json", "final"]
    assert store.load().params.keys() == PARAMS.keys()


@pytest.mark.slow
def test_only_who_holds_the_folder_takes_anything_away(run, tmp_path):  # noqa: F811
    part = again(run, tmp_path, only=("train",))
    with holding(tmp_path), pytest.raises(UsageError, match="is in use by"), locks.held(tmp_path):
        pytest.fail("two hold it")
    pipeline.train(part, Silent())
    halves = left_by_a_kill(part.store("train", (0, 1)).folder)
    pipeline.train(part, Silent())  # the stage is done, and nobody holds the folder
    assert all(half.exists() for half in halves)
    with locks.held(tmp_path) as alone:
        assert alone
        pipeline.train(part, Silent(), alone)
    assert not any(half.exists() for half in halves)


def test_where_a_file_system_has_no_locks_nobody_is_sure_to_be_alone(tmp_path, monkeypatch):
    def none(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    with locks.held(tmp_path) as alone:
        assert not alone


@pytest.mark.parametrize("content", [*NO_JSON, b"3", b"{}", b'{"3": 3}', b'{"3": {}}', None])
def test_a_checkpoint_is_read_whatever_becomes_of_what_is_told_of_it(tmp_path, content):
    store = Store(tmp_path)
    store.save(3, carry(3.0))
    store.close()
    if content is None:
        (tmp_path / "steps.json").unlink()
    else:
        (tmp_path / "steps.json").write_bytes(content)
    found = Store(tmp_path).restore(carry())
    assert found is not None
    assert found[0] == 3
