"""What a stage leaves on disk: checkpoints on the way, its network at the end, its history."""

import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax import arrays as files
from kd_jax import history, hosts, jsons, packing, tree, versions
from kd_jax.checksums import checksums
from kd_jax.devices import memory
from kd_jax.errors import UsageError, require, shortened
from kd_jax.state import Snapshot
from kd_jax.waypoints import CHECK, LACKING, NOTES, Waypoints
from kd_jax.writing import write_json

DONE = "done.json"
SPENT, PACE = "seconds.json", "pace.json"
LONGEST, FASTEST = 1e9, 1e12  # seconds and examples a second: beyond, a file is damaged
HALF = "*.orbax-checkpoint-tmp*"  # what Orbax has not written whole


class Store(Waypoints):
    """The folder of one stage for one group of seeds. Several hosts share it: all call all of
    this, and the first one writes what isn't Orbax's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.absolute())
        self.ignored: set[str] = set()  # files that are damaged, and worth no more than a time

    # How long it takes ------------------------------------------------------------------------

    def spend(self, seconds: float) -> None:
        """Keeps how long the stage has taken so far, for the process that goes on after a kill."""
        write_json(self.folder / SPENT, seconds)

    def spent(self) -> float:
        """What `spend` was told last; 0 at the start, and where that is damaged."""
        path = self.folder / SPENT
        found = jsons.number(path, LONGEST)
        if found is None and path.exists():
            self.ignored.add(SPENT)
        return found or 0.0

    def pace(self, examples_per_second: float | None = None) -> float | None:
        """Keeps how fast the stage trains, if it is told; what it was told last, None before, and
        where that is damaged."""
        path = self.folder / PACE
        if examples_per_second is not None:
            write_json(path, examples_per_second)
        return jsons.number(path, FASTEST)

    # Before a run ----------------------------------------------------------------------------

    def check(self) -> None:
        """Raises UsageError where what lies here is of a format that this version doesn't read, or
        the stage is done and what is known of it damaged."""
        self._done()
        # The one that is gone on from: a damaged note is passed over.
        next((step for step, note in self._steps() if note is not None), None)
        self.close()

    def tidy(self) -> None:
        """Takes away what processes that were killed have left: half-written checkpoints, and
        those of a finished stage. Only for who has the folder to itself: another process may be
        writing just these."""
        hosts.wait(f"{self.folder}: seen")  # by all, as it is
        if hosts.first():
            for half in [*self.folder.glob(HALF), *(self.folder / "steps").glob(HALF)]:
                shutil.rmtree(half, ignore_errors=True)
            if (self.folder / DONE).exists():
                self._clear()
        hosts.wait(f"{self.folder}: tidy")

    def _clear(self) -> None:
        for name in (SPENT, NOTES):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "steps", ignore_errors=True)

    # At the end -----------------------------------------------------------------------------

    def finish(self, snapshot: Snapshot, facts: dict[str, Any]) -> None:
        """Writes the stage's network and what is known of it; then drops its checkpoints."""
        if self._manager is not None:
            self._manager.wait_until_finished()
        arrays = {
            "params": snapshot.params,
            "collections": snapshot.collections,
            "masks": packing.packed(tree.named_leaves(snapshot.masks)),
        }
        # Orbax can't hold an empty tree, and reads dictionaries back as they were.
        arrays = {name: part for name, part in arrays.items() if jax.tree.leaves(part)}
        import orbax.checkpoint as ocp  # here: it takes half a second to import

        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(self.folder / "final", arrays, force=True)
        facts = facts | {CHECK: checksums(arrays)} | versions.note()
        write_json(self.folder / DONE, jsons.summed(facts))
        self.close()
        if hosts.first():
            self._clear()
        hosts.wait(f"{self.folder}: done")

    def facts(self) -> dict[str, Any] | None:
        """What `finish` was told; None while the stage is not done.

        Raises:
          UsageError: it is damaged, or of a format that this version doesn't read.
        """
        found, own = self._done(), {CHECK, *versions.note()}
        return None if found is None else {k: v for k, v in found.items() if k not in own}

    def _done(self) -> dict[str, Any] | None:
        path = self.folder / DONE
        if not path.exists():
            return None
        anew = "delete it, and the same command trains this stage anew"
        try:
            said = jsons.mapping(path)
        except ValueError as error:
            raise UsageError(f"{path}: damaged ({error}): {anew}") from error
        found, fits = jsons.unsummed(said)
        require(fits, f"{path}: damaged (its {jsons.SUM} is of other content): {anew}")
        versions.check(path, found, f"{versions.OTHER}, or {anew}")
        due = found.get("format", 1) >= versions.SUMMED
        require(not due or jsons.SUM in said, f"{path}: damaged (no {jsons.SUM}): {anew}")
        sums = found.get(CHECK, [])
        fine = isinstance(sums, list) and all(jsons.within(x, 2**32 - 1) for x in sums)
        fine = fine and jsons.within(found.get("seconds", 0), LONGEST)
        require(fine, f"{path}: damaged (odd seconds or {CHECK}): {anew}")
        return found

    def load(self) -> Snapshot:
        """The network of a finished stage, on the first device: it may have been made on others.

        Raises:
          UsageError: its files are damaged, or of a format that this version doesn't read.
        """
        other = versions.others(self._done() or {})
        try:
            arrays = self._final()
            params = arrays["params"]
            masks = _masks(arrays.get("masks", {}), tree.named_leaves(params))
        except LACKING:
            raise
        except Exception as error:  # by Orbax, some of which are of no other class
            anew = f"delete {self.folder}, and the same command trains this stage anew"
            files.check_readable(self.folder / "final", error, anew)
            reason = str(error).partition("\n")[0][:200] or type(error).__name__
            by = f"; or it takes other versions: {other}" if other else ""
            raise UsageError(f"{self.folder / 'final'}: damaged ({reason}{by}): {anew}") from error
        named = tree.map_named(lambda name, _: masks.get(name), params)
        return Snapshot(params, arrays.get("collections", {}), named)

    def _final(self) -> dict[str, Any]:
        import orbax.checkpoint as ocp

        home = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        with ocp.StandardCheckpointer() as checkpointer:
            saved = checkpointer.metadata(self.folder / "final").item_metadata.tree
            files.check_sizes(saved, self.folder / "final", memory())
            place = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=home)  # noqa: E731
            arrays = checkpointer.restore(self.folder / "final", jax.tree.map(place, saved))
        known = (self._done() or {}).get(CHECK)
        if known is not None:
            _check(np.asarray(known, np.uint32), arrays)
        return arrays

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
        if hosts.first():
            history.append(self.folder, record)

    def history(self, runs: int | None = None) -> list[dict[str, Any]]:
        """All records so far that can be read. With `runs`, those alone that have what an epoch's
        have, and an entry for each of so many runs."""
        return history.read(self.folder, runs)[0]

    def rewind(self, step: int, epochs: int = 0) -> str:
        """Forgets the records after a step: they will be written again.

        Args:
          epochs: how many had ended by then.

        Returns:
          What can't be read of their records, in a line; empty: all can.
        """
        hosts.wait(f"{self.folder}: rewind")  # all know by now whence they go on
        records, bad = history.read(self.folder)
        kept = [record for record in records if record["step"] <= step]
        said = history.told(self.folder, bad, epochs - len(kept))
        history.write(self.folder, kept)
        return said

    def lost(self, runs: int) -> str:
        """What can't be read of a finished stage's records, in a line; empty: all can."""
        steps = (self.facts() or {}).get("steps", 0)
        if not isinstance(steps, int) or steps <= 0:  # it was fused
            return ""
        records, bad = history.read(self.folder, runs, ended=True)
        return history.told(self.folder, bad, history.epochs(records, steps) - len(records))


def _masks(saved: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """Those of a finished network, {name of a weight: mask}. Raises ValueError where they are not
    of its weights."""
    if not isinstance(saved, dict):
        raise ValueError("masks that name no weights")
    strangers = sorted(saved.keys() - weights.keys())
    if strangers:
        raise ValueError(f"masks of no weight: {shortened(', '.join(strangers))}")
    form = lambda w: jax.ShapeDtypeStruct(w.shape, bool, sharding=w.sharding)  # noqa: E731
    forms = {name: form(weights[name]) for name in saved}
    for name, mask in saved.items():
        # As bits; or, as earlier versions wrote them and those of vectors are, whole.
        bits = packing.form(forms[name])
        here = (getattr(mask, "shape", None), getattr(mask, "dtype", None))
        if here not in [(one.shape, one.dtype) for one in (bits, forms[name])]:
            raise ValueError(f"the mask of {name} is not of its shape {list(forms[name].shape)}")
    return packing.unpacked(saved, forms)


def _check(known: Any, arrays: Any) -> None:
    """Raises ValueError where arrays are not those whose checksums are known."""
    if not np.array_equal(known, checksums(arrays)):
        raise ValueError("other numbers than were saved")
