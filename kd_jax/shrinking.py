"""What a Shrink stage cuts: decided once, from the networks of all seeds, and kept as data."""

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file, save_file

from kd_jax import hosts
from kd_jax.augment import normalise, one_hot
from kd_jax.checkpoint import write_text
from kd_jax.checks import train_size
from kd_jax.config_shrink import Shrink
from kd_jax.data import Dataset, Split
from kd_jax.distill import cross_entropy
from kd_jax.errors import UsageError, require
from kd_jax.forward import Model, Variables
from kd_jax.prune import (
    CHANNEL_CRITERIA,
    Structure,
    Widths,
    choose,
    rebuild,
    scores,
    shrink,
    trace,
)
from kd_jax.prune.shrink import cut, narrowed
from kd_jax.state import Snapshot

Kept = dict[str, np.ndarray]  # {group: the units that are kept [S, k]}
WIDTHS, UNITS = "widths.json", "units.safetensors"


@functools.lru_cache(maxsize=32)
def traced(model: Model, shape: tuple[int, ...]) -> Structure:
    """What of a network can be cut; `shape` is of an example."""
    return trace(model, (2, *shape))


def decide(stage: Shrink, model: Model, data: Dataset, network: Snapshot, seed: int) -> Kept:
    """The units that are kept of each group: as many in all S networks, in each those that score
    highest there.

    Raises:
      UsageError: it begins with a field's name.
    """
    keys = jax.random.split(jax.random.key(seed), len(jax.tree.leaves(network.params)[0]))
    score, batches = _scorer(stage, model, data), _batches(stage, data, stage.batches)
    found = jax.vmap(lambda variables, key: score(variables, key, batches))(network.variables, keys)
    return _chosen(_How.of(stage), traced(model, data.spec.shape), jax.device_get(found))


def check(stage: Shrink, model: Model, data: Dataset) -> None:
    """Raises UsageError, which begins with a field's name, where the criterion can't score this
    network by these data, or too little can be cut of it."""
    key, batches = jax.random.key(0), _batches(stage, data, 1)
    example = jax.ShapeDtypeStruct((2, *data.spec.shape), jnp.float32)
    variables = jax.eval_shape(model.init, key, example)
    jax.eval_shape(_scorer(stage, model, data), variables, key, batches)
    expected(stage, model, data.spec.shape)


def _scorer(stage: Shrink, model: Model, data: Dataset) -> Callable[..., Any]:
    """(variables, key, batches) -> {group: scores [units]}."""
    structure = traced(model, data.spec.shape)

    def loss(variables: Variables, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = model.forward(variables, batch[0], train=False)[0].logits
        return jnp.mean(cross_entropy(logits, one_hot(batch[1], data.spec.classes)))

    def score(variables: Variables, key: jax.Array, batches: list[Any]) -> Any:
        return scores(structure, variables, stage.criterion, key, batches, loss, model)

    return score


def _batches(stage: Shrink, data: Dataset, count: int) -> list[tuple[jax.Array, jax.Array]]:
    """(inputs, labels) of the first of the stage's examples, as they are evaluated; none for a
    criterion that looks at no data."""
    if CHANNEL_CRITERIA[stage.criterion].needs == "nothing":
        return []
    train = data.train if isinstance(data.train, Split) else data.validation
    require(
        isinstance(train, Split),
        f"criterion {stage.criterion} looks at data, and {data.spec.name} is streamed from disk: "
        "raise --data.memory-mb, or take a criterion of weights such as l2",
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
    scope: str
    multiple_of: int
    keep: tuple[str, ...]

    @staticmethod
    def of(stage: Shrink) -> "_How":
        return _How(*(getattr(stage, field.name) for field in dataclasses.fields(_How)))


def _chosen(how: _How, structure: Structure, found: dict[str, Any]) -> Kept:
    whole = _whole(how, structure)
    rest = {name: values for name, values in found.items() if name not in whole}
    require(
        bool(rest),
        f"keep {' '.join(how.keep)}: nothing of this network is left that could be cut; see "
        "run.py inspect",
    )
    amount = {"amount": how.amount} if how.macs is None else {"macs": how.macs}
    together = how.scope == "global"
    return choose(structure, rest, **amount, together=together, multiple_of=how.multiple_of)


def _whole(how: _How, structure: Structure) -> set[str]:
    """The groups that no unit is cut of. Raises UsageError for a pattern that finds none."""
    names, found = [group.name for group in structure.groups], set()
    require(bool(names), "start: nothing of this network can be cut: see run.py inspect")
    for pattern in how.keep:
        try:
            some = {name for name in names if re.search(pattern, name)}
        except re.error as error:
            raise UsageError(f"keep {pattern!r} is no regular expression ({error})") from error
        listed = ", ".join(names)
        require(bool(some), f"keep {pattern!r} finds no group: change it. They are: {listed}")
        found |= some
    return found


def expected(stage: Shrink, model: Model, shape: tuple[int, ...]) -> Model:
    """The network before it is decided what goes: as if all units were worth the same."""
    return _expected(_How.of(stage), model, shape)


@functools.lru_cache(maxsize=32)
def _expected(how: _How, model: Model, shape: tuple[int, ...]) -> Model:
    structure = traced(model, shape)
    alike = {group.name: np.ones(group.size) for group in structure.groups}
    kept = _chosen(how, structure, alike)
    return narrowed(model, structure, {name: len(units) for name, units in kept.items()})


@dataclasses.dataclass(frozen=True)
class Cut:
    """What was decided, in a stage's folder."""

    folder: Path

    @property
    def known(self) -> bool:
        return (self.folder / WIDTHS).exists()

    def write(self, model: Model, shape: tuple[int, ...], network: Snapshot, kept: Kept) -> None:
        """Keeps it. The widths come last: with them it is known."""
        first = lambda tree: jax.tree.map(lambda x: x[0], tree)  # noqa: E731
        widths = shrink(model, first(network.variables), traced(model, shape), first(kept))[2]
        if hosts.first():
            self.folder.mkdir(parents=True, exist_ok=True)
            units = {name: np.ascontiguousarray(k, np.int32) for name, k in kept.items()}
            save_file(units, self.folder / UNITS)
        write_text(self.folder / WIDTHS, widths.to_json() + "\n")
        hosts.wait(f"{self.folder}: {WIDTHS}")

    def model(self, full: Model) -> Model:
        """The smaller network."""
        return _rebuilt(full, (self.folder / WIDTHS).read_text(encoding="utf-8"))

    def network(
        self, full: Model, shape: tuple[int, ...], network: Snapshot, rows: slice
    ) -> Snapshot:
        """What is left of the networks of these of all seeds."""
        units = load_file(self.folder / UNITS)
        kept = {name: k[rows] for name, k in units.items()}
        indices = traced(full, shape).indices(kept)
        of_each = jax.vmap(cut)
        variables = dict(of_each(network.variables, indices))
        masks = of_each({"params": network.masks}, indices)["params"]
        return Snapshot(variables.pop("params"), variables, masks)


@functools.lru_cache(maxsize=32)
def _rebuilt(full: Model, text: str) -> Model:
    return rebuild(full, Widths.from_json(text))
