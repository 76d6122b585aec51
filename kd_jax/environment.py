"""What a run runs on: versions, device and processor."""

import os
import platform
from importlib import metadata
from pathlib import Path

import jax

from kd_jax.results import Environment


def environment() -> Environment:
    """Of this process."""
    device = jax.devices()[0]
    packages = {name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax")}
    return Environment(
        python=platform.python_version(),
        **packages,
        orbax=metadata.version("orbax-checkpoint"),
        platform=device.platform,
        device=device.device_kind,
        cpu=_processor(),
        cores=os.cpu_count() or 1,
        threads=_usable(),
    )


def _usable() -> int:
    """XLA's CPU backend starts a thread for each of these."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """The model's name as Linux tells it; elsewhere whatever Python knows."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
