"""One stage in several settings: `distill.temperature=1,2,4,8` makes four stages of one."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

from kd_jax import flags, values
from kd_jax.config import Distill, Experiment, Stage
from kd_jax.errors import UsageError, did_you_mean, require

Places = tuple[int, ...]  # in the values of each axis; -1 of those that have no say
MOST = 1000  # stages: more is a mistake, and would take memory before it is seen


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of a stage's settings.

    Attributes:
      base: the stage's own name.
      siblings: the names of all its variants, itself among them.
      words: its values, as a reader is told them: "temperature 8".
      joint: whether it trains with its siblings come what may, as peers do.
      usual: whether it has the values that the stage has as it is written; or is the first, where
        none has.
    """

    base: str
    siblings: tuple[str, ...]
    words: str
    usual: bool
    joint: bool = False


@dataclasses.dataclass(frozen=True)
class _Axis:
    """A field, and the values it is to take."""

    path: tuple[str, ...]  # distill, terms, kd, temperature
    values: tuple[Any, ...]
    usual: Any

    @property
    def stage(self) -> str:
        return self.path[0]


def expand(experiment: Experiment) -> tuple[Experiment, dict[str, Variant]]:
    """(the experiment with a stage for each setting of the stages that are swept, or that start
    from or learn from one that is; {name: variant} of these).

    Raises UsageError for a field that isn't there, or a value that it can't take.
    """
    axes = [_axis(experiment, word) for word in experiment.sweep] + _peers(experiment)
    if not axes:
        return experiment, {}
    touching = {base: _touching(experiment, axes, base) for base in experiment.stages}
    total = sum(math.prod(len(axes[i].values) for i in of) for of in touching.values())
    require(total <= MOST, f"--sweep makes {total} stages: at most {MOST} are allowed")
    stages: dict[str, Stage] = {}
    variants: dict[str, Variant] = {}
    for base, of in touching.items():
        named = {}
        for places in _product(axes, of):
            name = _name(experiment, axes, base, places)
            changed = _with(experiment, axes, places)
            named[name] = places
            stages[name] = _renamed(experiment, axes, changed.stages[base], places)
        if of:
            variants |= _variants(experiment, axes, base, named)
    all_of = lambda bases: tuple(n for b in bases for n in stages if n.partition("/")[0] == b)  # noqa: E731
    named = {"only": all_of(experiment.only), "compare": all_of(experiment.compare)}
    # Of several the one with the usual settings is delivered, or the first.
    files = sorted(
        all_of((experiment.deliver,)), key=lambda n: not (n in variants and variants[n].usual)
    )
    deliver = next(iter(files), "")
    return dataclasses.replace(
        experiment, stages=stages, sweep=(), deliver=deliver, **named
    ), variants


PEER = "peer"  # no field, but an axis: who of several that learn together


def _peers(experiment: Experiment) -> list[_Axis]:
    """An axis for each stage whose students teach one another."""
    return [
        _Axis((name, PEER), tuple(range(1, 1 + stage.alike)), 1)
        for name, stage in experiment.stages.items()
        if isinstance(stage, Distill) and stage.alike
    ]


def _product(axes: list[_Axis], touching: list[int]) -> list[Places]:
    """The places in the values of those axes on which a stage depends, in all combinations."""
    every = (range(len(axis.values)) if i in touching else [-1] for i, axis in enumerate(axes))
    return list(itertools.product(*every))


def _axis(experiment: Experiment, word: str) -> _Axis:
    """What one word of --sweep says."""
    name, equals, listed = word.partition("=")
    require(
        bool(equals and listed),
        f"--sweep {word!r} is not of the form STAGE.FIELD=VALUE,VALUE,...: "
        "such as distill.temperature=1,2,4,8",
    )
    kinds = {
        path: kind
        for path, kind in flags.known(experiment).items()
        if path.split(".")[0] in experiment.stages and not isinstance(kind, Mapping)
    }
    path = _resolved(name.replace("-", "_"), kinds, word)
    flag = f"--sweep {name}"
    read = tuple(values.read(kinds[path], [value], flag) for value in listed.split(","))
    require(len(set(read)) == len(read), f"--sweep {word}: a value is given twice")
    node: Any = experiment.stages
    for part in path.split("."):
        node = node[part] if isinstance(node, Mapping) else getattr(node, part)
    return _Axis(tuple(path.split(".")), read, node)


