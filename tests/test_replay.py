"""What a teacher says of augmented views, kept and replayed: as good as the teacher itself."""

import dataclasses
import json
import os

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs

from kd_jax import jobs, stages
from kd_jax.augment import Augment
from kd_jax.checkpoint import Store
from kd_jax.distill import KD
from kd_jax.errors import UsageError
from kd_jax.replay import Replay, from_top, top_of

STAGE = dataclasses.replace(
    tiny_runs.DISTILL, epochs=3, augment=Augment(shift=1), hard_weight=0.3, replay="float32"
)
ONLINE = dataclasses.replace(STAGE, replay="off")
MIXED = dataclasses.replace(STAGE, augment=Augment(mixup=0.4))


def begin(stage, **given):
    """Begins a stage, which opens the folder of what is replayed, and takes no step."""

    def stop(*_):
        raise tiny_runs.Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "fit", stop)
        with pytest.raises(tiny_runs.Stopped):
            tiny_runs.fit(stage, **given)


def outcome(result):
    return [np.asarray(leaf) for leaf in tiny.jax.tree.leaves(result[0].params)]


@pytest.mark.slow
@pytest.mark.parametrize("model", [tiny.perceptron, tiny.convnet])
def test_replayed_training_is_online_training_bit_for_bit(tmp_path, model):
    online = tiny_runs.fit(ONLINE, model())
    recorded = tiny_runs.fit(STAGE, model(), replay=tmp_path)
    replayed = tiny_runs.fit(STAGE, model(), replay=tmp_path)
    assert not tiny.differences(recorded[0], online[0])
    assert not tiny.differences(replayed[0], online[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [tiny.perceptron, pytest.param(tiny.convnet, marks=pytest.mark.slow)]
)
def test_with_mixup_it_is_the_same_but_for_rounding(tmp_path, model):
    """jax 0.10 mixes with another last bit in another program."""
    online = tiny_runs.fit(dataclasses.replace(MIXED, replay="off"), model())
    recorded = tiny_runs.fit(MIXED, model(), replay=tmp_path)
    replayed = tiny_runs.fit(MIXED, model(), replay=tmp_path)
    assert not tiny.differences(replayed[0], recorded[0])
    for a, b in zip(outcome(online), outcome(recorded), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_half_precision_is_near(tmp_path):
    online = outcome(tiny_runs.fit(ONLINE))
    half = outcome(tiny_runs.fit(dataclasses.replace(STAGE, replay="float16"), replay=tmp_path))
    for a, b in zip(online, half, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-3)
    assert any((a != b).any() for a, b in zip(online, half, strict=True))


@pytest.mark.slow
def test_a_second_student_does_not_ask_the_teacher(tmp_path, monkeypatch):
    tiny_runs.fit(STAGE, replay=tmp_path)
    monkeypatch.setattr(Replay, "write", None)  # whoever recorded would fail
    other = dataclasses.replace(STAGE, batch=8, hard_weight=0.9, terms={"kd": KD(temperature=7.0)})
    tiny_runs.fit(other, tiny.convnet(), replay=tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"stage": dataclasses.replace(STAGE, augment=Augment(shift=2))},
        {"stage": dataclasses.replace(STAGE, fraction=0.5)},
        {"stage": dataclasses.replace(STAGE, replay="float16")},
        {"stage": dataclasses.replace(STAGE, replay_top=3)},
        {"seeds": (0, 2)},
        {"scale": 1.5},
    ],
)
def test_other_views_or_teachers_are_kept_apart(tmp_path, change):
    begin(STAGE, replay=tmp_path)
    given = dict(change)
    stage = given.pop("stage", STAGE)
    if "scale" in given:
        model, snapshot = tiny_runs.taught(2)
        params = tiny.jax.tree.map(lambda x: x * given["scale"], snapshot.params)
        given = {"teacher": (model, dataclasses.replace(snapshot, params=params))}
    begin(stage, replay=tmp_path, **given)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_teachers_function_counts_not_only_its_numbers(tmp_path):
    stage = dataclasses.replace(STAGE, epochs=1)
    begin(stage, replay=tmp_path)
    model, snapshot = tiny_runs.taught(2)

    def doubled(variables, inputs, train=False, key=None):
        outputs, collections = model.forward(variables, inputs, train, key)
        return dataclasses.replace(outputs, logits=2 * outputs.logits), collections

    begin(stage, replay=tmp_path, teacher=(dataclasses.replace(model, forward=doubled), snapshot))
    assert len(list(tmp_path.iterdir())) == 2


