"""Which kind of device the program that is being traced is for: it need not be this machine's.

Contexts of JAX's own: what jit has traced in another one is traced anew.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax

_GIVEN: Any = jax.make_user_context(default_value="")
_READ: Any = jax.make_user_context(default_value=False)


def platform() -> str:
    """cpu, gpu or tpu: that of the backend, unless `tracing_for` says otherwise."""
    return _GIVEN.value or jax.default_backend()


def elsewhere() -> bool:
    """Whether what is traced is for devices that need not be here."""
    return bool(_GIVEN.value)


def once() -> dict[str, Any] | None:
    """Compiler options for what runs once: on a CPU without optimising. LLVM takes 16 s (jax 0.12)
    to optimise the initial values of ResNet-20, 43 s for ResNet-56; so it is half a second, and
    2."""
    return {"xla_backend_optimization_level": 0} if platform() == "cpu" else None


def tracing_for(kind: str) -> AbstractContextManager[None]:
    """Programs traced inside are for devices of this kind."""
    return _GIVEN(kind)


def is_read() -> bool:
    """Whether what is traced is read by rules, equation by equation, and not run."""
    return _READ.value


def equations(function: Callable, *example: Any, return_shape: bool = False) -> Any:
    """`jax.make_jaxpr(function)(*example)`, of a program that rules read: each of its convolutions
    is one equation, whatever suits the device that it runs on."""
    with _READ(True):
        return jax.make_jaxpr(function, return_shape=return_shape)(*example)
