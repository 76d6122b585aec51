"""Images that nobody took, in the form of a known set: to try things where it is not prepared."""

import dataclasses
import math

import numpy as np

from kd_jax.datasets import DATASETS, Data, Spec
from kd_jax.errors import did_you_mean, require
from kd_jax.units import amount

NOISE = 40.0  # standard deviation around an image of the class, of pixels from 0 to 255
Part = tuple[np.ndarray, np.ndarray]  # images uint8 [N, H, W, C], labels int32 [N]


def synthetic(config: Data) -> tuple[Spec, Part, Part]:
    """(the set's form under another name, train, test): noise around one image a class, the same
    at any time; with limits no more than these need.

    Raises:
      UsageError: a set whose form is not known, or more than --data.memory-mb of it.
    """
    known, side = DATASETS.get(config.name), config.image_size
    hint = did_you_mean(config.name, DATASETS)
    require(
        known is not None,
        f"--data.synthetic True: the form of {config.name} is not written down.{hint}",
    )
    assert known is not None
    spec = dataclasses.replace(
        known,
        name=f"synthetic {known.name}",
        note="noise around one image a class: its accuracies mean nothing",
        size=(side, side) if side else known.size,
    )
    limits = (config.train_limit, config.test_limit)
    # Twice as many as are kept: a part is held out.
    counts = [
        min(n, 2 * most) if most else n for n, most in zip(spec.examples, limits, strict=True)
    ]
    needed = sum(counts) * math.prod(spec.shape)
    require(
        needed <= config.memory_mb * 2**20,
        f"--data.synthetic True: {amount(needed, 'B')} of images, more than --data.memory-mb "
        f"{config.memory_mb}: set --data.train-limit and --data.test-limit",
    )
    random = np.random.default_rng(0)
    of_class = random.uniform(0, spec.scale, (spec.classes, 1, 1, spec.shape[-1]))
    parts = []
    for count in counts:
        labels = np.arange(count, dtype=np.int32) % spec.classes
        images = np.empty((count, *spec.shape), np.uint8)
        for i, label in enumerate(labels):  # one by one: as floats all would be four times as much
            noise = random.normal(0, NOISE * spec.scale / 255, spec.shape)
            images[i] = np.clip(of_class[label] + noise, 0, spec.scale)
        parts.append((images, labels))
    return spec, parts[0], parts[1]
