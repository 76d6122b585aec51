"""Which weights matter: scores of every entry of every parameter. Higher is kept longer.

Criteria that need data are shown batches of the stage's own when masks change, and at no other
time: nothing is kept from step to step, and ordinary steps compute no dense gradients.
"""

import zlib
from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.errors import require_between
from kd_jax.prune.evidence import Evidence, mean
from kd_jax.prune.masks import within
from kd_jax.tree import Tree, map_named, traceable

Array = jax.Array


@traceable
class Criterion:
    """`criterion(evidence) -> scores`, a tree congruent with params; pure and jit-able. Its fields
    are flags; those annotated float may be swept."""

    def __call__(self, evidence: Evidence) -> Tree:
        raise NotImplementedError

    rewrites: ClassVar[bool] = False
    """Whether it changes the weights that are left, by `rewrite`; see reconstruction."""

    @property
    def looks_at(self) -> int:
        """How many batches of the stage's data it is shown."""
        return 0


@traceable
class DataCriterion(Criterion):
    """A criterion that looks at data: the batches that training would take next."""

    batches: int = 1
    """How many batches of the stage's own data it looks at when masks change."""

    def __post_init__(self) -> None:
        require_between(f"{type(self).__name__}.batches", self.batches, 1)

    @property
    def looks_at(self) -> int:
        return self.batches


@traceable
class Magnitude(Criterion):
    """|w|.

    Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks",
    2015, https://arxiv.org/abs/1506.02626.
    """

    def __call__(self, evidence: Evidence) -> Tree:
        return jax.tree.map(jnp.abs, evidence.params)


@traceable
class Random(Criterion):
    """Uniform in [0, 1), a function of (key, parameter's name, shape): the control for all others.

    A layer's scores don't change when another layer is added or renamed.
    """

    def __call__(self, evidence: Evidence) -> Tree:
        def score(name: str, w: Array) -> Array:
            code = zlib.crc32(name.encode()) & 0x7FFFFFFF
            return jax.random.uniform(jax.random.fold_in(evidence.key, code), w.shape)

        return map_named(score, evidence.params)


@traceable
class Taylor(DataCriterion):
    """|w·g|, g the gradient of the stage's loss: how much the loss changes, to first order, where w
    becomes zero.

    Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource
    Efficient Inference", 2017, https://arxiv.org/abs/1611.06440; there of whole feature maps, by
    their activations, here of weights.
    """

    def __call__(self, evidence: Evidence) -> Tree:
        return jax.tree.map(lambda w, g: jnp.abs(w * g), evidence.params, evidence.gradient())


@traceable
class SNIP(Taylor):
    """|w·g| / Σ|w·g|, the sum over all prunable weights: the sensitivity of the loss to a factor
    c = 1 before each weight.

    Lee, Ajanthan, Torr, "SNIP: Single-shot Network Pruning based on Connection Sensitivity", 2019,
    https://arxiv.org/abs/1810.02340. Meant for --prune.schedule one_shot and --prune.allocation
    global, from fresh parameters. The reference code also prunes biases, and then draws the
    weights anew; here they are those that were scored.
    """

    def __call__(self, evidence: Evidence) -> Tree:
        scores = Taylor.__call__(self, evidence)
        total = sum(map(jnp.sum, jax.tree.leaves(within(evidence.masks, scores))))
        return jax.tree.map(lambda s: s / (total + 1e-30), scores)


@traceable
class GraSP(DataCriterion):
    """w ⊙ H g: weights stay whose removal would lessen the gradient's norm, to first order.

    Wang, Zhang, Grosse, "Picking Winning Tickets Before Training by Preserving Gradient Flow",
    2020, https://arxiv.org/abs/2002.07376. The paper's score is −w ⊙ H g and it removes the highest
    ones. g and H are those of the cross-entropy with the labels by the weights that are left, of
    logits divided by T; the reference code takes 10 examples of each class.
    """

    temperature: float = 200.0
    """T > 0, which logits are divided by."""

    def __post_init__(self) -> None:
        DataCriterion.__post_init__(self)
        require_between("GraSP.temperature", self.temperature, 0, open_low=True)

    def __call__(self, evidence: Evidence) -> Tree:
        def loss_of(inputs: Array, targets: Array):
            def loss(params: Tree) -> Array:
                said = evidence.logits(params, inputs, train=True)
                return cross_entropy(said / self.temperature, targets)

            return loss

        pairs = zip(evidence.inputs, evidence.targets, strict=True)
        gradients = [jax.grad(loss_of(*pair)) for pair in pairs]
        params = evidence.params
        g = within(evidence.masks, mean([gradient(params) for gradient in gradients]))
        hg = mean([jax.jvp(gradient, (params,), (g,))[1] for gradient in gradients])
        return jax.tree.map(jnp.multiply, params, hg)


@traceable
class SynFlow(Criterion):
    """|∂R/∂w · w| of the network with |w| everywhere, R the sum of its outputs of an input of ones:
    the flow through all paths that a weight is part of. No data.

    Tanaka, Kunin, Yamins, Ganguli, "Pruning neural networks without any data by iteratively
    conserving synaptic flow", 2020, https://arxiv.org/abs/2006.05467. Meant for
    --prune.schedule.rounds 100 of one_shot, and --prune.allocation global. In evaluation mode,
    with absolute batch statistics, as in the reference code. That needs double precision for deep
    networks; here the input and R are scaled by a power of two where R would not fit into float32,
    which changes no score where biases and shifts are zero, as they are at first.
    """

    def __call__(self, evidence: Evidence) -> Tree:
        params, collections = jax.tree.map(jnp.abs, (evidence.params, evidence.collections))
        assert evidence.network is not None
        network = evidence.network
        ones = jnp.ones((1, *evidence.shape), jnp.float32)

        def flow(params: Tree, scale: Array) -> Array:
            said = network(params, collections, ones * scale, False).astype(jnp.float32)
            return jnp.sum(said) * scale

        size = jnp.log2(flow(params, jnp.float32(2.0**-110))) + 220  # of R itself, if it is large
        half = jnp.where(size > 100, jnp.round(size / 2), 0.0)
        gradient = jax.grad(flow)(params, jnp.ldexp(jnp.float32(1), -half.astype(jnp.int32)))
        return jax.tree.map(lambda w, g: jnp.abs(w * g), params, gradient)


def cross_entropy(logits: Array, targets: Array) -> Array:
    """The mean over a batch, in nats."""
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), axis=-1))
