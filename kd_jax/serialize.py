"""Experiments to JSON and back, their hash, and how one differs from another."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import Any, get_type_hints

from kd_jax import values
from kd_jax.augment import Augment
from kd_jax.config import STAGES, Debug, Experiment
from kd_jax.datasets import Data
from kd_jax.distill import TERMS
from kd_jax.errors import UsageError, did_you_mean, shortened
from kd_jax.models import CONFIGS
from kd_jax.optim import Optim
from kd_jax.prune import CRITERIA, PENALTIES, SCHEDULES, STRUCTURES
from kd_jax.quantize import CALIBRATIONS

VARIANTS = tuple(
    variant
    for table in (TERMS, CRITERIA, STRUCTURES, SCHEDULES, PENALTIES, CALIBRATIONS)
    for variant in table.values()
)
CLASSES: dict[str, type] = {
    **CONFIGS,
    **{type(variant).__name__: type(variant) for variant in VARIANTS},
    **{cls.__name__: cls for cls in (Experiment, Debug, Data, Augment, Optim, *STAGES)},
}

_SOURCES: dict[type, str] = {}  # of classes that are not the package's: a hash of where they stand


def know(cls: type, source: str) -> None:
    """Makes a class known that is not the package's; `source` stands for its program text in the
    name of what it computes."""
    if CLASSES.get(cls.__name__) is not cls:
        CLASSES[cls.__name__] = cls
        _SOURCES[cls] = source


def added(cls: type) -> bool:
    """Whether a class was made known by `know`."""
    return cls in _SOURCES


def sources(value: Any) -> dict[str, str]:
    """{class: what stands for its program text} of those in an experiment that are not the
    package's."""
    own = {type(value).__name__: _SOURCES[type(value)]} if added(type(value)) else {}
    children: Iterable[Any] = ()
    if dataclasses.is_dataclass(value):
        children = (getattr(value, field.name) for field in dataclasses.fields(value))
    elif isinstance(value, (dict, tuple)):
        children = value.values() if isinstance(value, dict) else value
    for child in children:
        own |= sources(child)
    return own


def to_data(value: Any) -> Any:
    """Nested dataclasses as nested dicts that JSON can hold; each names its class."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_data(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, dict):
        return {name: to_data(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_data(item) for item in value]
    return value


def from_data(data: Any, where: str = "config") -> Any:
    """The inverse of to_data. Raises UsageError on a class, field or type that doesn't fit."""
    if isinstance(data, list):
        return tuple(from_data(item, where) for item in data)
    if not isinstance(data, dict):
        return data
    if "class" not in data:
        return {name: from_data(item, f"{where}.{name}") for name, item in data.items()}
    cls = CLASSES.get(str(data["class"]))
    if cls is None:
        hint = did_you_mean(str(data["class"]), CLASSES)
        own = " If it is of a file of your own, add --use FILE.py."
        hint = hint if "Did you mean" in hint else own
        raise UsageError(f"{where}: unknown class {shortened(repr(data['class']))}.{hint}")
    known = {f.name for f in dataclasses.fields(cls)}
    fields = {name: item for name, item in data.items() if name != "class"}
    for name in fields:
        if name not in known:
            raise UsageError(
                f"{where}: no field {shortened(repr(name))}.{did_you_mean(name, known)}"
            )
    kinds = get_type_hints(cls)
    read = {name: from_data(item, f"{where}.{name}") for name, item in fields.items()}
    for name, value in read.items():
        if not values.fits(kinds[name], value):
            kind = values.describe(kinds[name])
            raise UsageError(f"{where}.{name}: {shortened(repr(value))} is not {kind}")
    try:
        return cls(**read)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """{dotted flag name: value} of an experiment; its stages stand at the top, as in the flags."""
    flat: dict[str, Any] = {}
    data = to_data(value) if not isinstance(value, dict) else value
    for name, item in data.items():
        if name == "class" and not prefix:
            continue
        path = prefix if name == "stages" and not prefix else f"{prefix}{name}"
        if isinstance(item, dict):
            flat |= flatten(item, f"{path}." if path else "")
        else:
            flat[path] = item
    return flat


def difference(preset: Any, chosen: Any) -> list[tuple[str, Any, Any]]:
    """(flag, preset's value, chosen value) of every field that differs; None where absent. Of two
    experiments, or of `what` they compute."""
    before, after = flatten(preset), flatten(chosen)
    names = [*before, *(name for name in after if name not in before)]
    pairs = [(name, before.get(name), after.get(name)) for name in names]
    return [pair for pair in pairs if pair[1] != pair[2]]


def describe(preset: Any, chosen: Any) -> list[str]:
    """`difference` in words, a line a flag."""
    show: Any = lambda value: "-" if value is None else value  # noqa: E731
    pairs = difference(preset, chosen)
    return [f"{flag}: {show(before)} -> {show(after)}" for flag, before, after in pairs]


def what(value: Any) -> Any:
    """What an experiment computes, as nested dicts: without the fields that say only where, when or
    how it runs."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f for f in dataclasses.fields(value) if not f.metadata.get("where")]
        named = {f.name: what(getattr(value, f.name)) for f in fields}
        source = {"source": _SOURCES[type(value)]} if added(type(value)) else {}
        return {"class": type(value).__name__, **source, **named}
    if isinstance(value, dict):
        return {name: what(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [what(item) for item in value]
    # 1.0 and 1 are equal, so they are written alike.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def fingerprint(experiment: Experiment) -> str:
    """Eight hexadecimal digits that name what an experiment computes."""
    text = json.dumps(what(experiment), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
