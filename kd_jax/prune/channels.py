"""Which channels matter: criteria that score every unit of a group. Higher is kept.

A criterion is `(evidence) -> scores [units]`, or None of a group that it can't score, which is kept
whole; what it may look at is in unit_evidence.py.
"""

import dataclasses
import zlib
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from kd_jax.prune.unit_evidence import UnitEvidence, is_norm

Array = jax.Array


def l1(evidence: UnitEvidence) -> Array:
    """Σ|w| over the kernels that put the unit out.

    Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", 2017,
    https://arxiv.org/abs/1608.08710, section 3.1. Where several layers add into one stream, the
    paper reads the shortcut's kernel alone; this one all of them.
    """
    return jnp.sum(jnp.abs(evidence.produced(evidence.arrays)), axis=1)


def l2(evidence: UnitEvidence) -> Array:
    """The Euclidean norm of the kernels that put the unit out: ‖W_f‖₂, see l1."""
    return jnp.sqrt(jnp.sum(evidence.produced(evidence.arrays) ** 2, axis=1))


def group_norm(evidence: UnitEvidence) -> Array:
    """I_k = mean over all parameters of the group, those that read the unit too, of ‖W[k]‖².

    Fang, Ma, Song, Mi, Wang, "DepGraph: Towards Any Structural Pruning", 2023,
    https://arxiv.org/abs/2301.12900, equation 4, whose sum is the paper's; its code takes the mean.
    """
    squares = [jnp.sum(rows**2, axis=1) for rows in evidence.arrays.values()]
    return jnp.mean(jnp.stack(squares), axis=0)


def norm_scale(evidence: UnitEvidence) -> Array | None:
    """Mean |γ| of the norms that the unit goes through: parameters named `scale`.

    Liu, Li, Shen, Huang, Yan, Zhang, "Learning Efficient Convolutional Networks through Network
    Slimming", 2017, https://arxiv.org/abs/1708.06519. The penalty `slimming` draws them to zero.
    """
    scales = [rows for (leaf, _), rows in evidence.arrays.items() if is_norm(leaf)]
    return jnp.mean(jnp.abs(jnp.concatenate(scales, axis=1)), axis=1) if scales else None


def fpgm(evidence: UnitEvidence) -> Array:
    """Σ_j ‖W_k − W_j‖₂: the filter nearest to all others is the one that these can replace.

    He, Liu, Wang, Hu, Yang, "Filter Pruning via Geometric Median for Deep Convolutional Neural
    Networks Acceleration", 2019, https://arxiv.org/abs/1811.00250, equation 8.
    """
    rows = evidence.produced(evidence.arrays)
    from_one = lambda row: jnp.sum(jnp.sqrt(jnp.sum((rows - row[None]) ** 2, axis=1)))  # noqa: E731
    return jax.lax.map(from_one, rows)


def random(evidence: UnitEvidence) -> Array:
    """Uniform in [0, 1), a function of (key, group): the control for all others."""
    code = zlib.crc32(evidence.group.name.encode()) & 0x7FFFFFFF
    return jax.random.uniform(jax.random.fold_in(evidence.key, code), (evidence.group.size,))


def taylor(evidence: UnitEvidence) -> Array:
    """(Σ w·g)² over the kernels that put the unit out: the square of what the loss changes by, to
    first order, without them. The mean over batches.

    Molchanov, Mallya, Tyree, Frosio, Kautz, "Importance Estimation for Neural Network Pruning",
    2019, https://arxiv.org/abs/1906.10771, equation 8. Give a loss in evaluation mode: through a
    batch norm in training mode, which undoes any factor of a kernel, this sum is zero.
    """
    produced = evidence.produced
    return jnp.sum(produced(evidence.arrays) * produced(evidence.gradients), axis=1) ** 2


def taylor_norm(evidence: UnitEvidence) -> Array | None:
    """(γ·g_γ + β·g_β)², summed over the unit's norms before the square: the gradient of a gate of
    value 1 after them. The mean over batches.

    Molchanov et al. 2019, see taylor: its gates after batch norms, which it advises.
    """
    pairs = evidence.arrays, evidence.gradients
    norms = {leaf.rpartition("/")[0] for leaf, _ in evidence.arrays if is_norm(leaf)}
    own = [key for key in evidence.arrays if key[0].rpartition("/")[0] in norms]
    w, g = (jnp.concatenate([x[key] for key in own], axis=1) if own else None for x in pairs)
    return None if w is None or g is None else jnp.sum(w * g, axis=1) ** 2


