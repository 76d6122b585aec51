"""Files that are written whole, or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kd_jax import hosts, jsons
from kd_jax.halves import HALF, beside


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file or nothing of it; of several hosts, the first one does."""
    if not hosts.first():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        partial.write_bytes(data)


@contextmanager
def whole(path: Path, first: bool = False) -> Iterator[Path]:
    """A path beside `path` to write a file to, which is then put there; see `beside`.

    Args:
      first: what somebody has put there meanwhile stays.
    """
    own = beside(path)
    try:
        yield own
        if not first or not _linked(own, path):
            os.replace(own, path)
    except OSError as error:
        if str(error.filename) == str(own):  # which says nothing to a reader
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # where it failed, what is there of it goes
            own.unlink(missing_ok=True)


def _linked(own: Path, path: Path) -> bool:
    """Puts a file at a path, unless there is one; whether there is one now."""
    try:
        os.link(own, path)
    except OSError:  # there was one; or it is a file system without links
        return path.exists()
    return True


def tidy(folder: Path) -> None:
    """Takes away what processes that were killed amid writing have left, at any depth. Only for who
    has the folder to itself."""
    for path in [*folder.rglob(HALF)] if hosts.first() else []:
        path.unlink(missing_ok=True)


def write_json(path: Path, data: Any) -> None:
    """Writes JSON; numpy's numbers and arrays become Python's."""
    write_text(path, json.dumps(data, indent=1, default=jsons.plain) + "\n")
