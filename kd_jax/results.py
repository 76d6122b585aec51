"""What a run has found, as data: its rows, one a stage; how they are read and written.

Lists have an entry a seed, in the order of `Results.seeds`, unless they say otherwise. Accuracies,
agreements, calibration errors and sparsities are fractions in [0, 1].
"""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kd_jax import cka, jsons, metrics, size
from kd_jax import latency as latency_lib
from kd_jax.cka import Similarity
from kd_jax.errors import UsageError, did_you_mean, require
from kd_jax.latency import Latency
from kd_jax.savings import Savings
from kd_jax.sparse import SparseTiming
from kd_jax.typed import Typed, typed
from kd_jax.writing import write_text

FILE = "results.json"
FORMAT = 1  # of the file; goes up when an old file can no longer be read

CONVENTIONS = (
    "± is the sample standard deviation over seeds. Everything is measured on the test set, after "
    "the last step of a stage; no choice was made by it.",
    "MACs: multiply-accumulates of one example's forward pass, in matrix products and "
    "convolutions, counted dense; FLOPs are twice that.",
    metrics.CONVENTION,
    cka.CONVENTION,
    size.CONVENTION,
    latency_lib.CONVENTION,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer(Typed):
    """One prunable tensor: its entries, and how many of them are pruned."""

    size: int
    pruned: Sequence[int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment(Typed):
    """What it ran on."""

    python: str
    jax: str
    jaxlib: str
    flax: str
    optax: str
    orbax: str
    platform: str
    """cpu, gpu or tpu."""
    device: str
    """JAX's name of the kind of device."""
    cpu: str
    """Model name."""
    cores: int
    threads: int
    """Cores that this process may use."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataFacts(Typed):
    """Which examples: the name of the set, a note on it, the sizes of its splits, and the names of
    its classes."""

    name: str
    note: str = ""
    train: int
    validation: int
    test: int
    classes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row(Typed):
    """The network that one stage left."""

    stage: str
    label: str
    """For people: "student distilled"."""
    model: str
    """The architecture in short; rows that share it run the same program."""
    accuracy: Sequence[float]
    cross_entropy: Sequence[float]
    """In nats."""
    validation_accuracy: Sequence[float] | None = None
    agreement: Sequence[float] | None = None
    """Share of the test examples on which it chooses the class that `agrees_with` chooses."""
    agrees_with: str = ""
    """The stage whose network taught it; of what none taught, that of the first teacher."""
    calibration_error: Sequence[float] | None = None
    """ECE."""
    kl_divergence: Sequence[float] | None = None
    """Mean KL(`agrees_with` || it) of the predictions, in nats."""
    class_accuracy: Sequence[Sequence[float]] | None = None
    """[seed][class]."""
    similarity: Similarity | None = None
    """To `agrees_with`; None for that one itself."""
    parameters: int
    nonzero: Sequence[int]
    prunable: int = 0
    sparsity: Sequence[float] | None = None
    """Pruned share of the prunable parameters."""
    layers: dict[str, Layer] = dataclasses.field(default_factory=dict)
    macs: int
    """Multiply-accumulates of one example, dense."""
    macs_nonzero: Sequence[int] | None = None
    """Of them, those of weights that are not zero; None where nothing is pruned."""
    bytes_dense: int
    bytes: Sequence[int]
    """As stored; see size.py."""
    latency: dict[str, Latency] = dataclasses.field(default_factory=dict)
    """By batch size; of one seed's network."""
    sparse: dict[str, SparseTiming] = dataclasses.field(default_factory=dict)
    """By batch size, with the zeros left out where that is faster; of one seed's network."""
    gating: Savings | None = None
    """What its gates save, where it has any; of one seed's network."""
    seconds: float = 0.0
    """Of training."""
    step_ms: float | None = None
    """Of a training step, of all seeds that train together."""
    weights: str = ""
    """File and SHA-256 of the pre-trained weights that it comes from; empty: of none."""
    trained_on: str = ""
    """JAX's name of the kind of device on which it was trained; empty: not known, or nothing was
    trained."""
    compared_with: Sequence[str] | None = None
    """Stages whose accuracy it is compared with; None: the first earlier one with its model."""

    @property
    def has_teacher(self) -> bool:
        """Whether `agrees_with` is another network: each agrees with itself, which is no news."""
        return self.agrees_with not in ("", self.stage)

    @property
    def pooled_cka(self) -> list[float] | None:
        """CKA of what it hands to its classifier and what its teacher does, where both name it."""
        return self.similarity.namesakes.get("pooled") if self.similarity else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Delivered(Typed):
    """A network as one file, read and evaluated by a process that had nothing else."""

    stage: str
    seed: int
    file: str
    """Its name in the run's folder."""
    bytes: int
    accuracy: float
    examples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results(Typed):
    """One run of an experiment."""

    experiment: str
    fingerprint: str
    command: str
    seeds: Sequence[int]
    environment: Environment
    data: DataFacts
    seconds: float
    """Of the whole run."""
    rows: Sequence[Row]
    changes: Sequence[str] | None = None
    """By which flags it differs from the experiment as it is written; None: unknown."""
    delivered: Delivered | None = None
    """The file that a device would be given; None: none was asked for."""
    convention: Sequence[str] = CONVENTIONS

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.rows) > 0, "Results.rows is empty: give a row a stage")
        names = [row.stage for row in self.rows]
        require(len(set(names)) == len(names), f"Results.rows name a stage twice: {names}")
        for row in self.rows:
            for name, values in per_seed(row):
                require(
                    len(values) == len(self.seeds),
                    f"{row.stage}.{name} has {len(values)} entries for {len(self.seeds)} seeds: "
                    "give one a seed",
                )
            counts = {len(one) for one in row.class_accuracy or ()} - {len(self.data.classes)}
            require(
                not counts,
                f"{row.stage}.class_accuracy is not of the {len(self.data.classes)} data.classes: "
                "give one a class",
            )

    @property
    def elsewhere(self) -> dict[str, list[str]]:
        """{device: labels of the networks that were trained there}, of other devices than that on
        which all was measured."""
        places: dict[str, list[str]] = {}
        for row in self.rows:
            for place in row.trained_on.split(", "):  # its seeds may have been on several
                if place not in ("", self.environment.device):
                    places.setdefault(place, []).append(row.label)
        return places

    def row(self, stage: str) -> Row:
        """The row of a stage."""
        known = {row.stage: row for row in self.rows}
        if stage not in known:
            raise UsageError(f"stage {stage!r} has no row.{did_you_mean(stage, known)}")
        return known[stage]


