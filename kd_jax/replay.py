"""What a teacher says of every augmented view, kept on disk and replayed to any number of students.

An augmented view is a function of (seed, epoch, example), so the teacher need look at it only once.
A folder holds an epoch a file: float16 or float32 logits, or the `top` largest of them. Beside them
lies what they are the outputs of; a folder that is of anything else is refused.

Shen, Xing, "A Fast Knowledge Distillation Framework for Visual Recognition", 2022,
https://arxiv.org/abs/2112.01528, keeps region-wise soft labels; here the views themselves are
reproducible, so nothing of a view has to be kept.
"""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from kd_jax import hosts, tree
from kd_jax.data import Split
from kd_jax.errors import UsageError, reason, require, shortened
from kd_jax.forward import Model
from kd_jax.halves import clear
from kd_jax.jsons import parsed
from kd_jax.platform import equations
from kd_jax.program import Program
from kd_jax.state import Snapshot
from kd_jax.writing import whole, write_json

CHUNK = 1 << 20  # bytes of a record


def digest(arrays: Iterable[tuple[str, Any]]) -> str:
    """A hash of named arrays: names, types, shapes and every bit."""
    found = hashlib.sha256()
    for name, array in arrays:
        array = np.asarray(array)
        found.update(repr((name, array.dtype.str, array.shape)).encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def identity(
    program: Program, teacher: tuple[Model, Snapshot], split: Split, seeds: Any
) -> dict[str, Any]:
    """Everything that the teacher's outputs depend on, as JSON can hold it."""
    model, snapshot = teacher
    example = jax.ShapeDtypeStruct((1, *program.spec.shape), jnp.float32)
    one = jax.eval_shape(lambda v: jax.tree.map(lambda x: x[0], v), snapshot.variables)
    function = str(equations(lambda v, x: model.forward(v, x)[0].logits, one, example))
    function = re.sub(r"0x[0-9a-f]+", "", function)  # addresses in the printed form
    return {
        "teacher": digest(tree.named_leaves(snapshot.variables).items()),
        "teacher's function": hashlib.sha256(function.encode()).hexdigest(),
        "data": digest([("ids", split.ids), ("inputs", split.inputs)]),
        "normalisation": [list(program.spec.mean), list(program.spec.std), program.spec.scale],
        "augmentation": dataclasses.asdict(program.augment),
        "seeds": [int(seed) for seed in seeds],
        # Only mixup makes a view depend on the examples it shares a batch with.
        "batch": program.batch if program.augment.mixup is not None else None,
    }


class Replay:
    """The kept outputs of one teacher on the views of some seeds.

    Args:
      root: the folder of all of them; this one's is named by a hash in it.
      what: see `identity`.
      precision: "float16" or "float32".
      top: how many of the largest logits to keep of each view; 0: all.

    Raises:
      UsageError: the folder holds the outputs of something else.
    """

    def __init__(self, root: Path, what: dict[str, Any], precision: str, top: int = 0) -> None:
        self.precision, self.top = np.dtype(precision), top
        what = json.loads(json.dumps(what | {"precision": precision, "top": top}))
        name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
        self.folder = Path(root) / name
        path = self.folder / "identity.json"
        if path.exists():
            found = self._identity(path)
            other = sorted(key for key in what.keys() | found if what.get(key) != found.get(key))
            require(
                not other,
                f"{self.folder}: kept teacher outputs of another {', '.join(other)}: delete it",
            )
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, what)
        clear(self.folder)

    def _identity(self, path: Path) -> dict[str, Any]:
        try:
            return dict(parsed(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"{path}: damaged ({error}): delete {self.folder}") from error

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:05d}.array_record"

    def has(self, epoch: int) -> bool:
        """Whether an epoch's outputs are there whole."""
        return self._path(epoch).exists()

    def write(self, epoch: int, logits: np.ndarray) -> None:
        """Keeps float32 logits [S, N, K] of the views of an epoch."""
        if hosts.first():
            self._write(epoch, logits)
        hosts.wait(str(self._path(epoch)))

    def _write(self, epoch: int, logits: np.ndarray) -> None:
        parts = top_of(logits, self.top) if self.top else {"values": logits}
        limit = np.finfo(self.precision).max
        parts["values"] = np.clip(parts["values"], -limit, limit).astype(self.precision)
        # Runs share the folder without a lock. Two may record the same epoch; what is there first
        # stays, as somebody may be learning from it already.
        with whole(self._path(epoch), first=True) as partial:
            writer = ArrayRecordWriter(str(partial), "group_size:1")
            writer.write(json.dumps({"shape": logits.shape}).encode())
            blob = b"".join(np.ascontiguousarray(part).tobytes() for part in parts.values())
            for start in range(0, len(blob), CHUNK):
                writer.write(blob[start : start + CHUNK])
            writer.close()

    def read(self, epoch: int, shape: Sequence[int]) -> np.ndarray:
        """The logits of an epoch, float32 [S, N, K], which is their shape. Raises UsageError for a
        damaged file, or one of another shape."""
        path, shape = self._path(epoch), tuple(shape)
        try:
            reader = ArrayRecordReader(str(path))
            try:
                return self._decode(self._blob(reader, shape), shape)
            finally:
                reader.close()
        except (ValueError, KeyError, TypeError, RuntimeError, OSError, IndexError) as error:
            raise UsageError(f"{path}: damaged: delete it ({reason(error)})") from error

    def _blob(self, reader: ArrayRecordReader, shape: tuple[int, ...]) -> bytes:
        """What stands after the head, once that is of this shape. A record is read by itself, so
        that a file which holds more than there should be doesn't fill the memory."""
        rows, kept = math.prod(shape[:-1]), self.top or shape[-1]
        size = rows * (kept * self.precision.itemsize + (2 * kept + 4) * bool(self.top))
        records = 1 + -(-size // CHUNK)
        if reader.num_records() != records:
            raise ValueError(f"{reader.num_records()} records, not {records}")
        found = parsed(reader.read([0])[0])["shape"]
        if found != [*shape]:
            raise ValueError(f"logits {shortened(str(found))}, not {[*shape]}")
        blob = b"".join(reader.read([i])[0] for i in range(1, records))
        if len(blob) != size:
            raise ValueError(f"{len(blob)} bytes, not {size}")
        return blob

    def _decode(self, blob: bytes, shape: tuple[int, ...]) -> np.ndarray:
        if not self.top:
            return np.frombuffer(blob, self.precision).reshape(shape).astype(np.float32)
        kept = (*shape[:-1], self.top)
        split = int(np.prod(kept)) * self.precision.itemsize
        values = np.frombuffer(blob[:split], self.precision).reshape(kept).astype(np.float32)
        places = np.frombuffer(blob[split : split + 2 * values.size], np.uint16).reshape(kept)
        rest = np.frombuffer(blob[split + 2 * values.size :], np.float32).reshape(shape[:-1])
        if places.max(initial=0) >= shape[-1]:
            raise ValueError("a class that there is not")
        return from_top(values, places, rest, shape[-1])


def top_of(logits: np.ndarray, top: int) -> dict[str, np.ndarray]:
    """The `top` largest logits [..., top], their classes, and [...] the log-sum-exp of the rest."""
    order = np.argsort(-logits, axis=-1, kind="stable")
    places, others = order[..., :top], order[..., top:]
    tail = np.take_along_axis(logits, others, -1).astype(np.float64)
    peak = tail.max(-1, keepdims=True)
    rest = (peak + np.log(np.exp(tail - peak).sum(-1, keepdims=True)))[..., 0]
    return {
        "values": np.take_along_axis(logits, places, -1),
        "places": places.astype(np.uint16),
        "rest": rest.astype(np.float32),
    }


def from_top(values: np.ndarray, places: np.ndarray, rest: np.ndarray, classes: int) -> np.ndarray:
    """Logits [..., classes]: the kept ones as they were; the others share their probability (at
    temperature 1) evenly, so that those of the kept classes are right."""
    each = rest - np.log(classes - values.shape[-1])
    logits = np.repeat(each[..., None].astype(np.float32), classes, axis=-1)
    np.put_along_axis(logits, places.astype(np.int64), values, axis=-1)
    return logits
