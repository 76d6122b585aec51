"""Files that are not whole: their names beside those that they become, and the end of those that
nobody writes any more."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

HALF = f"*.[0-9]*-{8 * '[0-9a-f]'}.partial"  # their names
DAY = 86_400.0  # seconds


def beside(path: Path) -> Path:
    """A path beside `path` to write a file to that is then put there. It is nobody else's: others
    may be writing the same file, and one that another process puts in place is gone."""
    # Not by the process alone: those of two machines may have the same number.
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")


def clear(folder: Path, names: str = HALF) -> None:
    """Takes away what killed processes have left half written in a folder that many share, where
    anybody may be writing: what nobody has written to for a day when something was put there last,
    by the clock of who keeps the files."""
    with suppress(OSError):
        latest = folder.stat().st_mtime
        for path in folder.glob(names):
            with suppress(OSError):  # somebody else takes it away, or put it in place
                if latest - path.lstat().st_mtime > DAY:
                    path.unlink()
