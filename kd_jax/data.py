"""Reads a data set and cuts it into train, validation and test."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_jax import cache, sources
from kd_jax.datasets import DATASETS, Data, Spec
from kd_jax.digits import digits
from kd_jax.errors import UsageError, require
from kd_jax.splits import check_labels, choose, permutation
from kd_jax.stream import Source, View, unlike
from kd_jax.synthetic import synthetic

PIXELS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
"""Sets that are published without any loss."""
ANEW = "encoded anew as JPEG, with loss: no accuracy compares with a published one"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Split:
    """Examples in memory, as stored.

    Attributes:
      inputs: uint8 [N, H, W, C].
      labels: int32 [N].
      ids: int32 [N], an example's place in the stored train or test split.
    """

    inputs: np.ndarray
    labels: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, ids: np.ndarray) -> "Split":
        """The examples at these places, as a copy."""
        return Split(self.inputs[ids], self.labels[ids], self.ids[ids])


@dataclass(frozen=True)
class Dataset:
    """What `load` gives.

    Attributes:
      spec: with the size that images have after any resizing.
      train, validation, test: a Split, or a View where the set is streamed. The ids of train and
        validation are places in the stored training split, and differ; those of test are its own.
      streamed: whether they are Views: too large for memory.
      ids_below: the number of stored training examples, which all ids of train are below.
    """

    spec: Spec
    train: Split | View
    validation: Split | View
    test: Split | View
    streamed: bool
    ids_below: int


def load(config: Data, on_progress: Progress | None = None) -> Dataset:
    """The data set that the flags ask for.

    `on_progress(done, total)` is called while images are read; not if they were in the cache.

    Raises:
      UsageError: there is no such set, it isn't prepared, it isn't one of classified images, or
        its images vary in size and no size is given.
    """
    if config.synthetic or config.name == "digits":
        spec, *parts = (synthetic if config.synthetic else digits)(config)
        return in_memory(config, spec, *(Split(*p, _ids(len(p[1]))) for p in parts))
    builder = sources.open_builder(config)
    test_name = _test_split(config, builder)
    train = sources.open_split(config, builder, "train")
    test = sources.open_split(config, builder, test_name)
    spec = _spec(config, builder)
    if spec.name in PIXELS and train.lossy:
        spec = dataclasses.replace(spec, note=f"{spec.note}; {ANEW}")
    height, width, channels = spec.shape
    decoded_bytes = (len(train) + len(test)) * height * width * channels
    if decoded_bytes > config.memory_mb * 2**20:
        sample = _sample(len(train))
        spec = _with_statistics(config, builder, spec, lambda: train.read(sample)[0])
        return streamed(config, spec, train, test)
    done, total = 0, len(train) + len(test)
    splits = []
    for name, source in (("train", train), (test_name, test)):
        report = on_progress and (lambda n, _, before=done: on_progress(before + n, total))
        splits.append(_read(config, builder, name, source, report))
        done += len(source)
    spec = _with_statistics(
        config, builder, spec, lambda: splits[0].inputs[np.sort(_sample(len(train)))]
    )
    return in_memory(config, spec, *splits)


def guess(data: Dataset) -> float:
    """The accuracy of who always names the most frequent class, on the validation examples, or the
    training examples where there are none; of a streamed set, whose labels are not read for it, of
    who names any."""
    part = data.validation if len(data.validation) else data.train
    if not isinstance(part, Split):
        return 1 / data.spec.classes
    return float(np.bincount(part.labels).max() / len(part))


def _ids(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.int32)


def in_memory(config: Data, spec: Spec, train: Split, test: Split) -> Dataset:
    """Cuts whole stored splits. Raises UsageError where a label is no class, which would end amid
    cutting or an evaluation, or images have another shape than the set tells of."""
    for which, part in (("stored training", train), ("stored test", test)):
        before = f"--data.name {config.name}: "
        check_labels(which, part.labels, spec.classes, before)
        shape = part.inputs.shape[1:] if len(part) else spec.shape
        require(shape == spec.shape, before + unlike(f"{which} images are", shape, spec.shape))
    ids = choose(config, len(train), len(test), train.labels)
    parts = train.take(ids[0]), train.take(ids[1]), test.take(ids[2])
    return Dataset(spec, *parts, streamed=False, ids_below=len(train))


def streamed(config: Data, spec: Spec, train: Source, test: Source) -> Dataset:
    """Cuts random access data that is left where it is. Validation is random, not stratified:
    that would mean reading every label."""
    ids = choose(config, len(train), len(test))
    sources = (train, train, test)
    parts = (
        View(part, own, spec.classes, spec.shape) for part, own in zip(sources, ids, strict=True)
    )
    return Dataset(spec, *parts, streamed=True, ids_below=len(train))


def outline(config: Data) -> Dataset:
    """What `load` would give, in form alone: no example is read; images, all black, take no memory,
    and labels go round the classes. Raises UsageError as `load` does, but sets of the table need
    not be prepared."""
    spec = DATASETS.get(config.name)
    if spec is None:
        builder = sources.open_builder(config)
        names, spec = ("train", _test_split(config, builder)), _spec(config, builder)
        train, test = (len(sources.open_split(config, builder, name)) for name in names)
    else:
        (train, test), side = spec.examples, config.image_size
        spec = dataclasses.replace(spec, size=(side, side) if side else spec.size)
    large = (train + test) * math.prod(spec.shape) > config.memory_mb * 2**20
    black = lambda *shape: np.broadcast_to(np.uint8(0), shape)  # noqa: E731
    splits = [
        Split(black(len(ids), *spec.shape), np.arange(len(ids), dtype=np.int32) % spec.classes, ids)
        for ids in choose(config, train, test)
    ]
    return Dataset(spec, *splits, streamed=large and config.name != "digits", ids_below=train)


def _test_split(config: Data, builder: Any) -> str:
    """`test`, or `validation` where a set has no test labels (ImageNet)."""
    splits = builder.info.splits
    stored = [name for name in splits if splits[name].num_examples]
    for name in ("test", "validation"):
        # A label that is withheld is stored as -1.
        if {"train", name} <= set(stored) and (
            sources.open_split(config, builder, name).label_of(0) >= 0
        ):
            return name
    raise UsageError(
        f"--data.name {config.name}: needs a train split and a labelled test or validation split, "
        f"has {', '.join(splits)}; choose another, such as {', '.join(DATASETS)}"
    )


def _spec(config: Data, builder: Any) -> Spec:
    """The set's Spec, where it isn't in the table made from what is stored; mean and std are then
    still to be computed."""
    image, label = sources.image_and_label(config, builder)
    features = builder.info.features
    height, width, channels = features[image].shape
    size = (height, width) if height and width else None
    if config.image_size:
        size = (config.image_size, config.image_size)
    spec = DATASETS.get(config.name.split(":")[0]) or Spec(
        name=config.name,
        classes=features[label].num_classes,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        note="tensorflow-datasets",
    )
    return dataclasses.replace(spec, size=size, names=tuple(features[label].names))


def _sample(count: int) -> np.ndarray:
    return permutation(count, 0)[:2000]


def _with_statistics(config: Data, builder: Any, spec: Spec, sample: Callable) -> Spec:
    """Fills in mean and std, from `sample()` [N, H, W, C] unless the table has them."""
    if config.name.split(":")[0] in DATASETS:
        return spec
    name = _cache_key(config, builder, "statistics")
    found = cache.load(name, ("mean", "std"))
    if found is None:
        found = statistics(sample())
        cache.save(name, found)
    mean, std = (tuple(float(x) for x in found[field]) for field in ("mean", "std"))
    return dataclasses.replace(spec, mean=mean, std=std)


def statistics(images: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and std of each channel of uint8 [N, H, W, C] divided by 255, to four digits."""
    values = np.arange(256) / 255
    counts = np.zeros((images.shape[-1], 256))
    for image in images:  # one at a time: the counts of all would take eight times their memory
        for channel, count in enumerate(counts):
            count += np.bincount(image[..., channel].ravel(), minlength=256)
    weights = counts / counts.sum(axis=1, keepdims=True)
    mean = weights @ values
    std = np.sqrt((weights * (values - mean[:, None]) ** 2).sum(axis=1))
    # At least one grey level: a channel that never varies would be divided by zero.
    return {"mean": mean.round(4), "std": np.maximum(std, 1 / 255).round(4)}


def _cache_key(config: Data, builder: Any, part: str) -> str:
    version, files = str(builder.info.version), sources.fingerprint(builder)
    return cache.key(config.name, version, part, config.image_size, content=files)


def _read(
    config: Data,
    builder: Any,
    split: str,
    source: sources.StoredImages,
    on_progress: Progress | None,
) -> Split:
    """A whole split, from the cache where it is there."""
    name = _cache_key(config, builder, split)
    found = cache.load(name, ("inputs", "labels"))
    if found is None:
        images, labels = source.read(range(len(source)), on_progress)
        found = {"inputs": images, "labels": labels}
        cache.save(name, found)
    return Split(found["inputs"], found["labels"], np.arange(len(source), dtype=np.int32))
