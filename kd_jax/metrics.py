"""How good a network is: on every example, exactly, in the host's double precision."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kd_jax.data import Split
from kd_jax.state import Snapshot
from kd_jax.stream import View, evaluation_batches

EVALUATION_BATCH = 256

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
        found.append(predict(snapshot, np.pad(batch, padding))[:, : len(batch)])
    return np.concatenate([np.asarray(logits) for logits in found], axis=1)


def accuracy(logits: Logits, labels: np.ndarray) -> np.ndarray:
    """Share of examples whose largest logit is the label's: [..., N, K], [N] -> [...]."""
    return np.mean(np.argmax(logits, axis=-1) == labels, axis=-1)


def cross_entropy(logits: Logits, labels: np.ndarray) -> np.ndarray:
    """Mean of -log softmax(logits)[label], in nats: [..., N, K], [N] -> [...]."""
    z = logits.astype(np.float64)
    z -= z.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return -np.mean(log_p[..., np.arange(labels.size), labels], axis=-1)


def agreement(logits: Logits, others: Logits) -> np.ndarray:
    """Share of examples on which two networks choose the same class: [..., N, K] -> [...]."""
    return np.mean(np.argmax(logits, axis=-1) == np.argmax(others, axis=-1), axis=-1)