def hessian(evidence: UnitEvidence) -> Array:
    """½ Σ h w² over all parameters of the unit, h = E[g²] the diagonal of the empirical Fisher
    information, g the gradient of one example's loss.

    LeCun, Denker, Solla, "Optimal Brain Damage", 1990,
    https://proceedings.neurips.cc/paper/1989/hash/6c9882bbac1c7093bd25041881277658-Abstract.html,
    whose h is that of the Gauss-Newton matrix; the Fisher information stands for the Hessian of a
    trained network's likelihood. Correlations between parameters are left out, as there.
    """
    arrays, gradients = evidence.arrays, evidence.gradients
    changes = [jnp.sum((arrays[key] * gradients[key]) ** 2, axis=1) for key in arrays]
    return jnp.sum(jnp.stack(changes), axis=0) / 2


def hrank(evidence: UnitEvidence) -> Array | None:
    """The mean rank of the unit's maps [H, W], after ReLU, over all examples.

    Lin, Ji, Wang, Zhang, Zhang, Tian, Shao, "HRank: Filter Pruning using High-Rank Feature Map",
    2020, https://arxiv.org/abs/2002.10179, which takes 500 images (its code 5 batches of 128).
    Of a stream that several layers add into, it is the mean over what each of them adds.
    """
    images = [units for units in evidence.maps if units.ndim == 5]
    return _mean_of(images, jnp.linalg.matrix_rank)


def activation(evidence: UnitEvidence) -> Array | None:
    """The mean of what ReLU leaves of the unit's values, over all examples and places.

    Molchanov, Tyree, Karras, Aila, Kautz, "Pruning Convolutional Neural Networks for Resource
    Efficient Inference", 2017, https://arxiv.org/abs/1611.06440, section 2.2.
    """
    return _mean_of(evidence.maps, lambda left: left)


def apoz(evidence: UnitEvidence) -> Array | None:
    """1 − APoZ, the share of the unit's values that ReLU leaves above zero.

    Hu, Peng, Tai, Tang, "Network Trimming: A Data-Driven Neuron Pruning Approach towards Efficient
    Deep Architectures", 2016, https://arxiv.org/abs/1607.03250, equation 1.
    """
    return _mean_of(evidence.maps, lambda left: left > 0)


def _mean_of(maps: Sequence[Array], function: Callable[[Array], Array]) -> Array | None:
    """[units]: the mean of a function of the maps after ReLU, which follows where they are seen."""
    found = [function(jax.nn.relu(units)) for units in maps]
    means = [jnp.mean(x.reshape(len(x), -1).astype(jnp.float32), axis=1) for x in found]
    return jnp.mean(jnp.stack(means), axis=0) if means else None


@dataclasses.dataclass(frozen=True)
class ChannelCriterion:
    """`criterion.score(evidence) -> scores`, see above; pure and jit-able."""

    score: Callable[[UnitEvidence], Array | None]
    needs: Literal["nothing", "gradients", "example_gradients", "maps"] = "nothing"
    """What it looks at beside the parameters: gradients of a loss on batches, or on single
    examples; or what modules put out."""
    of: str = "parameters"
    """What a group has that it can score."""


CHANNEL_CRITERIA: dict[str, ChannelCriterion] = {
    "l1": ChannelCriterion(l1),
    "l2": ChannelCriterion(l2),
    "group_norm": ChannelCriterion(group_norm),
    "norm_scale": ChannelCriterion(norm_scale, of="a norm"),
    "fpgm": ChannelCriterion(fpgm),
    "random": ChannelCriterion(random),
    "taylor": ChannelCriterion(taylor, "gradients"),
    "taylor_norm": ChannelCriterion(taylor_norm, "gradients", of="a norm"),
    "hessian": ChannelCriterion(hessian, "example_gradients"),
    "hrank": ChannelCriterion(hrank, "maps", of="maps of a convolution"),
    "activation": ChannelCriterion(activation, "maps", of="values that a module shows"),
    "apoz": ChannelCriterion(apoz, "maps", of="values that a module shows"),
}
