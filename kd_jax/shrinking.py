"""What a Shrink stage cuts: decided once, from the networks of all seeds, and kept as data."""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.augment import normalise, one_hot
from kd_jax.config_shrink import Shrink
from kd_jax.config_stages import Train
from kd_jax.data import Dataset, Split
from kd_jax.distill import cross_entropy
from kd_jax.errors import require, require_pattern
from kd_jax.forward import Model, Variables
from kd_jax.portion import shown, train_size
from kd_jax.prune import (
    CHANNEL_CRITERIA,
    Structure,
    UnitScan,
    choose,
    scan_units,
    scores,
    trace,
)
from kd_jax.prune.shrink import cut, narrowed
from kd_jax.prune.unit_evidence import Loss
from kd_jax.state import Snapshot
from kd_jax.tree import row

Measure = Callable[..., dict[str, dict[str, Any]]]
Kept = dict[str, np.ndarray]  # {group: the units that are kept [S, k]}


@functools.lru_cache(maxsize=32)
def traced(model: Model, shape: tuple[int, ...]) -> Structure:
    """What of a network can be cut; `shape` is of an example."""
    return trace(model, (2, *shape))


def decide(
    stage: Shrink, model: Model, data: Dataset, network: Snapshot, seed: int, measure: Measure
) -> Kept:
    """The units that are kept of each group: as many in all S networks, in each those that score
    highest there.

    Args:
      measure: see latency.measure; for a stage that comes down to a share of the time.

    Raises:
      UsageError: it begins with a field's name.
    """
    structure, how = traced(model, data.spec.shape), _How.of(stage)
    found = scored(stage, model, data, network, seed)
    tried = scanned(stage, model, data, network, found) if stage.scope == "sensitivity" else None
    cost = None
    if stage.latency is not None:
        first = row(network.variables, 0)
        share = _share_of_time(model, structure, first, stage.latency_batch, measure)
        cost = (share, stage.latency)
    return _chosen(how, structure, jax.device_get(found), tried, cost)


def scored(
    stage: Shrink, model: Model, data: Dataset, network: Snapshot, seed: int
) -> dict[str, jax.Array]:
    """{group: scores [S, units]} of all S networks."""
    keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(network.params)[0]))
    score, batches = _scorer(stage, model, data), _batches(stage, data, stage.batches)
    return jax.vmap(lambda v, key: score(v, key, batches))(network.variables, keys)


def scanned(
    stage: Shrink, model: Model, data: Dataset, network: Snapshot, found: dict[str, Any]
) -> UnitScan:
    """The losses of the stage's first batches, of all networks, where one group alone is cut."""
    structure, batches = traced(model, data.spec.shape), examples(stage, data, stage.batches)
    whole = _whole(_How.of(stage), structure)
    rest = {name: score for name, score in found.items() if name not in whole}
    loss = loss_of(model, data)

    def of_one(variables: Variables, scores: dict[str, Any]) -> UnitScan:
        return scan_units(structure, variables, scores, loss, batches)

    return jax.vmap(of_one)(network.variables, rest)


def _share_of_time(
    model: Model, structure: Structure, variables: Variables, batch: int, measure: Measure
) -> Callable[[dict[str, int]], float]:
    """{group: units kept} -> the time of a forward pass as a share of the full network's, the two
    timed in turns."""
    inputs = {batch: np.zeros((batch, *structure.input_shape[1:]), structure.dtype)}

    def share(counts: dict[str, int]) -> float:
        if not counts:
            return 1.0
        indices = structure.indices(structure.first(counts))
        smaller = (narrowed(model, structure, counts), cut(variables, indices))
        found = measure({"full": (model, variables), "smaller": smaller}, inputs)
        full, less = (found[name][str(batch)].median_ms for name in ("full", "smaller"))
        return less / full

    return share


def check(stage: Shrink, model: Model, data: Dataset) -> None:
    """Raises UsageError, which begins with a field's name, where the criterion can't score this
    network by these data, or too little can be cut of it."""
    key, batches = jax.random.key(0), _batches(stage, data, 1)
    example = jax.ShapeDtypeStruct((2, *data.spec.shape), jnp.float32)
    variables = jax.eval_shape(model.init, key, example)
    jax.eval_shape(_scorer(stage, model, data), variables, key, batches)
    if stage.scope == "sensitivity":
        examples(stage, data, 1)
    expected(stage, model, data.spec.shape)


