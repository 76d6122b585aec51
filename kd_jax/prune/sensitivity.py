"""How much each layer may lose, found from a scan: what the loss becomes where one layer alone is
pruned, by more and more. Pure and jit-able.

The loss of all layers together is taken for the sum of what each adds. It is least, at a budget,
where no layer could give way to another one at a gain: the layers' curves, made convex, are
followed by the least slope, the increase of the loss over what is saved, until the budget is met.

The scan is that of Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets",
2017, https://arxiv.org/abs/1608.08710, section 3.2, and Han, Pool, Tran, Dally, "Learning both
Weights and Connections for Efficient Neural Networks", 2015, https://arxiv.org/abs/1506.02626,
figure 6, who then choose amounts by eye; sums of convex curves under a budget are allotted so by
Shoham, Gersho, "Efficient bit allocation for an arbitrary set of quantizers", 1988,
https://doi.org/10.1109/29.90373.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.cost import by_parameter
from kd_jax.errors import require
from kd_jax.forward import Model
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.granularity import Granularity
from kd_jax.tree import Tree, named_leaves

Array = jax.Array

LEVELS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0)
"""Fractions of a layer's units that the scan takes away; of all of them, one is left."""


def levels(alive: Array) -> Array:
    """int32 [L, K]: the units that are kept at each level, of layers that have `alive` [L]."""
    gone = jnp.round(alive[:, None] * jnp.asarray([LEVELS], jnp.float32)).astype(jnp.int32)
    return jnp.maximum(alive[:, None] - gone, jnp.minimum(alive, 1)[:, None])


def scan(loss: Callable[[Array], Array], kept: Array) -> Array:
    """float32 [L, K]: the loss where one layer keeps kept[l, k], and all others kept[·, 0].

    Args:
      loss: of the units that each layer keeps, int32 [L].
      kept: int32 [L, K].
    """
    count, steps = kept.shape
    whole = kept[:, 0]
    one_less = jnp.broadcast_to(whole, (count, steps - 1, count))
    places = jnp.arange(count)
    one_less = one_less.at[places, :, places].set(kept[:, 1:])
    rows = jnp.concatenate([whole[None], one_less.reshape(-1, count)])
    # One after the other: a network's activations are as large as memory allows for.
    found = jax.lax.map(loss, rows)
    first = jnp.broadcast_to(found[0], (count, 1))
    return jnp.concatenate([first, found[1:].reshape(count, steps - 1)], axis=1)


