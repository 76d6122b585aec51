"""The verb `export` of run.py."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from kd_jax import chosen, export, locks, pipeline
from kd_jax.cli_experiment import options
from kd_jax.errors import require
from kd_jax.progress import Screen
from kd_jax.units import amount

HELP = """usage: python run.py export RUN [--stage NAME] [--seed N]
                            [--format stablehlo onnx onnx-int8 safetensors litert] [--out FOLDER]
                            [--data.dir DIR]

Writes a finished network of a run as files that others can run, for any batch size, of raw images
as the data set stores them (they are normalised within) to logits, in float32; and a model card.
Each file is then run in a fresh process by its own runtime on the whole test set, and a difference
beyond rounding is an error.

  --stage NAME   whose network (default: the last finished stage; of a sweep: STAGE/FIELD=VALUE)
  --seed N       of which seed (default: the first)
  --format ...   stablehlo    jax.export's file, for CPU, CUDA and TPU at once
                 onnx         for ONNX Runtime and all that read ONNX (opset 18)
                 onnx-int8    the same of a network whose weights and inputs are quantised: kernels
                              stored as int8, products marked so that runtimes compute in integers,
                              biases rounded to the scale of their sums as these do
                 safetensors  arrays and config.json, which kd_jax.export.load reads
                 litert       for LiteRT (TensorFlow Lite) on phones: one image at a time, no loops
                              (extra litert; TensorFlow is not needed)
                 (default: the first three; the extra export installs what two of them need)
  --out FOLDER   where they go (default: RUN/export/STAGE/seed-N)
"""
OWN = ("--stage", "--seed", "--out", "--data.dir")


def main(arguments: Sequence[str], console: Console, command: str) -> None:
    """Exports a network of a run's folder, and shows what came of it.

    Raises:
      UsageError: no such run, stage, seed or format; or a file that fails its check.
    """
    words, said = options("export", arguments, HELP, OWN, several=("--format",))
    require(len(words) == 1, "export takes one run's folder first")
    one = {flag: values[0] for flag, values in said.items() if flag != "--format"}
    into = Path(one.get("--out", words[0]))
    with closing(Screen(console)) as screen, locks.around(into):
        run = pipeline.open_run(Path(words[0]), screen, one.get("--data.dir", ""))
        stage = chosen.stage_of(run, one.get("--stage"))
        seed = chosen.seed_of(run, one.get("--seed"))
        formats = said.get("--format", export.DEFAULT)
        folder = Path(one["--out"]) if "--out" in one else None
        files, own = export.export(run, stage, seed, formats, folder, screen.note, command)
        console.print(
            f"{run.label(stage)}, seed {seed}: test accuracy {100 * own:.2f} % in the run"
        )
        console.print(table(files))
        screen.line(f"files and model card: {files[0].path.parent}")


def table(files: Sequence[export.File]) -> Table:
    """A line a file."""
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False)
    shown.add_column("file", no_wrap=True)
    for head in ("size", "accuracy %", "predictions changed", "logits differ by"):
        shown.add_column(head, justify="right")
    for file in files:
        check = file.check
        size = amount(file.path.stat().st_size, "B")
        changed = f"{check.changed} of {check.examples:,}"
        cells = (f"{100 * check.accuracy:.2f}", changed, f"{check.difference:.2g}")
        shown.add_row(file.path.name, size, *cells)
    return shown
