"""What a process does before its first program: it keeps compiled programs between runs, and
counts how long compiling takes."""

import os
import time
from pathlib import Path
from typing import Any

import jax

from kd_jax.cache import cache_dir

_compiling = [0.0]  # seconds so far
_imported = time.monotonic()


@jax.monitoring.register_event_duration_secs_listener
def _count(event: str, duration_secs: float, **_: object) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        _compiling[0] += duration_secs


def compile_seconds() -> float:
    """How long XLA has compiled in this process, or read what it had compiled before."""
    return _compiling[0]


def since_start() -> float:
    """Seconds since the process began, Python's own start and the imports included; where the
    system doesn't tell, since this module was imported."""
    try:
        began = int(Path("/proc/self/stat").read_text("ascii").rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text("ascii").split()[0])
        return uptime - began / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.monotonic() - _imported


def keep_programs() -> None:
    """Keeps compiled programs in the user's cache folder, which may be deleted any time; unless JAX
    has been told of another place, as by JAX_COMPILATION_CACHE_DIR."""
    config: Any = jax.config  # older versions don't declare all of their options
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    folder = cache_dir() / "programs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return  # then each run compiles anew, that is all
    config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
