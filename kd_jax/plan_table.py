"""A plan as a table, for the screen and as Markdown, and as JSON."""

import dataclasses
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kd_jax.errors import UsageError, require
from kd_jax.plan import Plan, StagePlan
from kd_jax.traffic import KINDS
from kd_jax.units import amount, duration, significant
from kd_jax.writing import write_json, write_text

NONE = "–"
NOTES = (
    "These are figures of the compiler, for chips that were not there: nothing was timed on a TPU.",
    "Times are lower bounds (roofline): each amount divided by the chip's published peak; a step "
    "takes no less than the greatest of them. The latency of each collective, reading data, "
    "evaluation, changes of masks and checkpoints are not in them.",
    "Parameters: of all seeds at once. Training state: parameters, moments, statistics and masks. "
    "Activations etc.: all that lives within a step. Peak memory: state, teacher, data, these and "
    "the program.",
    "FLOPs are XLA's count, without multiplications by a convolution's padding. Moved: read from "
    "and written to HBM, without what stays on the chip. Collectives: how many, and bytes "
    "of their whole arrays. Sent: what a chip must send for them, by rings, over the links that a "
    "chip in a corner of the slice has. Cycles: the compiler's own estimate of a step's, one "
    "instruction after another; the chip's clock is not published.",
)


def rows(plan: Plan) -> list[list[str]]:
    """The table's cells: a row a quantity, a column a stage."""
    head = ["per chip and step", *(stage.stage for stage in plan.stages)]
    columns = [_sizes(stage) | _step(plan, stage) | _time(stage) for stage in plan.stages]
    return [head, *([name, *(column[name] for column in columns)] for name in columns[0])]


def _sizes(stage: StagePlan) -> dict[str, str]:
    """{quantity: its cell}: what there is before anything is compiled."""
    return {
        "global batch": f"{stage.batch:,}",
        "seeds at once": f"{stage.seeds}",
        "parameters": f"{stage.parameters:,}",
        "… in bytes": amount(stage.parameter_bytes, "B"),
        "training state": amount(stage.state, "B"),
        "teacher": amount(stage.teacher, "B") if stage.teacher else NONE,
        "data": amount(stage.data, "B"),
    }


def _step(plan: Plan, stage: StagePlan) -> dict[str, str]:
    """What the compiled step takes."""
    figures, memory = stage.figures, plan.target.chip.memory
    kinds = _kinds(plan)
    fits = {"fits": "yes" if stage.fits(memory) else "no"}
    if figures is None:
        names = ("activations etc.", "peak memory", "… of HBM", "fits", "FLOPs", "moved")
        return dict.fromkeys((*names, "collectives", *kinds, "sent"), NONE) | fits
    exchanged = {
        kind: sum(c.bytes for c in figures.collectives if c.kind == kind) for kind in kinds
    }
    return {
        "activations etc.": amount(figures.temporaries, "B"),
        "peak memory": amount(figures.peak, "B"),
        "… of HBM": f"{100 * figures.peak / memory:.1f} %",
        **fits,
        "FLOPs": amount(figures.flops),
        "moved": amount(figures.moved, "B"),
        "collectives": f"{sum(c.count for c in figures.collectives)}",
        **{kind: amount(count, "B") if count else NONE for kind, count in exchanged.items()},
        "sent": amount(figures.sent, "B") if figures.sent else NONE,
    }


def _kinds(plan: Plan) -> list[str]:
    """The kinds of collectives that some stage has."""
    found = {c.kind for stage in plan.stages if stage.figures for c in stage.figures.collectives}
    return [kind for kind in KINDS if kind in found]


def _time(stage: StagePlan) -> dict[str, str]:
    """The least time of the step, and of the stage."""
    figures = stage.figures
    seconds = figures.seconds if figures else {}
    times = {
        f"{resource} ≥": duration(seconds[resource]) if seconds.get(resource) else NONE
        for resource in ("compute", "memory", "network")
    }
    return {
        **times,
        "bound by": figures.bound if figures else NONE,
        "step ≥": duration(figures.least_seconds) if figures else NONE,
        "cycles ~": amount(figures.cycles) if figures and figures.cycles else NONE,
        "steps": f"{stage.steps:,}",
        "runs": f"{stage.runs}",
        "stage ≥": NONE if stage.seconds is None else duration(stage.seconds),
    }


def title(plan: Plan) -> str:
    """What is planned, and on what."""
    chip = plan.target.chip
    return (
        f"{plan.experiment} in {plan.compute} on {plan.target.name}: {plan.chips} chips of "
        f"{amount(chip.flops, 'FLOP/s')}, {amount(chip.memory, 'B')} at "
        f"{amount(chip.memory_speed, 'B/s')}, {amount(plan.target.network_speed, 'B/s')} to the "
        "others"
    )


def findings(plan: Plan) -> list[str]:
    """The whole experiment's time, and what does not fit; a sentence each."""
    found = [
        f"{stage.stage} does not fit at batch {stage.batch:,}. {stage.refusal}".strip()
        for stage in plan.stages
        if not stage.fits(plan.target.chip.memory)
    ]
    if plan.seconds is not None:
        hours = plan.seconds / 3600
        found.append(
            f"The whole experiment takes at least {significant(hours)} hours, "
            f"{significant(plan.chips * hours)} chip-hours."
        )
    return found


def show(plan: Plan, console: Console) -> None:
    """Prints table, findings and notes."""
    head, *body = rows(plan)
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1))
    for place, name in enumerate(head):
        shown.add_column(Text(name), justify="right" if place else "left", no_wrap=True)
    for cells in body:
        shown.add_row(*map(Text, cells))
    console.print(Text(title(plan), style="bold"))
    console.print(shown)
    for note in (*findings(plan), *NOTES):
        console.print(Text(f"• {note}"))


def markdown(plan: Plan, command: str) -> str:
    """The same as a page in GitHub's Markdown."""
    head, *body = rows(plan)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    table = [f"| {' | '.join(cells)} |" for cells in lines]
    notes = [f"- {note}" for note in (*findings(plan), *NOTES, f"Made by `{command}`.")]
    return "\n".join([f"# {title(plan)}", "", *table, "", *notes, ""])


def write(plan: Plan, path: Path, command: str) -> None:
    """Writes the plan as JSON, and its page beside it as .md.

    Raises:
      UsageError: the path can't be written, or is that of the page.
    """
    require(path.suffix != ".md", f"--out {path}: is for JSON; the table goes beside it as .md")
    data = {"command": command, **dataclasses.asdict(plan), "seconds": plan.seconds, "notes": NOTES}
    for stage, shown in zip(plan.stages, data["stages"], strict=True):
        shown |= {"seconds": stage.seconds, "fits": stage.fits(plan.target.chip.memory)}
        shown["bound"] = stage.figures.bound if stage.figures else None
    try:
        write_json(path, data)
        write_text(path.with_suffix(".md"), markdown(plan, command))
    except OSError as error:
        raise UsageError(f"--out {path}: can't be written ({error.strerror})") from error
