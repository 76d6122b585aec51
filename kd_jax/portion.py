"""Which of the training examples a stage sees."""

import numpy as np

from kd_jax.config import Stage
from kd_jax.data import Dataset, Split


def train_size(stage: Stage, data: Dataset) -> int:
    """How many training examples a stage sees."""
    rows = _rows(stage, data)
    return rows.stop if isinstance(rows, slice) else rows.size


def shown(stage: Stage, data: Dataset) -> Split:
    """The training examples that a stage sees, of a set in memory; copied only if it names labels,
    and then in the order that they have without."""
    rows, train = _rows(stage, data), data.train
    assert isinstance(train, Split)
    return Split(train.inputs[rows], train.labels[rows], train.ids[rows])


def _rows(stage: Stage, data: Dataset) -> slice | np.ndarray:
    """Their places in the training split: of those with the stage's labels, the first."""
    share = lambda count: max(1, round(stage.fraction * count))  # noqa: E731
    if not stage.labels:
        return slice(share(len(data.train)))
    assert isinstance(data.train, Split)
    named = np.flatnonzero(np.isin(data.train.labels, stage.labels))
    return named[: share(named.size)]