def loss_of(model: Model, data: Dataset) -> Loss:
    """(variables, (inputs, labels)) -> the mean cross-entropy in evaluation mode."""

    def loss(variables: Variables, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = model.forward(variables, batch[0], train=False)[0].logits
        return jnp.mean(cross_entropy(logits, one_hot(batch[1], data.spec.classes)))

    return loss


def _scorer(stage: Shrink, model: Model, data: Dataset) -> Callable[..., Any]:
    """(variables, key, batches) -> {group: scores [units]}."""
    structure, loss = traced(model, data.spec.shape), loss_of(model, data)

    def score(variables: Variables, key: jax.Array, batches: list[Any]) -> Any:
        return scores(structure, variables, stage.criterion, key, batches, loss, model)

    return score


def _batches(stage: Shrink, data: Dataset, count: int) -> list[tuple[jax.Array, jax.Array]]:
    """Those that the criterion is shown; none for one that looks at no data."""
    idle = CHANNEL_CRITERIA[stage.criterion].needs == "nothing"
    return [] if idle else examples(stage, data, count, f"criterion {stage.criterion}")


def examples(
    stage: Train,
    data: Dataset,
    count: int,
    who: str = "scope sensitivity",
    instead: str = "take scope group and a criterion of weights such as l2",
) -> list[tuple[jax.Array, jax.Array]]:
    """(inputs, labels) of the first of the stage's examples, as they are evaluated."""
    train = shown(stage, data) if isinstance(data.train, Split) else data.validation
    require(
        isinstance(train, Split),
        f"{who} looks at data, and {data.spec.name} is streamed from disk: raise --data.memory-mb, "
        f"or {instead}",
    )
    assert isinstance(train, Split)
    count = min(count, train_size(stage, data) // stage.batch)
    rows = [slice(i * stage.batch, (i + 1) * stage.batch) for i in range(count)]
    return [
        (normalise(jnp.asarray(train.inputs[r]), data.spec), jnp.asarray(train.labels[r]))
        for r in rows
    ]


@dataclasses.dataclass(frozen=True)
class _How:
    """What of a stage says how much is cut."""

    amount: float
    macs: float | None
    size: float | None
    latency: float | None
    scope: str
    multiple_of: int
    keep: tuple[str, ...]

    @staticmethod
    def of(stage: Shrink) -> "_How":
        return _How(*(getattr(stage, field.name) for field in dataclasses.fields(_How)))


def _chosen(
    how: _How,
    structure: Structure,
    found: dict[str, Any],
    tried: UnitScan | None = None,
    cost: tuple[Callable[[dict[str, int]], float], float] | None = None,
) -> Kept:
    whole = _whole(how, structure)
    rest = {name: values for name, values in found.items() if name not in whole}
    require(
        bool(rest),
        f"keep {' '.join(how.keep)}: nothing of this network is left that could be cut; see "
        "run.py inspect",
    )
    target: dict[str, Any] = {"cost": cost} if cost else {"macs": how.macs or how.latency}
    if how.size is not None:
        target = {"size": how.size}
    if not cost and target == {"macs": None}:
        target = {"amount": how.amount}
    how_much = {"together": how.scope == "global", "multiple_of": how.multiple_of}
    return choose(structure, rest, **target, **how_much, scan=tried)


def _whole(how: _How, structure: Structure) -> set[str]:
    """The groups that no unit is cut of."""
    names = [group.name for group in structure.groups]
    require(bool(names), "start: nothing of this network can be cut: see run.py inspect")
    return matching(how.keep, names)


def matching(keep: Sequence[str], names: Sequence[str]) -> set[str]:
    """The groups that patterns find. Raises UsageError for one that finds none."""
    found: set[str] = set()
    for pattern in keep:
        require_pattern("keep", pattern)
        some = {name for name in names if re.search(pattern, name)}
        listed = ", ".join(names)
        require(bool(some), f"keep {pattern!r} finds no group: change it. They are: {listed}")
        found |= some
    return found


def expected(stage: Shrink, model: Model, shape: tuple[int, ...]) -> Model:
    """The network before it is decided what goes: as if all units were worth the same, and as if
    time were work."""
    return _expected(_How.of(stage), model, shape)


@functools.lru_cache(maxsize=32)
def _expected(how: _How, model: Model, shape: tuple[int, ...]) -> Model:
    structure = traced(model, shape)
    alike = {group.name: np.ones(group.size) for group in structure.groups}
    kept = _chosen(how, structure, alike)
    return narrowed(model, structure, {name: len(units) for name, units in kept.items()})
