"""What training promises as a whole: one program, the same numbers however it is cut, spread over
devices or stopped (for that, see test_resume)."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
import tiny
import tiny_runs

from kd_jax import jobs, pieces, stages, taught
from kd_jax.augment import Augment
from kd_jax.optim import Optim
from kd_jax.prune import OneShot
from kd_jax.tree import named_leaves


def close(a, b, rtol=1e-4, atol=1e-5):
    """Fails unless two trees have the same structure and about the same numbers."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for name, x in named_leaves(a).items():
        y = named_leaves(b)[name]
        if x.dtype == bool:
            np.testing.assert_array_equal(x, y, err_msg=name)
        else:
            np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=name)


def agree(one, other, **tolerance):
    """Fails unless two runs ended with about the same state and records."""
    close(one[0], other[0], **tolerance)
    assert [r["step"] for r in one[1].records] == [r["step"] for r in other[1].records]
    for a, b in zip(one[1].records, other[1].records, strict=True):
        assert a.get("sparsity") == b.get("sparsity")
        for name, values in a["train"].items():
            np.testing.assert_allclose(values, b["train"][name], rtol=1e-3, err_msg=name)


# One program


@pytest.fixture
def compilations():
    """A list that grows by the name of whatever is compiled."""
    names = []

    def listen(event, seconds, **facts):
        if event.endswith("backend_compile_duration"):
            names.append(facts.get("fun_name", event))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


class Counter(tiny_runs.Diary):
    """Notes how much was compiled by the end of each piece and epoch."""

    def __init__(self, compilations):
        super().__init__()
        self.compilations = compilations
        self.by_step, self.by_epoch = {}, {}

    def advance(self, step, examples_per_second):
        super().advance(step, examples_per_second)
        self.by_step[step] = len(self.compilations)

    def epoch(self, record):
        super().epoch(record)
        self.by_epoch[record["epoch"]] = len(self.compilations)


@pytest.mark.parametrize(
    ("kind", "devices"),
    [*(pytest.param("looped", n, marks=pytest.mark.slow) for n in (1, 4)), ("sent", 1)],
)
def test_a_stage_compiles_once(kind, devices, compilations, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.0)  # pieces of 2, 2 and then single steps
    monkeypatch.setattr(jobs, "loops_well", lambda *_: kind == "looped")
    model = tiny.perceptron(9 + devices + (kind == "sent"))  # one that no other test has compiled
    report = Counter(compilations)
    tiny_runs.fit(tiny_runs.PRUNE, model, devices=devices, report=report)
    assert report.steps == [2, 4, *range(5, 13)]
    assert report.by_step[2] > 0
    message = "compiled again in the midst of a stage: {}"
    midst = compilations[report.by_step[2] : report.by_step[4]]
    assert not midst, message.format(midst)
    later = compilations[report.by_epoch[1] : report.by_epoch[3]]
    assert not later, message.format(later)

    # Other values of what may be traced, other pieces and other mask changes: the same programs.
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 9.0)
    other = dataclasses.replace(
        tiny_runs.PRUNE,
        optim=Optim(learning_rate=0.01, weight_decay=1e-2, warmup=2),
        ema=0.7,
        label_smoothing=0.2,
        hard_weight=0.5,
        sparsity=0.5,
        schedule=OneShot(at=0.5),
        recalibrate=0,  # which the other schedule has not
    )
    again = Counter(compilations)
    before = len(compilations)
    tiny_runs.fit(other, model, devices=devices, seeds=(5, 6), report=again)
    assert again.steps == [4, 6, 8, 12]
    assert len(compilations) == before, message.format(compilations[before:])


# However it is cut


