"""Parameters that a stage does not train: they keep their values to the bit, whatever the gradient,
weight decay, moments or a bound on norms would make of them.

Patterns are regular expressions, searched in a parameter's path; without any, nothing changes.
"""

import re
from typing import Any

import jax.numpy as jnp

from kd_jax.errors import require, require_patterns
from kd_jax.tree import Tree, map_named, named_leaves

Patterns = tuple[str, ...]


def frozen(patterns: Patterns, name: str) -> bool:
    """Whether a parameter of this path is not trained."""
    return any(re.search(pattern, name) for pattern in patterns)


def still(patterns: Patterns, module: str) -> bool:
    """Whether the norm at this path is frozen, its factor and its shift."""
    return all(frozen(patterns, f"{module}/{part}") for part in ("scale", "bias"))


def without(patterns: Patterns, params: Tree) -> Tree:
    """The tree with zeros for what is frozen: as gradients and as what weight decay is told, so
    that moments stay zero and a norm of all gradients is of those that count."""
    zero = lambda name, x: jnp.zeros_like(x) if frozen(patterns, name) else x  # noqa: E731
    return map_named(zero, params) if patterns else params


def held(patterns: Patterns, params: Tree, before: Tree) -> Tree:
    """New parameters, with what is frozen as it was before."""
    pick = lambda name, new, old: old if frozen(patterns, name) else new  # noqa: E731
    return map_named(pick, params, before) if patterns else params


def held_statistics(patterns: Patterns, collections: Tree, before: Tree) -> Tree:
    """New collections, with those of frozen norms as they were before; of averages too, in which
    d x + (1 − d) x need not be x."""

    def pick(name: str, new: Any, old: Any) -> Any:
        module = name.partition("/")[2].rpartition("/")[0]
        return old if still(patterns, module) else new

    return map_named(pick, collections, before) if patterns else collections


def check_patterns(patterns: Patterns) -> None:
    """Raises UsageError for what is no regular expression."""
    require_patterns("freeze pattern", patterns)


def check(patterns: Patterns, params: Tree) -> None:
    """Raises UsageError for a pattern that finds no parameter."""
    names = [*named_leaves(params)]
    for pattern in patterns:
        require(
            any(re.search(pattern, name) for name in names),
            f"freeze pattern {pattern!r} finds no parameter: change it. They are: "
            f"{', '.join(names[:20])}{', ...' if len(names) > 20 else ''}",
        )
