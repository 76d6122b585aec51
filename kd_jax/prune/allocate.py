"""How much each layer keeps. Counts are exact host integers; thresholds are traced.

Where n·sparsity is no whole number it is rounded to the nearest, halves to even, with the sparsity
taken as the decimal number that was written (0.9 is nine tenths, not the nearest binary fraction).
Sizes are in units of the structure (see granularity): weights, blocks, filters.

The rule sensitivity, whose amounts are found in training by a scan (see sensitivity), is given
here what all layers may keep together.
"""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import floor, inf, prod
from typing import Any, Literal

import jax
import jax.numpy as jnp

from kd_jax.errors import UsageError, require, require_pattern, shortened
from kd_jax.tree import Tree, named_leaves

Array = jax.Array
Allocation = Literal["layer", "global", "erk", "sensitivity", "threshold", "std"]
Budget = Literal["units", "macs", "bytes"]
Counts = dict[str, int] | int | tuple[dict[str, int], int]


def _keep(size: int, sparsity: float) -> int:
    require(
        0 <= sparsity < 1, f"sparsity is {sparsity}: it must be at least 0 and less than 1 (0.9)."
    )
    return max(1, size - round(size * Fraction(str(sparsity))))


def counts(
    rule: Allocation,
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
    sparsity: float,
    amounts: Mapping[str, float] | None = None,
    most: Mapping[str, int] | None = None,
) -> Counts:
    """Units to keep: {layer: number}, or one number for all layers together.

    Args:
      amounts: {layer: sparsity of its own}. By the rules layer and erk the others then have what
        they would have without these; by global they together keep what makes the total exact,
        and the result is ({layer: number} of these, number of the others).
      most: {layer: number}, no more than which erk may give, as what is pruned stays pruned.
    """
    own = {name: _keep(sizes[name], s) for name, s in (amounts or {}).items()}
    rest = {name: size for name, size in sizes.items() if name not in own}
    if rule == "layer":
        return own | per_layer(rest, sparsity)
    if rule == "erk":
        return own | (erk(shapes, rest, sparsity, most) if rest else {})
    left = total(sizes, sparsity) - sum(own.values())
    require(
        rule != "sensitivity" or left >= len(rest),
        f"sparsity {sparsity:g} keeps {left} of the {sum(rest.values())} of {len(rest)} layers, "
        "and by allocation sensitivity each keeps one: lower it, or take allocation global",
    )
    if not own:
        return left
    require(
        0 < left <= sum(rest.values()),
        f"amounts keep {sum(own.values())}, and sparsity {sparsity:g} keeps "
        f"{left + sum(own.values())} in all: the other layers, of {sum(rest.values())}, can't make "
        "that up: change amounts, or sparsity",
    )
    return own, left


