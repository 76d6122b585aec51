"""Files that are changed in place, or copied, where they lie: regular ones alone. A folder may be a
stranger's, and what a link in it leads to is not the stranger's to choose."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kd_jax.errors import UsageError, require


def opened(path: Path, flags: int) -> int:
    """An open file, made where there is none.

    Raises:
      UsageError: it is a link, or no regular file.
    """
    try:
        # Not to wait: a pipe would, for who reads of it.
        flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(path, flags, 0o666)
    except OSError:
        require(_regular(path) or not os.path.lexists(path), _said(path))
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UsageError(_said(path))
    return handle


def append(path: Path, data: bytes) -> None:
    """Writes at the end of a file. Raises UsageError as `opened`."""
    with os.fdopen(opened(path, os.O_WRONLY | os.O_APPEND), "ab") as file:
        file.write(data)


def check(path: Path, within: Path) -> None:
    """Raises UsageError where a path in a folder is a link or neither a regular file nor a folder;
    or anything on the way to it, or below it."""
    for one in _all(path, within):
        require(_regular(one) or (one.is_dir() and not one.is_symlink()), _said(one))


def _all(path: Path, within: Path) -> Iterator[Path]:
    yield path
    yield from path.parents[: len(path.relative_to(within).parts) - 1]
    for folder, folders, files in os.walk(path):  # which enters no link
        yield from (Path(folder) / name for name in (*folders, *files))


def _regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _said(path: Path) -> str:
    return f"{path}: a link, or no regular file: put what is meant in its place, or delete it"
