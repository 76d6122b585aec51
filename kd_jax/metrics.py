"""How good a network is: on every example, exactly, in the host's double precision."""

from collections.abc import Callable

import numpy as np

from kd_jax.data import Split
from kd_jax.datasets import Spec
from kd_jax.forward import Model
from kd_jax.state import Snapshot
from kd_jax.stream import View, evaluation_batches

EVALUATION_BATCH = 256

Logits = np.ndarray


def predictions(
    model: Model, spec: Spec, snapshot: Snapshot, split: Split | View, predict: Callable
) -> tuple[Logits, np.ndarray]:
    """(logits [S, N, K], labels [N]) of a split; `predict` is compiled.predictor(model, ...)."""
    if isinstance(split, Split):
        return np.asarray(predict(snapshot, split.inputs)), split.labels
    logits, labels = [], []
    for batch in evaluation_batches(split, EVALUATION_BATCH):
        real = batch.weights > 0
        logits.append(np.asarray(predict(snapshot, batch.inputs))[:, real])
        labels.append(np.asarray(batch.labels)[real])
    return np.concatenate(logits, axis=1), np.concatenate(labels)


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
