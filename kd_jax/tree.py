"""Trees of arrays by name: paths, maps, counts and bytes; and dataclasses that are trees."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import jax
import numpy as np

Tree = Any
T = TypeVar("T")


def path_name(path: tuple) -> str:
    """`params/Dense_0/kernel` style name of a key path."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(tree: Tree) -> dict[str, Any]:
    """{path name: leaf} in the tree's own order. None is no leaf."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def map_named(function: Callable, tree: Tree, *rest: Tree) -> Tree:
    """jax.tree.map whose function is also given the leaf's name: f(name, leaf, *rest)."""
    return jax.tree_util.tree_map_with_path(lambda p, *xs: function(path_name(p), *xs), tree, *rest)


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """The tree of dictionaries whose leaves have these names, `Dense_0/kernel`."""
    tree: dict[str, Any] = {}
    for name, leaf in flat.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


def map_masked(function: Callable, masks: Tree, tree: Tree, *rest: Tree) -> Tree:
    """f(mask, leaf, *rest) where there is a mask; a leaf whose mask is None passes unchanged."""
    return jax.tree.map(
        lambda m, x, *xs: x if m is None else function(m, x, *xs),
        masks,
        tree,
        *rest,
        is_leaf=lambda m: m is None,
    )


def count(tree: Tree) -> int:
    """Number of array elements."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def count_nonzero(tree: Tree) -> int:
    """Number of array elements that are not zero; counted on the host."""
    return sum(int(np.count_nonzero(leaf)) for leaf in jax.device_get(jax.tree.leaves(tree)))


@jax.jit
def row(tree: Tree, i: int) -> Tree:
    """Entry i of each leaf's first axis: one of many networks. One program, not two for each shape
    and i."""
    return jax.tree.map(lambda x: x[i], tree)


def size_bytes(tree: Tree) -> int:
    """Bytes of the arrays as they are stored in memory."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@dataclass_transform(frozen_default=True, kw_only_default=True)
def traceable(cls: type[T]) -> type[T]:
    """Makes a class a frozen, keyword-only dataclass that is also a pytree.

    Fields annotated `float` or `float | None` are its leaves: they may be traced, so many runs
    that differ in them share one program. All other fields are static: they choose the program.
    A child that is itself traceable is annotated with its own type and marked by
    `dataclasses.field(metadata={"leaf": True})`.
    """
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    is_leaf = lambda f: f.type in (float, "float", float | None, "float | None")  # noqa: E731
    leaves = [f.name for f in fields if is_leaf(f) or f.metadata.get("leaf")]
    static = [f.name for f in fields if f.name not in leaves]

    def flatten(x):
        named = [(jax.tree_util.GetAttrKey(n), getattr(x, n)) for n in leaves]
        return named, tuple(getattr(x, n) for n in static)

    def unflatten(aux, children):
        # Past __init__ and thus __post_init__: the leaves may be tracers, which can't be checked.
        x = object.__new__(cls)
        for name, value in (*zip(leaves, children, strict=True), *zip(static, aux, strict=True)):
            object.__setattr__(x, name, value)
        return x

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls
