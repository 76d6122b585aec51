"""What a run carries from step to step, and what a finished stage hands on."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

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
      step: int32 scalar, steps done in this stage.
      params: tree of float32 arrays.
      collections: {name: tree}, such as batch statistics.
      masks: tree like params, boolean arrays, None where a leaf is never pruned.
      opt_state: state of the optax transformation.
      extra: {"ema": tree like params} when an average of the parameters is kept; {} otherwise.
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


def start(snapshot: Snapshot, optim: Optim, ema: bool) -> TrainState:
    """The state at step 0, from a network at rest."""
    params = masks_lib.apply(snapshot.masks, snapshot.params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        collections=snapshot.collections,
        masks=snapshot.masks,
        opt_state=transform(optim).init(params),
        extra={"ema": jax.tree.map(jnp.copy, params)} if ema else {},
    )


def rest(state: TrainState) -> Snapshot:
    """The network that the state holds: the averaged parameters where an average is kept."""
    params = state.extra.get("ema", state.params)
    return Snapshot(masks_lib.apply(state.masks, params), state.collections, state.masks)
