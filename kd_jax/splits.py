"""Which examples are trained on, which are held out, and which are tested on. Reads nothing."""

import numpy as np

from kd_jax.datasets import Data
from kd_jax.errors import UsageError, require


def permutation(count: int, *seed: int) -> np.ndarray:
    """int32 [count] in random order."""
    # The old generator, because its stream is promised never to change: who is held out today is
    # held out with any later numpy.
    return np.random.RandomState(list(seed)).permutation(count).astype(np.int32)


def check_labels(which: str, labels: np.ndarray, classes: int, before: str = "") -> None:
    """Raises UsageError, which tells of `which` examples, for labels that are no class; one that a
    set withholds is -1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise UsageError(
            f"{before}{wrong.size} of {len(labels):,} {which} examples have labels that are none "
            f"of the {classes} classes, the first {labels[wrong[0]]} (example {wrong[0]}): mend "
            "the set"
        )


def hold_out(
    order: np.ndarray, fraction: float, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a shuffled order of ids into (kept, held out). With labels, neither is in random order.

    round(fraction · N) are held out. With labels (of all ids), each class gives its share, rounded
    so that the shares add up: the classes with the largest remainders give one more.
    """
    count = round(fraction * len(order))
    if labels is None:
        return order[count:], order[:count]
    labels = labels[order]
    sizes = np.bincount(labels)
    share = np.floor(fraction * sizes).astype(int)
    remainder = fraction * sizes - share
    share[np.argsort(-remainder, kind="stable")[: count - share.sum()]] += 1
    by_class = np.argsort(labels, kind="stable")
    first_of_class = np.cumsum(sizes) - sizes
    place_in_class = np.empty(len(order), int)
    place_in_class[by_class] = np.arange(len(order)) - first_of_class[labels[by_class]]
    held = place_in_class < share[labels]
    return order[~held], order[held]


def choose(
    config: Data, train_size: int, test_size: int, labels: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ids of (train, validation, test). With labels, validation is stratified.

    Stored sets may lie class by class, so train is shuffled here: any part of it, the one
    that a limit keeps included, is then a random subset.
    """
    order = permutation(train_size, config.split_seed, 0)
    parts = hold_out(order, config.validation, labels)
    # Shuffled again: a stratified cut leaves classes whose share is full at the front of the rest.
    train, validation = (
        part[permutation(len(part), config.split_seed, 2 + i)] for i, part in enumerate(parts)
    )
    test = np.arange(test_size, dtype=np.int32)
    if config.train_limit:
        train = train[: config.train_limit]
    if config.test_limit:
        validation = validation[: config.test_limit]
        test = np.sort(permutation(test_size, config.split_seed, 1)[: config.test_limit])
    require(
        len(train) > 0,
        f"--data.validation {config.validation}: leaves none of {train_size} examples to train on",
    )
    return train, validation, test
