"""Checkpoints on the way: trees of arrays by step, of which the latest that is whole comes back."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from kd_jax import arrays as files
from kd_jax import hosts, jsons, packing, versions
from kd_jax.checksums import checksums
from kd_jax.devices import memory
from kd_jax.errors import UsageError
from kd_jax.writing import write_json

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

CHECK = "checksums"  # beside the arrays of which they are
LACKING = (MemoryError, jax.errors.JaxRuntimeError)  # of a machine, not of files
NOTES = "steps.json"  # beside the folder `steps`: {step: by whom its checkpoint is, and its form}
ASIDE = ".damaged"  # behind the names of checkpoints that are not read any more


class Waypoints:
    """Those in a folder's folder `steps`. Several hosts share it: all call all of this.

    Attributes:
      damaged: the steps whose checkpoints `restore` could not read, and has deleted.
      aside: where those of them lie instead, until the stage is done, for which there was no other.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: list[int] = []
        self.aside: dict[int, Path] = {}
        self._manager: ocp.CheckpointManager | None = None

    @property
    def manager(self) -> "ocp.CheckpointManager":
        if self._manager is None:
            import orbax.checkpoint as ocp  # here: it takes half a second to import

            options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
            self._manager = ocp.CheckpointManager(
                self.folder / "steps",
                options=options,
                item_handlers=ocp.StandardCheckpointHandler(),  # it reads what `_summed` asks for
            )
        return self._manager

    def save(self, step: int, carry: Any) -> None:
        """Begins to write a tree of arrays, masks as bits; returns once these may be donated."""
        import orbax.checkpoint as ocp

        arrays = packing.packed(packing.numbered(carry))
        arrays[CHECK] = checksums(arrays)
        # Before it is there: no checkpoint is without its note. Not as Orbax's own metadata, which
        # it refuses to read where a bit of them differs.
        there = {str(one) for one in self.manager.all_steps()}
        notes = {name: note for name, note in self._notes().items() if name in there}
        note = versions.note() | {"form": _form(carry), "step": step}
        notes[str(step)] = jsons.summed(note)
        write_json(self.folder / NOTES, notes)
        self.manager.save(step, args=ocp.args.StandardSave(arrays))

    def restore(self, carry: Any) -> tuple[int, Any] | None:
        """(step, tree) of the latest checkpoint that can be read, in the structure, shapes and
        shardings of `carry`; None where there is none.

        Raises:
          UsageError: they are of another version of kd_jax, and of no use to this one; or the disk
            can't be read, and nothing is deleted.
        """
        import orbax.checkpoint as ocp

        numbered = packing.numbered(carry)
        form = jax.tree.map(packing.form, numbered)
        form[CHECK] = np.zeros(len(form), np.uint32)
        unread: dict[int, dict[str, Any] | None] = {}
        own = _form(carry)
        for step, note in self._steps():
            # One whose note is damaged is read as one of which nothing is told: the checksums of
            # its arrays decide.
            if note is not None and note.get("form", own) != own:
                raise self._foreign(step, note)
            try:
                self._check_sizes(step)
                leaves = dict(self.manager.restore(step, args=ocp.args.StandardRestore(form)))
                if not np.array_equal(leaves.pop(CHECK), checksums(leaves)):
                    raise ValueError("other numbers than were saved")
            except LACKING:
                raise
            except Exception as error:  # by Orbax, of damaged files; some are of no other class
                place = self.folder / "steps" / str(step)
                files.check_readable(place, error, f"delete {place}, and it is gone on without it")
                unread[step] = note  # the one before it is kept for this
                continue
            self._drop(unread, note or {})
            values = packing.values(packing.unpacked(leaves, numbered))
            return step, jax.tree.unflatten(jax.tree.structure(carry), values)
        self._drop(unread)
        return None

    def _check_sizes(self, step: int) -> None:
        self.manager.wait_until_finished()  # with what it may still be writing
        saved = self.manager.item_metadata(step)
        one = memory()  # and they may be split over all devices
        most = None if one is None else one * jax.device_count()
        files.check_sizes(saved, self.folder / "steps" / str(step), most)

    def _steps(self) -> Iterator[tuple[int, dict[str, Any] | None]]:
        """(step, what `save` has noted beside its checkpoint, or None where that is damaged), the
        latest first. Each is looked at when its turn comes: the oldest may be one of which a kill
        has left a part, for it was being deleted."""
        steps = self.manager.all_steps() if (self.folder / "steps").exists() else []
        known = self._notes()
        for step in sorted(steps, reverse=True):
            note = known.get(str(step), {})
            if not _agrees(step, note):
                yield step, None
                continue
            versions.check(self.folder / "steps" / str(step), note, self._instead)
            if not note and not self._summed(step):
                raise self._foreign(step, note)
            yield step, note

    def _notes(self) -> dict[str, dict[str, Any]]:
        """What is told of each checkpoint; of those of earlier versions nothing is."""
        try:
            found = jsons.mapping(self.folder / NOTES)
        except (FileNotFoundError, ValueError):
            return {}
        return {step: note for step, note in found.items() if isinstance(note, dict)}

    def _summed(self, step: int) -> bool:
        """Whether a checkpoint has checksums; earlier versions made none. What is damaged may."""
        try:
            found = self.manager.metadata(step).item_metadata
            return found is None or CHECK in found.tree
        except Exception:  # by Orbax
            return True

    def _drop(
        self, unread: Mapping[int, dict[str, Any] | None], read: dict[str, Any] | None = None
    ) -> None:
        """Deletes checkpoints that are damaged: what this version, or the one that wrote a
        checkpoint that was read, has written. Others may be whole for whoever wrote them. Where
        none was read, they are set aside, for somebody to look into.

        Args:
          unread: {step: its note, or None where that is damaged too}.
          read: the note of what was read in their place; empty where that is not known.
        """
        sure = [versions.note()["versions"], *([read.get("versions")] if read is not None else [])]
        for step, note in unread.items():
            by = note.get("versions") if note is not None else sure[0]
            if by not in sure and (by or read is None):
                raise self._foreign(step, note or {})
        if read is None and unread:
            self._set_aside(unread)
        for step in unread:
            if read is not None:
                self.manager.delete(step)
            self.damaged.append(step)

    def _set_aside(self, steps: Iterable[int]) -> None:
        folder = self.folder / "steps"
        self.aside = {step: folder / f"{step}{ASIDE}" for step in steps}
        hosts.wait(f"{folder}: read")  # by all, as it is
        for step, aside in self.aside.items() if hosts.first() else ():
            shutil.rmtree(aside, ignore_errors=True)  # of an earlier time
            os.replace(folder / str(step), aside)
        hosts.wait(f"{folder}: set aside")
        self.manager.reload()

    def _foreign(self, step: int, note: dict[str, Any]) -> UsageError:
        return UsageError(
            f"{self.folder / 'steps' / str(step)}: kd_jax {versions.VERSION} can't go on from this "
            f"checkpoint, which {versions.writer(note)} wrote: {self._instead}"
        )

    @property
    def _instead(self) -> str:
        steps = self.folder / "steps"
        return f"go on with that version, or delete {steps}, and this stage is trained anew"

    def close(self) -> None:
        """Waits for what is being written."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None


def _form(carry: Any) -> str:
    """A hash of names, shapes and types of a tree's leaves: they are saved by number, and another
    version may number them otherwise."""
    named = jax.tree_util.tree_leaves_with_path(carry)
    told = [[jax.tree_util.keystr(path), list(x.shape), str(x.dtype)] for path, x in named]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def _agrees(step: int, note: Mapping[str, Any]) -> bool:
    """Whether a note is what was written, of that step, as far as it says."""
    rest, fits = jsons.unsummed(note)
    return fits and rest.get("step", step) == step
