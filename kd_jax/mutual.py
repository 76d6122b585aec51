"""Networks of several architectures that learn from one another, as one model."""

import functools

import jax
import jax.numpy as jnp

from kd_jax.ensembles import named, part, together
from kd_jax.errors import require
from kd_jax.forward import Model, Outputs, Variables
from kd_jax.state import Snapshot, no_masks

Array = jax.Array
PEERS = "peers"  # the feature that holds the Outputs of each


@functools.lru_cache(maxsize=32)
def mutual(models: tuple[Model, ...]) -> Model:
    """Peers that are trained in one program; what all say is the feature `peers`, a tuple of
    Outputs. The logits are those of the first, and so is the network that a stage hands on.

    Zhang et al., "Deep Mutual Learning", 2018, https://arxiv.org/abs/1706.00384. The first begins
    and drops out as it does alone, each other one by a key of its own. One optimizer moves them
    all, so that a norm to which gradients are clipped is that of all together.

    Raises:
      UsageError: of fewer than two.
    """
    require(len(models) > 1, "mutual: one network has no peers: give two or more")
    names = named(len(models))
    each = list(zip(names, models, strict=True))

    def keys(key: Array | None) -> list[Array | None]:
        others = range(1, len(models))
        return [key, *(None if key is None else jax.random.fold_in(key, i) for i in others)]

    def init(key: Array, inputs: Array) -> Variables:
        own = zip(each, keys(key), strict=True)
        return together({name: model.init(k, inputs) for (name, model), k in own})  # type: ignore[arg-type]

    def forward(
        variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        said, updated = [], {}
        for (name, model), own in zip(each, keys(key), strict=True):
            found, updated[name] = model.forward(part(variables, name), inputs, train, own)
            said.append(found)
        peers = tuple(Outputs(x.logits.astype(jnp.float32), x.features) for x in said)
        return Outputs(said[0].logits, {PEERS: peers}), together(updated)  # type: ignore[dict-item]

    return Model(init, forward, members=len(models))


def first(network: Snapshot) -> Snapshot:
    """The network that is handed on, of that of `mutual` models."""
    variables = dict(part(network.variables, named(1)[0]))
    params = variables.pop("params")
    return Snapshot(params, variables, no_masks(params))
