"""JSON from files that somebody else may have written, or a disk has damaged."""

import json
from pathlib import Path
from typing import Any


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