def room(budget: Budget, sizes: Mapping[str, int], sparsity: float) -> int | float:
    """What all layers may keep together, where sparsity is a fraction of a budget: a number of
    units; of macs, the share of those of the layers.

    Of bytes, weights of four bytes each, behind a bitmask of each layer.
    """
    if budget == "macs":
        return 1 - sparsity
    if budget == "units":
        return total(sizes, sparsity)
    bits, whole = sum(-(-size // 8) for size in sizes.values()), 4 * sum(sizes.values())
    left = int((whole * (1 - Fraction(str(sparsity))) - bits) // 4)
    require(
        left >= len(sizes),
        f"sparsity {sparsity:g} with budget bytes leaves no room: bitmasks alone take "
        f"{bits / whole:.2g} of the bytes: lower it",
    )
    return left


def per_layer(sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """{layer: units to keep} where each layer of n has the same sparsity: max(1, n − round(n·s)).

    A layer is never emptied, so a tiny one may end below the sparsity asked for.
    """
    return {name: _keep(size, sparsity) for name, size in sizes.items()}


def total(sizes: Mapping[str, int], sparsity: float) -> int:
    """Units to keep of all layers together: max(1, N − round(N·s)), N the sum of the sizes."""
    return _keep(sum(sizes.values()), sparsity)


def erk(
    shapes: Mapping[str, tuple[int, ...]],
    sizes: Mapping[str, int],
    sparsity: float,
    most: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """{layer: units to keep} by `erk_densities`. The total is that of `total`: fractions are cut
    off, and what is missing goes to the largest of them."""
    densities = erk_densities(shapes, sizes, sparsity)
    wanted = {name: densities[name] * size for name, size in sizes.items()}
    most = most or sizes
    keep = {name: min(max(1, floor(number)), most[name]) for name, number in wanted.items()}
    order = sorted(wanted, key=lambda name: floor(wanted[name]) - wanted[name])
    while (left := total(sizes, sparsity) - sum(keep.values())) != 0:
        step = 1 if left > 0 else -1
        can = [n for n in order[::step] if (keep[n] < most[n] if left > 0 else keep[n] > 1)]
        if not can:  # fewer than a unit a layer, or than may be kept
            break
        for name in can[: abs(left)]:
            keep[name] += step
    return keep


def erk_densities(
    shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int], sparsity: float
) -> dict[str, float]:
    """{layer: fraction that is kept}: Erdős-Rényi-Kernel, proportional to Σ shape / Π shape; layers
    that would keep more than all of their units are dense, and the others make up for it.

    Evci, Gale, Menick, Castro, Elsen, "Rigging the Lottery: Making All Tickets Winners", 2020,
    https://arxiv.org/abs/1911.11134.
    """
    gone = {name: floor(size * Fraction(str(sparsity))) for name, size in sizes.items()}
    raw = {name: sum(shapes[name]) / prod(shapes[name]) for name in sizes}
    dense: set[str] = set()
    while True:
        sparse = [name for name in sizes if name not in dense]
        if not sparse:
            return dict.fromkeys(sizes, 1.0)
        budget = sum(sizes[n] - gone[n] for n in sparse) - sum(gone[n] for n in dense)
        epsilon = budget / sum(raw[n] * sizes[n] for n in sparse)
        most = max(raw[n] for n in sparse)
        if epsilon * most <= 1:
            return {n: 1.0 if n in dense else epsilon * raw[n] for n in sizes}
        dense |= {n for n in sparse if raw[n] == most}


Field = Literal["amounts", "thresholds"]


def of_layers(field: Field, words: Sequence[str], layers: Sequence[str]) -> dict[str, float]:
    """{layer: number} of the layers that a PATTERN=NUMBER finds, the first one that does.

    Args:
      field: whose words they are: amounts are sparsities, thresholds are above 0.

    Raises UsageError, which begins with the field, for one that is not of this form or finds none.
    """
    found: dict[str, float] = {}
    for word in words:
        pattern, number = read_word(field, word)
        names = [name for name in layers if re.search(pattern, name)]
        require(
            bool(names),
            f"{field} {word!r} finds no layer that is pruned: change it. They are: "
            f"{', '.join(layers)}",
        )
        found = dict.fromkeys(names, number) | found
    return found


def read_word(field: Field, word: str) -> tuple[str, float]:
    """(pattern, number) of PATTERN=NUMBER."""
    pattern, equals, value = word.rpartition("=")
    what = {"amounts": "SPARSITY", "thresholds": "THRESHOLD"}[field]
    shown = shortened(repr(word))
    form = f"{field} {shown} is not of the form PATTERN={what}, such as Dense_0=0.9"
    require(bool(equals and pattern), form)
    try:
        number = float(value)
    except ValueError:
        raise UsageError(form) from None
    require_pattern(field, pattern)
    if field == "amounts":
        require(0 <= number < 1, f"amounts {shown}: the sparsity must be in [0, 1)")
    else:
        require(0 < number < inf, f"thresholds {shown}: a threshold must be above 0")
    return pattern, number


def std_thresholds(
    params: Tree, masks: Tree, quality: float | Array | Mapping[str, Any]
) -> dict[str, Array]:
    """{layer: q·σ}, σ the standard deviation of the layer's weights. Jit-able.

    Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural Networks",
    2015, https://arxiv.org/abs/1506.02626. The paper doesn't say which weights later rounds
    measure; here it is the unpruned ones, else the zeros would lower σ at each round.

    Args:
      quality: the paper's quality parameter q, one scalar or {layer: scalar}.
    """
    weights = named_leaves(params)
    thresholds = {}
    for name, mask in named_leaves(masks).items():
        w = jnp.asarray(weights[name], jnp.float32)
        kept = jnp.maximum(jnp.sum(mask, dtype=jnp.float32), 1)  # an emptied layer gives 0, not NaN
        mean = jnp.sum(jnp.where(mask, w, 0)) / kept
        variance = jnp.sum(jnp.where(mask, (w - mean) ** 2, 0)) / kept
        q = quality[name] if isinstance(quality, Mapping) else quality
        thresholds[name] = q * jnp.sqrt(variance)
    return thresholds


def surgery_thresholds(
    params: Tree, masks: Tree, c: float | Array | Mapping[str, Any]
) -> dict[str, Array]:
    """{layer: max(mean |w| + c·σ, 0)}, over the |w| that are not zero, c one scalar or {layer:
    scalar}. Jit-able.

    Guo, Yao, Chen, "Dynamic Network Surgery for Efficient DNNs", 2016,
    https://arxiv.org/abs/1608.04493; σ² = mean w² − (mean |w|)², as in its code.
    """
    weights, thresholds = named_leaves(params), {}
    for name in named_leaves(masks):
        w = jnp.abs(jnp.asarray(weights[name], jnp.float32))
        count = jnp.maximum(jnp.sum(w > 0, dtype=jnp.float32), 1)
        mean = jnp.sum(w) / count
        sigma = jnp.sqrt(jnp.maximum(jnp.sum(w**2) / count - mean**2, 0))
        factor = c[name] if isinstance(c, Mapping) else c
        thresholds[name] = jnp.maximum(mean + factor * sigma, 0)
    return thresholds
