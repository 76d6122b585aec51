"""Smaller networks: arrays without the units that were cut, and a forward pass at their shapes."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.errors import require
from kd_jax.forward import Model, Variables
from kd_jax.jsons import parsed
from kd_jax.prune.evaluate import Sizes, run
from kd_jax.prune.groups import Indices, Structure, analysed, mixed, trace
from kd_jax.prune.structure import Graph
from kd_jax.prune.structure_rules import RULES
from kd_jax.tree import map_named, named_leaves

BATCH = 64  # examples of the largest batch that a network is traced with


@dataclasses.dataclass(frozen=True)
class Widths:
    """How wide a smaller network is: all that is needed, beside the full one, to build it anew."""

    input_shape: tuple[int, ...]
    """Of the batch that the full network was traced with."""
    dtype: str
    """Of its inputs."""
    groups: dict[str, tuple[int, int]]
    """{group: (units kept, units there were)}."""
    leaves: dict[str, dict[int, int]]
    """{leaf: {axis: its size}} where it is smaller than in the full network."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    def suits(self, shape: tuple[int, ...]) -> bool:
        """Whether they are of a network for examples of this shape. Who was not told them by this
        process asks before `rebuild`: tracing takes as much memory as their axes are long."""
        return self.input_shape[1:] == shape and 0 < self.input_shape[0] <= BATCH

    @staticmethod
    def from_json(text: str) -> "Widths":
        """Raises ValueError where it says anything else."""
        try:
            said = parsed(text)
            return Widths(
                tuple(map(_count, said["input_shape"])),
                str(jnp.dtype(said["dtype"])),
                {n: (_count(kept), _count(of)) for n, (kept, of) in said["groups"].items()},
                {
                    n: {int(a): _count(x) for a, x in axes.items()}
                    for n, axes in said["leaves"].items()
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no widths ({error!r})") from error


def _count(number: Any) -> int:
    if type(number) is not int or not 0 < number < 2**31:
        raise ValueError(f"{number!r} is no number of units")
    return number


def shrink(
    model: Model,
    variables: Variables,
    structure: Structure | Sequence[int],
    kept: Mapping[str, Any],
) -> tuple[Model, Variables, Widths]:
    """Cuts all units of a network but those kept.

    Args:
      model: the full network, with its variables; or those of S networks, every leaf [S, ...].
      structure: what `trace` found, or the shape of a batch to trace it with.
      kept: {group: units [k]}, or [S, k]; groups that are not named are kept whole.

    Returns:
      (the smaller network, its variables, its widths: `rebuild(model, widths)` makes it anew).
    """
    if not isinstance(structure, Structure):
        structure = trace(model, structure)
    units = _checked(structure, kept)
    many = any(k.ndim == 2 for k in units.values())
    _check_variables(structure, variables, many)
    indices = structure.indices(units)
    smaller = (_cut_many if many else _cut_one)(variables, indices)
    counts = {name: k.shape[-1] for name, k in units.items()}
    widths = Widths(
        structure.input_shape,
        structure.dtype,
        {g.name: (counts[g.name], g.size) for g in structure.groups if g.name in counts},
        {leaf: {a: i.shape[-1] for a, i in axes.items()} for leaf, axes in indices.items()},
    )
    return narrowed(model, structure, counts), smaller, widths


def rebuild(model: Model, widths: Widths) -> Model:
    """The smaller network of these widths, from the full one.

    Raises:
      UsageError: the widths are those of another network.
    """
    structure = trace(model, widths.input_shape, widths.dtype)
    sizes = {group.name: group.size for group in structure.groups}
    for name, (kept, of) in widths.groups.items():
        require(0 < kept <= of, f"widths keep {kept} of the {of} units of {name}: make them anew")
        require(
            sizes.get(name) == of,
            f"widths name a group {name} of {of} units, but the network has "
            f"{f'{sizes[name]} there' if name in sizes else 'no such group'}: take the network "
            "that they were made from",
        )
    return narrowed(model, structure, {name: kept for name, (kept, _) in widths.groups.items()})


def cut(variables: Variables, indices: Indices) -> Variables:
    """The variables, of NumPy or JAX, with only these indices of their axes."""

    def smaller(name: str, leaf: Any) -> Any:
        # From the outside in: whole rows are copied before single entries are.
        for axis, index in sorted(indices.get(name, {}).items()):
            leaf = leaf.take(index, axis=axis, mode="clip")
        return leaf

    return map_named(smaller, variables)


_cut_one = jax.jit(cut)  # one program, not one for each shape
_cut_many = jax.jit(jax.vmap(cut))


def zeroed(variables: Variables, structure: Structure, kept: Mapping[str, Any]) -> Variables:
    """The variables at full size, with the parameters of all units that are cut set to zero: what
    the smaller network computes, exactly."""
    indices = structure.indices(_checked(structure, kept))

    def emptied(name: str, leaf: Any) -> Any:
        for axis, index in indices.get(name, {}).items() if name.startswith("params/") else ():
            alive = np.zeros(leaf.shape[axis], bool)
            alive[index] = True
            alive = np.expand_dims(alive, tuple(a for a in range(leaf.ndim) if a != axis))
            leaf = leaf * alive.astype(leaf.dtype)
        return leaf

    return map_named(emptied, variables)


def narrowed(model: Model, structure: Structure, counts: Mapping[str, int]) -> Model:
    """The network with so many units of each group; its variables are its smaller arrays."""
    # Which of a group's units these are makes no difference to any shape.
    indices = structure.indices(structure.first(counts))
    shapes = structure.shapes
    known: dict[Any, tuple] = {}

    def init(key, inputs):
        return cut(model.init(key, inputs), indices)

    def forward(variables, inputs, train=False, key=None):
        full = map_named(lambda name, x: jax.ShapeDtypeStruct(shapes[name], x.dtype), variables)
        like = lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype)  # noqa: E731
        batch, random = jax.tree.map(like, (inputs, key))
        form = (bool(train), str((full, batch, random)))
        if form not in known:
            graph = Graph(RULES)
            program, tree = analysed(graph, model, full, batch, train, random)
            graph.settle()
            others = mixed(structure, graph, program)
            require(
                not others,
                f"inputs of shape {batch.shape}: the units of {others[:1]} are no longer alike; "
                "trace the network with inputs of this shape",
            )
            known[form] = (program, Sizes(graph, indices), tree)
        program, sizes, tree = known[form]
        leaves = [*named_leaves(variables).values(), *jax.tree.leaves((inputs, key))]
        return jax.tree.unflatten(tree, run(program, sizes, leaves))

    tapped = model.tapped and (lambda paths: narrowed(model.tapped(paths), structure, counts))  # type: ignore[misc]
    return Model(init, forward, tapped or None)


def _check_variables(structure: Structure, variables: Variables, many: bool) -> None:
    """Raises UsageError unless they are those of the network, or of as many as there are units."""
    for name, leaf in named_leaves(variables).items():
        full = structure.shapes.get(name)
        require(full is not None, f"variables have {name}, which the network has not")
        require(
            tuple(leaf.shape[many:]) == full,
            f"{name} is of shape {list(leaf.shape)}, in the network {list(full or ())}: give the "
            "variables of one network with units [k], or of S networks with units [S, k]",
        )


def _checked(structure: Structure, kept: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The units to keep as sorted arrays. Raises UsageError for units that can't be."""
    sizes = {group.name: group.size for group in structure.groups}
    found = {}
    for name, units in kept.items():
        require(name in sizes, f"kept names {name!r}: no group of the network")
        array = np.sort(np.asarray(units, dtype=int), axis=-1)
        require(
            array.shape[-1] > 0 and bool((np.diff(array, axis=-1) > 0).all()),
            f"kept[{name!r}] must name at least one unit, and none twice",
        )
        inside = array.min() >= 0 and array.max() < sizes[name]
        require(bool(inside), f"kept[{name!r}]: units are 0 to {sizes[name] - 1}")
        found[name] = array
    lead = np.broadcast_shapes(*(units.shape[:-1] for units in found.values()))
    return {n: np.broadcast_to(units, (*lead, units.shape[-1])) for n, units in found.items()}
