"""What of a network can be cut: groups of units, found by tracing its forward pass."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.forward import Model, Variables
from kd_jax.platform import equations
from kd_jax.prune.labels import Note, Program, State
from kd_jax.prune.structure import Graph
from kd_jax.prune.structure_rules import RULES
from kd_jax.prune.structure_rules_elementwise import aligned
from kd_jax.prune.units import FROZEN
from kd_jax.tree import named_leaves, path_name

Indices = dict[str, dict[int, Any]]
"""{leaf: {axis: which of its indices}}."""


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Units that may be cut one by one and play the same part: the channels of a residual stream,
    the heads of an attention, the hidden units of an MLP. At least one is always kept."""

    name: str
    """The parameter and axis that make them, such as `params/Dense_0/kernel:1`."""
    entries: dict[tuple[str, int], np.ndarray]
    """{(leaf, axis): [units, places]}: where on this axis each unit is. Without its units a leaf
    is smaller, with their entries zero it says the same."""
    producers: tuple[tuple[str, int], ...]
    """Of these the axes of kernels that put the units out."""

    @property
    def size(self) -> int:
        """Units."""
        return len(next(iter(self.entries.values())))

    def unit_at(self, leaf: str, axis: int, length: int) -> np.ndarray:
        """[length]: the unit at each index of an axis; where there is none of the group, its
        size."""
        found = np.full(length, self.size)
        found[self.entries[leaf, axis]] = np.arange(self.size)[:, None]
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Structure:
    """The groups of a network, and why the rest is kept."""

    groups: tuple[Group, ...]
    notes: tuple[Note, ...]
    shapes: dict[str, tuple[int, ...]]
    """Of all leaves of the variables."""
    input_shape: tuple[int, ...]
    dtype: str
    graph: Graph
    program: Program
    """The forward pass in evaluation."""

    def indices(self, kept: Mapping[str, np.ndarray]) -> Indices:
        """What is left of each axis that loses something, if of a group only these units are
        kept ({group: [units]}, or [S, units] for S networks at once: then [S, entries])."""
        found: Indices = {}
        for (leaf, axis), parts in self._by_axis(kept).items():
            size = self.shapes[leaf][axis]
            lost = [np.take(group.entries[leaf, axis], rest, axis=0) for group, rest in parts]
            rows = [
                x.reshape(*rest.shape[:-1], -1) for x, (_, rest) in zip(lost, parts, strict=True)
            ]
            lead = np.broadcast_shapes(*(row.shape[:-1] for row in rows))
            alive = np.ones((*lead, size), bool)
            for row in rows:
                np.put_along_axis(alive, np.broadcast_to(row, (*lead, row.shape[-1])), False, -1)
            left = np.nonzero(alive)[-1].reshape(*lead, -1)
            found.setdefault(leaf, {})[axis] = left
        return found

    def _by_axis(self, kept: Mapping[str, np.ndarray]) -> dict[tuple[str, int], list]:
        """{(leaf, axis): [(group, its units that are cut)]}."""
        found: dict[tuple[str, int], list] = {}
        for group in self.groups:
            if group.name in kept:
                rest = _others(np.asarray(kept[group.name]), group.size)
                for key in group.entries if rest.shape[-1] else ():
                    found.setdefault(key, []).append((group, rest))
        return found

    def first(self, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The first so many units of each group. Any choice of as many gives the same shapes."""
        return {name: np.arange(count) for name, count in counts.items()}


def _others(kept: np.ndarray, size: int) -> np.ndarray:
    alive = np.zeros((*kept.shape[:-1], size), bool)
    np.put_along_axis(alive, kept, True, -1)
    return np.nonzero(~alive)[-1].reshape(*kept.shape[:-1], -1)


def trace(model: Model, input_shape: Sequence[int], dtype: str = "float32") -> Structure:
    """Finds what of a network can be cut. Nothing is computed; evaluation and training are traced.

    Args:
      model: any, unedited. Its parameters are the collection "params"; arrays of other collections
        (batch statistics) that belong to a channel are cut with it.
      input_shape: of a batch; take more than one example.
      dtype: of the inputs.

    Returns:
      a Structure. A primitive that isn't understood keeps all that it touches, with a note.
    """
    inputs = jax.ShapeDtypeStruct(tuple(input_shape), jnp.dtype(dtype))
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(model.init, key, inputs)
    graph = Graph(RULES)
    passes = [analysed(graph, model, variables, inputs, train, key)[0] for train in (False, True)]
    graph.settle()
    shapes = {name: tuple(leaf.shape) for name, leaf in named_leaves(variables).items()}
    found = list(_groups(graph, passes))
    groups = tuple(group for group in found if group.size > 1)
    alone = [_only_unit(group) for group in found if group.size == 1]
    notes = tuple({(n.where, n.reason, n.leaves): n for n in (*graph.notes, *alone)}.values())
    return Structure(groups, notes, shapes, tuple(input_shape), dtype, graph, passes[0])


def _only_unit(group: Group) -> Note:
    own = (key for key in group.entries if key[0].startswith("params/"))
    leaves = tuple(f"{leaf}:{axis}" for leaf, axis in own)
    return Note("", "", "hangs together as one unit", leaves)


def analysed(
    graph: Graph, model: Model, variables: Variables, inputs: Any, train: bool, key: Any
) -> tuple[Program, Any]:
    """The forward pass with all its labels, and the structure of its results. All arguments but
    `train` are shapes."""
    run = lambda variables, inputs, key: model.forward(variables, inputs, train, key)  # noqa: E731
    closed, out = equations(run, variables, inputs, key, return_shape=True)
    leaves = {name: _leaf(graph, name, leaf) for name, leaf in named_leaves(variables).items()}
    rest = [State(tuple(x.shape)) for x in jax.tree.leaves((inputs, key))]
    program = graph.analyse(closed.jaxpr, closed.consts, [*leaves.values(), *rest])
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(out)]
    for path, state in zip(paths, program.outs, strict=True):
        kind, name = path[0].idx, path_name(path[1:])
        if kind == 0 and name == "logits":
            for block in state.blocks:
                graph.freeze(block.ids, None, "is an axis of the logits")
        elif kind == 1 and name in leaves:
            aligned(graph, None, [leaves[name], state])  # new statistics have the old ones' shape
    return program, jax.tree.structure(out)


def _leaf(graph: Graph, name: str, leaf: Any) -> State:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return State(tuple(leaf.shape), data=False)
    return graph.leaf(name, tuple(leaf.shape), zero=name.startswith("params/"))


def _groups(graph: Graph, passes: Sequence[Program]) -> Iterator[Group]:
    roots = {key: graph.units.find(ids) for key, ids in _axes(graph)}
    part = _parts(graph, passes)
    kernel, read = _kernels(graph)
    members: dict[int, dict[tuple[str, int], np.ndarray]] = {}
    for key, found in roots.items():
        for mark in np.unique(part[found[found != FROZEN]]):
            places = np.flatnonzero((part[found] == mark) & (found != FROZEN))
            units = np.unique(found[places])
            order = np.argsort(found[places], kind="stable")
            members.setdefault(int(mark), {})[key] = places[order].reshape(len(units), -1)
    taken: dict[str, int] = {}
    for entries in members.values():
        made = [k for k in entries if k not in read and k[0].startswith("params/")]
        kernels = tuple(k for k in made if k[0] in kernel)
        if made:
            leaf, axis = (*kernels, *made)[0]
            name = f"{leaf}:{axis}"
            group = Group(name, entries, kernels)
            taken[name] = taken.get(name, 0) + (group.size > 1)
            again = f"#{taken[name]}" if taken[name] > 1 else ""
            yield dataclasses.replace(group, name=name + again)


def _kernels(graph: Graph) -> tuple[set[str], set[tuple[str, int]]]:
    """(The parameters that inputs are multiplied by, those of their axes that are summed over)."""
    own = list(_axes(graph))
    first, last = np.array([ids[0] for _, ids in own]), own[-1][1][-1] if own else 0

    def names(ids: np.ndarray) -> set[tuple[str, int]]:
        return {own[i][0] for i in np.unique(np.searchsorted(first, ids[ids <= last], "right") - 1)}

    kernel = {leaf for ids in graph.kernels for leaf, _ in names(ids)}
    found = {key for ids in graph.contracted for key in names(ids)}
    for one, other in (*graph.alike, *graph.alike[::-1]):
        pair = names(one) | names(other)
        found |= pair if pair & found else set()
    return kernel | {leaf for leaf, _ in found}, found


def _axes(graph: Graph) -> Iterator[tuple[tuple[str, int], np.ndarray]]:
    for name, axes in graph.leaves.items():
        for axis, ids in axes.items():
            yield (name, axis), ids


def mixed(structure: Structure, graph: Graph, program: Program) -> list[str]:
    """The groups whose units don't play the same part in this program, of the same network: its
    arrays would have other shapes if others of them were cut."""
    part = _parts(graph, [program])
    found = []
    for group in structure.groups:
        (leaf, axis), places = next(iter(group.entries.items()))
        parts = part[graph.units.find(graph.leaves[leaf][axis][places[:, 0]])]
        found += [group.name] * bool((parts != parts[0]).any())
    return found


def _parts(graph: Graph, passes: Sequence[Program]) -> np.ndarray:
    """A number for each unit, the same for units that lie as often on each axis of each array of
    the program: then any so many of them leave the same shapes."""
    draw = np.random.default_rng(0)
    part = np.zeros(graph.units.count, np.uint64)
    seen: dict[int, np.ndarray] = {}
    for program in passes:
        for node in (program, *program.walk()):
            for state in (*node.ins, *node.outs):
                seen |= {id(block.ids): block.ids for block in state.blocks}
    for ids in (*seen.values(), *graph.segments):
        mark = draw.integers(1, 2**63, dtype=np.uint64)
        np.add.at(part, graph.units.find(ids), mark)
    return part
