"""What a Quantize stage makes of the network it starts from: which of it lies on grids, and where
these are, from the stage's own data."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import size
from kd_jax.config_quantize import Quantize
from kd_jax.data import Dataset
from kd_jax.errors import require
from kd_jax.forward import Model, Variables
from kd_jax.quantize import Grid, Layout, Seen, quantised
from kd_jax.quantize.codebooks import cluster, means
from kd_jax.quantize.mixed import CHOICES, OF_CODEBOOKS, mixed
from kd_jax.quantize.network import CODES, INPUTS, WEIGHTS, beside, inputs_of, sites
from kd_jax.quantize.ranges import histogram
from kd_jax.shrinking import examples, loss_of
from kd_jax.state import Snapshot, no_masks
from kd_jax.tree import map_named, named_leaves, row

Array = jax.Array
Bits = dict[str, int]
INSTEAD = "leave inputs at 0 and size out"


def of_stage(stage: Quantize, model: Model, shape: tuple[int, ...]) -> Model:
    """The network that a stage trains; `shape` is of an example.

    Raises:
      UsageError: it begins with a field's name.
    """
    return _quantised(model, layout_of(stage, model, shape))


_quantised = functools.lru_cache(maxsize=32)(quantised)


def layout_of(stage: Quantize, model: Model, shape: tuple[int, ...]) -> Layout:
    """What of a network a stage puts on grids."""
    names, at = _layers(model, shape, stage.include, stage.exclude)
    uniform = stage.values == "uniform"
    inputs = tuple(name for name in names if name in at) if stage.inputs else ()
    require(
        not stage.inputs or bool(inputs),
        f"inputs {stage.inputs}: no layer of this network has inputs that could be quantised: "
        "set it to 0",
    )
    _bits(stage, names)
    return Layout(
        weights=names if uniform else (),
        inputs=inputs,
        codes=() if uniform else names,
        channels=stage.per == "channel",
        learned=stage.scales == "learned",
        mean=stage.centroids == "mean",
    )


@functools.lru_cache(maxsize=32)
def _layers(
    model: Model, shape: tuple[int, ...], include: tuple[str, ...], exclude: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(the parameters that patterns choose, the kernels whose inputs can be quantised)."""
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), example)
    leaves = {n: leaf for n, leaf in named_leaves(variables["params"]).items() if leaf.ndim > 1}
    for field, patterns in (("include", include), ("exclude", exclude)):
        for pattern in patterns:
            idle = field == "include" and pattern in Quantize.include
            require(
                idle or any(re.search(pattern, name) for name in leaves),
                f"{field} {pattern!r} finds no kernel: change it. They are: {', '.join(leaves)}",
            )
    matches = lambda patterns, name: any(re.search(p, name) for p in patterns)  # noqa: E731
    names = tuple(n for n in leaves if matches(include, n) and not matches(exclude, n))
    require(bool(names), f"include {' '.join(include)}: nothing is left to quantise: change it")
    return names, sites(model, variables, example)


def begin(stage: Quantize, model: Model, data: Dataset, network: Snapshot) -> Snapshot:
    """The networks to train, or to keep as they are, from those that the stage starts from, both
    [S, ...]. All have the same bits.

    Raises:
      UsageError: it begins with a field's name.
    """
    layout = layout_of(stage, model, data.spec.shape)
    names = layout.weights or layout.codes
    bits = _found(stage, model, data, network, names) if stage.size else _bits(stage, names)
    weights, params = named_leaves(network.params), network.params
    grids = {name: _grid(stage, weights[name], bits[name]) for name in layout.weights}
    codes = {name: _cluster(weights[name], bits[name]) for name in layout.codes}
    if codes:
        centred = lambda name, w: _means(w, codes[name]) if name in codes else w  # noqa: E731
        params = map_named(centred, params)
    parts = {WEIGHTS: grids, INPUTS: {}, CODES: codes}
    if layout.inputs:
        on = lambda name, w: _values(grids[name], w) if name in grids else w  # noqa: E731
        near = {**network.variables, "params": map_named(on, params)}
        batches = [x for x, _ in examples(stage, data, stage.batches, "inputs", INSTEAD)]
        parts[INPUTS] = _input_grids(stage, model, near, layout.inputs, batches)
    variables = beside(layout, {**network.variables, "params": params}, parts)
    params = variables.pop("params")
    return Snapshot(params, variables, {**no_masks(params), **network.masks})


def quantised_network(
    stage: Quantize, model: Model, data: Dataset, network: Snapshot
) -> tuple[Model, Snapshot]:
    """(model, network [S, ...]) on grids, as the stage says, of a network [S, ...]: to be evaluated
    as it is, or trained by `fit`, of this stage or of any other. Nothing is trained here.

    Raises:
      UsageError: it begins with a field's name.
    """
    found = begin(stage, model, data, network)
    return of_stage(stage, model, data.spec.shape), found


_cluster = jax.jit(jax.vmap(cluster, (0, None)))
_means = jax.jit(jax.vmap(means))
_values = jax.jit(jax.vmap(Grid.__call__))


