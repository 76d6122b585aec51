"""Files that are written whole, or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax import hosts


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file or nothing of it; of several hosts, the first one does."""
    if not hosts.first():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)


def write_json(path: Path, data: Any) -> None:
    """Writes JSON; numpy's numbers and arrays become Python's."""
    plain = lambda x: x.tolist() if isinstance(x, (np.ndarray, np.generic, jax.Array)) else str(x)  # noqa: E731
    write_text(path, json.dumps(data, indent=1, default=plain) + "\n")