def test_pieces_change_nothing(monkeypatch):
    ends = []
    for seconds in (0.0, 9.0):
        monkeypatch.setattr(pieces, "PIECE_SECONDS", seconds)
        state, diary = tiny_runs.fit(tiny_runs.PRUNE)
        ends.append((state, diary.records))
        assert diary.steps == ([2, 4, *range(5, 13)] if seconds == 0 else [2, 4, 7, 8, 9, 12])
    assert not tiny.differences(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


def test_one_loop_on_the_device_equals_step_by_step(monkeypatch):
    looped = tiny_runs.fit(tiny_runs.PRUNE)
    monkeypatch.setattr(jobs, "loops_well", lambda *_: False)
    sent = tiny_runs.fit(tiny_runs.PRUNE)
    agree(looped, sent)


def test_seeds_together_equal_seeds_apart():
    together, diary = tiny_runs.fit(tiny_runs.PRUNE)
    for place, seed in enumerate((0, 1)):
        apart, alone = tiny_runs.fit(tiny_runs.PRUNE, seeds=(seed,))
        one = jax.tree.map(lambda x: x[place : place + 1] if x.ndim else x, together)  # noqa: B023
        close(one, apart)
        for a, b in zip(diary.records, alone.records, strict=True):
            assert a["sparsity"][place] == b["sparsity"][0]
            assert a["train"]["loss"][place] == pytest.approx(b["train"]["loss"][0], rel=1e-4)
    kernel = np.asarray(together.params["hidden"]["kernel"])
    assert np.any(kernel[0] != kernel[1])


def test_convolutions_are_sent_step_by_step_on_a_cpu_and_the_rest_is_looped():
    example = jobs.example_shape(tiny.digits())
    assert jobs.loops_well(tiny.perceptron(), example)
    assert not jobs.loops_well(tiny.convnet(), example)


# Devices


LAYOUTS = [8, (8, 2), (2, 2)]  # the last: parameters alone are split


def one_of_all(fast, *values):
    """Cases, of which one is in the fast tests."""
    cases = itertools.product(*values)
    return [pytest.param(*case, marks=[pytest.mark.slow] * (case != fast)) for case in cases]


@pytest.mark.parametrize("layout", one_of_all((8,), LAYOUTS))
def test_devices_distil_like_one(layout):
    # A normalised batch is the test: its mean and variance are of all parts together.
    one, many = (tiny_runs.fit(tiny_runs.DISTILL, tiny.convnet(), devices=n) for n in (1, layout))
    agree(one, many)
    statistics = one[0].collections["batch_stats"]["norm"]
    assert np.all(np.abs(statistics["mean"]) > 1e-5)


@pytest.mark.parametrize(
    ("allocation", "layout"),
    one_of_all(("layer", (8, 2)), ("layer", "global", "threshold", "std"), LAYOUTS),
)
def test_devices_prune_like_one(allocation, layout):
    threshold = {"threshold": 0.2, "std": 0.8}.get(allocation, 0.0)
    stage = dataclasses.replace(tiny_runs.PRUNE, allocation=allocation, threshold=threshold)
    one, many = (tiny_runs.fit(stage, devices=n) for n in (1, layout))
    agree(one, many)
    assert 0.1 < one[1].records[-1]["sparsity"][0] < 0.95


def test_a_model_axis_splits_kernels_masks_and_moments():
    state, _ = tiny_runs.fit(tiny_runs.PRUNE, devices=(8, 2))
    split = jax.sharding.PartitionSpec(None, None, "model")
    kernel = state.params["hidden"]["kernel"]
    held = [
        kernel,
        state.masks["hidden"]["kernel"],
        state.extra["ema"]["params"]["hidden"]["kernel"],
    ]
    held += [x for x in jax.tree.leaves(state.opt_state) if x.shape == kernel.shape]
    assert len(held) > 3
    for leaf in held:
        assert leaf.sharding.is_equivalent_to(jax.NamedSharding(kernel.sharding.mesh, split), 3)
        assert leaf.addressable_shards[0].data.size == leaf.size // 2
    assert state.params["hidden"]["bias"].sharding.is_fully_replicated


def test_a_split_run_goes_on_where_it_was_stopped(tmp_path):
    whole, _ = tiny_runs.fit(tiny_runs.PRUNE, devices=(8, 2))
    state, _, _ = tiny_runs.stop_and_go_on(tmp_path, 8, "quit", tiny_runs.PRUNE, devices=(8, 2))
    assert not tiny.differences(state, whole)


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_network_goes_on_on_other_devices(devices):
    model, network = tiny_runs.taught(2)
    many = jax.sharding.Mesh(jax.devices()[:4], ("data",))
    everywhere = jax.sharding.NamedSharding(many, jax.sharding.PartitionSpec())
    results = []
    for home in (jax.sharding.SingleDeviceSharding(jax.devices()[0]), everywhere):
        moved = jax.device_put(network, home)
        given = {"start": moved, "teacher": (model, moved), "devices": devices}
        results.append(tiny_runs.fit(tiny_runs.DISTILL, **given)[0])
    assert not tiny.differences(*results)
    assert len(results[0].step.devices()) == devices


# What a stage is given stays as it was


def test_the_start_and_the_teacher_are_not_used_up():
    start, teacher = tiny_runs.taught(2)[1], tiny_runs.taught(2)
    before = jax.tree.map(np.array, (start, teacher[1]))
    tiny_runs.fit(tiny_runs.DISTILL, start=start, teacher=teacher)
    assert not tiny.differences((start, teacher[1]), before)


def test_collected_logits_teach_like_the_teacher_itself(monkeypatch):
    collected, diary = tiny_runs.fit(tiny_runs.DISTILL)
    monkeypatch.setattr(taught, "Augment", lambda: Augment(crop=1))  # equal to no stage's own
    online, diary_too = tiny_runs.fit(tiny_runs.DISTILL)
    agree((collected, diary), (online, diary_too))


def test_a_teacher_is_measured_before_it_teaches():
    _, diary = tiny_runs.fit(tiny_runs.DISTILL)
    model, snapshot = tiny_runs.taught(2)
    accuracy = stages.evaluate(model, tiny.digits(), snapshot, "validation")["accuracy"]
    assert accuracy[0] == accuracy[1]
    assert [note.split(":")[0] for note in diary.notes] == [
        "the teacher's validation accuracy",
        "warning",  # it has learned nothing
        "warning",  # nor has who learns from it
    ]
    assert diary.notes[0].endswith(f"{100 * accuracy[0]:.2f} %")
    labels = tiny.digits().validation.labels
    frequent = np.bincount(labels).max() / len(labels)
    assert np.all(np.array(diary.records[-1]["validation_accuracy"]) <= frequent)
    assert diary.notes[2].endswith(f"which is {100 * frequent:.2f} % of all: seed 0, 1")