def _bits(stage: Quantize, names: Sequence[str]) -> Bits:
    """{layer: bits} as the stage says: of patterns that find a layer, the first counts."""
    own: Bits = {}
    for pattern, bits in stage.own_bits:
        found = [name for name in names if re.search(pattern, name)]
        require(
            bool(found),
            f"layer-bits {pattern}={bits} finds no layer that is quantised: change it. They are: "
            f"{', '.join(names)}",
        )
        own = dict.fromkeys(found, bits) | own
    return {name: own.get(name, stage.bits) for name in names}


def _grid(stage: Quantize, w: Array, bits: int) -> Grid:
    """The grid of a kernel [S, ...]; zero, low and high are one for all channels."""

    @jax.jit
    @jax.vmap
    def of_one(w: Array) -> Grid:
        rows = jnp.moveaxis(w, -1, 0).reshape(w.shape[-1], -1)
        rows = rows if stage.per == "channel" else rows.reshape(1, -1)
        seen = jax.vmap(Seen.of)(rows)
        # Of weights that are there: with zeros the mean would tell how many were pruned.
        alive = jnp.maximum(jnp.sum(rows != 0, axis=1), 1)
        seen = dataclasses.replace(seen, mean=jnp.sum(jnp.abs(rows), axis=1) / alive)
        ranges = jax.vmap(lambda seen: stage.weight_calibration(seen, jnp.asarray(bits), True))
        least, most = ranges(seen)
        extent = jnp.maximum(-least, most).reshape((1,) * (w.ndim - 1) + (-1,))
        return Grid.symmetric(extent, bits)

    return of_one(w)


def _input_grids(
    stage: Quantize,
    model: Model,
    variables: Variables,
    names: Sequence[str],
    batches: Sequence[Array],
) -> dict[str, Grid]:
    """{kernel: the grid of its inputs [S]}: in a first round their range is seen, in a second how
    they lie in it."""

    def extremes(variables: Variables, x: Array) -> Any:
        found = inputs_of(model, variables, x)
        join = lambda name: jnp.concatenate([x.reshape(-1) for x in found[name]])  # noqa: E731
        each = {name: join(name) for name in names}
        return {n: (jnp.min(x), jnp.max(x), jnp.mean(jnp.abs(x))) for n, x in each.items()}

    def counts(variables: Variables, extents: dict[str, Array], x: Array) -> Any:
        found = inputs_of(model, variables, x)
        return {n: sum(histogram(x, extents[n]) for x in found[n]) for n in names}

    first = jax.jit(jax.vmap(extremes, (0, None)))
    each = [first(variables, x) for x in batches]
    joined = {
        n: [jnp.stack(part) for part in zip(*(one[n] for one in each), strict=True)] for n in names
    }
    least = {name: jnp.min(joined[name][0], axis=0) for name in names}
    most = {name: jnp.max(joined[name][1], axis=0) for name in names}
    mean = {name: jnp.mean(joined[name][2], axis=0) for name in names}
    extents = {name: jnp.maximum(-least[name], most[name]) for name in names}
    second = jax.jit(jax.vmap(counts, (0, 0, None)))
    many = functools.reduce(
        lambda a, b: jax.tree.map(jnp.add, a, b), (second(variables, extents, x) for x in batches)
    )

    @jax.jit
    @jax.vmap
    def grid(seen: Seen) -> Grid:
        return Grid.affine(*stage.calibration(seen, jnp.asarray(stage.inputs), False), stage.inputs)

    return {n: grid(Seen(least[n], most[n], many[n], mean[n])) for n in names}


def _found(
    stage: Quantize, model: Model, data: Dataset, network: Snapshot, names: Sequence[str]
) -> Bits:
    """{layer: bits} for the stage's size: the loss is the mean over all networks and batches."""
    assert stage.size is not None
    codebook = stage.values == "codebook"
    choices = OF_CODEBOOKS if codebook else CHOICES
    batches = examples(stage, data, stage.batches, "size", INSTEAD)
    one = jax.jit(jax.vmap(loss_of(model, data), (0, None)))
    mean = lambda variables: float(jnp.mean(jnp.stack([one(variables, b) for b in batches])))  # noqa: E731
    weights = named_leaves(network.params)

    def alone(name: str, bits: int) -> float:
        w = weights[name]
        new = _means(w, _cluster(w, bits)) if codebook else _values(_grid(stage, w, bits), w)
        put = lambda other, leaf: new if other == name else leaf  # noqa: E731
        return mean({**network.variables, "params": map_named(put, network.params)})

    loss = {name: {bits: alone(name, bits) for bits in choices} for name in names}
    room = stage.size * size.dense_bytes(*row((network.params, network.collections), 0))
    first = row(weights, 0)
    others = {name: w for name, w in first.items() if name not in names}
    rest = size.dense_bytes(others, row(network.collections, 0))
    sizes = {name: {bits: _stored(stage, first[name], bits) for bits in choices} for name in names}
    return mixed(loss, sizes, room - rest)


def _stored(stage: Quantize, w: Array, bits: int) -> int:
    """Bytes of a kernel at so many bits; see size.CONVENTION."""
    kept = int(np.count_nonzero(w))
    if stage.values == "codebook":
        return size.coded_bytes(w.size, kept, 2**bits)
    scales = w.shape[-1] if stage.per == "channel" else 1
    return size.grid_bytes(w.size, kept, bits, scales)
