"""Gates: which units of a network each example goes through, and the network that goes by them.

A gate multiplies a unit by 1 or 0 for one example. Masked, all units are computed, and where a
product sums over units its input is multiplied by the example's gates: that trains, and saves
nothing. Gathered, the variables of the units that are chosen are picked out, and only these are
computed: that is for one example.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import products
from kd_jax.forward import Model, Outputs, Variables
from kd_jax.platform import once
from kd_jax.prune.groups import Group, Structure
from kd_jax.prune.shrink import cut, narrowed
from kd_jax.prune.unit_scan import emptied, marks

Array = jax.Array
EXACT = 0.01  # of what a group's units change, that gates may miss it by: floats differ by far less


@dataclasses.dataclass(frozen=True, eq=False)
class Gates:
    """Of all groups that are gated, side by side.

    Attributes:
      structure: of the network.
      counts: {group: units that each example keeps}.
    """

    structure: Structure
    counts: Mapping[str, int]

    @property
    def groups(self) -> list[Group]:
        return [group for group in self.structure.groups if group.name in self.counts]

    @property
    def units(self) -> int:
        """Of all groups."""
        return sum(group.size for group in self.groups)

    def split(self, values: Array) -> dict[str, Array]:
        """{group: [..., its units]} of [..., units]."""
        ends = np.cumsum([group.size for group in self.groups])[:-1]
        names = [group.name for group in self.groups]
        return dict(zip(names, jnp.split(values, ends, axis=-1), strict=True))

    def chosen(self, saliencies: Array) -> Array:
        """Gates of 1 and 0, [B, units], of saliencies [B, units]: winners within each group."""
        parts = self.split(saliencies).items()
        return jnp.concatenate([winners(s, self.counts[name]) for name, s in parts], axis=-1)

    def columns(self) -> dict[tuple[str, int], np.ndarray]:
        """{(leaf, axis): [its size]}: the unit at each of its places; where there is none, the one
        after the last."""
        found: dict[tuple[str, int], np.ndarray] = {}
        first, last = 0, self.units
        for group in self.groups:
            for leaf, axis in group.entries:
                unit = group.unit_at(leaf, axis, self.structure.shapes[leaf][axis])
                before = found.get((leaf, axis), last)
                found[leaf, axis] = np.where(unit < group.size, first + unit, before)
            first += group.size
        return found


def winners(saliencies: Array, count: int) -> Array:
    """1 for the `count` highest of each row [..., units], not all, and 0 for the rest; of equal
    ones the first.

    The gradient is that of σ(s - t), t midway between the last that wins and the first that does
    not: a unit learns the more, the nearer it is to changing sides.
    """
    highest, places = jax.lax.top_k(saliencies, count + 1)
    none = jnp.zeros_like(saliencies)
    won = jnp.put_along_axis(none, places[..., :count], 1.0, axis=-1, inplace=False)
    between = jnp.mean(highest[..., count - 1 :], axis=-1, keepdims=True)
    soft = jax.nn.sigmoid(saliencies - jax.lax.stop_gradient(between))
    return won + (soft - jax.lax.stop_gradient(soft))


def masked(
    model: Model,
    gates: Gates,
    opened: Array,
    variables: Variables,
    inputs: Array,
    train: bool = False,
    key: Array | None = None,
) -> tuple[Outputs, Variables]:
    """`model.forward` whose products that sum over units see of example i only those whose gates,
    `opened` [B, units], are open. Features are of all units."""
    columns = gates.columns()
    always = jnp.ones((len(opened), 1), opened.dtype)
    factors = jnp.concatenate([opened, always], axis=1)

    def product(leaf: str, eqn: Any, given: list[Any], place: int) -> Any:
        x, batch = given[1 - place], _example_axis(eqn)
        for axis, summed in _sums(eqn, place):
            column = columns.get((leaf, axis))
            if column is not None and batch != summed and x.shape[batch] == len(opened):
                shape = [1] * x.ndim
                shape[batch], shape[summed] = len(opened), len(column)
                factor = factors[:, column] if batch < summed else factors[:, column].T
                x = x * factor.reshape(shape).astype(x.dtype)
        if x is given[1 - place]:
            return None
        return products.bind(eqn, [x, given[1]] if place else [given[0], x])[0]

    return products.forward(model, product, variables, inputs, train, key)


def _example_axis(eqn: Any) -> int:
    """The axis of a product's input along which its examples lie; of a dot product, by custom."""
    convolves = eqn.primitive.name == "conv_general_dilated"
    return eqn.params["dimension_numbers"].lhs_spec[0] if convolves else 0


