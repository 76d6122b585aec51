"""Data sets that do not fit in memory: host batches read on the way, as a function of step."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kd_jax.batch import Batch
from kd_jax.errors import UsageError, require


class Source(Protocol):
    """Anything with a length and examples (image uint8 [H, W, C], label) by place."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]: ...


@dataclass(frozen=True)
class View:
    """Some of a source's examples, read when asked for.

    Attributes:
      source: all of them.
      ids: int32 [N], their places in the source.
      classes: how many there are, where labels are looked at.
      shape: of every image, where that is looked at.
    """

    source: Source
    ids: np.ndarray
    classes: int | None = None
    shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        """Raises UsageError: the label is no class, or the image of another shape."""
        image, label = self.source[int(self.ids[index])]
        which = f"example {int(self.ids[index])}"
        require(
            self.classes is None or 0 <= label < self.classes,
            f"{which} has the label {label}, which is none of the {self.classes} classes: mend the "
            "set",
        )
        shape = self.shape or image.shape
        require(image.shape == shape, unlike(f"{which} is", image.shape, shape))
        return image, label


def unlike(which: str, shape: tuple[int, ...], told: tuple[int, ...]) -> str:
    """What is said of images of another shape than that of all."""
    return f"{which} of shape {shape}, where the set's are of {told}: mend the set"


@dataclass(frozen=True)
class _Examples:
    """A view whose items carry their id; what grain's threads read."""

    view: View

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray, int]:
        image, label = self.view[int(index)]
        return int(self.view.ids[int(index)]), image, label


def as_view(source: Source) -> View:
    """All of a source; a view is its own."""
    if isinstance(source, View):
        return source
    return View(source, np.arange(len(source), dtype=np.int32))


def collate(examples: Sequence[tuple[int, np.ndarray, int]]) -> Batch:
    """[(id, image, label)] -> Batch of numpy arrays."""
    ids, images, labels = zip(*examples, strict=True)
    for place, image in zip(ids, images, strict=True):
        first = images[0].shape
        require(image.shape == first, unlike(f"example {place} is", image.shape, first))
    return _host_batch(np.asarray(ids), np.stack(images), np.asarray(labels), np.ones(len(ids)))


def _host_batch(ids: Any, inputs: Any, labels: Any, weights: Any) -> Batch:
    return Batch(
        ids=ids.astype(np.int32),
        inputs=inputs,
        labels=labels.astype(np.int32),
        weights=weights.astype(np.float32),
    )


def pad(batch: Batch, size: int) -> Batch:
    """Fills a batch up to `size` examples by repeating its first one with weight 0.

    The first example rather than zeros: whatever a model computes of it stays finite.
    """
    missing = size - len(batch.weights)
    if not missing:
        return batch

    def fill(x):
        return np.concatenate([x, np.repeat(x[:1], missing, axis=0)])

    filled = _host_batch(fill(batch.ids), fill(batch.inputs), fill(batch.labels), batch.weights)
    weights = np.concatenate([batch.weights, np.zeros(missing, np.float32)])
    return dataclasses.replace(filled, weights=weights)


def stream(
    source: Source,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    *,
    threads: int = 4,
    ahead: int = 4,
) -> Iterator[Batch]:
    """Training batches without end, reshuffled each epoch; an epoch's partial last batch is
    dropped.

    The batch of a step is a function of (seed, step): starting at step k gives what the
    uninterrupted stream gives from k on. Batches are read `ahead` of their use by `threads`.

    Raises:
      UsageError: the source has not one full batch.
    """
    import grain  # takes a second, and most runs hold their data in memory

    require(
        1 <= batch_size <= len(source),
        f"--batch_size {batch_size}: must be from 1 to the {len(source)} training examples",
    )
    data = grain.MapDataset.source(_Examples(as_view(source)))
    data = data.shuffle(seed=seed % 2**32)  # grain folds the epoch in
    data = data.batch(batch_size, drop_remainder=True, batch_fn=collate).repeat()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    return _plainly(data[start_step:].to_iter_dataset(options))


def evaluation_batches(
    source: Source, batch_size: int, *, threads: int = 4, ahead: int = 4
) -> Iterator[Batch]:
    """Every example once, in order; the last batch is padded with examples of weight 0."""
    import grain

    if len(source) == 0:
        return iter(())
    data = grain.MapDataset.source(_Examples(as_view(source)))
    data = data.batch(batch_size, batch_fn=lambda examples: pad(collate(examples), batch_size))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    return _plainly(data.to_iter_dataset(options))


def _plainly(batches: Iterable[Batch]) -> Iterator[Batch]:
    """What is wrong with an example in one line: grain adds some of its own."""
    try:
        yield from batches
    except UsageError as error:
        raise UsageError(str(error).partition("\n")[0]) from error
