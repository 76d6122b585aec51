"""Data read back as what the annotations of a dataclass say."""

import dataclasses
import operator
import types
import typing
from collections.abc import Sequence
from typing import Any

from kd_jax.errors import UsageError, did_you_mean, require, shortened


class Typed:
    """Takes lists, numpy's numbers and nested dicts, and keeps tuples, Python's and dataclasses."""

    def __post_init__(self) -> None:
        for name, kind in typing.get_type_hints(type(self)).items():
            value = typed(kind, getattr(self, name), f"{type(self).__name__}.{name}")
            object.__setattr__(self, name, value)


def typed(kind: Any, value: Any, where: str) -> Any:
    """`value` as what an annotation says. Raises UsageError if it can't be."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    try:
        if origin is Sequence:
            return tuple(typed(arguments[0], x, f"{where}[{i}]") for i, x in enumerate(value))
        if origin is dict:
            return {str(k): typed(arguments[1], x, f"{where}.{k}") for k, x in value.items()}
        if origin in (types.UnionType, typing.Union):
            return None if value is None else typed(arguments[0], value, where)
        if dataclasses.is_dataclass(kind) and not isinstance(value, kind):  # type: ignore[arg-type]
            return _record(kind, value, where)
        return {float: float, int: operator.index, str: str}.get(kind, lambda x: x)(value)
    except UsageError:
        raise
    except (TypeError, ValueError, AttributeError) as e:
        reason = shortened(str(e))
        raise UsageError(f"{where} can't be {shortened(repr(value))}: {reason}") from e


def _record(kind: Any, value: dict[str, Any], where: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for name in value:
        require(
            name in fields,
            f"{where}: no field {shortened(repr(name))}.{did_you_mean(name, fields)}",
        )
    needed = (n for n, f in fields.items() if f.default is f.default_factory)  # both are MISSING
    for name in needed:
        require(name in value, f"{where}: field {name!r} is missing: run it again")
    return kind(**{name: typed(hints[name], x, f"{where}.{name}") for name, x in value.items()})
