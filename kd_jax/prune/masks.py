"""Masks: a tree like params, boolean arrays, None where a leaf is never pruned. True is kept.

A pruned entry is never revived here, and counts of kept entries are exact.
A layer is one masked leaf; its name is its path in params, `Dense_0/kernel`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.errors import UsageError, did_you_mean, require, require_pattern
from kd_jax.prune import select
from kd_jax.tree import Tree, count, map_masked, map_named, named_leaves, path_name

Array = jax.Array

Fits = Callable[[str, tuple[int, ...]], bool]
DEFAULT_INCLUDE = ("kernel$", "embedding$")


def start(
    params: Tree,
    include: tuple[str, ...] = DEFAULT_INCLUDE,
    exclude: tuple[str, ...] = (),
    fits: Fits = lambda name, shape: True,
) -> Tree:
    """All-True masks for the leaves that any `include` finds, and no `exclude`, in their name.

    Patterns are regular expressions, searched in the path name. Leaves of rank < 2 (biases, norm
    scales) never get a mask: they are few, and a zero among them is worth no multiplication.

    Args:
      params: arrays or jax.ShapeDtypeStruct.
      fits: (name, shape) -> whether a parameter can be pruned; it may raise UsageError.

    Raises:
      UsageError: a pattern is no regular expression or finds no parameter, or nothing is left.
    """
    leaves = named_leaves(params)
    matrices = [name for name, leaf in leaves.items() if len(leaf.shape) >= 2]
    known = f"The parameters of rank >= 2 are: {', '.join(matrices) or 'none'}."
    for flag, patterns, names in (("include", include, matrices), ("exclude", exclude, leaves)):
        for pattern in patterns:
            # Of the default patterns one may be idle: few nets have both kernels and embeddings.
            found = pattern in DEFAULT_INCLUDE or any(_search(flag, pattern, n) for n in names)
            require(found, f"{flag} pattern {pattern!r} finds no parameter: change it. {known}")

    def mask(name: str, leaf: Any) -> Array | None:
        wanted = any(_search("include", p, name) for p in include) and name in matrices
        barred = any(_search("exclude", p, name) for p in exclude)
        may = wanted and not barred and fits(name, leaf.shape)
        return jnp.ones(leaf.shape, bool) if may else None

    masks = map_named(mask, params)
    none_left = f"include {include} without exclude {exclude} leaves nothing to prune: change them."
    require(bool(jax.tree.leaves(masks)), f"{none_left} {known}")
    return masks


def _search(flag: str, pattern: str, name: str) -> bool:
    require_pattern(f"{flag} pattern", pattern)
    return re.search(pattern, name) is not None


def among(
    masks: Tree,
    params: Tree,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    fits: Fits = lambda name, shape: True,
) -> Tree:
    """The masks of the leaves that `start` gives one; None for all others."""
    chosen = named_leaves(jax.eval_shape(lambda: start(params, include, exclude, fits)))
    return map_layers(lambda name, mask: mask if name in chosen else None, masks)


def first(masks: Tree, others: Tree) -> Tree:
    """masks, and where there is none, the other's."""
    is_none = lambda m: m is None  # noqa: E731
    return jax.tree.map(lambda m, o: o if m is None else m, masks, others, is_leaf=is_none)


def apply(masks: Tree, params: Tree) -> Tree:
    """params with zeros where the mask is False. Its gradient is masked in the same places."""
    return map_masked(lambda m, w: jnp.where(m, w, 0), masks, params)


def within(masks: Tree, tree: Tree) -> Tree:
    """A tree like params with zeros for all but the kept entries of leaves that have a mask."""
    is_none = lambda m: m is None  # noqa: E731
    kept = lambda m, x: jnp.zeros_like(x) if m is None else jnp.where(m, x, 0)  # noqa: E731
    return jax.tree.map(kept, masks, tree, is_leaf=is_none)


def straight_through(masks: Tree, params: Tree) -> Tree:
    """As `apply`, but the gradient passes as if there were no masks.

    Bengio, Léonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
    Conditional Computation", 2013, https://arxiv.org/abs/1308.3432.
    """
    change = lambda m, w: w + jax.lax.stop_gradient(jnp.where(m, w, 0) - w)  # noqa: E731
    return map_masked(change, masks, params)


def mask_like(masks: Tree, params: Tree, state: Tree) -> Tree:
    """An optimizer's state (or an average of weights) with zeros for what is pruned.

    A leaf of `state` is masked where its path ends with the whole path of a parameter and its
    shape is that parameter's: so are momenta and averages, at any depth and whatever holds them,
    also where they cover a part of the parameters only. Counts and factored moments pass unchanged.
    """
    with_paths, structure = jax.tree_util.tree_flatten_with_path(params)
    by_path = dict(
        zip((path for path, _ in with_paths), structure.flatten_up_to(masks), strict=True)
    )

    def masked(path: tuple, leaf: Any) -> Any:
        # The longest suffix first: `a/kernel` must not take the mask of a top-level `kernel`.
        suffixes = (path[begin:] for begin in range(len(path) + 1))
        mask = next((by_path[suffix] for suffix in suffixes if suffix in by_path), None)
        if mask is None or getattr(leaf, "shape", None) != mask.shape:
            return leaf
        return jnp.where(mask, leaf, 0)

    return jax.tree_util.tree_map_with_path(masked, state)


