"""How good a network is: on every example, exactly, in the host's double precision."""

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from kd_jax.data import Split
from kd_jax.state import Snapshot
from kd_jax.stream import View, evaluation_batches

EVALUATION_BATCH = 256
BINS = 15  # of the calibration error

CONVENTION = (
    "NLL: mean of -log p(label), the cross-entropy with the labels. ECE: expected calibration "
    f"error of Guo et al. 2017, {BINS} bins of equal width: by how much the largest probability "
    "misses the accuracy. KL: mean KL(teacher || network) of the predictions at temperature 1, the "
    "teacher being the network that taught it or, where none did, the first teacher. By class: the "
    "largest gains and losses are picked out of all, so that some of them are chance."
)

Logits = np.ndarray
Predict = Callable[[Snapshot, Any], Any]  # compiled.predictor(model, spec)


def predictions(
    predict: Predict, snapshot: Snapshot, split: Split | View
) -> tuple[Logits, np.ndarray]:
    """(logits float32 [S, N, K], labels [N]) of every example of a split, in its order.

    All batches have one size, so all splits share one program.
    """
    if isinstance(split, Split):
        return _of_arrays(predict, snapshot, split.inputs), split.labels
    logits, labels = [], []
    for batch in evaluation_batches(split, EVALUATION_BATCH):
        real = batch.weights > 0
        logits.append(np.asarray(predict(snapshot, batch.inputs))[:, real])
        labels.append(np.asarray(batch.labels)[real])
    return np.concatenate(logits, axis=1), np.concatenate(labels)


def _of_arrays(predict: Predict, snapshot: Snapshot, inputs: np.ndarray) -> Logits:
    found = []
    for begin in range(0, len(inputs), EVALUATION_BATCH):
        batch = inputs[begin : begin + EVALUATION_BATCH]
        padding = [(0, EVALUATION_BATCH - len(batch)), *[(0, 0)] * (batch.ndim - 1)]
        found.append(predict(snapshot, np.pad(batch, padding)))
    return np.concatenate([np.asarray(logits) for logits in found], axis=1)[:, : len(inputs)]


def accuracy(logits: Logits, labels: np.ndarray) -> np.ndarray:
    """Share of examples whose largest logit is the label's: [..., N, K], [N] -> [...]."""
    return np.mean(np.argmax(logits, axis=-1) == labels, axis=-1)


def log_softmax(logits: Logits) -> np.ndarray:
    """In double precision, [..., K] -> [..., K]; not a number where a logit is infinite."""
    with np.errstate(invalid="ignore"):  # of a seed that diverged
        z = logits.astype(np.float64)
        z -= z.max(axis=-1, keepdims=True)
        return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def cross_entropy(logits: Logits, labels: np.ndarray) -> np.ndarray:
    """Mean of -log softmax(logits)[label], in nats: [..., N, K], [N] -> [...]."""
    return -np.mean(log_softmax(logits)[..., np.arange(labels.size), labels], axis=-1)


def agreement(logits: Logits, others: Logits) -> np.ndarray:
    """Share of examples on which two networks choose the same class: [..., N, K] -> [...]."""
    return np.mean(np.argmax(logits, axis=-1) == np.argmax(others, axis=-1), axis=-1)


def kl_divergence(logits: Logits, teacher: Logits) -> np.ndarray:
    """Mean of KL(teacher || student) of the predictions at temperature 1, in nats: how far those of
    `logits` are from the teacher's, [..., N, K] both -> [...]."""
    log_t, log_s = log_softmax(teacher), log_softmax(logits)
    return np.mean(np.sum(np.exp(log_t) * (log_t - log_s), axis=-1), axis=-1)


def calibration_error(logits: Logits, labels: np.ndarray, bins: int = BINS) -> np.ndarray:
    """ECE, [..., N, K], [N] -> [...]: Σ over bins of |B|/N |accuracy(B) - confidence(B)|, B the
    examples whose confidence, the largest probability, is in ((m-1)/M, m/M].

    Guo et al., "On Calibration of Modern Neural Networks", 2017,
    https://arxiv.org/abs/1706.04599, eq. 3.
    """
    confidence = np.exp(log_softmax(logits).max(axis=-1))
    gap = (np.argmax(logits, axis=-1) == labels) - confidence
    edges = np.arange(bins + 1) / bins
    inside = [(low < confidence) & (confidence <= high) for low, high in pairwise(edges)]
    return np.sum([np.abs(np.mean(gap * within, axis=-1)) for within in inside], axis=0)


def class_accuracy(logits: Logits, labels: np.ndarray) -> np.ndarray:
    """Accuracy on the examples of each class, [..., N, K], [N] -> [..., K]; not a number where a
    class has none."""
    right = np.argmax(logits, axis=-1) == labels
    count = functools.partial(np.bincount, labels, minlength=logits.shape[-1])
    with np.errstate(invalid="ignore"):
        return np.apply_along_axis(count, -1, right) / count()


def measured(
    logits: Logits, labels: np.ndarray, teacher: Logits | None = None
) -> dict[str, np.ndarray]:
    """{metric: value of each seed} of logits [S, N, K], beside those of who taught, if any."""
    found = {
        "accuracy": accuracy(logits, labels),
        "cross_entropy": cross_entropy(logits, labels),
        "calibration_error": calibration_error(logits, labels),
        "class_accuracy": class_accuracy(logits, labels),
    }
    if teacher is not None:
        found["agreement"] = agreement(logits, teacher)
        found["kl_divergence"] = kl_divergence(logits, teacher)
    return found
