"""What somebody adds in a file of their own: losses, criteria, schedules, penalties and models, in
tables named like those of the package.

A file is loaded because a command line names it, never because a saved config does: it is a
program.
"""

import dataclasses
import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from kd_jax import serialize
from kd_jax.config import Experiment
from kd_jax.distill import TERMS, Term
from kd_jax.errors import UsageError, require
from kd_jax.models import MODELS
from kd_jax.models.base import ModelConfig
from kd_jax.prune import (
    CRITERIA,
    PENALTIES,
    SCHEDULES,
    STRUCTURES,
    Criterion,
    Granularity,
    Penalty,
    Schedule,
)
from kd_jax.quantize import CALIBRATIONS, Calibration

FLAG = "--use"
TABLES: dict[str, tuple[dict[str, Any], type]] = {
    "TERMS": (TERMS, Term),
    "CRITERIA": (CRITERIA, Criterion),
    "STRUCTURES": (STRUCTURES, Granularity),
    "SCHEDULES": (SCHEDULES, Schedule),
    "PENALTIES": (PENALTIES, Penalty),
    "CALIBRATIONS": (CALIBRATIONS, Calibration),
    "MODELS": (MODELS, ModelConfig),
}
NAME = re.compile(r"[^\W\d]\w*")
_FILES: list[str] = []


def loaded() -> list[str]:
    """The words of a command line that load what is loaded now."""
    return [word for file in _FILES for word in (FLAG, file)]


def join(arguments: list[str]) -> list[str]:
    """Loads each FILE of `--use FILE`; the arguments without them.

    Raises:
      UsageError: a file is missing, fails, or adds what the package has no place for.
    """
    rest, words = [], iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag != FLAG:
            rest.append(word)
            continue
        file = value if equals else next(words, "")
        use(file)
        _FILES[:] = [*dict.fromkeys([*_FILES, file])]
    return rest


def config(file: str) -> Experiment:
    """The CONFIG of a Python file, whose tables are added too, if it has any."""
    module = use(file, needs=("CONFIG",))
    require(
        isinstance(module.CONFIG, Experiment),
        f"{file}: CONFIG is no Experiment, but {type(module.CONFIG).__name__}: make it one",
    )
    return module.CONFIG


def use(file: str | Path, needs: tuple[str, ...] = (*TABLES,)) -> ModuleType:
    """Adds to the package's tables what a Python file has in tables of the same names: TERMS,
    CRITERIA, STRUCTURES, SCHEDULES, PENALTIES, MODELS. Raises UsageError where it can't, or where
    the file has nothing of what it `needs`."""
    path = Path(file)
    require(
        path.suffix == ".py" and path.is_file(),
        f"{FLAG} {file or '(nothing)'}: there is no such Python file: name one",
    )
    module = _run(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    require(
        any(hasattr(module, name) for name in needs),
        f"{FLAG} {path}: it has no {' or '.join(needs)}: add one",
    )
    for table in (name for name in TABLES if hasattr(module, name)):
        entries = getattr(module, table)
        require(isinstance(entries, dict), f"{FLAG} {path}: {table} is no dict: make it one")
        for name, entry in entries.items():
            _check(path, table, name, entry)
            TABLES[table][0][name] = entry
            if dataclasses.is_dataclass(entry):
                serialize.know(type(entry), digest)
    return module


def _run(path: Path) -> ModuleType:
    # Under a name of its own: it must not stand in the place of another module.
    spec = importlib.util.spec_from_file_location(f"used_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where type hints and help look for it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[spec.name]
        raise UsageError(f"{FLAG} {path}: {_place(path, error)}{error!r}") from error
    return module


def _place(path: Path, error: BaseException) -> str:
    """The line of the file at which it went wrong: "line 7: "."""
    line, trace = getattr(error, "lineno", None), error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}: " if line else ""


def _check(path: Path, table: str, name: str, entry: Any) -> None:
    entries, kind = TABLES[table]
    where = f"{FLAG} {path}: {table}[{name!r}]"
    require(bool(NAME.fullmatch(str(name))), f"{where}: a name has letters, digits and _ only")
    require(isinstance(entry, kind), f"{where} is no {kind.__name__}, but {entry!r}: make it one")
    known = entries.get(name)
    ours = known is not None and not serialize.added(type(known))
    require(not ours, f"{where}: the package has one of this name: take another")
    other = serialize.CLASSES.get(type(entry).__name__)
    taken = other is not None and not serialize.added(other) and other is not type(entry)
    require(not taken, f"{where}: the package has a class {type(entry).__name__}: rename yours")
