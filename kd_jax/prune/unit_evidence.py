"""What a criterion of channels may look at: of each unit of a group its parameters, and on a batch
their gradients or the unit's maps."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.forward import Model, Variables
from kd_jax.prune.groups import Group, Structure
from kd_jax.tree import named_leaves

Array = jax.Array
Arrays = Mapping[tuple[str, int], Array]
Loss = Callable[[Variables, Any], Array]


@dataclasses.dataclass(frozen=True)
class UnitEvidence:
    """Of one group of one network.

    Attributes:
      group: the units.
      arrays: {(leaf, axis): float32 [units, n]}, the entries of each parameter that belong to each.
      key: for criteria that draw at random.
      gradients: of the loss on a batch, like `arrays`; empty unless the criterion needs them.
      maps: what modules put out for a batch, before its activation, float32 [units, n, B, H, W]
        for those of convolutions, otherwise [units, n, B, values]; empty unless needed.
    """

    group: Group
    arrays: Arrays
    key: Array
    gradients: Arrays = dataclasses.field(default_factory=dict)
    maps: tuple[Array, ...] = ()

    def produced(self, arrays: Arrays) -> Array:
        """[units, entries of the kernels that put them out], or of all where none does."""
        made = [arrays[key] for key in self.group.producers] or list(arrays.values())
        return jnp.concatenate(made, axis=1)


def entries(group: Group, leaves: Mapping[str, Array]) -> dict[tuple[str, int], Array]:
    """{(leaf, axis): [units, the parameter's entries that belong to each]} in float32."""
    found = {}
    for (leaf, axis), places in group.entries.items():
        if leaf.startswith("params/"):
            rows = jnp.moveaxis(jnp.asarray(leaves[leaf], jnp.float32), axis, 0)
            rows = jnp.take(rows.reshape(len(rows), -1), jnp.asarray(places), axis=0)
            found[leaf, axis] = rows.reshape(group.size, -1)
    return found


def gradients(loss: Loss, variables: Variables, batch: Any) -> dict[str, Array]:
    """{leaf: the gradient of the loss}, of the parameters."""
    of_params = lambda params: loss({**variables, "params": params}, batch)  # noqa: E731
    return named_leaves({"params": jax.grad(of_params)(variables["params"])})


def is_norm(leaf: str) -> bool:
    """Whether a parameter is the factor of a norm, by its name."""
    return leaf.split("/")[-1] == "scale"


def features(
    model: Model, structure: Structure, variables: Variables, inputs: Any
) -> dict[str, Array]:
    """{path: what the module there puts out in evaluation}, of modules that show units."""
    assert model.tapped is not None
    keys = (key for group in structure.groups for key in _shown_by(group))
    paths = tuple(dict.fromkeys(_module(leaf) for leaf, _ in keys))
    shown = model.tapped(paths).forward(variables, inputs)[0].features
    return {path: shown[path] for path in paths if path in shown}


def maps(structure: Structure, group: Group, shown: Mapping[str, Array]) -> tuple[Array, ...]:
    """Each unit's part of what the modules put out that show it, see UnitEvidence."""
    shapes = structure.shapes
    convolved = any(len(shapes[kernel]) == 4 for kernel, _ in group.producers)
    found = []
    for leaf, axis in _shown_by(group):
        out, size = shown.get(_module(leaf)), shapes[leaf][axis]
        # The last axes of what a layer puts out are those of its kernel.
        back = axis - len(shapes[leaf])
        if out is not None and out.ndim >= max(2, -back) and out.shape[back] == size:
            first = jnp.moveaxis(jnp.asarray(out, jnp.float32), back, 0)
            units = jnp.take(first, jnp.asarray(np.asarray(group.entries[leaf, axis])), axis=0)
            image = out.ndim == 4 and (convolved if is_norm(leaf) else len(shapes[leaf]) == 4)
            found.append(units if image else units.reshape(*units.shape[:3], -1))
    return tuple(found)


def _shown_by(group: Group) -> tuple[tuple[str, int], ...]:
    """The parameters whose modules show the units: norms, which activations follow, or the
    kernels that put them out."""
    return tuple(key for key in group.entries if is_norm(key[0])) or group.producers


def _module(leaf: str) -> str:
    return leaf.removeprefix("params/").rpartition("/")[0]
