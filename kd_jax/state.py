"""What a run carries from step to step, and what a finished stage hands on."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from kd_jax.distill import Own
from kd_jax.optim import Optim, transform
from kd_jax.prune import masks as masks_lib

Array = jax.Array
Tree = Any


@flax.struct.dataclass
class Snapshot:
    """A network at rest: the result of a stage, or somebody's pre-trained weights.

    Attributes:
      params: tree of arrays, zero where masked.
      collections: {name: tree}, such as batch statistics.
      masks: tree like params, boolean arrays, None where a leaf is never pruned.
    """

    params: Tree
    collections: dict[str, Tree]
    masks: Tree

    @property
    def variables(self) -> dict[str, Tree]:
        """What Model.forward takes."""
        return {"params": self.params, **self.collections}


@flax.struct.dataclass
class TrainState:
    """All that changes in training. Donated to each step; its structure is fixed within a run.

    Attributes:
      step: int32 scalar, steps done in this stage; of many runs in one program it is the same.
      params: tree of float32 arrays.
      collections: {name: tree}, such as batch statistics.
      masks: tree like params, boolean arrays, None where a leaf is never pruned.
      opt_state: state of the optax transformation.
      extra: what only some runs carry: "ema", the averages {"params": ..., "collections": ...}, be
        they exponential or equal (swa);
        "terms", what distillation terms carry {name: Own}, and "terms_opt_state", the moments of
        what of it is trained; "saved", what a schedule will put back, {"params", "collections",
        "opt_state", "extra"}, and "thresholds", {layer: θ}; "learned", what a criterion that learns
        carries, see learning.Carried; "drawn",
        {layer: (Z, U)}, the sparse weights that dense ones are drawn to and what was amiss so far,
        and "drawing", whether they are.
    """

    step: Array
    params: Tree
    collections: dict[str, Tree]
    masks: Tree
    opt_state: Tree
    extra: dict[str, Tree]


def no_masks(params: Tree) -> Tree:
    """Masks that prune nothing and hold no arrays."""
    return jax.tree.map(lambda _: None, params)


def start(
    snapshot: Snapshot,
    optim: Optim,
    ema: bool,
    terms: dict[str, Own] | None = None,
) -> TrainState:
    """The state at step 0, from a network at rest; with averages if asked for, and with what
    distillation terms carry."""
    params = masks_lib.apply(snapshot.masks, snapshot.params)
    extra: dict[str, Tree] = {}
    if ema:
        averaged = {"params": params, "collections": snapshot.collections}
        extra["ema"] = jax.tree.map(jnp.copy, averaged)
    if terms:
        own_params = {name: own.params for name, own in terms.items()}
        extra |= {"terms": terms, "terms_opt_state": transform(optim).init(own_params)}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=snapshot.collections,
        masks=snapshot.masks,
        opt_state=transform(optim).init(params),
        extra=extra,
    )


def adopting(state: TrainState, collections: dict[str, Tree]) -> TrainState:
    """The state with these collections in the place of its own, in its averages too."""
    put = lambda before: {**before, **jax.tree.map(jnp.copy, collections)}  # noqa: E731
    extra = dict(state.extra)
    if "ema" in extra:
        extra["ema"] = {**extra["ema"], "collections": put(extra["ema"]["collections"])}
    return dataclasses.replace(state, collections=put(state.collections), extra=extra)


def rest(state: TrainState) -> Snapshot:
    """The network that the state holds: the averaged one where averages are kept."""
    now = {"params": state.params, "collections": state.collections}
    chosen = state.extra.get("ema", now)
    params = masks_lib.apply(state.masks, chosen["params"])
    return Snapshot(params, chosen["collections"], state.masks)


def network(params: Tree, collections: dict[str, Tree] | None = None, seeds: int = 1) -> Snapshot:
    """Somebody's pre-trained weights as the network of so many seeds, with nothing pruned.

    Args:
      params: tree of arrays of one network, as its model takes them.
      collections: {name: tree}, such as batch statistics.
    """
    stack = lambda x: jnp.broadcast_to(x, (seeds, *jnp.shape(x)))  # noqa: E731
    params, others = jax.tree.map(stack, params), jax.tree.map(stack, collections or {})
    return Snapshot(params, others, no_masks(params))