def test_what_does_not_match_is_refused(tmp_path):
    begin(STAGE, replay=tmp_path)
    (folder,) = tmp_path.iterdir()
    what = json.loads((folder / "identity.json").read_text())
    (folder / "identity.json").write_text(json.dumps(what | {"teacher": "somebody else"}))
    with pytest.raises(UsageError, match="kept teacher outputs of another teacher: delete it"):
        tiny_runs.fit(STAGE, replay=tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    tiny_runs.fit(STAGE, replay=tmp_path)
    path = next(tmp_path.glob("*/epoch-00001.array_record"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UsageError, match=r"epoch-00001\.array_record: damaged: delete it"):
        tiny_runs.fit(STAGE, replay=tmp_path)


def test_resumed_bit_for_bit(tmp_path):
    straight, _ = tiny_runs.fit(STAGE, replay=tmp_path / "a")
    store, report = Store(tmp_path / "run"), tiny_runs.Quitter(6)
    with pytest.raises(tiny_runs.Stopped):
        tiny_runs.fit(STAGE, store=store, report=report, save_seconds=0.0, replay=tmp_path / "b")
    store.close()
    state, _ = tiny_runs.fit(STAGE, store=Store(tmp_path / "run"), replay=tmp_path / "b")
    assert not tiny.differences(state, straight)


@pytest.mark.slow
def test_four_devices_record_what_one_does(tmp_path):
    for devices in (1, 4):
        tiny_runs.fit(STAGE, devices=devices, replay=tmp_path / str(devices))
    one, four = (next((tmp_path / str(n)).iterdir()) for n in (1, 4))
    assert one.name == four.name
    precision = STAGE.replay
    what = json.loads((one / "identity.json").read_text())
    kept = {n: Replay(tmp_path / n, what, precision) for n in ("1", "4")}
    shape = len(what["seeds"]), len(tiny.digits().train), 10
    one, four = (kept[n].read(2, shape) for n in ("1", "4"))
    np.testing.assert_allclose(one, four, rtol=1e-5, atol=1e-6)


def test_without_a_folder_or_of_a_streamed_set_it_is_an_error():
    with pytest.raises(UsageError, match="replay float32 needs a folder"):
        tiny_runs.fit(STAGE)


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("top", [0, 3])
def test_what_is_written_is_read(tmp_path, precision, top):
    logits = np.random.default_rng(0).normal(size=(2, 7, 10)).astype(np.float32)
    kept = Replay(tmp_path, {"teacher": "me"}, precision, top)
    assert not kept.has(4)
    kept.write(4, logits)
    assert kept.has(4)
    read = Replay(tmp_path, {"teacher": "me"}, precision, top).read(4, logits.shape)
    exact = {"float16": 2e-3, "float32": 0}[precision]
    order = np.argsort(-logits, -1)[..., : top or 10]
    largest = [np.take_along_axis(x, order, -1) for x in (logits, read)]
    np.testing.assert_allclose(*largest, atol=exact)
    assert read.dtype == np.float32
    assert read.shape == logits.shape


def test_two_runs_that_record_the_same_epoch_leave_the_first_recording(tmp_path):
    logits = np.random.default_rng(0).normal(size=(1, 5, 10)).astype(np.float32)
    one, other = (Replay(tmp_path, {"teacher": "me"}, "float32") for _ in range(2))
    for kept, said in ((one, logits), (other, logits + 1e-6)):  # rounded otherwise
        kept.write(0, said)
        np.testing.assert_array_equal(kept.read(0, logits.shape), logits)
    names = {path.name for path in one.folder.iterdir()}
    assert names == {"identity.json", "epoch-00000.array_record"}


def test_two_runs_may_begin_to_keep_at_once(tmp_path, monkeypatch):
    begin_too, replace = [True], os.replace

    def first(*paths):
        if begin_too and begin_too.pop():
            Replay(tmp_path, {"teacher": "me"}, "float32")
        replace(*paths)

    monkeypatch.setattr(os, "replace", first)
    Replay(tmp_path, {"teacher": "me"}, "float32")
    assert not begin_too
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in folder.iterdir()] == ["identity.json"]


def test_the_kept_classes_keep_their_probabilities():
    logits = np.array([[2.0, -1.0, 0.5, 0.0, -3.0]], np.float32)
    again = from_top(**top_of(logits, 2), classes=5)
    share = lambda z: np.exp(z) / np.exp(z).sum()  # noqa: E731
    expected = share(logits)[0]
    rest = (expected[1] + expected[3] + expected[4]) / 3
    np.testing.assert_allclose(share(again)[0], [expected[0], rest, expected[2], rest, rest], 1e-6)


def test_recorded_rows_are_those_that_the_steps_take():
    """Each example's logits stand at its own place, the ones the epoch leaves out included."""
    data, (model, snapshot) = tiny.digits(), tiny_runs.taught(1)
    stage = dataclasses.replace(STAGE, augment=Augment(shift=1), batch=48)
    prepared = jobs.prepare([stage], tiny.perceptron(), data, (model, snapshot), (0,), 1)
    programs, given = prepared.compiled, (prepared.settings, prepared.seeds)
    order = programs.order(*given, jnp.int32(0), prepared.resident)
    size = len(data.train)
    rows = [
        np.asarray(programs.record(*given, order, snapshot.variables, prepared.resident, (0, i))[0])
        for i in range(-(-size // 48))
    ]
    assert sorted(np.concatenate(rows, 1)[0, :size]) == list(range(size))
