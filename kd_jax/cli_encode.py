"""The verb `encode` of run.py."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from kd_jax import chosen, delivery, encode, files, locks, pipeline
from kd_jax.encode.tensors import Coded
from kd_jax.errors import require
from kd_jax.progress import Screen
from kd_jax.runs import Run
from kd_jax.units import amount, ratio
from kd_jax.writing import write_bytes, write_text

HELP = """usage: python run.py encode RUN [--stage NAME] [--seed N] [--coders fixed,huffman,ans]
                            [--out FILE] [--data.dir DIR]

Writes a network of a run as a file that decodes to it bit for bit, as small as sparse forms,
codebooks and entropy coding make it; reads it in a fresh process, evaluates it there on the whole
test set, and shows what each layer takes: also in FILE.md.

  --stage NAME    whose network (default: the last stage; of a sweep: STAGE/FIELD=VALUE)
  --seed N        of which seed (default: the first)
  --coders A,B    coders that may be used: fixed, huffman, ans (default: all)
  --out FILE      default: RUN/encoded/STAGE-seed-N.kdz
  --data.dir DIR  where tensorflow-datasets keeps its sets, if no longer where the run found them

python run.py evaluate FILE.kdz reads such a file alone.
"""
HEAD = ("layer", "weights", "kept %", "form", "value", "index", "bytes", "share %")
CAPTION = "kept: not zero; value, index: bits of each weight that is kept"
OWN = ("--stage", "--seed", "--coders", "--out", "--data.dir")


def main(words: Sequence[str], options: dict[str, str], console: Console) -> None:
    """Encodes a network of a run's folder.

    Raises:
      UsageError: no such run, stage or seed; or the file is not worth what the network is.
    """
    require(len(words) == 1, "encode takes one run")
    coders = encode.checked(options.get("--coders", ",".join(encode.CODERS)).split(","))
    into = Path(options.get("--out", words[0]))
    with closing(Screen(console)) as screen, locks.around(into):
        data_dir = options.get("--data.dir", "")
        run = pipeline.open_run(Path(words[0]), screen, data_dir)
        stage = chosen.stage_of(run, options.get("--stage"))
        seed = chosen.seed_of(run, options.get("--seed"))
        screen.note(f"encoding {run.label(stage)}, seed {seed}")
        made = files.encoded(run, stage, seed, coders)
        default = run.folder / delivery.name_of(stage, seed)
        path = Path(options.get("--out", default))
        write_bytes(path, made.data)
        show(made, console)
        said = _totals(run, stage, made)
        for line in said:
            screen.line(line)
        screen.note("evaluating it in a fresh process")
        said.append(_check(run, stage, seed, path, data_dir or run.experiment.data.dir))
        screen.line(said[-1])
        title = f"{run.experiment.name}: {run.label(stage)}, seed {seed}"
        write_text(path.with_name(f"{path.name}.md"), markdown(title, made, said))
        screen.line(f"file: {path}")


def show(made: encode.Encoded, console: Console) -> None:
    """A row a layer, as in the tables of Deep Compression."""
    table = Table(box=box.SIMPLE_HEAD, caption=CAPTION, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(HEAD[0], overflow="fold", min_width=12)
    for head in HEAD[1:]:  # numbers are never cut
        table.add_column(head, justify="right", no_wrap=head != "form")
    for row in rows(made):
        table.add_row(*row)
    console.print(table)


def markdown(title: str, made: encode.Encoded, said: Sequence[str]) -> str:
    """The same as a file, and what is said below it."""
    ruled = [HEAD, ["---", *["---:"] * (len(HEAD) - 1)], *rows(made)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in ruled)
    return "\n\n".join([f"# {title}", table, f"{CAPTION}.", *(f"{s}." for s in said)]) + "\n"


def rows(made: encode.Encoded) -> list[Sequence[str]]:
    """Of each layer, of all vectors and of what else there is, as HEAD has it."""
    found, rest, total = [], [], len(made.data)
    for name, one in made.tensors.items():
        if len(one.shape) > 1:
            form = f"{one.form} {one.kind}"
            found.append([name.removeprefix("params/"), *_cells([one], form, total)])
        else:
            rest.append(one)
    if rest:
        found.append([f"{len(rest)} vectors and numbers", *_cells(rest, "", total)])
    header = total - sum(len(one.data) for one in made.tensors.values())
    found.append(
        ["names, shapes, network", *[""] * 5, f"{header:,}", f"{100 * header / total:.1f}"]
    )
    return found


def _cells(tensors: Sequence[Coded], form: str, total: int) -> list[str]:
    size, kept = sum(one.size for one in tensors), sum(one.kept for one in tensors)
    values, index = (sum(getattr(t, n) for t in tensors) for n in ("value_bytes", "index_bytes"))
    bits = [f"{8 * part / kept:.1f}" if kept else "–" for part in (values, index)]
    share = f"{100 * (values + index) / total:.1f}"
    return [
        f"{size:,}",
        f"{100 * kept / max(size, 1):.1f}",
        form,
        *bits,
        f"{values + index:,}",
        share,
    ]


def _totals(run: Run, stage: str, made: encode.Encoded) -> list[str]:
    total, role = len(made.data), run.experiment.stages[stage].model
    found = [f"all of it: {total:,} bytes ({amount(total, 'B')})"]
    sizes = {name: files.dense_bytes(model, run.data) for name, model in run.models.items()}
    dense = {"the same network": made.dense_bytes}
    if sizes[role] != made.dense_bytes:
        dense[f"the {role} with nothing cut"] = sizes[role]
    if role != "teacher" and "teacher" in sizes:
        dense["the teacher"] = sizes["teacher"]
    for name, size in dense.items():
        worth = f"{amount(size, 'B')}, {ratio(size / total)} as much"
        found.append(f"{name} in dense float32: {worth}")
    return found


def _check(run: Run, stage: str, seed: int, path: Path, data_dir: str) -> str:
    found = files.checked(run, stage, seed, path, data_dir)
    return (
        f"decoded in a fresh process: the same arrays, bit for bit; accuracy "
        f"{100 * found.accuracy:.2f} % on {found.examples:,} test examples, as before"
    )
