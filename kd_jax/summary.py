"""A finished run's networks, measured: the one place where test examples are read."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import (
    checks,
    cka,
    compiled,
    cost,
    latency,
    metrics,
    results,
    savings,
    size,
    sparse,
    transfer,
    tree,
)
from kd_jax.augment import normalise
from kd_jax.config import Fuse
from kd_jax.data import Split
from kd_jax.environment import environment
from kd_jax.errors import UsageError
from kd_jax.forward import Model
from kd_jax.loop import Reporter, Silent
from kd_jax.prune import masks as masks_lib
from kd_jax.results import DataFacts, Layer, Results, Row
from kd_jax.reuse import REUSED
from kd_jax.runs import Run
from kd_jax.state import Snapshot

TIMED = 12  # pruned or gated networks, at most, that are timed without what they do not need


def summarise(
    run: Run, command: str, report: Reporter, changes: Sequence[str] | None = None
) -> Results:
    """Evaluates the network of every finished stage on the whole test split, for all seeds;
    compares its features with its teacher's; counts its parameters, multiply-adds and bytes; and
    measures its latency.

    Args:
      command: by which it was made, and what that `changes` in the experiment as it is written. If
        nothing was trained since the folder's results were written, what they say of it stays.
    """
    began = time.monotonic()
    order = run.done or run.experiment.order()
    report.note("evaluating on the test set")
    logits = {stage: _test_logits(run, stage) for stage in order}
    alike = _similarities(run, order, report)
    first, images = {stage: _first_network(run, stage) for stage in order}, _batches(run)
    report.note("measuring latency")
    timings = latency.measure({s: (run.model(s), n.variables) for s, n in first.items()}, images)
    left_out, saved = (find(run, first, images, report) for find in (_sparse, _savings))

    def found(stage: str) -> dict[str, Any]:
        known = {"similarity": alike.get(stage), "latency": timings[stage]}
        return known | {"sparse": left_out.get(stage, {}), "gating": saved.get(stage)}

    rows = [_row(run, stage, logits, found(stage)) for stage in order]
    sizes = {split: len(getattr(run.data, split)) for split in ("train", "validation", "test")}
    seconds = sum(row.seconds for row in rows) + time.monotonic() - began
    spec = run.data.spec
    classes = spec.names or map(str, range(spec.classes))
    made = {"command": command, "changes": changes, "seconds": seconds}
    return Results(
        **(_as_made(run, rows) or made),
        experiment=run.experiment.name,
        fingerprint=run.folder.name.removeprefix(f"{run.experiment.name}-"),
        seeds=[seed for seeds in run.groups for seed in seeds],
        environment=environment(),
        data=DataFacts(name=spec.name, note=spec.note, classes=tuple(classes), **sizes),
        rows=rows,
    )


def _as_made(run: Run, rows: Sequence[Row]) -> dict[str, Any] | None:
    """How the folder's results were made, if they are of the same training as these rows."""
    try:
        before = results.read(run.folder)
    except UsageError:  # there are none, or damaged ones: they will be written anew
        return None
    training = lambda rows: [(row.stage, row.seconds) for row in rows]  # noqa: E731
    same = training(before.rows) == training(rows)
    names = ("command", "changes", "seconds")
    return {name: getattr(before, name) for name in names} if same else None


def histories(run: Run, report: Reporter | None = None) -> dict[str, list[dict[str, Any]]]:
    """{stage: its records}, the lists of all seeds joined; what can't be read of them is told."""
    said = [line for stage in run.done for line in run.lost(stage)]
    for line in dict.fromkeys(said):  # stages that train together have one file
        (report or Silent()).note(line)
    return {stage: run.history(stage) for stage in run.done}


def _test_logits(run: Run, stage: str) -> tuple[np.ndarray, np.ndarray]:
    """(logits [S, N, K] of all seeds, labels [N])."""
    return _test_outputs(run, stage, run.model(stage))