def with_rows(results: Results, wanted: Callable[[Row], bool]) -> Results | None:
    """The run with those rows alone; None where there are none."""
    rows = [row for row in results.rows if wanted(row)]
    return dataclasses.replace(results, rows=rows) if rows else None


def per_seed(row: Row) -> list[tuple[str, Sequence]]:
    """(name, values) of all that has an entry a seed."""
    names = ("accuracy", "cross_entropy", "validation_accuracy", "agreement", "calibration_error")
    names = (*names, "kl_divergence", "class_accuracy", "nonzero", "sparsity", "macs_nonzero")
    names = (*names, "bytes")
    values = [(name, getattr(row, name)) for name in names]
    layers = [(f"layers.{name}.pruned", layer.pruned) for name, layer in row.layers.items()]
    alike = [("similarity.cka", row.similarity.cka)] if row.similarity else []
    open_ = row.gating and (row.gating.always, row.gating.never)
    gates = zip(("gating.always", "gating.never"), open_ or (), strict=False)
    return [pair for pair in (*values, *layers, *alike, *gates) if pair[1] is not None]


# JSON -------------------------------------------------------------------------------------------


def to_json(results: Results) -> str:
    """Strict JSON: what is not finite becomes a string, which from_json reads as the number. Its
    last field is a checksum of the others."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        finite = not isinstance(value, float) or math.isfinite(value)
        return value if finite else str(value)

    data = {"format": FORMAT, **plain(dataclasses.asdict(results))}
    return json.dumps(jsons.summed(data), indent=1, allow_nan=False) + "\n"


def from_json(text: str | bytes, where: str = FILE) -> Results:
    """The inverse of to_json. Raises UsageError, naming `where`, if it is anything else."""
    try:
        data = jsons.parsed(text)
    except ValueError as e:  # not JSON, or not UTF-8
        raise UsageError(f"{where} is no JSON ({e}): run it again") from e
    data, fits = jsons.unsummed(data) if isinstance(data, dict) else ({}, True)
    found = data.pop("format", None)
    require(found == FORMAT, f"{where} has format {found}, not {FORMAT}: run it again")
    results = typed(Results, data, where)
    require(
        fits,
        f"{where}: damaged or edited (its checksum is of other content): write it anew by python "
        "run.py evaluate RUN",
    )
    return results


def write(folder: Path, results: Results) -> None:
    """Writes results.json into a run's folder."""
    write_text(Path(folder) / FILE, to_json(results))


def read(folder: Path) -> Results:
    """The results of a run's folder. Raises UsageError where there are none."""
    path = Path(folder) / FILE
    if not path.is_file():
        missing = "no such folder" if not Path(folder).is_dir() else f"no {FILE}"
        raise UsageError(f"{folder}: {missing}: run it first")
    return from_json(path.read_bytes(), str(path))
