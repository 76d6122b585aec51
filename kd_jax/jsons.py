"""JSON from files that somebody else may have written, or a disk has damaged."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SUM = "checksum"  # of all that an object says beside it


def parsed(text: str | bytes) -> Any:
    """What a text says. Raises ValueError where it is no JSON, or nested without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def mapping(path: Path) -> dict[str, Any]:
    """What a file says. Raises ValueError where it is not {"name": value, ...}."""
    found = parsed(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("it holds no object")
    return found


def number(path: Path, most: float) -> float | None:
    """The number from 0 to `most` that a file holds; None where it holds anything else, or is not
    there."""
    try:
        found = parsed(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return float(found) if within(found, most) else None


def within(value: Any, most: float) -> bool:
    """Whether it is a number from 0 to `most`; NaN and True are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def plain(x: Any) -> Any:
    """What JSON has no form for: arrays and their numbers become Python's, all else its text."""
    return x.tolist() if hasattr(x, "tolist") else str(x)


def summed(data: Mapping[str, Any]) -> dict[str, Any]:
    """It as plain data, with a checksum of what it says in a last field, SUM."""
    found = json.loads(json.dumps(data, default=plain))
    return {**found, SUM: _sum(found)}


def unsummed(found: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """(it without SUM, whether that is of what it says); of what has none, True: so did earlier
    versions write."""
    rest = {name: value for name, value in found.items() if name != SUM}
    return rest, SUM not in found or found[SUM] == _sum(rest)


def _sum(data: Mapping[str, Any]) -> str:
    """Of what it says, not of how it is set: a file may be indented otherwise."""
    try:
        text = json.dumps(data, sort_keys=True)
    except RecursionError:  # nobody writes that
        return ""
    return f"{zlib.crc32(text.encode()):08x}"
