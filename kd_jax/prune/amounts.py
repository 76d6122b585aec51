"""How many units of each group are kept, and what the network costs then."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from kd_jax.cost import macs_of
from kd_jax.errors import require
from kd_jax.prune.allocate import per_layer
from kd_jax.prune.evaluate import Sizes
from kd_jax.prune.groups import Structure
from kd_jax.prune.labels import Node, Program
from kd_jax.prune.sensitivity import allot
from kd_jax.prune.unit_scan import UnitScan

Scores = Mapping[str, Any]
Counts = dict[str, int]
Cost = Callable[[Counts], float]


def choose(
    structure: Structure,
    scores: Scores,
    amount: float | None = None,
    *,
    macs: float | None = None,
    size: float | None = None,
    cost: tuple[Cost, float] | None = None,
    together: bool = False,
    scan: UnitScan | None = None,
    multiple_of: int = 1,
) -> dict[str, np.ndarray]:
    """The units with the highest scores of each group, {group: [k]}.

    Args:
      scores: {group: [units]}; or [S, units] for S networks: as many are kept in all of them,
        those that score highest in each, by the mean over networks where groups compete.
      amount: the fraction of units that are cut, of each group or of all together.
      macs: instead, the share of multiply-accumulates to come down to.
      size: instead, the share of the numbers in all variables to come down to.
      cost: instead, what {group: units kept} costs, and the share of the full network's to come
        down to.
      together: whether all groups compete, each group's scores divided by their mean.
      scan: how much each group loses is found by what its loss costs; see `scan_units`.
      multiple_of: kept counts are rounded up to a multiple of it, where there are as many.
    """
    given = [x is not None for x in (amount, macs, size, cost)]
    require(sum(given) == 1, "give one of an amount of units, a share of macs, size, or a cost")
    require(multiple_of >= 1, f"multiple_of is {multiple_of}: it must be at least 1")
    require(not together or scan is None, "groups compete by scores, or by a scan: not by both")
    found = {name: np.asarray(score, np.float64) for name, score in scores.items()}
    of_structure = lambda function: functools.partial(function, structure)  # noqa: E731
    by_macs = macs is not None or cost is not None
    spent = _unit_costs(structure, found, by_macs, size is not None) if scan is not None else {}

    def counts(amount: float) -> Counts:
        return _counts(found, amount, together, multiple_of, scan, spent)

    if macs is not None:
        kept = _down_to("macs", of_structure(macs_of_units), counts, macs)
    elif size is not None:
        kept = _down_to("size", of_structure(numbers), counts, size)
    elif cost is not None:
        kept = _down_to("cost", cost[0], counts, cost[1], steps=8)
    else:
        assert amount is not None
        kept = counts(amount)
    return {name: _highest(score, kept[name]) for name, score in found.items()}


def _unit_costs(
    structure: Structure, scores: Scores, by_macs: bool, by_size: bool
) -> dict[str, float]:
    """{group: what one of its units costs}, a mean over those of the full network."""
    if not by_macs and not by_size:
        return dict.fromkeys(scores, 1.0)
    total = macs_of_units if by_macs else numbers
    units = {group.name: group.size for group in structure.groups}
    whole = total(structure, {})
    return {
        name: (whole - total(structure, {name: 1})) / max(units[name] - 1, 1) for name in scores
    }


def _highest(score: np.ndarray, count: int) -> np.ndarray:
    """The indices of the highest, in order; ties go to the lower index."""
    order = np.argsort(-np.nan_to_num(score, nan=-np.inf), axis=-1, kind="stable")
    return np.sort(order[..., :count], axis=-1)


def _counts(
    scores: Mapping[str, np.ndarray],
    amount: float,
    together: bool,
    multiple_of: int,
    scan: UnitScan | None,
    costs: Mapping[str, float],
) -> Counts:
    sizes = {name: score.shape[-1] for name, score in scores.items()}
    mean = {n: s.reshape(-1, s.shape[-1]).mean(axis=0) for n, s in scores.items()}
    open_ = {name: n for name, n in sizes.items() if not np.isposinf(mean[name]).all()}
    counts = sizes | per_layer(open_, amount)
    if together and open_:
        counts = sizes | _competing({name: mean[name] for name in open_}, amount)
    if scan is not None and open_:
        counts = sizes | _allotted(scan.mean(), {n: costs[n] for n in open_}, amount)
    up = {name: -(-count // multiple_of) * multiple_of for name, count in counts.items()}
    return {name: min(up[name], sizes[name]) for name in counts}


def _allotted(scan: UnitScan, costs: Mapping[str, float], amount: float) -> Counts:
    """How many units of each group a scan leaves of a share of what they cost."""
    kept = np.stack([scan.kept[name] for name in costs])
    losses, price = np.stack([scan.losses[name] for name in costs]), np.array([*costs.values()])
    room = (1 - amount) * float(price @ kept[:, 0])
    given = allot(jnp.asarray(losses), jnp.asarray(kept), jnp.asarray(price, jnp.float32), room)
    return dict(zip(costs, map(int, given), strict=True))


def _competing(scores: Mapping[str, np.ndarray], amount: float) -> dict[str, int]:
    """How many of each group are among the best of all; at least 1."""
    scaled = {name: score / max(score.mean(), 1e-30) for name, score in scores.items()}
    everything = np.concatenate(list(scaled.values()))
    kept = np.zeros(len(everything), bool)
    (count,) = per_layer({"": len(everything)}, amount).values()
    kept[_highest(everything, count)] = True
    ends = np.cumsum([len(score) for score in scaled.values()])[:-1]
    return {n: max(1, int(k.sum())) for n, k in zip(scaled, np.split(kept, ends), strict=True)}


def _down_to(
    name: str, cost: Cost, counts: Callable[[float], Counts], share: float, steps: int = 14
) -> Counts:
    """The counts of the least amount that brings the cost down to a share of it."""
    require(0 < share <= 1, f"{name} is {share}: it must be above 0 and at most 1")
    whole = cost({})
    low, high = 0.0, 0.9999
    least = cost(counts(high))
    require(
        least <= share * whole,
        f"{name} is {share}: with one unit left of each group it is still {least / whole:.3g}",
    )
    for _ in range(steps):
        middle = round((low + high) / 2, 6)
        enough = cost(counts(middle)) <= share * whole
        low, high = (low, middle) if enough else (middle, high)
    return counts(high)


def macs_of_units(structure: Structure, counts: Mapping[str, int]) -> int:
    """Multiply-accumulates of the network with so many units of each group, for a batch of
    structure.input_shape, counted as cost.macs does."""
    indices = structure.indices(structure.first(counts))
    return _macs(structure.program, Sizes(structure.graph, indices))


def numbers(structure: Structure, counts: Mapping[str, int]) -> int:
    """Of all variables of the network with so many units of each group."""
    indices = structure.indices(structure.first(counts))

    def left(name: str, shape: tuple[int, ...]) -> int:
        axes = indices.get(name, {})
        return math.prod(len(axes[a]) if a in axes else n for a, n in enumerate(shape))

    return sum(left(name, shape) for name, shape in structure.shapes.items())


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
