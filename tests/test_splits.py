import numpy as np
import pytest

from kd_jax.datasets import Data
from kd_jax.errors import UsageError
from kd_jax.splits import choose, hold_out, permutation


def test_validation_has_each_class_in_proportion():
    order = permutation(12, 3)
    labels = np.array([0] * 6 + [1] * 3 + [2] * 3)
    # Shares of 1.5, 0.75, 0.75: rounded down 1, 0, 0; the two largest remainders get one more.
    kept, held = hold_out(order, 0.25, labels)
    assert np.bincount(labels[held]).tolist() == [1, 1, 1]
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(12))
    # Both keep the shuffled order.
    np.testing.assert_array_equal(kept, [i for i in order if i in set(kept.tolist())])
    np.testing.assert_array_equal(held, [i for i in order if i in set(held.tolist())])


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 1 / 3, 0.29, 0.999])
@pytest.mark.parametrize("sizes", [[100] * 10, [50, 1, 7], [1], [0, 3, 0, 10]])
def test_shares_of_classes_add_up(fraction, sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    _, held = hold_out(permutation(len(labels), 0), fraction, labels)
    assert len(held) == round(fraction * len(labels))
    counts = np.bincount(labels[held], minlength=len(sizes))
    assert (np.abs(counts - fraction * np.array(sizes)) < 1).all()


def test_without_labels_validation_is_a_part_of_the_shuffled_order():
    order = permutation(10, 0)
    kept, held = hold_out(order, 0.3)
    np.testing.assert_array_equal(np.concatenate([held, kept]), order)
    assert len(held) == 3


def test_limits_keep_random_subsets_and_move_nothing():
    labels = np.repeat(np.arange(10), 100)
    all_of = choose(Data(), 1000, 500, labels)
    limited = choose(Data(train_limit=100, test_limit=40), 1000, 500, labels)
    np.testing.assert_array_equal(limited[0], all_of[0][:100])
    np.testing.assert_array_equal(limited[1], all_of[1][:40])
    assert len(limited[2]) == 40
    assert len(np.unique(labels[limited[0]])) == 10  # stored class by class, yet all are there
    assert limited[2].max() > 300
    assert (np.diff(limited[2]) > 0).all()
    np.testing.assert_array_equal(all_of[2], np.arange(500))


def test_split_seed_changes_who_is_held_out_but_not_test():
    one, other = choose(Data(), 100, 50), choose(Data(split_seed=1), 100, 50)
    assert set(one[1].tolist()) != set(other[1].tolist())
    np.testing.assert_array_equal(one[2], other[2])


def test_nothing_left_to_train_on():
    with pytest.raises(UsageError, match=r"--data\.validation 0\.9"):
        choose(Data(validation=0.9), 2, 2)


def test_a_small_part_of_train_has_every_class_in_proportion():
    """A stratified cut alone would leave the front of the rest short of some classes."""
    labels = np.repeat(np.arange(10), 100)
    counts = np.zeros(10)
    for seed in range(200):
        train, _, _ = choose(Data(validation=0.3, split_seed=seed), 1000, 10, labels)
        counts += np.bincount(labels[train[:70]], minlength=10)
    # 1,400 expected of each class; a standard deviation is about 34.
    assert np.abs(counts - 1400).max() < 5 * 34
    first = choose(Data(validation=0.3), 1000, 10, labels)[0][:70]
    assert np.bincount(labels[first], minlength=10).min() >= 1
