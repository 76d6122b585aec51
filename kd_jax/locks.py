"""One process at a time in a run's folder."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kd_jax import hosts
from kd_jax.errors import UsageError
from kd_jax.jsons import parsed

FILE = "lock"


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Within it no other process may hold the folder. The operating system forgets a lock with the
    process that held it, however that ended: none is ever stale. Several hosts of one run are one
    process here, the first of them. Gives whether that is sure: some file systems have no locks.

    Raises:
      UsageError: somebody else holds it; says who, and since when.
    """
    holder, other = _open(folder) if hosts.first() else (None, "")
    if not hosts.agreed(not other):
        raise UsageError(
            f"{folder} is in use by {other or 'another process'}: wait for it or stop it, or give "
            "--out another folder"
        )
    try:
        yield hosts.agreed(holder is not None)
    finally:
        if holder is not None:
            os.close(holder)  # the file stays: to take it away would let two hold two of them


def _open(folder: Path) -> tuple[int | None, str]:
    """(an open file that is locked, who else holds the lock)."""
    path = folder / FILE
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None, _holder(path)
    except OSError:  # a file system without locks, as some of clusters: nothing to go by
        os.close(handle)
        return None, ""
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    told = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
    os.ftruncate(handle, 0)
    os.write(handle, json.dumps(told).encode())
    return handle, ""


def _holder(path: Path) -> str:
    """Who says to hold a lock, in words."""
    try:
        told = parsed(path.read_bytes())
        return f"process {told['process']} on {told['host']} since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written
        return "another process"
