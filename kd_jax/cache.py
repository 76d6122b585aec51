"""Decoded images kept between runs: a folder of plain .npy files that may be deleted any time."""

import hashlib
import json
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kd_jax.arrays import crc
from kd_jax.halves import clear
from kd_jax.jsons import parsed


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/kd_jax`, or `~/.cache/kd_jax`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kd_jax"


def key(*parts: object, content: object) -> str:
    """A file name a person can read that differs whenever the parts or the content do."""
    readable = re.sub(r"[^\w.-]+", "_", "-".join(str(part) for part in parts))
    return f"{readable[:80]}-{hashlib.sha256(repr((parts, content)).encode()).hexdigest()[:16]}"


def load(name: str, fields: Iterable[str]) -> dict[str, np.ndarray] | None:
    """The arrays saved under a name, memory-mapped; None unless all of them are there whole."""
    arrays = {}
    try:
        checksums = parsed(_path(name, "checksums.json").read_text(encoding="utf-8"))
        for field in fields:
            path = _path(name, f"{field}.npy")
            with np.errstate(over="ignore"):  # of a shape that is too large for any file
                arrays[field] = np.load(path, mmap_mode="r", allow_pickle=False)
            if _checksum(arrays[field]) != checksums[field]:
                return None
    except Exception:  # of a damaged header NumPy raises what its parser does, of any kind
        return None  # missing or damaged: it will be made again
    return arrays


def save(name: str, arrays: dict[str, np.ndarray]) -> None:
    """Saves arrays under a name. A folder that can't be written is no error: the data set takes
    longer to read the next time, that is all."""
    checksums = json.dumps({field: _checksum(x) for field, x in arrays.items()})
    try:
        cache_dir().mkdir(parents=True, exist_ok=True)
        for field, x in arrays.items():
            _replace(_path(name, f"{field}.npy"), lambda f, x=x: np.save(f, x, allow_pickle=False))
        _replace(_path(name, "checksums.json"), lambda f: f.write(checksums.encode()))
        clear(cache_dir(), "*.tmp")
    except OSError:
        return


def _path(name: str, ending: str) -> Path:
    return cache_dir() / f"{name}.{ending}"


def _checksum(x: np.ndarray) -> int:
    """Of the numbers and of what they are: a header can be damaged too."""
    return crc(x, zlib.crc32(repr((x.dtype.descr, x.shape)).encode()))


def _replace(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file beside `path` and renames it: a reader sees the old one or the new one."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
