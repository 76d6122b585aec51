"""What may be wrong with examples: labels that are none, images that stand in two splits."""

import hashlib
from collections import Counter

import numpy as np

from kd_jax.data import Dataset, Split
from kd_jax.splits import check_labels

SPLITS = ("train", "validation", "test")


def notes(data: Dataset) -> list[str]:
    """Warnings about the examples of a set in memory. Those of one that is streamed would all have
    to be read before: their labels are looked at when they come, and their images are not compared.

    Raises:
      UsageError: a label is no class of the set.
    """
    splits = {name: getattr(data, name) for name in SPLITS}
    if not all(isinstance(split, Split) for split in splits.values()):
        return ["the set is streamed: images that come twice, or in two splits, are not looked for"]
    for name, split in splits.items():
        check_labels(name, split.labels, data.spec.classes)
    images = {name: Counter(map(_digest, split.inputs)) for name, split in splits.items()}
    found = []
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        shared = images[one].keys() & images[other].keys()
        count = sum(images[other][image] for image in shared)
        if count:
            found.append(
                f"warning: {count} of {len(splits[other]):,} {other} images are {one} images too"
            )
    for name, split in splits.items():
        again = len(split) - len(images[name])
        if again:
            found.append(f"warning: {again} of {len(split):,} {name} images are there before")
    return found


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
