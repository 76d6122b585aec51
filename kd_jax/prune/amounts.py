"""How many units of each group are kept, and what the network costs then."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_jax.cost import macs_of
from kd_jax.errors import require
from kd_jax.prune.allocate import per_layer
from kd_jax.prune.evaluate import Sizes
from kd_jax.prune.groups import Structure
from kd_jax.prune.labels import Node, Program

Scores = Mapping[str, Any]


def choose(
    structure: Structure,
    scores: Scores,
    amount: float | None = None,
    *,
    macs: float | None = None,
    together: bool = False,
    multiple_of: int = 1,
) -> dict[str, np.ndarray]:
    """The units with the highest scores of each group, {group: [k]}.

    Args:
      scores: {group: [units]}; or [S, units] for S networks: as many are kept in all of them,
        those that score highest in each, by the mean over networks where groups compete.
      amount: the fraction of units that are cut, of each group or of all together.
      macs: instead, the share of multiply-accumulates to come down to.
      together: whether all groups compete, each group's scores divided by their mean.
      multiple_of: kept counts are rounded up to a multiple of it, where there are as many.
    """
    require((amount is None) != (macs is None), "give an amount of units, or a share of macs")
    require(multiple_of >= 1, f"multiple_of is {multiple_of}: it must be at least 1")
    found = {name: np.asarray(score, np.float64) for name, score in scores.items()}
    counts = lambda share: _counts(found, share, together, multiple_of)  # noqa: E731
    kept = counts(amount) if macs is None else _down_to(structure, counts, macs)
    return {name: _highest(score, kept[name]) for name, score in found.items()}


def _highest(score: np.ndarray, count: int) -> np.ndarray:
    """The indices of the highest, in order; ties go to the lower index."""
    order = np.argsort(-np.nan_to_num(score, nan=-np.inf), axis=-1, kind="stable")
    return np.sort(order[..., :count], axis=-1)


def _counts(
    scores: Mapping[str, np.ndarray], amount: float, together: bool, multiple_of: int
) -> dict[str, int]:
    sizes = {name: score.shape[-1] for name, score in scores.items()}
    mean = {n: s.reshape(-1, s.shape[-1]).mean(axis=0) for n, s in scores.items()}
    open_ = {name: n for name, n in sizes.items() if not np.isposinf(mean[name]).all()}
    counts = sizes | per_layer(open_, amount)
    if together and open_:
        counts = sizes | _competing({name: mean[name] for name in open_}, amount)
    up = {name: -(-count // multiple_of) * multiple_of for name, count in counts.items()}
    return {name: min(up[name], sizes[name]) for name in counts}


def _competing(scores: Mapping[str, np.ndarray], amount: float) -> dict[str, int]:
    """How many of each group are among the best of all; at least 1."""
    scaled = {name: score / max(score.mean(), 1e-30) for name, score in scores.items()}
    everything = np.concatenate(list(scaled.values()))
    kept = np.zeros(len(everything), bool)
    (count,) = per_layer({"": len(everything)}, amount).values()
    kept[_highest(everything, count)] = True
    ends = np.cumsum([len(score) for score in scaled.values()])[:-1]
    return {n: max(1, int(k.sum())) for n, k in zip(scaled, np.split(kept, ends), strict=True)}


def _down_to(structure: Structure, counts: Any, share: float) -> dict[str, int]:
    """The counts of the least amount that brings the work down to a share of it."""
    require(0 < share <= 1, f"macs is {share}: it must be above 0 and at most 1")
    whole = macs(structure, {})
    low, high = 0.0, 0.9999
    least = macs(structure, counts(high))
    require(
        least <= share * whole,
        f"macs is {share}: with one unit left of each group it is still {least / whole:.3g}",
    )
    for _ in range(14):
        middle = round((low + high) / 2, 6)
        enough = macs(structure, counts(middle)) <= share * whole
        low, high = (low, middle) if enough else (middle, high)
    return counts(high)


def macs(structure: Structure, counts: Mapping[str, int]) -> int:
    """Multiply-accumulates of the network with so many units of each group, for a batch of
    structure.input_shape, counted as cost.macs does."""
    indices = structure.indices(structure.first(counts))
    return _macs(structure.program, Sizes(structure.graph, indices))


def _macs(program: Program, sizes: Sizes) -> int:
    return sum(_node_macs(node, sizes) for node in program.nodes)


def _node_macs(node: Node, sizes: Sizes) -> int:
    params, name = node.eqn.params, node.eqn.primitive.name
    if name in ("dot_general", "conv_general_dilated"):
        left, right, out = (sizes.shape(state) for state in (*node.ins, *node.outs))
        return macs_of(name, params, left, right, out)
    inner = [_macs(program, sizes) for program in node.inner]
    if name == "scan":
        return params["length"] * sum(inner)
    # A branch is one of several; a function's own derivative is not part of it.
    return max(inner) if name == "cond" else sum(inner[:1])
