"""What a step minimises: hard labels, what the teacher says, and a penalty on the weights."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from kd_jax.augment import smooth
from kd_jax.distill import Lesson, LogitTerm, Own, Term, View, cross_entropy
from kd_jax.distill.members import adaptive, mean_of_losses
from kd_jax.errors import UsageError
from kd_jax.optim import Optim
from kd_jax.prune import Criterion, Learned, Magnitude, Penalty
from kd_jax.tree import Tree

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
      second_hard_weight: the same on a second view, where terms read one.
      terms: {name: distillation term}.
      penalty: a loss of the parameters, or None.
      ema: decay of the parameters' average, or None.
      criterion: how weights are scored where masks change.
      learned: the optimizer's settings for what a criterion trains, or None.
      decay: what the gradient gains of masked weights, of schedules that have it, or None.
      rho: how much the gradient gains of the way to sparse weights, of schedules that have it.
      peer: which of several peers it is; 0 where there are none.
      teacher_weights: the shares of several teachers.
      combine: how several teachers are; see config_distill.Distill.
      variants: how many settings this is: with several, the leaves that differ are arrays [V].
    """

    seed: Any
    optim: Optim
    label_smoothing: float
    hard_weight: float
    terms: Mapping[str, Term]
    penalty: Penalty | None
    ema: float | None
    criterion: Criterion = Magnitude()
    learned: Optim | None = None
    decay: float | None = None
    rho: float | None = None
    second_hard_weight: float = 0.0
    peer: Any = 0
    teacher_weights: tuple[float, ...] = ()
    combine: str = flax.struct.field(pytree_node=False, default="logits")
    variants: int = flax.struct.field(pytree_node=False, default=1)


def no_metrics(settings: Settings, seeds: int) -> Metrics:
    """Zeros [runs] under the names that `objective` reports."""
    names = ["hard", "loss", "accuracy", *settings.terms]
    names += ["hard_second"] * looks_twice(settings)
    if settings.penalty is not None:
        names += [f"penalty_{part}" for part in settings.penalty.parts]
    if isinstance(settings.criterion, Learned):
        names += [f"criterion_{part}" for part in settings.criterion.parts]
    return {name: jnp.zeros((seeds * settings.variants,), jnp.float32) for name in names}


def objective(
    settings: Settings,
    lesson: Lesson,
    owns: dict[str, Own],
    weights: Array,
    params: Any,
    masks: Any,
    learned: Metrics | None = None,
) -> tuple[dict[str, Array], tuple[Metrics, dict[str, Tree]]]:
    """(parts of the loss, (means over the batch to report, {term: its next state})).

    loss = mean_B[ hard_weight · CE(labels) + Σ_i weight_i · term_i ] + weight · penalty, the mean
    over the examples whose `weights` [B] are 1; with a second view of them also
    second_hard_weight · CE(labels) on that. A term of the whole batch is a scalar already. The
    parts are the weighted summands; each metric is a float32 scalar, before its weight.

    Args:
      owns: {name: what the term carries}, for those that carry anything.
      learned: {part: value} of a criterion that learns; its price, if it has one, is a part of the
        loss.
    """
    count = jnp.maximum(jnp.sum(weights), 1.0)
    mean = lambda values: jnp.sum(values * weights) / count if values.ndim else values  # noqa: E731
    metrics, parts, states = {}, {}, {}
    views: dict[str, tuple[Lesson | View, Any]] = {"hard": (lesson, settings.hard_weight)}
    if lesson.second is not None:
        views["hard_second"] = (lesson.second, settings.second_hard_weight)
    for name, (view, weight) in views.items():
        hard_targets = smooth(view.targets, settings.label_smoothing)
        metrics[name] = mean(cross_entropy(view.student.logits, hard_targets))
        parts[name] = weight * metrics[name]
    for name, term in settings.terms.items():
        try:
            values, state = _evaluated(settings, term, owns.get(name, Own()), lesson)
        except UsageError as error:  # of what only the networks' parameters tell
            raise UsageError(f"terms.{name}.{error}") from None
        if name in owns:
            states[name] = state
        metrics[name] = mean(values)
        parts[name] = term.weight * term.factor(lesson.epoch) * metrics[name]
    if settings.penalty is not None:
        value, of_penalty = settings.penalty(params, masks)
        parts["penalty"] = settings.penalty.weight * value
        metrics |= {f"penalty_{name}": part for name, part in of_penalty.items()}
    if learned is not None:
        parts |= {"criterion": learned["price"]} if "price" in learned else {}
        metrics |= {f"criterion_{name}": part for name, part in learned.items()}
    correct = jnp.argmax(lesson.student.logits, axis=-1) == lesson.labels
    metrics |= {"loss": total(parts), "accuracy": mean(correct.astype(jnp.float32))}
    return parts, (jax.tree.map(lambda x: x.astype(jnp.float32), metrics), states)


def _evaluated(settings: Settings, term: Term, own: Own, lesson: Lesson) -> tuple[Array, Tree]:
    """A term's value and next state; where several teach, of its values with each of them."""
    if lesson.members is None or not term.taught:
        return term.evaluate(own, lesson)
    assert isinstance(term, LogitTerm), "the config checks that several teach by logits alone"
    rule = adaptive if settings.combine == "adaptive" else mean_of_losses
    return rule(term, lesson), own.state


def total(parts: dict[str, Array]) -> Array:
    """The loss, of its parts, summed in their order."""
    return sum(parts.values(), start=jnp.zeros(()))


def part_names(settings: Settings) -> list[str]:
    """The names of the loss's parts."""
    criterion = settings.criterion
    priced = isinstance(criterion, Learned) and "price" in criterion.parts
    others = {"penalty": settings.penalty is not None, "criterion": priced}
    hard = ["hard", *["hard_second"] * looks_twice(settings)]
    return [*hard, *settings.terms, *(name for name, there in others.items() if there)]


def looks_twice(settings: Settings) -> bool:
    """Whether terms read a second view of the examples."""
    return any(term.views > 1 for term in settings.terms.values())
