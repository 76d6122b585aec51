"""Which devices a run uses, and what its backend is good at."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kd_jax import hosts
from kd_jax.arrays import machine_memory
from kd_jax.errors import require
from kd_jax.forward import Model
from kd_jax.platform import elsewhere, equations

Layout = int | tuple[int, int]
"""How many devices (0: all); or these, and over how many of them the parameters are split."""


def batch_sharding(layout: Layout, batch: int) -> NamedSharding | None:
    """Splits the first axis of a batch over the devices that don't split the parameters. None for
    one device."""
    count, split = layout if isinstance(layout, tuple) else (layout, 1)
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
    require(
        count % split == 0,
        f"--model-axis {split} does not divide the {count} devices: use a divisor, or 1",
    )
    require(
        batch % (count // split) == 0,
        f"batch {batch} does not divide over {count // split} devices: use a multiple of "
        f"{count // split}, or --devices 1",
    )
    return None if count == 1 else sharding_of(devices[:count], split)


def sharding_of(devices: Sequence[Any], split: int = 1) -> NamedSharding:
    """Of a batch, on a mesh of the axis `data`; and, where parameters are split, of `model`."""
    if split == 1:
        return NamedSharding(Mesh(np.array(devices), ("data",)), PartitionSpec("data"))
    grid = np.array(devices).reshape(-1, split)
    return NamedSharding(Mesh(grid, ("data", "model")), PartitionSpec("data"))


def replicated(sharding: NamedSharding | None) -> jax.sharding.Sharding:
    """Whole on every device: where lives what is not split."""
    if sharding is None:
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return NamedSharding(sharding.mesh, PartitionSpec())


def splits(sharding: NamedSharding | None) -> bool:
    """Whether there is an axis over which the parameters are split."""
    return sharding is not None and "model" in sharding.mesh.axis_names


def home_of(sharding: NamedSharding | None, leaf: Any) -> jax.sharding.Sharding:
    """Where an array of a state or a network lives, by rule: with a model axis, a kernel, its mask
    and its moments [runs, ..., inputs, outputs] are split over the outputs, or, where these don't
    divide, over the inputs; all else is whole on every device."""
    if sharding is None or not splits(sharding):
        return replicated(sharding)
    size, shape = sharding.mesh.shape["model"], jnp.shape(leaf)
    axis = next((a for a in (-1, -2) if len(shape) > 2 and shape[a] % size == 0), None)
    if axis is None:
        return replicated(sharding)
    spec = [None] * len(shape)
    spec[axis] = "model"  # type: ignore[call-overload]
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))


def bytes_each(sharding: NamedSharding | None, tree: Any) -> int:
    """Bytes that a device holds of a state or a network, from shapes."""
    held = lambda x: math.prod(home_of(sharding, x).shard_shape(tuple(x.shape))) * x.dtype.itemsize  # noqa: E731
    return sum(held(leaf) for leaf in jax.tree.leaves(tree))


def settled(sharding: NamedSharding | None, tree: Any) -> Any:
    """Traced arrays of a state, held to where they live."""
    hold = lambda x: jax.lax.with_sharding_constraint(x, home_of(sharding, x))  # noqa: E731
    return jax.tree.map(hold, tree) if splits(sharding) else tree


def put(sharding: NamedSharding | None, tree: Any) -> Any:
    """Arrays of a state or a network, put where they live."""
    return jax.tree.map(lambda x: hosts.place(x, home_of(sharding, x)), tree)


def memory() -> int | None:
    """Bytes of memory that the first device has: its own, or the machine's. None: unknown, as for
    devices that are elsewhere."""
    if elsewhere():
        return None
    own = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return machine_memory() if own is None else own


def loops_well(model: Model, inputs: jax.ShapeDtypeStruct) -> bool:
    """Whether many steps should be one loop on the device.

    Everywhere, except for convolutions on a CPU: inside a loop XLA:CPU runs the gradient of a
    convolution's weights 20 to 40 times slower than outside (jax 0.10.2 and 0.12), so such
    networks are dispatched step by step.
    """
    if jax.default_backend() != "cpu":
        return True
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    jaxpr = equations(lambda v, x: model.forward(v, x)[0].logits, variables, inputs)
    return "conv_general_dilated" not in str(jaxpr)
