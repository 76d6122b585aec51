"""The verb `explain` of run.py."""

import csv
import io
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from kd_jax import explain, locks, pipeline
from kd_jax.config import Prune, Shrink
from kd_jax.errors import UsageError, did_you_mean, require, shortened
from kd_jax.explain import Curves, Units
from kd_jax.progress import Screen
from kd_jax.runs import Run
from kd_jax.values import is_whole
from kd_jax.writing import write_text

HELP = """usage: python run.py explain RUN [--stage NAME] [--batches 2] [--data.dir DIR]

Why the networks of a run were cut as they were. Of each stage that prunes or shrinks: how much the
loss rises where one layer alone is cut, by more and more, and how much of it was cut; of units that
are gone for good, which were kept, their scores, how active they were, and which examples excite
them most. Writes tables (CSV) and plots into the folder RUN/explain.

  --stage NAME  this stage alone (of a sweep: STAGE/FIELD=VALUE)
  --batches N   batches of the stage's examples that the loss is read on (default: 2)
"""
OWN = ("--stage", "--batches", "--data.dir")
LEVELS = (0.4, 0.6, 0.8, 0.9, 0.95, 0.98)  # that the table on the screen has


def main(words: Sequence[str], options: dict[str, str], console: Console) -> None:
    """Explains the stages of a run's folder.

    Raises:
      UsageError: no such run or stage, or one that cuts nothing.
    """
    require(len(words) == 1, "explain takes one run")
    said = options.get("--batches", "2")
    fits = is_whole(said) and 0 < int(said) < 2**31
    require(fits, f"--batches {shortened(said)}: give a whole number above 0 and below 2**31")
    with closing(Screen(console)) as screen, locks.around(Path(words[0]), out=False):
        run = pipeline.open_run(Path(words[0]), screen, options.get("--data.dir", ""))
        folder = run.folder / "explain"
        for stage in _stages(run, options.get("--stage")):
            screen.line(f"{stage}: {run.label(stage)}")
            _explain(run, stage, int(said), folder, console, screen)
        screen.line(f"tables and plots: {folder}")


def _stages(run: Run, named: str | None) -> list[str]:
    if named is not None:
        known = [stage for stage in run.done if _cuts(run, stage)]
        cuts = "cuts nothing" if named in run.done else "is no finished stage"
        require(
            named in known, f"--stage {shortened(repr(named))} {cuts}.{did_you_mean(named, known)}"
        )
        return [named]
    found, seen = [], set()
    for stage in (stage for stage in run.done if _cuts(run, stage)):
        description = run.experiment.stages[stage]
        # Settings of a sweep that differ in what does not matter here have the same curves.
        same = (description.start, repr(getattr(description, "criterion", "")))
        same = (*same, repr(getattr(description, "structure", "")), type(description))
        found += [stage] * (same not in seen)
        seen.add(same)
    require(bool(found), f"{run.folder}: no finished stage of this run cuts anything")
    return found


def _cuts(run: Run, stage: str) -> bool:
    return isinstance(run.experiment.stages[stage], (Prune, Shrink))


def _explain(
    run: Run, stage: str, batches: int, folder: Path, console: Console, screen: Screen
) -> None:
    from kd_jax import plots_explain  # here: matplotlib takes a second to import

    name = stage.replace("/", "-")
    try:
        curves = explain.curves(run, stage, batches)
    except UsageError as error:
        screen.note(str(error))
        return
    _show_curves(curves, console)
    write_text(folder / f"{name}_sensitivity.csv", _curves_csv(curves))
    plots_explain.save_curves(folder / f"{name}_sensitivity.png", curves)
    if isinstance(run.experiment.stages[stage], Shrink):
        units, shown = explain.units(run, stage), explain.shown(run)
        _show_units(units, console)
        write_text(folder / f"{name}_units.csv", _units_csv(units, shown.ids))
        plots_explain.save_units(folder / f"{name}_units.png", stage, units)
        plots_explain.save_examples(folder / f"{name}_examples.png", stage, units, shown)


def _show_curves(curves: Curves, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, caption="rise of the loss, nats, where it alone is cut by")
    table.add_column("layer", overflow="fold")
    for head in (*(f"{100 * level:g} %" for level in LEVELS), "was cut by"):
        table.add_column(head, justify="right")
    for i, name in enumerate(curves.names):
        x, y = curves.gone[i], curves.losses[i] - curves.losses[i, 0]
        rises = [f"{np.interp(level, x, y):.3f}" for level in LEVELS]
        table.add_row(name.removeprefix("params/"), *rises, f"{100 * curves.chosen[i]:.1f} %")
    console.print(table)


def _show_units(units: Sequence[Units], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("group", overflow="fold")
    for head in ("units", "kept", "score kept", "cut", "activation kept", "cut"):
        table.add_column(head, justify="right")
    for group in units:
        kept = group.kept
        means = [*_means(group.scores, kept), *_means(group.activations, kept)]
        count = (f"{kept.size}", f"{kept.sum()}")
        table.add_row(group.group.removeprefix("params/"), *count, *means)
    console.print(table)


def _means(values: np.ndarray | None, kept: np.ndarray) -> list[str]:
    """Of those kept, and of those cut."""
    some = [[] if values is None else values[which] for which in (kept, ~kept)]
    return [f"{np.mean(part):.3g}" if len(part) else "–" for part in some]


def _curves_csv(curves: Curves) -> str:
    rows = [["layer", "cut", "loss", "cut_by_the_stage"]]
    for i, name in enumerate(curves.names):
        pairs = zip(curves.gone[i], curves.losses[i], strict=True)
        rows += [[name, f"{x:.6g}", f"{y:.6g}", f"{curves.chosen[i]:.6g}"] for x, y in pairs]
    return _csv(rows)


def _units_csv(units: Sequence[Units], ids: np.ndarray) -> str:
    rows = [["group", "unit", "kept", "score", "activation", "examples"]]
    for group in units:
        for unit, kept in enumerate(group.kept):
            activation = "" if group.activations is None else f"{group.activations[unit]:.6g}"
            best = [] if group.examples is None else ids[group.examples[unit]]
            row = [group.group, str(unit), str(int(kept)), f"{group.scores[unit]:.6g}", activation]
            rows.append([*row, " ".join(map(str, best))])
    return _csv(rows)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
