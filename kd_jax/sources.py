"""Sets of tensorflow-datasets as sources of (image, label), without TensorFlow."""

import contextlib
import io
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kd_jax.datasets import DATASETS, Data
from kd_jax.errors import UsageError, did_you_mean, reason, require
from kd_jax.opening import quiet, running_nothing

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for images of so many channels."""


NAME = re.compile(r"\w[\w.+-]*(/[\w.+-]+)?(:[\d.*]+)?")  # of a set, its config and its version
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
"""Of images. Pillow knows others, and has a program run for some of them."""


def resize(image: Image.Image, size: int) -> Image.Image:
    """Scales the short side to `size` and crops the centre square (Pillow's antialiased
    bilinear filter)."""
    width, height = image.size
    scale = size / min(width, height)
    scaled = max(size, round(width * scale)), max(size, round(height * scale))
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    return image.crop((left, top, left + size, top + size))


def to_array(image: Image.Image, channels: int, size: int) -> np.ndarray:
    """uint8 [H, W, channels]; resized unless `size` is 0."""
    image = image.convert(MODES[channels])
    if size:
        image = resize(image, size)
    return np.asarray(image).reshape(image.height, image.width, channels)


def open_builder(config: Data) -> Any:
    """The tensorflow-datasets builder of a set that is prepared and ready to be read.

    Raises:
      UsageError: no such folder or set, or the set isn't prepared in a readable form.
    """
    # Other names have tensorflow-datasets ask Hugging Face or other servers, and run what they
    # send, or change its arguments; and a name may come from somebody's file.
    require(
        NAME.fullmatch(config.name) is not None,
        f"--data.name {config.name}: no name of a data set: write NAME, NAME/CONFIG or NAME:VERSION"
        " as tensorflow-datasets does; sets of Hugging Face and other servers are not read",
    )
    # So may an address, and tensorflow-datasets would go there.
    require(
        "://" not in config.dir,
        f"--data.dir {config.dir}: an address, and no connection is opened: copy the set into a "
        "folder, and give that",
    )
    require(
        not config.dir or os.path.isdir(os.path.expanduser(config.dir)),
        f"--data.dir {config.dir}: no such directory; give the one that holds the folder "
        f"{config.name.split('/')[0].split(':')[0]}/, or leave it out for ~/tensorflow_datasets",
    )
    with quiet(), running_nothing(f"--data.name {config.name}: "):
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder(config.name, data_dir=config.dir or None)
        except tfds.core.DatasetNotFoundError:
            known = {*DATASETS, *tfds.list_builders(with_community_datasets=False)}
            hint = did_you_mean(config.name, known)
            if len(hint) > 100:  # nothing is close, and the whole list is a thousand names
                hint = f" Known: {', '.join(DATASETS)}, and the sets of tensorflow-datasets."
            raise UsageError(f"--data.name {config.name}: no such data set.{hint}") from None
        except ImportError as error:  # of what only some sets are described with
            raise UsageError(
                f"--data.name {config.name}: no set of images with one class each, or one that "
                f"needs {error.name or 'TensorFlow'} even to be described: choose another, such as "
                f'{", ".join(DATASETS)}, or pip install "kd-jax[prepare]"'
            ) from None
        except UsageError:
            raise
        except (ValueError, AssertionError) as error:  # an unknown config or version of a set
            told = str(error).strip().split("\n")[0].rpartition('": ')[2].split(" Here are")[0]
            raise UsageError(
                f"--data.name {config.name}: {told} Change what follows the set's name, or leave "
                "it out"
            ) from None
        except Exception as error:  # of damaged files whatever the parsers raise
            raise _damaged(config, error) from error
        if builder.info.features:  # known from its code: no need to prepare it to be told this
            image_and_label(config, builder)
        _require_prepared(config, builder)
    return builder


def _prepare_command(name: str, directory: str) -> str:
    where = f"data_dir={directory!r}, " if directory else ""
    return (
        'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder({name!r}, {where}file_format='array_record')"
        '.download_and_prepare()"'
    )


def _require_prepared(config: Data, builder: Any) -> None:
    # Whoever gives the set's own folder, or that of its version, means one above it.
    above = Path(config.dir).expanduser().absolute().parents if config.dir else ()
    holder = next((folder for folder in above if (folder / builder.name).is_dir()), "PATH")
    require(
        builder.is_prepared() and bool(builder.info.splits),
        f"--data.name {config.name}: not prepared, looked in {builder.data_path}. Either prepare "
        f'it once: pip install "kd-jax[prepare]" && {_prepare_command(config.name, config.dir)}; '
        f"{'or, to try things, --data.synthetic True; ' * (config.name in DATASETS)}"
        f"or say where it is: --data.dir {holder}",
    )
    stored = builder.info.file_format.value if builder.info.file_format else "nothing known"
    require(
        stored == "array_record",
        f"--data.name {config.name}: stored in {builder.data_path} as {stored}, which can't be "
        'read in any order. Prepare it elsewhere: pip install "kd-jax[prepare]" && '
        f"{_prepare_command(config.name, 'PATH')}; then --data.dir PATH",
    )


def _is_pixels(image: Any) -> bool:
    return image.np_dtype == np.uint8 and len(image.shape) == 3 and image.shape[-1] in MODES


def image_and_label(config: Data, builder: Any) -> tuple[str, str]:
    """The names of the image and of the label in a set's examples.

    Raises:
      UsageError: the set is not one of images with one class each.
    """
    import tensorflow_datasets as tfds

    features: dict[str, Any] = dict(builder.info.features or {})
    keys = builder.info.supervised_keys or ("image", "label")
    # A key may be a tree of names, for sets that are not one image and one label.
    found: list[Any] = [features.get(name) if isinstance(name, str) else None for name in keys[:2]]
    require(
        isinstance(found[0], tfds.features.Image)
        and isinstance(found[1], tfds.features.ClassLabel)
        and _is_pixels(found[0]),
        f"--data.name {config.name}: not a set of images with one class each (it has: "
        f"{', '.join(f'{k} ({type(f).__name__})' for k, f in features.items())}); choose "
        f"another, such as {', '.join(DATASETS)}",
    )
    return keys[0], keys[1]


@dataclass(frozen=True)
class StoredImages:
    """A split of a tensorflow-datasets set: a Source.

    Attributes:
      examples: tfds' random access data source, whose images are still encoded.
      image, label: their names in an example.
      channels: of an image.
      size: what images are resized to; 0 for as stored.
      name: the set's, for messages.
    """

    examples: Any
    image: str
    label: str
    channels: int
    size: int
    name: str = ""

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        with self._telling():
            return self.decode(self.examples[int(index)])

    def label_of(self, index: int) -> int:
        """An example's label, its image left encoded. Negative where a set withholds it."""
        with self._telling():
            return int(self.examples[index][self.label])

    @property
    def lossy(self) -> bool:
        """Whether its first image is a JPEG."""
        with self._telling():
            return len(self) > 0 and self.examples[0][self.image].startswith(b"\xff\xd8")

    def decode(self, example: dict[str, Any]) -> tuple[np.ndarray, int]:
        with Image.open(io.BytesIO(example[self.image]), formats=FORMATS) as image:
            return to_array(image, self.channels, self.size), int(example[self.label])

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Damaged examples are told of in one line."""
        try:
            yield
        except Exception as error:  # array_record, protobuf, tfds and Pillow have their own
            if isinstance(error, OSError) and error.errno is not None:
                raise  # a disk that fails
            raise UsageError(
                f"--data.name {self.name}: an example is damaged ({reason(error)}): prepare the "
                "set anew"
            ) from error

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(uint8 [N, H, W, C], int32 [N]) of many examples of one size, read 1,000 at a time."""
        images, labels = None, np.empty(len(indices), np.int32)
        for start in range(0, len(indices), 1000):
            block = [int(i) for i in indices[start : start + 1000]]
            with self._telling():
                for place, example in enumerate(self.examples.__getitems__(block), start):
                    image, labels[place] = self.decode(example)
                    if images is None:
                        images = np.empty((len(indices), *image.shape), np.uint8)
                    if image.shape != images.shape[1:]:
                        raise ValueError(f"{image.shape} after others of {images.shape[1:]}")
                    images[place] = image
            if on_progress is not None:
                on_progress(start + len(block), len(indices))
        if images is None:
            images = np.empty((0, self.size, self.size, self.channels), np.uint8)
        return images, labels