def _resolved(name: str, kinds: dict[str, Any], word: str) -> str:
    """The one field whose path has the parts of a name, in this order, the last one last."""
    if name in kinds:
        return name
    parts = name.split(".")

    def fits(path: str) -> bool:
        steps = path.split(".")
        rest = iter(steps[:-1])
        return steps[-1] == parts[-1] and all(part in rest for part in parts[:-1])

    found = [path for path in kinds if fits(path)]
    if len(found) > 1:
        listed = ", ".join(found).replace("_", "-")
        raise UsageError(f"--sweep {word}: {name.replace('_', '-')} may be any of {listed}")
    if not found:
        hint = did_you_mean(name, kinds).replace("_", "-")
        raise UsageError(f"--sweep {word}: no stage has such a field.{hint[:200]}")
    return found[0]


def _with(experiment: Experiment, axes: list[_Axis], places: Places) -> Experiment:
    """The experiment with one combination of values, checked."""
    changed = copy.copy(experiment)
    object.__setattr__(changed, "sweep", ())
    for axis, place in zip(axes, places, strict=True):
        if axis.path[-1] == PEER or place < 0:
            continue
        value = axis.values[place]
        changed = flags.updated(changed, list(axis.path), lambda _, value=value: value)
    try:
        flags.check(changed)
    except UsageError as error:
        raise UsageError(f"--sweep {' '.join(experiment.sweep)}: {error}") from None
    return changed


def _touching(experiment: Experiment, axes: list[_Axis], base: str) -> list[int]:
    """The axes on which a stage's network depends."""
    before = {base}
    while True:
        more = {other for name in before for other in experiment.needs(name)} - before
        if not more:
            return [i for i, axis in enumerate(axes) if axis.stage in before]
        before |= more


def _name(experiment: Experiment, axes: list[_Axis], base: str, places: Places) -> str:
    """`distill/temperature=8` of a stage that depends on an axis, its own name of another."""
    touching = _touching(experiment, axes, base)
    named = [f"{_short(axes, touching, i)}={_text(axes[i].values[places[i]])}" for i in touching]
    return f"{base}/{','.join(named)}" if named else base


def _short(axes: list[_Axis], touching: list[int], i: int) -> str:
    """The last part of a field's path; the whole of it where that is another's too, of the axes on
    which the same stage depends."""
    last = [axes[j].path[-1] for j in touching]
    return axes[i].path[-1] if last.count(axes[i].path[-1]) == 1 else ".".join(axes[i].path)


def _text(value: Any) -> str:
    # Without the + of 1e+06, which would join the names of several teachers.
    return f"{value:g}".replace("e+", "e") if isinstance(value, float) else str(value)


def _renamed(experiment: Experiment, axes: list[_Axis], stage: Stage, places: Places) -> Stage:
    """The stage with the variants' names of what it starts from and learns from."""
    named = lambda name: _name(experiment, axes, name, places)  # noqa: E731
    return dataclasses.replace(stage, **stage.renaming(named))


def _variants(
    experiment: Experiment, axes: list[_Axis], base: str, named: dict[str, Places]
) -> dict[str, Variant]:
    touching = _touching(experiment, axes, base)
    words, usual = {}, {}
    for name, places in named.items():
        pairs = [(_short(axes, touching, i), axes[i].values[places[i]]) for i in touching]
        words[name] = ", ".join(
            f"{short.replace('_', ' ')} {_text(value)}" for short, value in pairs
        )
        usual[name] = all(axes[i].values[places[i]] == axes[i].usual for i in touching)
    if not any(usual.values()):
        usual[next(iter(named))] = True
    siblings, joint = tuple(named), any(axes[i].path == (base, PEER) for i in touching)
    require(
        not joint or len(touching) == 1,
        f"--sweep {' '.join(experiment.sweep)}: the students of {base} teach one another, and "
        "can't be swept too: sweep what comes after it",
    )
    return {name: Variant(base, siblings, words[name], usual[name], joint) for name in named}