def keep_per_layer(scores: Tree, masks: Tree, keep: Mapping[str, int | Array]) -> Tree:
    """Masks that keep, in each layer, exactly `keep[layer]` entries: those of highest score.

    Ties go to the lower flat index. Pruned entries stay pruned, so where fewer than `keep` are
    left, these are all kept.

    Args:
      keep: {layer: count}; counts may be traced int32 scalars, and 0 is obeyed.
    """
    layers = named_leaves(masks)
    for name in sorted({*keep} ^ {*layers}):
        fault = "has no count in keep" if name in layers else "is in keep but has no mask"
        raise UsageError(f"layer {name!r} {fault}: give one count a layer.{_near(name, layers)}")

    def layer(name: str, mask: Array | None, score: Array) -> Array | None:
        return None if mask is None else select.keep_top([score], [mask], keep[name])[0]

    return map_layers(layer, masks, scores)


def _near(name: str, layers: Mapping[str, Any]) -> str:
    return "" if name in layers else did_you_mean(name, layers)


def keep_global(scores: Tree, masks: Tree, keep: int | Array) -> Tree:
    """Masks that keep exactly `keep` entries of the whole tree: those of highest score.

    Ties go to the earlier layer (in the tree's order), then to the lower flat index. Pruned
    entries stay pruned. A layer may lose all its entries: ask `emptied`.
    """
    layers = named_leaves(masks)
    by_layer = named_leaves(scores)
    kept = select.keep_top([by_layer[name] for name in layers], list(layers.values()), keep)
    by_name = dict(zip(layers, kept, strict=True))
    return map_layers(lambda name, mask: by_name.get(name), masks)


def below(params: Tree, masks: Tree, threshold: float | Array | Mapping[str, Any]) -> Tree:
    """Masks that also prune |w| < θ, θ one scalar or {layer: scalar}. Ask `emptied` after it.

    Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks",
    2015, https://arxiv.org/abs/1506.02626.
    """

    def layer(name: str, mask: Array | None, w: Array) -> Array | None:
        if mask is None:
            return None
        theta = threshold[name] if isinstance(threshold, Mapping) else threshold
        return mask & ~(jnp.abs(jnp.asarray(w, jnp.float32)) < theta)

    return map_layers(layer, masks, params)


def splice(params: Tree, masks: Tree, thresholds: Mapping[str, Array], low: Any, high: Any) -> Tree:
    """Masks that prune |w| <= low·θ, keep |w| > high·θ even where it was pruned, and are what they
    were in between."""

    def layer(name: str, mask: Array | None, w: Array) -> Array | None:
        if mask is None:
            return None
        size, theta = jnp.abs(jnp.asarray(w, jnp.float32)), thresholds[name]
        return (mask & (size > low * theta)) | (size > high * theta)

    return map_layers(layer, masks, params)


def map_layers(function: Any, masks: Tree, *rest: Tree) -> Tree:
    """map_named over masks, in which None counts as a leaf."""
    is_none = lambda m: m is None  # noqa: E731
    named = lambda path, *xs: function(path_name(path), *xs)  # noqa: E731
    return jax.tree_util.tree_map_with_path(named, masks, *rest, is_leaf=is_none)


def sizes(masks: Tree) -> dict[str, int]:
    """{layer: number of its entries, kept or not}."""
    return {name: mask.size for name, mask in named_leaves(masks).items()}


def pruned(masks: Tree) -> dict[str, int]:
    """{layer: number of its entries that are pruned}, on the host."""
    kept = jax.device_get(_sums(named_leaves(masks)))
    return {name: size - int(kept[name]) for name, size in sizes(masks).items()}


@jax.jit
def _sums(masks: dict[str, Array]) -> dict[str, Array]:
    return jax.tree.map(jnp.sum, masks)


def emptied(masks: Tree) -> list[str]:
    """Names of the layers that have nothing left: the net is cut there, and can't learn."""
    total = sizes(masks)
    return [name for name, number in pruned(masks).items() if number == total[name]]


def report(masks: Tree, params: Tree) -> dict[str, Any]:
    """Host numbers. Sparsity is a fraction of zeros: of prunable and of all parameters, apart.

    Returns:
      {"parameters", "prunable", "pruned", "sparsity" (pruned / prunable), "total_sparsity"
      (pruned / parameters), "layers": {layer: {"size", "pruned", "sparsity"}}}.
    """
    total, gone, parameters = sizes(masks), pruned(masks), count(params)
    layers = {
        name: {"size": size, "pruned": gone[name], "sparsity": gone[name] / size}
        for name, size in total.items()
    }
    return {
        "parameters": parameters,
        "prunable": sum(total.values()),
        "pruned": sum(gone.values()),
        "sparsity": sum(gone.values()) / max(sum(total.values()), 1),
        "total_sparsity": sum(gone.values()) / parameters,
        "layers": layers,
    }
