"""What the process of a run holds: level over thousands of steps, and far below the bytes of a set
that is read on the way."""

import io
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny_tfds
from PIL import Image

ROOT = Path(__file__).parents[1]
MIB = 2**20
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]


def held(pid: int) -> float | None:
    """MiB of a process' memory that no file backs; None where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else None


def watch(words: list[str], folder: Path, begins: str) -> list[float]:
    """What the process of run.py held, four times a second, from these words of its log until it
    is done with training."""
    command = [sys.executable, "run.py", "run", *words, "--out", str(folder / "runs")]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    log, samples = folder / "log", []
    with log.open("w") as file:
        run = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=environment)
        while run.poll() is None:
            said, found = log.read_text(), held(run.pid)
            if begins in said and "evaluating" not in said and found is not None:
                samples.append(found)
            time.sleep(0.25)
    assert run.returncode == 0, log.read_text()[-2000:]
    return samples


# All save each second. The first goes over its epochs on the device, with masks the second; the
# third reads what the teacher said from disk.
LONG = {
    "distill": ["--distill.fraction", "1", "--distill.epochs", "1500"],
    "prune": ["--prune.epochs", "3000", "--distill.epochs", "10"],
    "replayed": [
        "--distill.fraction",
        "1",
        "--distill.epochs",
        "500",
        "--distill.replay",
        "float32",
    ],
}


@pytest.mark.parametrize("case", LONG)
def test_memory_is_level_over_thousands_of_steps(tmp_path, case):
    stage = "distill" if case == "replayed" else case
    words = ["digits", "--only", stage, "--seeds", "1", "--checkpoint-seconds", "1", *LONG[case]]
    samples = watch([*words, "--train.epochs", "5"], tmp_path, f"{stage} (seed 0): ")
    assert len(samples) > 40
    early = samples[len(samples) // 4 : len(samples) // 2]
    late = samples[-len(early) :]
    growth = statistics.median(late) - statistics.median(early)
    print(f"{case}: {statistics.median(late):.0f} MiB held, {growth:+.1f} MiB since the half")
    assert growth < 16


def write_large(directory: Path, count: int, side: int) -> int:
    """A set `large` of so many different images of 3 * side * side bytes; gives its bytes."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(side, side, 3)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    )
    rng = np.random.default_rng(0)

    def records(number: int):
        for place in range(number):
            image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG", compress_level=0)
            file.seek(0)
            yield features.serialize_example({"image": file, "label": place % 10})

    examples = {"train": records(count), "test": records(200)}
    tiny_tfds.write_examples(directory, "large", features, examples, ("image", "label"))
    return sum(path.stat().st_size for path in (directory / "large").rglob("*") if path.is_file())


def test_a_set_of_several_gib_is_read_on_the_way(tmp_path):
    written = write_large(tmp_path, 45_000, 180)
    assert written > 4 * 2**30
    words = ["digits", "--only", "train", "--seeds", "1", "--together", "False"]
    words += ["--data.name", "large", "--data.dir", str(tmp_path), "--data.image-size", "32"]
    words += ["--data.memory-mb", "100", "--train.epochs", "1", "--train.evaluate-every", "1"]
    samples = watch([*words, "--train.optim.learning-rate", "0.01"], tmp_path, "train (seed 0): ")
    print(f"{max(samples):.0f} MiB held at most, of a set of {written / MIB:.0f} MiB")
    assert max(samples) < 1500
