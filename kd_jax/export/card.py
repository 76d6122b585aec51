"""What an exported network is, for people: a model card in Markdown."""

import dataclasses
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from kd_jax import results as results_lib
from kd_jax.config import Distill
from kd_jax.environment import environment
from kd_jax.errors import UsageError
from kd_jax.export.check import Check
from kd_jax.export.network import Network
from kd_jax.export.programs import digest
from kd_jax.results import Results
from kd_jax.runs import Run
from kd_jax.serialize import to_data
from kd_jax.tree import count, count_nonzero
from kd_jax.units import amount

USE = {
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(None, {"images": images})""",
    "onnx-int8": """import onnxruntime

session = onnxruntime.InferenceSession("model.int8.onnx")
(logits,) = session.run(None, {"images": images})  # products in int8 where the runtime has them""",
    "stablehlo": """from pathlib import Path

from jax import export

program = export.deserialize(bytearray(Path("model.stablehlo").read_bytes()))
logits = program.call(images)""",
    "safetensors": """import kd_jax.export

network = kd_jax.export.load(".")
logits = network.function(images)  # network.model and network.snapshot: to go on""",
    "litert": """from ai_edge_litert.interpreter import Interpreter

run = Interpreter(model_path="model.tflite").get_signature_runner()
logits = run(images=images[:1])["logits"]  # one image at a time""",
}


@dataclasses.dataclass(frozen=True)
class File:
    """One that was exported and checked."""

    form: str
    path: Path
    check: Check


def card(
    run: Run, stage: str, seed: int, network: Network, files: Sequence[File], command: str
) -> str:
    """The text of README.md."""
    parts = [
        f"# {run.label(stage)}: {run.experiment.name}",
        _what(network),
        "## Made from",
        _lineage(run, stage),
        "## Measured",
        _measured(run, stage, seed, files),
        "## Files",
        _files(files),
        "## Use",
        *(f"```python\n{USE[file.form]}\n```" for file in files),
        "## Made by",
        _made(run, seed, network, command),
        "## Licence",
        "For whoever publishes this network to choose. Mind the terms of the data.",
    ]
    return "\n\n".join(parts) + "\n"


def _what(network: Network) -> str:
    spec, params = network.spec, network.snapshot.params
    names = ", ".join(spec.names) if spec.names else f"numbers 0 to {spec.classes - 1}"
    size, kept, kind = count(params), count_nonzero(params), np.dtype(network.dtype).name
    zeros = f", {kept:,} of them not zero" if kept < size else ""
    shape = ", ".join(map(str, spec.shape))
    lines = [
        f"- Input `images`: {kind} `[batch, {shape}]`, pixels as {spec.name} stores them, 0 to "
        f"{spec.scale:g}, channels last, any batch. They are normalised within: give raw pixels.",
        f"- Output `logits`: float32 `[batch, {spec.classes}]`, before the softmax. Classes: "
        f"{names}.",
        f"- {size:,} parameters{zeros}. It computes in float32.",
    ]
    return "\n".join(lines)


def _lineage(run: Run, stage: str) -> str:
    """A line a stage that it comes from, the first one first."""
    needs = dataclasses.replace(run.experiment, only=(stage,), compare=()).order()
    return "\n".join(f"{i}. `{name}`: {_stage(run, name)}" for i, name in enumerate(needs, 1))


def _stage(run: Run, name: str) -> str:
    given, model = run.experiment.stages[name], run.experiment.stages[name].model
    config = to_data(getattr(run.experiment, model))
    kind = config.pop("class")
    from_ = f"from `{given.start}`" if given.start else f"a new {kind} ({_fields(config)})"
    terms = given.terms if isinstance(given, Distill) else {}
    by = f", taught by {', '.join(f'`{t}`' for t in given.teachers)}" if given.teachers else ""
    by += f" ({', '.join(terms)})" if terms and by else ""
    how = f", {given.told}" if given.told else ""
    how += f", on the labels {' '.join(map(str, given.labels))} alone" if given.labels else ""
    return f"{run.label(name)}: {from_}{by}{how}, {given.epochs:g} epochs"


def _fields(config: dict) -> str:
    return ", ".join(f"{name}={value}" for name, value in config.items())


def _found(run: Run) -> Results | None:
    try:
        return results_lib.read(run.folder)
    except UsageError:
        return None


def _measured(run: Run, stage: str, seed: int, files: Sequence[File]) -> str:
    found, known = _found(run), []
    if found is not None and stage in {row.stage for row in found.rows}:
        row = found.row(stage)
        mean, seeds = float(np.mean(row.accuracy)), len(row.accuracy)
        spread = f" ± {100 * float(np.std(row.accuracy, ddof=1)):.2f}" if seeds > 1 else ""
        known.append(f"- Test accuracy of {seeds} seeds: {100 * mean:.2f}{spread} %.")
        known.append(f"- {amount(row.macs)} multiply-adds an example, counted dense.")
        for batch, time in row.latency.items():
            if not time.unsteady:
                where = found.environment.cpu
                known.append(f"- {time.median_ms:.3g} ms for a batch of {batch} in JAX ({where}).")
    data, check = run.data, files[0].check
    known.insert(
        0,
        f"- Test accuracy of this network, seed {seed}: {100 * check.expected:.2f} %, "
        f"of {check.examples:,} examples of {data.spec.name}.",
    )
    return "\n".join(known)


def _files(files: Sequence[File]) -> str:
    lines = [
        "| file | size | accuracy in its runtime | largest difference of a logit | SHA-256 |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for file in files:
        size = amount(file.path.stat().st_size, "B")
        cells = (f"`{file.path.name}`", size, f"{100 * file.check.accuracy:.2f} %")
        cells = (*cells, f"{file.check.difference:.2g}", f"`{digest(file.path)[:16]}`")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _made(run: Run, seed: int, network: Network, command: str) -> str:
    here, spec = environment(), network.spec
    version = metadata.version("kd-jax")
    return "\n".join(
        [
            f"- `{command}`",
            f"- Experiment {run.experiment.name}, folder `{run.folder.name}`, seed {seed}.",
            f"- Data: {spec.name}{f' ({spec.note})' if spec.note else ''}.",
            f"- kd_jax {version}, Python {here.python}, jax {here.jax}, flax {here.flax}.",
        ]
    )
