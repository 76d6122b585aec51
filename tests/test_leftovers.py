"""What failing disks leave in a stage's folder: small files that are damaged."""

import pytest
import tiny_runs
from test_checkpoint import MASKS, PARAMS, carry

from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError
from kd_jax.state import Snapshot, no_masks

pytestmark = pytest.mark.usefixtures("quick")

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
