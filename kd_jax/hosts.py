"""Several hosts that train one model: each runs the same command, and they find one another."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from kd_jax.errors import UsageError

FLAG = "--hosts"
FORM = "auto, or ADDRESS:PORT,COUNT,INDEX such as 10.0.0.1:1234,2,0"


def join(arguments: list[str]) -> list[str]:
    """Joins the other hosts if the arguments say so; the arguments without that flag.

    `--hosts auto` asks the cluster: TPU slices, SLURM and Open MPI tell each process its place.
    Otherwise it is the address of the first host, how many there are, and which one this is.

    Raises:
      UsageError: the value is of another form, or the others can't be reached.
    """
    words = [word for word in arguments if word == FLAG or word.startswith(f"{FLAG}=")]
    if not words:
        return arguments
    place = arguments.index(words[0])
    value = words[0].partition("=")[2] or (arguments[place + 1 : place + 2] or [""])[0]
    rest = arguments[:place] + arguments[place + (1 if "=" in words[0] else 2) :]
    given: dict[str, Any] = {}
    if value != "auto":
        found = re.fullmatch(r"(.+:\d{1,5}),(\d{1,9}),(\d{1,9})", value)
        if not found or int(found[3]) >= int(found[2]):
            raise UsageError(f"{FLAG} {value or '(nothing)'}: must be {FORM}")
        names = ("coordinator_address", "num_processes", "process_id")
        given = dict(zip(names, (found[1], int(found[2]), int(found[3])), strict=True))
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # CPUs would run programs that don't wait for one another at once, and each host its own first.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(**given)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{FLAG} {value}: can't join the others ({reason})") from error
    return rest


def several() -> bool:
    """Whether there is more than this host."""
    # Not jax.process_count() alone: it would start the devices, for a mere list of experiments.
    return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
    """Whether this host is the one that writes and speaks for all."""
    return not several() or jax.process_index() == 0


def wait(what: str) -> None:
    """Until all hosts have come here: what the first one wrote is there for the others then."""
    if several():
        multihost_utils.sync_global_devices(what)


def agreed(seen: bool) -> bool:
    """What the first host sees, for all: of a file that it may be about to write, the others must
    not go by what they see a moment later."""
    return bool(told([seen])[0, 0])


def told(own: Sequence[int]) -> np.ndarray:
    """int64 [hosts, N]: what each host says, for all of them."""
    here = np.asarray(own, np.int64)
    return np.atleast_2d(multihost_utils.process_allgather(here)) if several() else here[None]


def place(arrays: Any, sharding: jax.sharding.Sharding) -> Any:
    """Arrays that all hosts have, put where a sharding says, on devices of other hosts too."""
    if not several():
        return jax.device_put(arrays, sharding)

    # Not device_put: it would send each array around to see that all hosts have the same.
    def leaf(x: Any) -> jax.Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(leaf, arrays)
