"""What the teacher brings to a stage: its outputs collected beforehand, kept and replayed, or the
teacher itself, asked at each step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import compiled, hosts
from kd_jax.augment import Augment
from kd_jax.checkpoint import Store
from kd_jax.config import Distill, Stage
from kd_jax.data import Dataset, Split
from kd_jax.errors import UsageError, require
from kd_jax.jobs import Prepared, Taught
from kd_jax.metrics import predictions
from kd_jax.portion import shown
from kd_jax.program import Teacher
from kd_jax.replay import Replay, identity

Array = jax.Array


def outputs_of(
    stage: Stage, data: Dataset, teacher: Taught, store: Store | None
) -> np.ndarray | None:
    """What a teacher says of the stage's examples as stored: logits [S, N, K]. With a store they
    are kept there, for others to use too; None where neither the stage nor a store needs them."""
    if not isinstance(data.train, Split) or (store is None and stage.augment != Augment()):
        return None
    part = shown(stage, data)
    if store is not None and hosts.agreed(store.has("teacher_outputs")):
        return _kept(store, part, data.spec.classes)
    logits = predictions(compiled.predictor(teacher[0], data.spec), teacher[1], part)[0]
    if store is not None:
        arrays = {"ids": part.ids, "labels": part.labels, "logits": logits}
        arrays["probabilities"] = np.asarray(jax.nn.softmax(logits))
        store.keep("teacher_outputs", arrays)
    return logits


def _kept(store: Store, part: Split, classes: int) -> np.ndarray:
    """The logits that were kept. Raises UsageError where they are not of these examples."""
    found = store.kept("teacher_outputs")
    logits, ids, labels = (found.get(name) for name in ("logits", "ids", "labels"))
    fits = logits is not None and logits.ndim == 3 and logits.shape[1:] == (len(part), classes)
    same = np.array_equal(ids, part.ids) and np.array_equal(labels, part.labels)  # type: ignore[arg-type]
    require(
        fits and same and logits.dtype == np.float32,  # type: ignore[union-attr]
        f"{store.folder / 'teacher_outputs.safetensors'}: of other examples than the stage's: "
        "delete it, and the same command makes it anew",
    )
    return logits  # type: ignore[return-value]


def teacher_of(
    prepared: Prepared, teacher: Taught, outputs: np.ndarray | None, replay: Path | None
) -> Teacher | Callable[[int], Teacher]:
    """Without augmentation the teacher says the same of an example at each epoch: its outputs, see
    `outputs_of`. Otherwise it sees each batch as the student does; or what it says of the views of
    an epoch is recorded once in the folder `replay`, and read from there."""
    stage = prepared.stage
    # What terms read beside the teacher's logits on one view, nobody has collected.
    if not prepared.program.asks and stage.augment == Augment() and outputs is not None:
        return Teacher(logits=hosts.place(outputs, prepared.home))
    variables = prepared.put(teacher[1].variables)
    if prepared.resident is None or not isinstance(stage, Distill) or stage.replay == "off":
        return Teacher(variables=variables)
    if replay is None:
        raise UsageError(f"replay {stage.replay} needs a folder: fit(..., replay=FOLDER)")
    part = shown(stage, prepared.data)
    what = identity(prepared.program, teacher, part, prepared.seeds)
    top = min(stage.replay_top, prepared.data.spec.classes - 1)
    kept = Replay(replay, what, stage.replay, top)
    shape = len(prepared.seeds), len(part), prepared.data.spec.classes

    def of_epoch(epoch: int) -> Teacher:
        if not hosts.agreed(kept.has(epoch)):
            kept.write(epoch, _record(prepared, variables, epoch))
        return Teacher(logits=hosts.place(kept.read(epoch, shape), prepared.home))

    return of_epoch


def _record(prepared: Prepared, variables: Any, epoch: int) -> np.ndarray:
    """What the teacher says of all views of an epoch: logits [S, N, K] in the order of the data."""
    program, programs, data = prepared.program, prepared.compiled, prepared.resident
    assert data is not None
    size = data.ids.size
    step = jnp.int32(epoch * program.steps_per_epoch)
    order = programs.order(prepared.settings, prepared.seeds, step, data)
    given = (prepared.settings, prepared.seeds, order, variables, data)
    said = [programs.record(*given, (epoch, index)) for index in range(-(-size // program.batch))]
    rows, logits = (np.concatenate(parts, axis=1)[:, :size] for parts in zip(*said, strict=True))
    ordered = np.empty_like(logits)
    np.put_along_axis(ordered, rows[..., None], logits, axis=1)
    return ordered
