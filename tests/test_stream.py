import dataclasses
import itertools
import threading
import time

import jax
import numpy as np
import pytest
import tiny_tfds

from kd_jax.data import load
from kd_jax.datasets import Data
from kd_jax.errors import UsageError
from kd_jax.stream import View, as_view, evaluation_batches, pad, stream


class Numbers:
    """Example i is a 2x2 image of i's and has label i % 3; counts how often each is read."""

    def __init__(self, count):
        self.count = count
        self.lock = threading.Lock()
        self.reads = [0] * count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        with self.lock:
            self.reads[index] += 1
        return np.full((2, 2, 1), index, np.uint8), index % 3


def ids_of(batches, count):
    return [batch.ids.tolist() for batch in itertools.islice(batches, count)]


def test_batches_carry_their_examples():
    batch = next(stream(Numbers(10), 4, seed=0))
    assert (batch.inputs.shape, batch.inputs.dtype) == ((4, 2, 2, 1), np.uint8)
    assert (batch.ids.dtype, batch.labels.dtype, batch.weights.dtype) == (
        np.int32,
        np.int32,
        np.float32,
    )
    assert batch.targets is None
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(batch))
    np.testing.assert_array_equal(batch.inputs[:, 0, 0, 0], batch.ids)
    np.testing.assert_array_equal(batch.labels, batch.ids % 3)
    np.testing.assert_array_equal(batch.weights, np.ones(4))


def test_an_epoch_has_each_example_at_most_once_and_the_next_is_in_another_order():
    epochs = np.array(ids_of(stream(Numbers(10), 3, seed=0), 9)).reshape(3, 9)  # one left out
    assert all(len(set(epoch)) == 9 for epoch in epochs.tolist())
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 3


@pytest.mark.parametrize("start", [1, 3, 4, 11])
def test_resumed_at_a_step_it_goes_on_as_if_uninterrupted(start):
    straight = list(itertools.islice(stream(Numbers(10), 3, seed=7), start + 4))
    resumed = list(itertools.islice(stream(Numbers(10), 3, seed=7, start_step=start), 4))
    for one, other in zip(straight[start:], resumed, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_seed_decides_the_order():
    first, same, other = (ids_of(stream(Numbers(20), 5, seed=s), 4) for s in (0, 0, 1))
    assert first == same
    assert first != other
    assert ids_of(stream(Numbers(20), 5, seed=-1), 1)  # any integer will do


def test_number_of_threads_changes_nothing():
    one = ids_of(stream(Numbers(20), 5, seed=0, threads=1, ahead=1), 8)
    assert one == ids_of(stream(Numbers(20), 5, seed=0, threads=4, ahead=8), 8)


def test_only_what_is_used_soon_is_read():
    source = Numbers(100)
    next(stream(source, 2, seed=0, start_step=10, threads=2, ahead=2))
    time.sleep(0.2)  # the threads read as far as they may
    assert 2 <= sum(source.reads) <= 2 * (1 + 2 + 2)


def test_a_view_keeps_the_ids_of_its_source():
    view = View(Numbers(10), np.array([7, 2, 5], np.int32))
    batches = list(evaluation_batches(view, 2))
    assert [batch.ids.tolist() for batch in batches] == [[7, 2], [5, 5]]
    np.testing.assert_array_equal(batches[0].inputs[:, 0, 0, 0], [7, 2])
    assert sorted(next(stream(view, 3, seed=0)).ids.tolist()) == [2, 5, 7]
    assert as_view(view) is view


def test_evaluation_reads_each_example_once_in_order_and_pads_the_last_batch():
    source = Numbers(7)
    batches = list(evaluation_batches(source, 3))
    assert [batch.ids.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6, 6, 6]]
    assert [batch.weights.tolist() for batch in batches] == [[1, 1, 1], [1, 1, 1], [1, 0, 0]]
    assert all(batch.inputs.shape == (3, 2, 2, 1) for batch in batches)
    assert all(batch.weights.dtype == np.float32 for batch in batches)
    assert source.reads == [1] * 7


def test_no_padding_where_batches_come_out_even():
    batches = list(evaluation_batches(Numbers(6), 3))
    assert [batch.weights.tolist() for batch in batches] == [[1, 1, 1]] * 2
    assert pad(batches[0], 3) is batches[0]


def test_nothing_to_evaluate():
    assert list(evaluation_batches(Numbers(0), 3)) == []


@pytest.mark.parametrize("batch_size", [0, 11])
def test_a_batch_larger_than_the_source_is_refused(batch_size):
    with pytest.raises(UsageError, match=rf"--batch_size {batch_size}: .* 10 "):
        stream(Numbers(10), batch_size, seed=0)


def test_images_that_make_no_batch_are_told_of_in_one_line():
    class Growing(Numbers):
        def __getitem__(self, index):
            return np.zeros((2, 3 if index == 2 else 2, 1), np.uint8), 0

    said = r"^example 2 is of shape \(2, 3, 1\), where the set's are of \(2, 2, 1\): mend the set$"
    whole = View(Growing(4), np.arange(4, dtype=np.int32))
    for view in (whole, dataclasses.replace(whole, shape=(2, 2, 1))):
        with pytest.raises(UsageError, match=said):
            list(evaluation_batches(view, 4))
    view = View(Growing(4), np.full(4, 2, np.int32), shape=(2, 2, 1))
    with pytest.raises(UsageError, match=said):
        next(stream(view, 4, seed=0))


def test_a_set_on_disk_streams(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images = [tiny_tfds.random_images(1, (4 + i % 3, 5, 3), seed=i)[0] for i in range(20)]
    splits = {"train": (images, [i % 3 for i in range(20)]), "test": (images[:5], [0, 1, 2, 0, 1])}
    tiny_tfds.write(tmp_path, "vary", splits, shape=(None, None, 3))
    config = Data(name="vary", dir=str(tmp_path), image_size=4, memory_mb=0, train_limit=12)
    data = load(config)
    kept = load(dataclasses.replace(config, memory_mb=1, train_limit=0, validation=0.0))
    by_id = {int(i): x for i, x in zip(kept.train.ids, kept.train.inputs, strict=True)}  # type: ignore
    assert len(data.train) == 12
    for batch in itertools.islice(stream(data.train, 5, seed=0), 5):
        assert set(batch.ids.tolist()) <= set(data.train.ids.tolist())
        for example_id, image, label in zip(batch.ids, batch.inputs, batch.labels, strict=True):
            np.testing.assert_array_equal(image, by_id[int(example_id)])
            assert label == example_id % 3
    seen = [int(i) for batch in evaluation_batches(data.test, 2) for i in batch.ids]
    assert seen == [0, 1, 2, 3, 4, 4]
