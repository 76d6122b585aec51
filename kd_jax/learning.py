"""What a pruning criterion that learns (prune/learned.py) carries from step to step, and how the
network sees its weights meanwhile."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from kd_jax import optim as optim_lib
from kd_jax import randomness
from kd_jax import state as state_lib
from kd_jax.objective import Metrics, Settings
from kd_jax.program import Program
from kd_jax.prune import Learned
from kd_jax.prune import masks as masks_lib
from kd_jax.prune.learned import own_key
from kd_jax.state import Snapshot, TrainState
from kd_jax.tree import Tree, named_leaves

Array = jax.Array


@flax.struct.dataclass
class Carried:
    """What a criterion that learns carries.

    Attributes:
      values: {layer: what is trained}.
      moments: of these.
      candidates: masks at the stage's first step: what may be kept. None where nothing is pruned.
      going: boolean scalar, whether it is still learning.
    """

    values: dict[str, Array]
    moments: Tree
    candidates: Tree
    going: Array


def begin(program: Program, settings: Settings, state: TrainState) -> TrainState:
    """The state at step 0, with what its criterion carries, if that learns."""
    criterion = settings.criterion
    if not isinstance(criterion, Learned):
        return state
    active = program.active(state.masks, state.params)
    key = randomness.stream(settings.seed, "criterion begins")
    first = criterion.start(state.params, active, program.structure, key)
    carried = Carried(
        values=first,
        moments=optim_lib.transform(_optim(settings)).init(first),
        candidates=jax.tree.map(jnp.copy, active),
        going=jnp.ones((), bool),
    )
    return dataclasses.replace(state, extra=state.extra | {"learned": carried})


def _optim(settings: Settings) -> optim_lib.Optim:
    assert settings.learned is not None
    return settings.learned


def values(state: TrainState) -> dict[str, Array]:
    """{layer: what the criterion trains}; empty where it trains nothing."""
    return state.extra["learned"].values if "learned" in state.extra else {}


def candidates(state: TrainState) -> Tree:
    """Masks of what the criterion may keep."""
    return state.extra["learned"].candidates


def shown(
    program: Program,
    settings: Settings,
    state: TrainState,
    params: Tree,
    values: dict[str, Array],
    key: Array | None = None,
) -> Tree:
    """params as the network sees them: behind the state's masks, and by what the criterion has
    learned; without a key, as the network is evaluated."""
    hide = masks_lib.straight_through if program.straight_through else masks_lib.apply
    hidden = hide(state.masks, params)
    criterion = settings.criterion
    if not values or not isinstance(criterion, Learned):
        return hidden
    going, structure = state.extra["learned"].going, program.structure

    def layer(name: str, mask: Array | None, w: Array, hidden: Array) -> Array:
        if mask is None or name not in values:
            return hidden
        its_key = None if key is None else own_key(key, name)
        return jnp.where(going, criterion.shown(w, values[name], mask, structure, its_key), hidden)

    return masks_lib.map_layers(layer, state.masks, params, hidden)


def told(
    program: Program, settings: Settings, state: TrainState, seen: Tree, values: dict[str, Array]
) -> Metrics | None:
    """{part: value} of the criterion, of parameters as the network sees them; None of one that
    does not learn. Its price is a part of the loss."""
    criterion = settings.criterion
    if not values or not isinstance(criterion, Learned):
        return None
    masks, weights = named_leaves(state.masks), named_leaves(seen)
    zeros = sum(jnp.sum(weights[name] == 0, dtype=jnp.int32) for name in values)
    size = sum(masks[name].size for name in values)
    found = {"sparsity": jnp.asarray(zeros, jnp.float32) / size}
    if "price" in criterion.parts:
        each = [criterion.price(s, masks[name], program.structure) for name, s in values.items()]
        going = state.extra["learned"].going
        found["price"] = jnp.where(going, sum(each, start=jnp.zeros(())), 0.0)
    return found


def move(program: Program, settings: Settings, state: TrainState, grads: Any) -> TrainState:
    """What the criterion carries after one gradient, while it learns."""
    if "learned" not in state.extra:
        return state
    optim, carried = _optim(settings), state.extra["learned"]
    updates, moments = optim_lib.transform(optim).update(grads, carried.moments, carried.values)
    rate = optim_lib.learning_rate(optim, program.pace(state.step), program.length)
    moved = optax.apply_updates(carried.values, jax.tree.map(lambda u: -rate * u, updates))
    keep = lambda new, old: jnp.where(carried.going, new, old)  # noqa: E731
    new, moments = jax.tree.map(keep, (moved, moments), (carried.values, carried.moments))
    carried = dataclasses.replace(carried, values=new, moments=moments)
    return dataclasses.replace(state, extra=state.extra | {"learned": carried})


def settled(program: Program, settings: Settings, state: TrainState) -> TrainState:
    """The state whose parameters and average are what the network sees of them, and whose
    criterion learns no more."""
    if "learned" not in state.extra:
        return state
    see = lambda params: shown(program, settings, state, params, values(state))  # noqa: E731
    extra = dict(state.extra)
    if "ema" in extra:
        extra["ema"] = {**extra["ema"], "params": see(extra["ema"]["params"])}
    over = jnp.zeros((), bool)
    extra["learned"] = dataclasses.replace(extra["learned"], going=over)
    return dataclasses.replace(state, params=see(state.params), extra=extra)


def rest(program: Program, settings: Settings, state: TrainState) -> Snapshot:
    """The network that the state holds, as it is evaluated."""
    network = state_lib.rest(settled(program, settings, state))
    if program.model.rests is None:
        return network
    variables = dict(program.model.rests(network.variables))
    return Snapshot(variables.pop("params"), variables, network.masks)
