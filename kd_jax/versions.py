"""Which version wrote what lies in a run's folder, and whether this one may read it."""

import functools
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from kd_jax.errors import UsageError, shortened
from kd_jax.jsons import mapping, unsummed

VERSION = "0.1.0"  # of kd_jax
FILE = "versions.json"  # of a run's folder

FORMAT = 2
"""Of all files in a run's folder. It goes up where an earlier version would misread what this one
writes. A field that is added to a config does not need that, as long as its default does what was
done before there was such a field. What tells no format is of the first.

Of the second: what is known of a finished stage has a checksum of itself; so have config.json,
versions.json, results.json and histories, which are read without one too."""

SUMMED = 2  # from this format on

OTHER = "take that version of kd_jax, or a newer one"


@functools.cache
def _ours() -> dict[str, str]:
    of = {"jax": "jax", "flax": "flax", "orbax": "orbax-checkpoint"}
    return {"kd_jax": VERSION, **{name: metadata.version(package) for name, package in of.items()}}


def note() -> dict[str, Any]:
    """What this version leaves beside what it writes: {"format", "versions"}."""
    return {"format": FORMAT, "versions": dict(_ours())}


def check(where: Path, found: Mapping[str, Any], fix: str = OTHER) -> None:
    """Whether this version may read what has such a note.

    Raises:
      UsageError: it is of another format.
    """
    said = found.get("format", 1)
    if type(said) is int and 1 <= said <= FORMAT:
        return
    raise UsageError(
        f"{where}: format {shortened(repr(said))}, written by {writer(found)}; this is kd_jax "
        f"{VERSION}, which reads format {FORMAT}: {fix}"
    )


def writer(found: Mapping[str, Any]) -> str:
    """`kd_jax 0.1.0`: who says to have written something."""
    said = _versions(found).get("kd_jax")
    return f"kd_jax {shortened(str(said))}" if said else "a kd_jax that did not tell its version"


def others(found: Mapping[str, Any]) -> str:
    """`jax 0.10.2, here 0.12.0`: of what wrote something, all that is of another version here."""
    ours, said = _ours(), _versions(found)
    names = [name for name in ours if said.get(name, ours[name]) != ours[name]]
    return "; ".join(f"{name} {shortened(str(said[name]))}, here {ours[name]}" for name in names)


def _versions(found: Mapping[str, Any]) -> Mapping[str, Any]:
    said = found.get("versions")
    return said if isinstance(said, Mapping) else {}


def read(folder: Path) -> dict[str, Any]:
    """The note of a run's folder; empty where there is none.

    Raises:
      UsageError: it is damaged, or the folder is of a format that this version doesn't read.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        found, fits = unsummed(mapping(path))
        if not fits:
            raise ValueError("other than was written")
    except ValueError as error:
        fix = f"delete it, if kd_jax {VERSION} or an earlier one wrote this run"
        raise UsageError(f"{path}: damaged ({error}): {fix}") from error
    check(folder, found)
    return found
