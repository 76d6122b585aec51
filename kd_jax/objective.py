"""What a step minimises: hard labels, what the teacher says, and a penalty on the weights."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from kd_jax.augment import smooth
from kd_jax.batch import Batch
from kd_jax.distill import LogitTerm, cross_entropy
from kd_jax.forward import Outputs
from kd_jax.optim import Optim
from kd_jax.prune import PruningLoss

Array = jax.Array
Metrics = dict[str, Array]


@flax.struct.dataclass
class Settings:
    """Everything of a stage that a traced program may be given rather than be built for.

    Attributes:
      seed: uint32 scalar.
      optim: the optimizer's settings.
      label_smoothing: share of the uniform distribution in the hard targets.
      hard_weight: weight of the cross-entropy with the labels.
      terms: {name: distillation term}.
      penalty: the pruning loss, or None.
      ema: decay of the parameters' average, or None.
    """

    seed: Any
    optim: Optim
    label_smoothing: float
    hard_weight: float
    terms: dict[str, LogitTerm]
    penalty: PruningLoss | None
    ema: float | None


def no_metrics(settings: Settings, seeds: int) -> Metrics:
    """Zeros [seeds] under the names that `objective` reports."""
    names = ["hard", "loss", "accuracy", *settings.terms]
    if settings.penalty is not None:
        names += [f"penalty_{part}" for part in settings.penalty.parts]
    return {name: jnp.zeros((seeds,), jnp.float32) for name in names}


def objective(
    settings: Settings,
    student: Outputs,
    teacher: Outputs | None,
    batch: Batch,
    params: Any,
    masks: Any,
) -> tuple[Array, Metrics]:
    """(loss to minimise, means over the batch to report).

    loss = mean_B[ hard_weight · CE(labels) + Σ_i weight_i · term_i ] + weight · penalty.
    Each metric is a float32 scalar; terms are reported before their weights.
    """
    count = jnp.maximum(jnp.sum(batch.weights), 1.0)
    mean = lambda values: jnp.sum(values * batch.weights) / count  # noqa: E731
    assert batch.targets is not None, "the batch must be prepared (augment.prepare)"
    hard = mean(cross_entropy(student.logits, smooth(batch.targets, settings.label_smoothing)))
    metrics = {"hard": hard}
    loss = settings.hard_weight * hard
    for name, term in settings.terms.items():
        assert teacher is not None, "terms need a teacher; the config checks that there is one"
        metrics[name] = mean(term(student.logits, teacher.logits, batch.targets))
        loss += term.weight * metrics[name]
    if settings.penalty is not None:
        value, parts = settings.penalty(params, masks)
        loss += settings.penalty.weight * value
        metrics |= {f"penalty_{name}": part for name, part in parts.items()}
    correct = jnp.argmax(student.logits, axis=-1) == batch.labels
    metrics |= {"loss": loss, "accuracy": mean(correct.astype(jnp.float32))}
    return loss, jax.tree.map(lambda x: x.astype(jnp.float32), metrics)
