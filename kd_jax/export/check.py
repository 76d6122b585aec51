"""Whether an exported file says what the network says: asked in a fresh process, by its own
runtime, of the whole test split."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kd_jax.data import Split, View
from kd_jax.errors import UsageError
from kd_jax.metrics import accuracy

SCRIPT = Path(__file__).with_name("runtimes.py")
ROOT = SCRIPT.parent.parent.parent
ROUNDING = 1e-4  # of the largest logit, that rounding may change the logits of half the examples by
COARSE = {"onnx-int8": 0.1}  # instead, where biases are rounded to the scale of sums of integers
CHANGED = 0.01  # share of predictions that rounding may change, where they are close calls


@dataclasses.dataclass(frozen=True)
class Check:
    """What a file says beside what the network says.

    Attributes:
      accuracy, expected: of the file, and of the network.
      difference: the largest of a logit.
      changed: how many predictions.
      examples: how many there are.
    """

    accuracy: float
    expected: float
    difference: float
    changed: int
    examples: int


@contextlib.contextmanager
def stored(split: Split | View) -> Iterator[Path]:
    """A file of all stored images of a split [N, H, W, C]."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        if isinstance(split, Split):
            np.save(path, split.inputs)
        else:
            first = np.asarray(split[0][0])
            shape = (len(split), *first.shape)
            images = np.lib.format.open_memmap(path, "w+", first.dtype, shape)
            for i in range(len(split)):
                images[i] = split[i][0]
            images.flush()
        yield path


def compare(form: str, file: Path, images: Path, logits: np.ndarray, labels: np.ndarray) -> Check:
    """Raises UsageError where a file can't be read, or says something else.

    Args:
      images: stored, [N, H, W, C].
      logits, labels: the network's [N, K], and the truth [N].
    """
    found = ask(form, file, images)
    if found.shape != logits.shape or not np.isfinite(found).all():
        raise UsageError(
            f"--format {form}: {file} gives logits of shape {found.shape} in its runtime, and the "
            f"network finite ones of shape {logits.shape}: do not use it"
        )
    apart = np.abs(found - logits).max(axis=1)
    changed = int(np.sum(found.argmax(axis=1) != logits.argmax(axis=1)))
    check = Check(
        float(accuracy(found, labels)),
        float(accuracy(logits, labels)),
        float(apart.max()),
        changed,
        len(labels),
    )
    scale = max(float(np.abs(logits).max()), 1e-6)
    few = max(1, round(CHANGED * len(labels)))
    if np.median(apart) > COARSE.get(form, ROUNDING) * scale or changed > few:
        raise UsageError(
            f"--format {form}: {file} does not say what the network says, beyond rounding: logits "
            f"differ by up to {check.difference:.3g}, {changed} of {len(labels)} predictions "
            f"differ, accuracy is {check.accuracy:.4f} and not {check.expected:.4f}: do not use it"
        )
    return check


def ask(form: str, file: Path, images: Path) -> np.ndarray:
    """The logits of a file [N, K], by its runtime in a fresh process."""
    out = images.with_name(f"{form}.npy")
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    command = [sys.executable, "-P", SCRIPT, form, file.absolute(), images, out]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise UsageError(f"--format {form}: its runtime can't run {file}: {said[-1]}")
    return np.load(out, allow_pickle=False)