def allot(losses: Array, kept: Array, costs: Array, room: Array | float) -> Array:
    """int32 [L]: the units that each layer keeps, Σ costs·units at most `room`, as near to it as a
    unit allows, and the sum of the layers' losses, made convex, the least.

    Args:
      losses: [L, K], of a layer that keeps kept[l, k]; what is not finite is worst.
      kept: int32 [L, K], falling to the number that a layer must keep.
      costs: [L], of a unit; integers are counted exactly.
      room: if it is less than what layers must keep, they keep that.
    """
    units = kept[:, :-1] - kept[:, 1:]
    h = convex(losses, kept)
    rise = (h[:, 1:] - h[:, :-1]) / jnp.maximum(units * costs[:, None], 1)
    # Equal slopes of a layer stay in their order, whatever rounding made of them.
    slopes = jax.lax.cummax(jnp.where(units > 0, rise, -jnp.inf), axis=1)
    order = jnp.argsort(slopes.reshape(-1), stable=True)
    layer = jnp.repeat(jnp.arange(len(kept)), units.shape[1])[order]
    units, price = units.reshape(-1)[order], costs[layer]
    saved = jnp.cumsum(units * price) - units * price  # by what goes before
    excess = jnp.sum(costs * kept[:, 0]) - room - saved
    if jnp.issubdtype(costs.dtype, jnp.integer):
        wanted = -(-excess // jnp.maximum(price, 1))
    else:
        wanted = jnp.ceil(excess / jnp.maximum(price, 1e-30)).astype(jnp.int32)
    gone = jnp.clip(wanted, 0, units)
    return kept[:, 0] - jax.ops.segment_sum(gone, layer, len(kept))


def convex(losses: Array, kept: Array) -> Array:
    """[L, K]: the greatest convex curves that lie nowhere above the losses, and never fall where
    less is kept: a layer that the loss gains from losing costs nothing."""
    worst = jnp.finfo(jnp.float32).max / 8
    y = jnp.nan_to_num(losses.astype(jnp.float32), nan=worst, posinf=worst)
    y = jax.lax.cummin(jnp.minimum(y, worst), axis=1, reverse=True)
    x = (kept[:, :1] - kept).astype(jnp.float32)
    return jax.vmap(_minorant)(x, y)


def _minorant(x: Array, y: Array) -> Array:
    """[K]: the lowest of all chords at each point."""
    a, b, c = jnp.meshgrid(x, x, x, indexing="ij")
    left, _, right = jnp.meshgrid(y, y, y, indexing="ij")
    i, j, k = np.indices(a.shape)
    share = jnp.where(c > a, (b - a) / jnp.maximum(c - a, 1), 0.0)
    chords = left + share * (right - left)
    return jnp.min(jnp.where((i <= j) & (j <= k), chords, jnp.inf), axis=(0, 2))


def of_masks(
    structure: Granularity,
    scores: Tree,
    masks: Tree,
    loss: Callable[[Tree], Array],
    costs: Mapping[str, Any],
    room: Array | float,
) -> dict[str, Array]:
    """{layer: units to keep}, by `curves`.

    Args:
      costs: {layer: of a unit}.
    """
    kept, losses = curves(structure, scores, masks, loss)
    price = jnp.stack([jnp.asarray(costs[name]) for name in named_leaves(masks)])
    given = allot(losses, kept, price, room)
    return dict(zip(named_leaves(masks), given, strict=True))


def curves(
    structure: Granularity, scores: Tree, masks: Tree, loss: Callable[[Tree], Array]
) -> tuple[Array, Array]:
    """(units kept int32 [L, K], losses [L, K]) of a scan of the layers that have masks.

    Args:
      scores: as `cut` takes them, which cuts just so.
      loss: of masks like these.
    """
    names = [*named_leaves(masks)]
    places, alive = ranks(structure, scores, masks)

    def of_counts(kept: Array) -> Array:
        return loss(lowest(structure, places, masks, dict(zip(names, kept, strict=True))))

    kept = levels(jnp.stack([alive[name] for name in names]))
    return kept, scan(of_counts, kept)


def macs(model: Model, shape: tuple[int, ...], masks: Tree) -> dict[str, int]:
    """{layer: multiply-accumulates with it in the forward pass of an example of this shape}.

    Raises UsageError, which begins with a field's name, where a layer's can't be told.
    """
    inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = dict(jax.eval_shape(model.init, jax.random.key(0), inputs))
    params = variables.pop("params")

    def said(params: Tree, others: Any, inputs: Array) -> Array:
        return model.forward({"params": params, **others}, inputs)[0].logits

    known, layers = by_parameter(said, params, variables, inputs), named_leaves(masks)
    missing = [name for name in layers if name not in known]
    require(
        not missing,
        f"budget macs: the work of {', '.join(missing)} can't be told, being in a loop or looked "
        "up: exclude them, or set budget to units",
    )
    return {name: known[name] for name in layers}


def ranks(
    structure: Granularity, scores: Tree, masks: Tree
) -> tuple[dict[str, Array], dict[str, Array]]:
    """({layer: the place of each unit, the best first}, {layer: how many are alive})."""
    by_name, places, alive = named_leaves(scores), {}, {}
    for name, mask in named_leaves(masks).items():
        live = structure.units(mask, "max")
        score = structure.scored(by_name[name]).astype(jnp.float32)
        score = jnp.where(live, jnp.nan_to_num(score, nan=-jnp.inf), -jnp.inf).reshape(-1)
        order = jnp.lexsort((-score, ~live.reshape(-1)))
        place = jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=order.dtype))
        places[name] = place.reshape(live.shape)
        alive[name] = jnp.sum(live, dtype=jnp.int32)
    return places, alive


def lowest(
    structure: Granularity,
    places: Mapping[str, Array],
    masks: Tree,
    keep: Mapping[str, int | Array],
) -> Tree:
    """Masks that keep the first `keep` of each layer, by their places."""

    def one(name: str, mask: Array | None) -> Array | None:
        if mask is None:
            return None
        return structure.spread(places[name] < keep[name], mask.shape) & mask

    return masks_lib.map_layers(one, masks)