def _test_outputs(run: Run, stage: str, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """As `_test_logits`, of any model of its variables."""
    data = run.data
    predict = compiled.predictor(model, data.spec)
    found = [
        metrics.predictions(predict, run.network(stage, seeds), data.test) for seeds in run.groups
    ]
    return np.concatenate([logits for logits, _ in found]), found[0][1]


def _similarities(run: Run, order: Sequence[str], report: Reporter) -> dict[str, cka.Similarity]:
    """{stage: how alike its networks' features and their teacher's are}, of all seeds."""
    places = cka.places(len(run.data.test))
    if not places.size:
        return {}
    report.note("comparing features with the teacher's")
    inputs = _images(run, places)

    def layers(stage: str) -> cka.Layers:
        given = run.model(stage), run.data.spec
        parts = [cka.layers(*given, run.network(stage, seeds), inputs) for seeds in run.groups]
        return cka.Layers(parts[0].names, np.concatenate([part.vectors for part in parts]))

    known = functools.lru_cache(maxsize=1)(layers)  # a teacher teaches several in turn
    alike = {}
    for stage in order:
        reference = run.reference(stage, order)
        if reference != stage:
            ours, theirs = layers(stage), known(reference)
            found = cka.similarity(ours, theirs).tolist()
            alike[stage] = cka.Similarity(layers=ours.names, others=theirs.names, cka=found)
    return alike


def _sparse(
    run: Run, first: dict[str, Snapshot], images: dict[int, jax.Array], report: Reporter
) -> dict[str, Any]:
    """{stage: {batch: SparseTiming}} of the first seed's networks that are pruned; of many, of
    those of the first stages."""
    found = {}
    for stage, network in first.items():
        pruned = any(not mask.all() for mask in jax.tree.leaves(network.masks))
        if pruned and len(found) < TIMED:
            report.note(f"measuring {run.label(stage)} without its zeros")
            found[stage] = sparse.measure(run.model(stage), network.variables, images)
    return found


def _savings(
    run: Run, first: dict[str, Snapshot], images: dict[int, jax.Array], report: Reporter
) -> dict[str, savings.Savings]:
    """{stage: what its gates save}; of many, of the first stages."""
    found = {}
    for stage, network in first.items():
        gated = run.gated(stage)
        if gated is not None and len(found) < TIMED:
            report.note(f"measuring what the gates of {run.label(stage)} save")
            opened, _ = _test_outputs(run, stage, gated.chooser)
            found[stage] = savings.measure(gated, network.variables, images[1], opened)
    return found


def _first_network(run: Run, stage: str) -> Snapshot:
    """Of the first seed."""
    return tree.row(run.network(stage, run.groups[0]), 0)


def _batches(run: Run) -> dict[int, jax.Array]:
    """{size: prepared test images}, of the sizes at which networks are timed."""
    sizes = sorted({1, run.experiment.latency_batch})
    # Again from the first where there are fewer.
    places = np.arange(sizes[-1]) % len(run.data.test)
    inputs = normalise(jnp.asarray(_images(run, places)), run.data.spec)
    return {size: inputs[:size] for size in sizes}


def _images(run: Run, places: np.ndarray) -> np.ndarray:
    """The stored test images at these places: uint8 [*places.shape, H, W, C]."""
    if isinstance(run.data.test, Split):
        return run.data.test.inputs[places]
    images = [run.data.test[int(place)][0] for place in places.flat]
    return np.reshape(images, (*places.shape, *run.data.spec.shape))


def _row(run: Run, stage: str, logits: dict[str, Any], found: dict[str, Any]) -> Row:
    z, labels = logits[stage]
    reference = run.reference(stage, tuple(logits))
    taught = logits[reference][0]
    groups = [(run.network(stage, seeds), len(seeds)) for seeds in run.groups]
    networks = [tree.row(network, i) for network, n in groups for i in range(n)]
    first = networks[0]
    reports = [masks_lib.report(network.masks, network.params) for network in networks]
    model, lent = run.model(stage), first.collections.get(REUSED, {})
    shape = checks.example_shape(run.data)
    macs = cost.macs(lambda v, x: model.forward(v, x)[0].logits, first.variables, shape)
    history = run.history(stage)
    done = [run.facts(stage, seeds) or {} for seeds in run.groups]
    return Row(
        stage=stage,
        label=run.label(stage),
        model=_short(run, stage, first),
        **found,
        **{name: x.tolist() for name, x in metrics.measured(z, labels, taught).items()},
        validation_accuracy=_validated(history, done),
        agrees_with=reference,
        parameters=tree.count((first.params, lent)),
        nonzero=[tree.count_nonzero((n.params, n.collections.get(REUSED))) for n in networks],
        prunable=reports[0]["prunable"],
        sparsity=[r["sparsity"] for r in reports] if reports[0]["prunable"] else None,
        layers=_layers(reports),
        macs=macs,
        macs_nonzero=_macs_nonzero(model, shape, networks, macs) if reports[0]["pruned"] else None,
        bytes_dense=size.dense_bytes(first.params, first.collections),
        bytes=[size.stored_bytes(n.params, n.collections, n.masks) for n in networks],
        seconds=sum(facts.get("seconds", 0.0) for facts in done),
        step_ms=run.step_ms(stage),
        weights=transfer.came_from(run, stage),
        trained_on=", ".join(
            dict.fromkeys(str(facts["device"]) for facts in done if "device" in facts)
        ),
        compared_with=run.baselines(stage, tuple(logits)),
    )


def _validated(history: Sequence[Any], done: Sequence[dict[str, Any]]) -> list[float] | None:
    """The validation accuracy that training ended with; of what was only fused, the only one."""
    if history:
        last = history[-1]
        lost = any(facts.get("steps", last["step"]) != last["step"] for facts in done)
        return None if lost else last.get("validation_accuracy")
    known = [facts["validation_accuracy"] for facts in done if "validation_accuracy" in facts]
    return [x for part in known for x in part] or None


def _macs_nonzero(model: Model, shape: Any, networks: Sequence[Snapshot], macs: int) -> list[int]:
    found = sparse.products(model, networks[0].variables, shape)
    return [sparse.macs_nonzero(found, network.params, macs) for network in networks]


def _layers(reports: list[dict[str, Any]]) -> dict[str, Layer]:
    return {
        name: Layer(size=layer["size"], pruned=[r["layers"][name]["pruned"] for r in reports])
        for name, layer in reports[0]["layers"].items()
    }


def _short(run: Run, stage: str, network: Snapshot) -> str:
    """`MLP(widths=(16,))`: the architecture with the fields that differ from its defaults, and what
    became of it."""
    description = run.experiment.stages[stage]
    if isinstance(description, Fuse) and description.ensemble:
        count = f"{run.experiment.seeds} seeds of " if description.across == "seeds" else ""
        members = ", ".join(_short(run, name, _first_network(run, name)) for name in description.of)
        return f"{description.how} of {count}[{members}]"
    config = getattr(run.experiment, description.model)
    became = " and its teacher's classifier" if REUSED in network.collections else ""
    became += "".join(f", {words}" for words in run.became(stage, network))
    changed = [
        f"{field.name}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default
    ]
    return f"{type(config).__name__}({', '.join(changed)}){became}"
