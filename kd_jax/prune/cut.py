"""From scores to masks: units are scored, counted, cut, and spread over their weights."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from kd_jax.prune import masks as masks_lib
from kd_jax.prune import select
from kd_jax.prune.granularity import Granularity
from kd_jax.tree import Tree, named_leaves

Array = jax.Array
Normalise = Literal["none", "l2", "mean"]
Layers = Mapping[str, Array]


def cut(
    structure: Granularity, scores: Tree, masks: Tree, target: Any, normalise: Normalise = "none"
) -> Tree:
    """Masks that keep as many units as `target` says: those of highest score among those that are
    alive. Counts are exact, ties go to the lower index.

    Args:
      target: {layer: count}; or a count for all layers together; or both, of some layers and of
        the others.
      normalise: what the scores of each layer are divided by before layers are compared: their
        length (l2) or mean, over what is alive.
    """
    layers, by_name = named_leaves(masks), named_leaves(scores)
    alive = {name: structure.units(mask, "max") for name, mask in layers.items()}
    units = {name: structure.scored(by_name[name]) for name in layers}
    own, rest = target if isinstance(target, tuple) else (target, None)
    if not isinstance(own, Mapping):
        own, rest = {}, own
    kept = {name: structure.keep(units[name], alive[name], count) for name, count in own.items()}
    if rest is not None:
        others = {name: mask for name, mask in alive.items() if name not in own}
        compared = {name: _normalised(units[name], others[name], normalise) for name in others}
        kept |= masks_lib.keep_global(compared, others, rest)
    spread = {
        name: structure.spread(kept[name], mask.shape) & mask for name, mask in layers.items()
    }
    return masks_lib.map_layers(lambda name, _: spread.get(name), masks)


def _normalised(scores: Array, alive: Array, how: Normalise) -> Array:
    if how == "none":
        return scores
    live = jnp.where(alive, scores, 0)
    count = jnp.maximum(jnp.sum(alive, dtype=jnp.float32), 1)
    size = jnp.sqrt(jnp.sum(live**2)) if how == "l2" else jnp.sum(jnp.abs(live)) / count
    return scores / (size + 1e-30)


def swap(
    structure: Granularity, scores: Tree, growth: Tree, masks: Tree, fraction: float | Array
) -> Tree:
    """Masks of which each layer has lost ⌊fraction · units left⌋ of the lowest score, and grown as
    many of those that are then off, of the highest `growth`; what was just lost may come back."""
    layers = named_leaves(masks)
    by_score, by_growth = named_leaves(scores), named_leaves(growth)

    def one(name: str, mask: Array) -> Array:
        alive = structure.units(mask, "max")
        count = jnp.sum(alive, dtype=jnp.int32)
        lost = jnp.floor(fraction * count.astype(jnp.float32)).astype(jnp.int32)
        kept = structure.keep(structure.scored(by_score[name]), alive, count - lost)
        grown = select.keep_top([structure.scored(by_growth[name])], [~kept], lost)[0]
        old = structure.spread(kept, mask.shape) & mask
        return old | structure.spread(grown, mask.shape)

    new = {name: one(name, mask) for name, mask in layers.items()}
    return masks_lib.map_layers(lambda name, _: new.get(name), masks)
