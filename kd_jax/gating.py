"""A network each of whose inputs goes through some of its units alone, as a gater says."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kd_jax import randomness
from kd_jax.config import Gate
from kd_jax.distill.connect import pool_to
from kd_jax.ensembles import part, together
from kd_jax.errors import require
from kd_jax.forward import Model, Outputs, Variables
from kd_jax.models.gater import LAST, Gater
from kd_jax.prune import scores
from kd_jax.prune.allocate import per_layer
from kd_jax.prune.gates import Gates, exact, gathered, masked, narrow
from kd_jax.shrinking import matching, traced
from kd_jax.state import Snapshot, no_masks

Array = jax.Array
BACKBONE, GATER = "backbone", "gater"  # the parts of its variables
SIDE = 8  # pixels of what the gater sees of an image


@dataclasses.dataclass(frozen=True, eq=False)
class Gated:
    """A network and its gater.

    Attributes:
      backbone: the network that is gated.
      model: both together, all units computed and then masked: it trains like any other model.
      gathered: the same in evaluation, with the logits alone: of each example only the units that
        it goes through are computed.
      chooser: its logits are the gates [B, units].
      gates: which groups have gates, and how many of their units are open.
      whole: the groups that have none, since for them a gate would not be a cut.
    """

    backbone: Model
    model: Model
    gathered: Model
    chooser: Model
    gates: Gates
    whole: tuple[str, ...]

    def begin(self, network: Snapshot, seeds: Sequence[int] = (0,)) -> Snapshot:
        """The network to train, [S, ...], from one of the backbone, [S, ...], and fresh gaters.

        A gater begins as if units were cut for good: for every input it chooses those of the
        highest norm (the criterion l2), which stand in its last layer's shifts; the kernel of this
        layer is zero.
        """
        structure = self.gates.structure
        example = jnp.zeros((1, *structure.input_shape[1:]), structure.dtype)

        def one(network: Snapshot, seed: Array) -> Snapshot:
            key = randomness.stream(seed, "gater")
            gater = self.chooser.init(key, example)["params"][GATER]
            found = scores(structure, network.variables, "l2", key)
            order = [_standard(found[group.name]) for group in self.gates.groups]
            zeros = jnp.zeros_like(gater[LAST]["kernel"])
            last = {"kernel": zeros, "bias": jnp.concatenate(order)}
            variables = together(
                {BACKBONE: network.variables, GATER: {"params": {**gater, LAST: last}}}
            )
            params = variables.pop("params")
            masks = {BACKBONE: network.masks, GATER: no_masks(params[GATER])}
            return Snapshot(params, variables, masks)

        return jax.vmap(one)(network, jnp.asarray(seeds, jnp.uint32))


def _standard(score: Array) -> Array:
    return (score - jnp.mean(score)) / jnp.maximum(jnp.std(score), 1e-6)


def of_stage(stage: Gate, backbone: Model, shape: tuple[int, ...]) -> Gated:
    """What a stage makes of the network it starts from; `shape` is of an example."""
    return gated(backbone, shape, stage.amount, stage.hidden, stage.keep)


@functools.lru_cache(maxsize=32)
def gated(
    backbone: Model,
    shape: tuple[int, ...],
    amount: float = 0.5,
    hidden: int = 32,
    keep: tuple[str, ...] = (),
) -> Gated:
    """A network whose every input goes through a part of each group of units.

    g(x) = winners within each group of a(x), a the gater's saliencies; the network's products see
    units u multiplied by g_u(x). Forward the gates are 1 and 0, and as many of a group are open for
    each input; backward they are sigmoids (straight through, see prune.gates).

    Gao, Zhao, Dudziak, Mullins, Xu, "Dynamic Channel Pruning: Feature Boosting and Suppression",
    2019, https://arxiv.org/abs/1810.05331, takes the k winners of a layer, by saliencies of the
    layer's own input, and multiplies what they put out by them; here one gater sees the network's
    input alone, so that all is known before the first layer, and gates are binary. Chen, Li,
    Bengio, Si, "You Look Twice: GaterNet for Dynamic Filter Selection in CNNs", 2019,
    https://arxiv.org/abs/1811.11205, has such a gater, a deep network, with noise and a penalty
    that closes as many gates as it comes to; here how many are open is given, the same for every
    input, and channels that hang together (a residual stream) share a gate.

    Args:
      shape: of an example.
      amount: fraction of the units of a group that each input goes without.
      hidden: units of the gater's hidden layer.
      keep: regular expressions of groups that have no gates.

    Raises:
      UsageError: nothing can be gated.
    """
    gates, whole = _gates(backbone, shape, amount, keep)
    gater, small = Gater(hidden, gates.units), narrow(backbone, gates)

    def chosen(variables: Variables, inputs: Array) -> Array:
        return gates.chosen(gater.apply(part(variables, GATER), _seen(inputs)))  # type: ignore[arg-type]

    def init(key: Array, inputs: Array) -> Variables:
        made = {GATER: dict(gater.init(key, _seen(inputs)))}
        return together({BACKBONE: backbone.init(key, inputs), **made})

    def forward_of(backbone: Model):
        def forward(
            variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
        ) -> tuple[Outputs, Variables]:
            own, opened = part(variables, BACKBONE), chosen(variables, inputs)
            said, updated = masked(backbone, gates, opened, own, inputs, train, key)
            return said, together({BACKBONE: updated})

        return forward

    def few(
        variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        del train, key
        own = part(variables, BACKBONE)

        def one(example: Array) -> Array:
            (opened,) = chosen(variables, example[None])
            return gathered(small, gates, opened, own, example[None])[0]

        logits = one(inputs[0])[None] if len(inputs) == 1 else jax.lax.map(one, inputs)
        return Outputs(logits), _rest(variables)

    def choose(
        variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        del train, key
        return Outputs(chosen(variables, inputs)), _rest(variables)

    def tapped(paths: tuple[str, ...]) -> Model:
        assert backbone.tapped is not None
        return Model(init, forward_of(backbone.tapped(paths)))

    model = Model(init, forward_of(backbone), tapped if backbone.tapped else None)
    return Gated(backbone, model, Model(init, few), Model(init, choose), gates, whole)


def _rest(variables: Variables) -> Variables:
    return {kind: tree for kind, tree in variables.items() if kind != "params"}


def _seen(inputs: Array) -> Array:
    """Images [B, H, W, C] pooled to at most 8x8; other inputs as they are."""
    if inputs.ndim != 4:
        return inputs
    return pool_to(inputs, min(SIDE, inputs.shape[1]), min(SIDE, inputs.shape[2]))


def _gates(
    backbone: Model, shape: tuple[int, ...], amount: float, keep: tuple[str, ...]
) -> tuple[Gates, tuple[str, ...]]:
    structure = traced(backbone, shape)
    names = {group.name: group.size for group in structure.groups}
    keep_whole = matching(keep, [*names])
    own = {name: size for name, size in names.items() if name not in keep_whole}
    require(bool(own) or not names, f"keep {' '.join(keep)}: nothing is left that could be gated")
    counts = {n: k for n, k in per_layer(own, amount).items() if k < names[n]}
    sizes = ", ".join(str(size) for size in own.values())
    require(
        bool(counts) or not own,
        f"amount {amount} is no unit of any group: they have {sizes}: raise it",
    )
    free = _exact(backbone, shape)  # last, since it takes a second
    require(
        any(name in free for name in counts),
        "start: nothing of this network can be gated: it has no channels or hidden units that work "
        "one by one between its products (see run.py inspect); Shrink may cut it",
    )
    counts = {name: count for name, count in counts.items() if name in free}
    return Gates(structure, counts), tuple(name for name in names if name not in free)


@functools.lru_cache(maxsize=32)
def _exact(backbone: Model, shape: tuple[int, ...]) -> tuple[str, ...]:
    return exact(backbone, traced(backbone, shape))
