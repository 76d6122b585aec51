"""Which kind of device the program that is being traced is for: it need not be this machine's."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any

import jax

_GIVEN: contextvars.ContextVar[str] = contextvars.ContextVar("platform", default="")


def platform() -> str:
    """cpu, gpu or tpu: that of the backend, unless `tracing_for` says otherwise."""
    return _GIVEN.get() or jax.default_backend()


def elsewhere() -> bool:
    """Whether what is traced is for devices that need not be here."""
    return bool(_GIVEN.get())


def once() -> dict[str, Any] | None:
    """Compiler options for what runs once: on a CPU without optimising. LLVM takes 16 s (jax 0.12)
    to optimise the initial values of ResNet-20, 43 s for ResNet-56; so it is half a second, and
    2."""
    return {"xla_backend_optimization_level": 0} if platform() == "cpu" else None


@contextlib.contextmanager
def tracing_for(kind: str) -> Iterator[None]:
    """Programs traced inside are for devices of this kind."""
    token = _GIVEN.set(kind)
    try:
        yield
    finally:
        _GIVEN.reset(token)
