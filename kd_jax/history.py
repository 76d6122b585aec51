"""The records of a stage's epochs on disk: a line each, with a checksum."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd_jax import jsons, regular
from kd_jax.writing import write_text

FILE = "history.jsonl"
LISTS = ("validation_accuracy", "sparsity")  # of a record: an entry a run
NAMED = ("train", "gradients")  # lists by name
MOST = 2**53  # steps

Record = dict[str, Any]


def append(folder: Path, record: Record) -> None:
    """Writes a record, which has a "step", at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    regular.append(folder / FILE, _line(record).encode())


def write(folder: Path, records: Sequence[Record]) -> None:
    """Writes these in place of what is there, if anything is."""
    if (folder / FILE).exists():
        write_text(folder / FILE, "".join(map(_line, records)))


def _line(record: Record) -> str:
    return json.dumps(jsons.summed(record)) + "\n"


def read(folder: Path, runs: int | None = None, ended: bool = False) -> tuple[list[Record], int]:
    """(all records that can be read, how many lines can not). A last line that a kill has cut short
    counts for nothing.

    Args:
      runs: of so many an epoch's record has entries; None: whatever has a step will do.
      ended: the stage is finished, and no line can be cut short by a kill.
    """
    path = folder / FILE
    *lines, last = path.read_bytes().split(b"\n") if path.exists() else [b""]
    if ended or not _cut_short(last):
        lines.append(last)
    lines = [line for line in lines if line.strip()]
    found = [record for record in map(_record, lines) if record is not None]
    if any(jsons.SUM in record for record in found):  # then all were written with one
        found = [record for record in found if jsons.SUM in record]
    found = [jsons.unsummed(record)[0] for record in found]
    if runs is not None:
        found = [record for record in found if _whole(record, runs)]
    return found, len(lines) - len(found)


def _cut_short(line: bytes) -> bool:
    """Whether it may be the beginning of a record."""
    try:
        jsons.parsed(line)
    except ValueError:
        return line.startswith(b"{")
    return False


def _record(line: bytes) -> Record | None:
    """What a line says, its checksum with it; None where it is no record, or damaged."""
    try:
        found = jsons.parsed(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or not jsons.unsummed(found)[1]:
        return None
    return found if _counts(found.get("step")) else None


def _counts(value: Any) -> bool:
    return isinstance(value, int) and jsons.within(value, MOST)


def _whole(record: Record, runs: int) -> bool:
    """Whether it has what is drawn and told of an epoch, of each run."""
    epoch: Any = record.get("epoch")
    named = [record[name] for name in NAMED if name in record]
    if "train" not in record or not _counts(epoch) or not 0 < epoch <= record["step"]:
        return False
    if not all(isinstance(lists, dict) for lists in named):
        return False
    lists = [record[name] for name in LISTS if name in record]
    lists += [one for by_name in named for one in by_name.values()]
    return all(
        isinstance(one, list) and len(one) == runs and all(map(_number, one)) for one in lists
    )


def _number(value: Any) -> bool:
    """NaN is one, too: training may end in it."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, float) or (whole and abs(value) <= MOST)


def epochs(records: Sequence[Record], steps: int) -> int:
    """How many a stage of so many steps has, by any of their records; without any, at least one."""
    return -(-steps * records[-1]["epoch"] // records[-1]["step"]) if records else 1


def told(folder: Path, bad: int, lacking: int) -> str:
    """A warning of lines that can't be read and epochs without a record; empty where all is
    well."""
    said = [f"{bad} {'line' if bad == 1 else 'lines'} can't be read"] * (bad > 0)
    if not (folder / FILE).exists():
        said = ["it is missing"] * (lacking > 0)
    elif lacking > 0:
        said += [f"{lacking} {'epoch has' if lacking == 1 else 'epochs have'} no record"]
    return f"warning: {folder / FILE}: {', '.join(said)}: left out of curves" if said else ""