def _sums(eqn: Any, place: int) -> list[tuple[int, int]]:
    """(axis of the kernel, axis of the input) pairs that a product sums over, but for a window; the
    kernel is the operand at `place`. None of a convolution in groups."""
    numbers = eqn.params["dimension_numbers"]
    if eqn.primitive.name == "conv_general_dilated":
        plain = place == 1 and eqn.params["feature_group_count"] == 1
        return [(numbers.rhs_spec[1], numbers.lhs_spec[1])] if plain else []
    (left, right), _ = numbers
    return list(zip(right, left, strict=True) if place else zip(left, right, strict=True))


def narrow(model: Model, gates: Gates) -> Model:
    """The network at the widths that one example goes through."""
    return narrowed(model, gates.structure, gates.counts)


def gathered(
    small: Model, gates: Gates, opened: Array, variables: Variables, inputs: Array
) -> Array:
    """Logits of inputs [1, ...] by the units alone whose gates, `opened` [units], are open: as many
    of each group as its count. `small` is the network at these widths."""
    structure = gates.structure
    left = structure.indices(structure.first(gates.counts))
    alive = {name: values > 0 for name, values in gates.split(opened).items()}
    indices = {
        leaf: {axis: jnp.nonzero(m, size=left[leaf][axis].size)[0] for axis, m in axes.items()}
        for leaf, axes in marks(structure, alive).items()
    }
    return small.forward(cut(variables, indices), inputs)[0].logits


def exact(model: Model, structure: Structure) -> tuple[str, ...]:
    """The groups whose gates say the same as if their units were cut, each example's own: tried on
    random values. It holds where all that lies between a unit and the products that sum over it
    works unit by unit, as norms by batch statistics and activations do, and where these products
    stand in no loop and are no convolutions in groups."""
    if not structure.groups:
        return ()
    every = Gates(structure, {group.name: 1 for group in structure.groups})
    compiled = functools.partial(jax.jit, compiler_options=once())

    @compiled
    def gated(variables: Variables, inputs: Array, opened: Array) -> Array:
        return masked(model, every, opened, variables, inputs)[0].logits

    @compiled
    def without(variables: Variables, inputs: Array, opened: Array) -> Array:
        less = emptied(structure, variables, every.split(opened > 0))
        return model.forward(less, inputs)[0].logits

    network = compiled(functools.partial(_random_network, model, structure))()
    whole = np.ones((structure.input_shape[0], every.units), np.float32)
    full, first, found = np.asarray(gated(*network, whole)), 0, []
    for group in structure.groups:
        opened = whole.copy()
        # Of each example another half.
        own = np.arange(group.size) + np.arange(len(whole))[:, None]
        opened[:, first : first + group.size] = own % 2
        alone = [np.asarray(without(*network, row))[i] for i, row in enumerate(opened)]
        missed = np.abs(np.asarray(gated(*network, opened)) - alone).max()
        found += [group.name] * bool(missed <= EXACT * np.abs(full - alone).max())
        first += group.size
    return tuple(found)


def _random_network(model: Model, structure: Structure) -> tuple[Variables, Array]:
    """(variables without zeros, inputs): a network at its start has units that make no difference,
    where a factor or a shift is zero."""
    keys = jax.random.split(jax.random.key(0), 3)
    inputs = jax.random.normal(keys[0], structure.input_shape).astype(structure.dtype)
    variables = model.init(keys[1], inputs)
    leaves, form = jax.tree.flatten(variables)

    def moved(i: int, leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        noise = jax.random.normal(jax.random.fold_in(keys[2], i), leaf.shape, leaf.dtype)
        return leaf + (0.1 if leaf.ndim < 2 else 0.01) * noise

    return jax.tree.unflatten(form, [moved(i, leaf) for i, leaf in enumerate(leaves)]), inputs
