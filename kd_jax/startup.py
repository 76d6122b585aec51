"""What a process does before its first program: it keeps compiled programs between runs, counts
how long compiling takes, and silences libraries."""

import functools
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jax

from kd_jax.cache import cache_dir

# Of a thread that outlives what it was to write, and of damaged files: of both our error tells.
ORBAX = ("Event loop is closed", "Encountered error while reading array index")
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


@functools.cache  # once
def keep_quiet() -> None:
    """What libraries say of a disk that fails, in hundreds of lines, our error says in one."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    # A program that can't be kept, or is damaged, is compiled anew, that is all.
    warnings.filterwarnings("ignore", "Error (writing|reading) persistent compilation", UserWarning)
    shown = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not str(unraisable.exc_value).startswith(ORBAX):
            shown(unraisable)

    sys.unraisablehook = hook


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
