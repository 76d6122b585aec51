"""What a stage leaves on disk: checkpoints on the way, its network at the end, its history."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from kd_jax import arrays as files
from kd_jax import hosts, packing, tree
from kd_jax.checksums import checksums
from kd_jax.errors import UsageError
from kd_jax.jsons import parsed
from kd_jax.state import Snapshot

LACKING = (MemoryError, jax.errors.JaxRuntimeError)  # of a machine, not of files
SPENT = "seconds.json"
PACE = "pace.json"
CHECK = "checksums"  # beside the arrays of which they are


class Store:
    """The folder of one stage for one group of seeds. Several hosts share it: all call all of
    this, and the first one writes what isn't Orbax's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._manager: ocp.CheckpointManager | None = None
        self.damaged: list[int] = []  # steps whose checkpoints `restore` could not read

    # On the way -----------------------------------------------------------------------------

    @property
    def manager(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(max_to_keep=2, create=True)
            # With a handler it can tell of arrays before it restores them.
            handler = ocp.StandardCheckpointHandler()
            self._manager = ocp.CheckpointManager(
                self.folder / "steps", item_handlers=handler, options=options
            )
        return self._manager

    def save(self, step: int, carry: Any) -> None:
        """Begins to write a tree of arrays, masks as bits; returns once these may be donated."""
        arrays = jax.tree.map(packing.packed, packing.numbered(carry))
        arrays[CHECK] = checksums(arrays)
        self.manager.save(step, args=ocp.args.StandardSave(arrays))

    def restore(self, carry: Any) -> tuple[int, Any] | None:
        """(step, tree) of the latest checkpoint that can be read, in the structure, shapes and
        shardings of `carry`; None where there is none."""
        numbered = packing.numbered(carry)
        form = jax.tree.map(packing.form, numbered)
        form[CHECK] = np.zeros(len(form), np.uint32)
        steps = self.manager.all_steps() if (self.folder / "steps").exists() else []
        for step in sorted(steps, reverse=True):
            try:
                self._check_sizes(step)
                leaves = dict(self.manager.restore(step, args=ocp.args.StandardRestore(form)))
                _check(leaves.pop(CHECK), leaves)
            except LACKING:
                raise
            except Exception:  # by Orbax, of damaged files; some are of no other class
                self.manager.delete(step)  # the one before it is kept for this
                self.damaged.append(step)
                continue
            leaves = {name: packing.unpacked(leaves[name], leaf) for name, leaf in numbered.items()}
            return step, jax.tree.unflatten(jax.tree.structure(carry), packing.values(leaves))
        return None

    def _check_sizes(self, step: int) -> None:
        self.manager.wait_until_finished()  # with what it may still be writing
        saved = self.manager.item_metadata(step)
        files.check_sizes(saved, self.folder / "steps" / str(step))

    def spend(self, seconds: float) -> None:
        """Keeps how long the stage has taken so far, for the process that goes on after a kill."""
        write_json(self.folder / SPENT, seconds)

    def spent(self) -> float:
        """What `spend` was told last; 0 at the start."""
        path = self.folder / SPENT
        return float(parsed(path.read_text(encoding="utf-8"))) if path.exists() else 0.0

    def pace(self, examples_per_second: float | None = None) -> float | None:
        """Keeps how fast the stage trains, if it is told; what it was told last, None before."""
        path = self.folder / PACE
        if examples_per_second is not None:
            write_json(path, examples_per_second)
        return float(parsed(path.read_text(encoding="utf-8"))) if path.exists() else None

    # At the end -----------------------------------------------------------------------------

    def finish(self, snapshot: Snapshot, facts: dict[str, Any]) -> None:
        """Writes the stage's network and what is known of it; then drops its checkpoints."""
        if self._manager is not None:
            self._manager.wait_until_finished()
        arrays = {
            "params": snapshot.params,
            "collections": snapshot.collections,
            "masks": jax.tree.map(packing.packed, tree.named_leaves(snapshot.masks)),
        }
        # Orbax can't hold an empty tree, and reads dictionaries back as they were.
        arrays = {name: part for name, part in arrays.items() if jax.tree.leaves(part)}
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(self.folder / "final", arrays, force=True)
        facts = facts | {CHECK: checksums(arrays)}
        write_json(self.folder / "done.json", facts)
        (self.folder / SPENT).unlink(missing_ok=True)
        self.close()
        if hosts.first():
            shutil.rmtree(self.folder / "steps", ignore_errors=True)
        hosts.wait(f"{self.folder}: done")

    def facts(self) -> dict[str, Any] | None:
        """What `finish` was told; None while the stage is not done."""
        found = self._done()
        return None if found is None else {k: v for k, v in found.items() if k != CHECK}

    def _done(self) -> dict[str, Any] | None:
        path = self.folder / "done.json"
        return parsed(path.read_text(encoding="utf-8")) if path.exists() else None

    def load(self) -> Snapshot:
        """The network of a finished stage, on the first device: it may have been made on others.

        Raises:
          UsageError: its files are damaged.
        """
        try:
            arrays = self._final()
        except LACKING:
            raise
        except Exception as error:  # by Orbax, some of which are of no other class
            reason = str(error).partition("\n")[0][:200] or type(error).__name__
            raise UsageError(
                f"{self.folder / 'final'}: damaged ({reason}): delete {self.folder}, and the same "
                "command trains this stage anew"
            ) from error
        masks = arrays.get("masks", {})
        params = arrays["params"]
        named = tree.map_named(
            lambda name, w: (
                packing.unpacked(masks[name], jnp.zeros(w.shape, bool)) if name in masks else None
            ),
            params,
        )
        return Snapshot(params, arrays.get("collections", {}), named)

    def _final(self) -> dict[str, Any]:
        home = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        with ocp.StandardCheckpointer() as checkpointer:
            saved = checkpointer.metadata(self.folder / "final").item_metadata.tree
            files.check_sizes(saved, self.folder / "final")
            place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=home)  # noqa: E731
            arrays = checkpointer.restore(self.folder / "final", jax.tree.map(place, saved))
        known = (self._done() or {}).get(CHECK)
        if known is not None:
            _check(np.asarray(known, np.uint32), arrays)
        return arrays

    def close(self) -> None:
        """Waits for what is being written."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def keep(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        """Writes named arrays to NAME.safetensors beside the checkpoints."""
        if hosts.first():
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write(self.folder / f"{name}.safetensors", arrays)
        hosts.wait(f"{self.folder}: {name}")

    def has(self, name: str) -> bool:
        """Whether `keep` wrote this."""
        return (self.folder / f"{name}.safetensors").exists()

    def kept(self, name: str) -> dict[str, np.ndarray]:
        """The arrays that `keep` wrote. Raises UsageError where they are damaged."""
        fix = "delete it, and the same command makes it anew"
        return files.read(self.folder / f"{name}.safetensors", fix)

    # History --------------------------------------------------------------------------------

    def log(self, record: dict[str, Any]) -> None:
        """Appends a record, which has a "step"."""
        if not hosts.first():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "history.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """All records so far; a line cut short by a kill is left out."""
        path = self.folder / "history.jsonl"
        records = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                records.append(parsed(line))
            except json.JSONDecodeError:
                break
        return records

    def rewind(self, step: int) -> None:
        """Forgets the records after a step: they will be written again."""
        hosts.wait(f"{self.folder}: rewind")  # all know by now whence they go on
        kept = [record for record in self.history() if record["step"] <= step]
        if (self.folder / "history.jsonl").exists():
            text = "".join(json.dumps(record) + "\n" for record in kept)
            write_text(self.folder / "history.jsonl", text)


def _check(known: Any, arrays: Any) -> None:
    """Raises ValueError where arrays are not those whose checksums are known."""
    if not np.array_equal(known, checksums(arrays)):
        raise ValueError("other numbers than were saved")


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a whole file or nothing of it; of several hosts, the first one does."""
    if not hosts.first():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)


def write_json(path: Path, data: Any) -> None:
    """Writes JSON; numpy's numbers and arrays become Python's."""
    plain = lambda x: x.tolist() if isinstance(x, (np.ndarray, np.generic, jax.Array)) else str(x)  # noqa: E731
    write_text(path, json.dumps(data, indent=1, default=plain) + "\n")