def _damaged(config: Data, error: Exception) -> UsageError:
    return UsageError(
        f"--data.name {config.name}: its files in --data.dir {config.dir} are damaged "
        f"({reason(error)}): prepare it anew"
    )


def open_split(config: Data, builder: Any, split: str) -> StoredImages:
    """One split of a prepared set."""
    import tensorflow_datasets as tfds

    image, label = image_and_label(config, builder)
    # Once, and not around each image: several threads decode.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    with quiet():
        # Pillow decodes here rather than tfds: it takes half the time.
        decoders = {image: tfds.decode.SkipDecoding()}
        try:
            examples = builder.as_data_source(split=split, decoders=decoders)
        except Exception as error:  # of damaged files whatever the parsers raise
            raise _damaged(config, error) from error
    channels = builder.info.features[image].shape[-1]
    return StoredImages(examples, image, label, channels, config.image_size, config.name)


def fingerprint(builder: Any) -> tuple[list[tuple[str, int, float]], str]:
    """What tells a set that was prepared anew: its files' names, sizes and times, and its
    description. (Sizes alone don't: array_record files are padded to whole blocks.)"""
    files = sorted(builder.data_path.iterdir(), key=lambda path: path.name)
    stats = [(path.name, path.stat()) for path in files]
    described = builder.data_path / "dataset_info.json"
    return [(name, stat.length, stat.mtime) for name, stat in stats], described.read_text(
        encoding="utf-8"
    )
