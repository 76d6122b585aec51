"""One process at a time in a run's folder."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kd_jax import hosts, regular, versions
from kd_jax.errors import UsageError
from kd_jax.jsons import mapping, parsed

FILE = "lock"


@contextmanager
def held(folder: Path, out: bool = True) -> Iterator[bool]:
    """Within it no other process may hold the folder. The operating system forgets a lock with the
    process that held it, however that ended: none is ever stale. Several hosts of one run are one
    process here, the first of them. Gives whether that is sure: some file systems have no locks.

    Args:
      out: whether the command could write elsewhere, by its flag --out.

    Raises:
      UsageError: somebody else holds it; says who, and since when. Or its file is a link.
    """
    holder, other = _open(folder) if hosts.first() else (None, "")
    if not hosts.agreed(not other):
        raise UsageError(
            f"{folder} is in use by {other or 'another process'}: wait for it or stop it"
            + ", or give --out another folder" * out
        )
    try:
        yield hosts.agreed(holder is not None)
    finally:
        if holder is not None:
            os.close(holder)  # the file stays: to take it away would let two hold two of them


def unsure(folder: Path) -> str:
    """What is to be said where `held` is not sure."""
    return (
        f"warning: {folder}: the file system has no locks: nothing keeps another process from "
        "writing there; start none with this folder while this one runs"
    )


@contextmanager
def around(path: Path, out: bool = True) -> Iterator[None]:
    """As `held`, of the run's folder that `path` is or lies in, to write there; where it lies in
    none, nothing is held."""
    folder = _run_around(path)
    if not hosts.agreed(folder is not None):
        yield
        return
    versions.read(folder or path)  # a folder that isn't for this version gets no lock
    with held(folder or path, out):
        yield


def _run_around(path: Path) -> Path | None:
    # First as it was named, for who reads of it; then whatever of it the name leaves out.
    for folder in (path, *path.parents, *path.resolve().parents):
        try:
            # Not the file's name alone: exported networks have one of that name beside them.
            if mapping(folder / "config.json").get("class") == "Experiment":
                return folder
        except (OSError, ValueError):
            continue
    return None


def _open(folder: Path) -> tuple[int | None, str]:
    """(an open file that is locked, who else holds the lock)."""
    path = folder / FILE
    handle = regular.opened(path, os.O_RDWR)
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
