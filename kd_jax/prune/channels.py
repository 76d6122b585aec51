"""Which channels matter: a score for every unit of every group of a network. Higher is kept.

A criterion is `(group, arrays, key) -> scores [units]`, where arrays is {(leaf, axis): [units, n]},
the entries of each parameter that belong to each unit.
"""

import zlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from kd_jax.errors import did_you_mean, require
from kd_jax.forward import Variables
from kd_jax.prune.groups import Group, Structure
from kd_jax.tree import named_leaves

Array = jax.Array
Arrays = Mapping[tuple[str, int], Array]


def l1(group: Group, arrays: Arrays, key: Array) -> Array:
    """Σ|w| over the kernels that put the unit out.

    Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", 2017,
    https://arxiv.org/abs/1608.08710, section 3.1. Where several layers add into one stream, the
    paper reads the shortcut's kernel alone; this one all of them.
    """
    del key
    return jnp.sum(jnp.abs(_filters(group, arrays)), axis=1)


def l2(group: Group, arrays: Arrays, key: Array) -> Array:
    """The Euclidean norm of the kernels that put the unit out: ‖W_f‖₂, see l1."""
    del key
    return jnp.sqrt(jnp.sum(_filters(group, arrays) ** 2, axis=1))


def group_norm(group: Group, arrays: Arrays, key: Array) -> Array:
    """I_k = mean over all parameters of the group, those that read the unit too, of ‖W[k]‖².

    Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any Structural Pruning", 2023,
    https://arxiv.org/abs/2301.12900, equation 4, whose sum is the paper's; its code takes the mean.
    """
    del group, key
    return jnp.mean(jnp.stack([jnp.sum(rows**2, axis=1) for rows in arrays.values()]), axis=0)


def norm_scale(group: Group, arrays: Arrays, key: Array) -> Array:
    """Mean |γ| of the norms that the unit goes through: parameters named `scale`. A group without
    any is kept whole (its scores are infinite).

    Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network
    Slimming", 2017, https://arxiv.org/abs/1708.06519.
    """
    del key
    scales = [rows for (leaf, _), rows in arrays.items() if leaf.split("/")[-1] == "scale"]
    if not scales:
        return jnp.full(group.size, jnp.inf)
    return jnp.mean(jnp.abs(jnp.concatenate(scales, axis=1)), axis=1)


def fpgm(group: Group, arrays: Arrays, key: Array) -> Array:
    """Σ_j ‖W_k − W_j‖₂: the filter nearest to all others is the one that these can replace.

    He, Liu, Wang, Hu, Yang, "Filter Pruning via Geometric Median for Deep Convolutional Neural
    Networks Acceleration", 2019, https://arxiv.org/abs/1811.00250, equation 8.
    """
    del key
    rows = _filters(group, arrays)
    from_one = lambda row: jnp.sum(jnp.sqrt(jnp.sum((rows - row[None]) ** 2, axis=1)))  # noqa: E731
    return jax.lax.map(from_one, rows)


def random(group: Group, arrays: Arrays, key: Array) -> Array:
    """Uniform in [0, 1), a function of (key, group): the control for all others."""
    del arrays
    own = jax.random.fold_in(key, zlib.crc32(group.name.encode()) & 0x7FFFFFFF)
    return jax.random.uniform(own, (group.size,))


CHANNEL_CRITERIA: dict[str, Callable[[Group, Arrays, Array], Array]] = {
    "l1": l1,
    "l2": l2,
    "group_norm": group_norm,
    "norm_scale": norm_scale,
    "fpgm": fpgm,
    "random": random,
}


def scores(
    structure: Structure, variables: Variables, criterion: str, key: Array
) -> dict[str, Array]:
    """{group: [units]} of one network; vmap it over many.

    Raises:
      UsageError: an unknown criterion.
    """
    known = CHANNEL_CRITERIA
    require(criterion in known, f"criterion {criterion!r}.{did_you_mean(criterion, known)}")

    @jax.jit  # one program, not one for each shape
    def of_all(variables: Variables, key: Array) -> dict[str, Array]:
        leaves = named_leaves(variables)
        return {g.name: known[criterion](g, entries(g, leaves), key) for g in structure.groups}

    return of_all(variables, key)


def entries(group: Group, leaves: Mapping[str, Array]) -> dict[tuple[str, int], Array]:
    """{(leaf, axis): [units, the parameter's entries that belong to each]} in float32."""
    found = {}
    for (leaf, axis), places in group.entries.items():
        if leaf.startswith("params/"):
            rows = jnp.moveaxis(jnp.asarray(leaves[leaf], jnp.float32), axis, 0)
            rows = jnp.take(rows.reshape(len(rows), -1), jnp.asarray(places), axis=0)
            found[leaf, axis] = rows.reshape(group.size, -1)
    return found


def _filters(group: Group, arrays: Arrays) -> Array:
    """[units, entries of the kernels that put them out]; of other parameters where none does."""
    made = [arrays[key] for key in group.producers] or list(arrays.values())
    return jnp.concatenate(made, axis=1)
