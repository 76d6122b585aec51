"""Results for other programs, and all of them as files: Markdown, CSV, JSON, plots."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax import jsons
from kd_jax import results as results_lib
from kd_jax.errors import UsageError
from kd_jax.noise import class_gains, summary
from kd_jax.results import Results, Row
from kd_jax.tables import markdown
from kd_jax.writing import write_json, write_text

HISTORIES = "histories.json"

Histories = dict[str, list[dict[str, Any]]]


# For programs -----------------------------------------------------------------------------------


def csv_text(results: Sequence[Results]) -> str:
    """All numbers in full, a row a network, a column a seed."""
    records = [_record(run, row) | more for run in results for row, more in _by_class(run)]
    fields = dict.fromkeys(name for record in records for name in record)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(fields), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def _record(run: Results, row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {"experiment": run.experiment, "fingerprint": run.fingerprint}
    names = ("stage", "label", "model", "parameters", "prunable", "macs", "bytes_dense", "seconds")
    names = (*names, "step_ms")
    record |= {name: getattr(row, name) for name in names}
    for name, values in results_lib.per_seed(row):
        if "." in name or name == "class_accuracy":
            continue  # a seed's numbers of each layer and class are in results.json
        of = summary(values)
        record |= {f"{name}_mean": of.mean, f"{name}_std": "" if of.std is None else of.std}
        record |= {f"{name}_seed_{s}": x for s, x in zip(run.seeds, values, strict=True)}
    record["agrees_with"] = row.agrees_with
    for name, values in (row.similarity.namesakes if row.similarity else {}).items():
        record[f"cka_{name}_mean"] = summary(values).mean
    for batch, measured in sorted(row.latency.items(), key=lambda item: int(item[0])):
        fields = dataclasses.asdict(measured).items()
        record |= {f"latency_batch_{batch}_{name}": value for name, value in fields}
    return record


def _by_class(run: Results) -> list[tuple[Row, dict[str, float]]]:
    """(row, its accuracy on each class, and its gain over the network that it is compared with)."""
    gains = {row.stage: [of.mean for of in each] for row, _, each in class_gains(run)}
    found: list[tuple[Row, dict[str, float]]] = []
    for row in run.rows:
        means = np.mean(row.class_accuracy, axis=0).tolist() if row.class_accuracy else []
        named: dict[str, float] = {}
        for what, values in (("accuracy", means), ("gain", gains.get(row.stage, []))):
            names = [f"class_{what}_{name}_mean" for name in run.data.classes]
            named |= dict(zip(names, values, strict=False))  # no values where it is not known
        found.append((row, named))
    return found


def json_text(results: Sequence[Results]) -> str:
    """A list of the runs' results.json."""
    return json.dumps([jsons.parsed(results_lib.to_json(run)) for run in results], indent=1) + "\n"


# On disk ----------------------------------------------------------------------------------------


def write(folder: Path | str, results: Results, histories: Histories | None = None) -> list[Path]:
    """Writes results.json, table.md, table.csv and the plots into a run's folder.

    Args:
      histories: {stage: the records of its epochs}, kept too; None: no training curves.

    Returns:
      The files.
    """
    from kd_jax import plots  # here: a table alone needs no matplotlib

    folder = Path(folder)
    results_lib.write(folder, results)
    if histories:
        write_json(folder / HISTORIES, jsons.summed(histories))
    return [folder / results_lib.FILE, *_tables(folder, [results])] + plots.save_all(
        folder, results, histories or {}
    )


def write_report(
    folder: Path | str, results: Sequence[Results], runs: Sequence[Path | str]
) -> list[Path]:
    """Writes table.md, table.csv, table.json and plots of one or several runs into a folder.

    Args:
      runs: the runs' folders, in the order of `results`.
    """
    from kd_jax import plots, plots_many, plots_pareto

    folder = Path(folder)
    histories = _histories(Path(runs[0])) if len(results) == 1 else {}
    write_text(folder / "table.json", json_text(results))
    files = [folder / "table.json", *_tables(folder, results)]
    names = plots.names(results)
    if 1 < len(names) <= plots_many.MOST:
        files.append(plots_pareto.save_pareto(folder, results, names))
    if len(results) > 1:
        return [*files, plots.save_sizes(folder, results)]
    return files + plots.save_all(folder, results[0], histories)


def _histories(run: Path) -> Histories:
    """What `write` kept. Raises UsageError, naming the file, where it holds anything else."""
    path = run / HISTORIES
    try:
        found, fits = jsons.unsummed(jsons.mapping(path)) if path.exists() else ({}, True)
        if not fits:
            raise ValueError("its checksum is of other content")
        return {stage: [*map(_checked, records)] for stage, records in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        fix = f"write it anew by python run.py evaluate {run}"
        raise UsageError(f"{path}: damaged ({error!r}): {fix}") from error


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """What the plots need, of the types that they need."""
    numbers = lambda values: [float(x) for x in values]  # noqa: E731
    found = {
        name: numbers(record[name])
        for name in ("validation_accuracy", "sparsity")
        if name in record
    }
    train = {name: numbers(values) for name, values in record["train"].items()}
    return {"epoch": int(record["epoch"]), "train": train, **found}


def _tables(folder: Path, results: Sequence[Results]) -> list[Path]:
    write_text(folder / "table.md", markdown(results))
    write_text(folder / "table.csv", csv_text(results))
    return [folder / "table.md", folder / "table.csv"]


def read(folders: Sequence[Path | str]) -> list[Results]:
    """The results of runs' folders. Raises UsageError for one that has none."""
    return [results_lib.read(Path(folder)) for folder in folders]
