"""Which devices a run uses, and what its backend is good at."""

import os

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kd_jax import hosts
from kd_jax.errors import require
from kd_jax.forward import Model
from kd_jax.platform import elsewhere


def batch_sharding(count: int, batch: int) -> NamedSharding | None:
    """Splits the first axis of a batch over `count` devices (0: all). None for one device."""
    devices = jax.devices()
    require(
        count <= len(devices),
        f"--devices {count}: there {'is' if len(devices) == 1 else 'are'} only {len(devices)} "
        f"({devices[0].platform}); use fewer, or 0 for all",
    )
    count = count or len(devices)
    require(
        not hosts.several() or count == len(devices),
        f"--devices {count}: several hosts use all {len(devices)} of theirs; leave it out",
    )
    if count == 1:
        return None
    require(
        batch % count == 0,
        f"batch {batch} does not divide over {count} devices: use a multiple of {count}, or "
        "--devices 1",
    )
    return NamedSharding(Mesh(np.array(devices[:count]), ("data",)), PartitionSpec("data"))


def replicated(sharding: NamedSharding | None) -> jax.sharding.Sharding:
    """Where the state lives: whole on every device that a batch is split over."""
    if sharding is None:
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return NamedSharding(sharding.mesh, PartitionSpec())


def memory() -> int | None:
    """Bytes of memory that the first device has: its own, or the machine's. None: unknown, as for
    devices that are elsewhere."""
    if elsewhere():
        return None
    own = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if own is not None or not hasattr(os, "sysconf"):  # Windows has none
        return own
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def loops_well(model: Model, inputs: jax.ShapeDtypeStruct) -> bool:
    """Whether many steps should be one loop on the device.

    Everywhere, except for convolutions on a CPU: inside a loop XLA:CPU runs the gradient of a
    convolution's weights 20 to 40 times slower than outside (jax 0.10.2 and 0.12), so such
    networks are dispatched step by step.
    """
    if jax.default_backend() != "cpu":
        return True
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    jaxpr = jax.make_jaxpr(lambda v, x: model.forward(v, x)[0].logits)(variables, inputs)
    return "conv_general_dilated" not in str(jaxpr)
