"""Stages that see the examples of some labels alone."""

import dataclasses

import numpy as np
import pytest
import tiny
import tiny_runs
from tiny_experiment import fake_data

from kd_jax import batches, checks, portion, taught
from kd_jax.augment import Augment
from kd_jax.checkpoint import Store
from kd_jax.config import Distill, Train
from kd_jax.data import outline, streamed
from kd_jax.datasets import DATASETS, Data
from kd_jax.distill import CRD
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.jobs import labels_by_id, prepare
from kd_jax.models.mlp import MLP
from kd_jax.replay import Replay

MODEL = from_linen(MLP(widths=(4,)).build(10, "float32"))
DIGITS = fake_data("digits", 100)  # the example of id i has the label i % 10
SOME = (7, 2)


def some(stage=tiny_runs.TRAIN, **changes):
    return dataclasses.replace(stage, labels=SOME, batch=4, **changes)


def test_what_a_stage_sees_by_hand():
    of = lambda **fields: portion.shown(Train(**fields), DIGITS).ids.tolist()  # noqa: E731
    assert of(labels=(7, 2))[:5] == [2, 7, 12, 17, 22]
    assert len(of(labels=(7, 2))) == 20
    assert of(labels=(2,), fraction=0.3) == [2, 12, 22]  # three tenths of the ten
    assert of(labels=(2,), fraction=0.01) == [2]
    assert of() == list(range(100))
    for stage in (Train(labels=(7, 2)), Train(labels=(2,), fraction=0.3), Train(fraction=0.3)):
        assert portion.train_size(stage, DIGITS) == len(portion.shown(stage, DIGITS))


def test_without_labels_nothing_is_copied():
    part = portion.shown(Train(fraction=0.5), DIGITS)
    assert np.shares_memory(part.inputs, DIGITS.train.inputs)


def test_batches_have_these_labels_and_no_others():
    data, stage = tiny.digits(), some()
    prepared = prepare((stage,), tiny.perceptron(), data, None, (0,), 1)
    size = int(np.isin(data.train.labels, SOME).sum())
    assert prepared.program.steps_per_epoch == size // 4
    order = batches.epoch_order(prepared.program, 0, np.int32(0), prepared.resident)
    rows = [
        batches.take(prepared.program, order, np.int32(i), None, prepared.resident)[0]
        for i in range(size // 4)
    ]
    labels, ids = (np.concatenate([getattr(b, n) for b in rows]) for n in ("labels", "ids"))
    assert set(labels.tolist()) == set(SOME)
    assert len(set(ids.tolist())) == len(ids)
    by_id = dict(zip(data.train.ids.tolist(), data.train.labels.tolist(), strict=True))
    assert [by_id[i] for i in ids.tolist()] == labels.tolist()


def test_the_teachers_outputs_are_of_the_same_examples(tmp_path):
    """Collected, they lie as the examples of the stage do; and training by them is training by a
    teacher that is asked."""
    data, teacher = tiny.digits(), tiny_runs.taught(1)
    stage = some(tiny_runs.DISTILL)
    store = Store(tmp_path)
    logits = taught.outputs_of(stage, data, teacher, store)
    every = taught.outputs_of(dataclasses.replace(stage, labels=()), data, teacher, None)
    assert logits is not None
    assert every is not None
    where = np.isin(data.train.labels, SOME)
    np.testing.assert_allclose(logits, every[:, where], rtol=1e-5, atol=1e-6)
    kept = store.kept("teacher_outputs")
    np.testing.assert_array_equal(kept["ids"], data.train.ids[where])
    np.testing.assert_array_equal(kept["labels"], data.train.labels[where])


@pytest.mark.slow
def test_replayed_views_are_of_the_same_examples(tmp_path, monkeypatch):
    online = some(tiny_runs.DISTILL, epochs=2, augment=Augment(flip=True))
    replayed = dataclasses.replace(online, replay="float32")
    fit = lambda stage: tiny_runs.fit(stage, replay=tmp_path, seeds=(0,))[0]  # noqa: E731
    assert not tiny.differences(fit(online), fit(replayed))
    monkeypatch.setattr(Replay, "write", None)  # whoever records fails
    with pytest.raises(TypeError):  # what was recorded is not of these
        fit(dataclasses.replace(replayed, labels=(7, 3)))


def test_memories_know_which_examples_there_are():
    labels = np.asarray(labels_by_id(Distill(labels=SOME, terms={"crd": CRD()}), DIGITS))
    assert labels[:8].tolist() == [-1, -1, 2, -1, -1, -1, -1, 7]


def test_variants_of_other_labels_do_not_train_together():
    """Of each label there are as many examples."""
    stages = [Train(labels=(label,), batch=2) for label in (1, 2)]
    with pytest.raises(UsageError, match="one program can't train all of them"):
        tiny_runs.fit(stages, MODEL, data=DIGITS)


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (Train(labels=(3, 10)), "labels 3 10: digits has the labels 0 to 9: name some of these"),
        (Train(labels=(10,)), "labels 10: digits has the labels 0 to 9"),
        (Train(labels=(3,), batch=16), "batch 16 is larger than the 10 training examples that "),
        (
            Train(labels=(3, 4), fraction=0.5, batch=16),
            "batch 16 is larger than the 10 training examples that labels 3 4 and fraction 0.5 "
            "leave: change that, or lower it",
        ),
    ],
)
def test_labels_that_can_not_work_are_refused(stage, said):
    with pytest.raises(UsageError) as error:
        checks.check(stage, MODEL, DIGITS)
    assert str(error.value).startswith(said)


def test_a_label_that_no_example_has():
    data = fake_data("digits", 8)
    with pytest.raises(UsageError, match=r"^labels 8 9: none of the 8 training examples has one"):
        checks.check(Train(labels=(8, 9), batch=8), MODEL, data)


def test_a_label_is_named_once():
    with pytest.raises(UsageError, match=r"^labels 3 4 3: one is named twice$"):
        Train(labels=(3, 4, 3))


def test_of_a_streamed_set_labels_are_not_known():
    source = [(np.zeros((8, 8, 1), np.uint8), 0)] * 40
    data = streamed(Data(), DATASETS["digits"], source, source)
    with pytest.raises(UsageError, match=r"^labels 0: digits is streamed.* raise --data.memory-mb"):
        checks.check(Train(labels=(0,), batch=8), MODEL, data)


def test_a_plan_knows_how_many_there_are():
    data = outline(Data(name="mnist", validation=0.1))
    assert portion.train_size(Train(labels=(7, 8)), data) == 10800


def test_no_label_is_below_zero_whatever_the_data():
    with pytest.raises(UsageError, match=r"^labels 3 -1: none is below 0"):
        Train(labels=(3, -1))
