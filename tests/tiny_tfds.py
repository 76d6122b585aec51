"""Writes small sets as tensorflow-datasets stores them, without TensorFlow or a download."""

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write(
    directory: Path,
    name: str,
    splits: dict[str, tuple[list[np.ndarray], list[int]]],
    *,
    classes: int | list[str] = 3,
    shape: tuple[int | None, int | None, int] = (4, 4, 3),
    file_format: str = "array_record",
    images_as: str = "PNG",
) -> None:
    """A set `name`, version 1.0.0, of encoded images and labels: {split: (images, labels)};
    `classes` are so many, or have these names."""
    import tensorflow_datasets as tfds

    kind = "num_classes" if isinstance(classes, int) else "names"
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape),
            "label": tfds.features.ClassLabel(**{kind: classes}),
        }
    )
    examples = {
        split: [
            features.serialize_example(
                {"image": io.BytesIO(encoded(image, images_as)), "label": label}
            )
            for image, label in zip(images, labels, strict=True)
        ]
        for split, (images, labels) in splits.items()
    }
    write_examples(directory, name, features, examples, ("image", "label"), file_format)


def write_examples(
    directory: Path,
    name: str,
    features,
    examples: Mapping[str, Iterable[bytes]],
    supervised: tuple[str, str] | None = None,
    file_format: str = "array_record",
) -> None:
    """A set of any features: {split: serialised examples}."""
    folder = directory / name / "1.0.0"
    folder.mkdir(parents=True)
    sizes = {
        split: _write_records(folder / f"{name}-{split}.{file_format}-00000-of-00001", records)
        for split, records in examples.items()
    }
    features.save_config(folder)
    info = {
        "name": name,
        "version": "1.0.0",
        "fileFormat": file_format,
        "moduleName": "tests",
        "splits": [
            {
                "name": split,
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "numBytes": str(written),
                "shardLengths": [str(count)],
            }
            for split, (count, written) in sizes.items()
        ],
    }
    if supervised:
        keys = [{"featureKey": key} for key in supervised]
        info["supervisedKeys"] = {"tuple": {"items": keys}}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def png(image: np.ndarray) -> bytes:
    return encoded(image, "PNG")


def encoded(image: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, kind)
    return file.getvalue()


def _write_records(path: Path, records: Iterable[bytes]) -> tuple[int, int]:
    """How many records, and how many bytes these have."""
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    count = written = 0
    for record in records:
        writer.write(record)
        count, written = count + 1, written + len(record)
    writer.close()
    return count, written


def random_images(count: int, shape: tuple[int, int, int] = (4, 4, 3), seed: int = 0) -> list:
    return list(np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8))


LABELS = [i // 10 for i in range(30)]  # class by class, as real sets are stored


def three_classes(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    """Writes a set `tiny`: 30 images labelled LABELS to train, 9 to test; gives both."""
    train, test = random_images(30), random_images(9, seed=1)
    splits = {"train": (train, LABELS), "test": (test, [i % 3 for i in range(9)])}
    write(directory, "tiny", splits)
    return np.stack(train), np.stack(test)


class Examples(list):
    """A list that is read as the data sources of tensorflow-datasets are."""

    def __getitems__(self, indices: list[int]) -> list:
        return [self[i] for i in indices]
