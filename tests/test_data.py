import dataclasses
import os

import numpy as np
import pytest
import tiny_tfds

from kd_jax import data
from kd_jax.data import Split, load, statistics
from kd_jax.datasets import Data
from kd_jax.errors import UsageError
from kd_jax.stream import View, as_view, evaluation_batches


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tiny(tmp_path):
    """(Its config, train images, test images)."""
    train, test = tiny_tfds.three_classes(tmp_path)
    return Data(name="tiny", dir=str(tmp_path)), train, test


# digits


def test_digits():
    data = load(Data(validation=0.2))
    assert (len(data.train), len(data.validation), len(data.test)) == (800, 200, 797)
    for split in (data.train, data.validation, data.test):
        assert split.inputs.shape == (len(split), 8, 8, 1)
        assert (split.inputs.dtype, split.labels.dtype, split.ids.dtype) == (
            np.uint8,
            np.int32,
            np.int32,
        )
        assert split.inputs.max() == data.spec.scale == 16
    ids = np.concatenate([data.train.ids, data.validation.ids])
    np.testing.assert_array_equal(np.sort(ids), np.arange(1000))
    np.testing.assert_array_equal(data.test.ids, np.arange(797))
    assert data.ids_below == 1000
    assert not data.streamed


def test_digits_split_never_changes():
    """The split is part of any result got with it: if this fails, the permutation is another."""
    data = load(Data())
    assert data.train.ids[:5].tolist() == [856, 128, 91, 576, 17]
    assert data.train.labels[:10].tolist() == [6, 5, 0, 5, 0, 5, 8, 1, 2, 7]
    assert data.test.labels[:10].tolist() == [8, 4, 4, 2, 1, 6, 2, 9, 3, 7]


def test_an_id_names_the_same_example_under_any_flags():
    whole = load(Data(validation=0.0))
    by_id = {int(i): x for i, x in zip(whole.train.ids, whole.train.inputs, strict=True)}
    assert len(by_id) == 1000
    for config in (Data(validation=0.3, train_limit=50), Data(split_seed=5, train_limit=50)):
        data = load(config)
        assert len(data.train) == 50
        for split in (data.train, data.validation):
            for i, image in zip(split.ids, split.inputs, strict=True):
                np.testing.assert_array_equal(image, by_id[int(i)])


def test_digits_resized():
    data = load(Data(image_size=12, train_limit=3))
    assert data.spec.shape == (12, 12, 1)
    assert data.train.inputs.shape == (3, 12, 12, 1)


def test_digits_larger_than_the_memory_are_refused():
    with pytest.raises(
        UsageError, match=r"^--data\.image-size 3000: .* 16\.2 GB, more than --data\.m"
    ):
        load(Data(image_size=3000))
    with pytest.raises(
        UsageError, match=r"^--data\.image-size 24: .* 1\.04 MB, .*memory-mb 0: lower"
    ):
        load(Data(image_size=24, memory_mb=0))
    load(Data(memory_mb=0))


# tensorflow-datasets


def test_stored_set(tiny):
    config, train, test = tiny
    data = load(config)
    assert not data.streamed
    assert data.spec.classes == 3
    assert data.spec.shape == (4, 4, 3)
    np.testing.assert_allclose(data.spec.mean, train.mean(axis=(0, 1, 2)) / 255, atol=1e-4)
    np.testing.assert_allclose(data.spec.std, train.std(axis=(0, 1, 2)) / 255, atol=1e-4)
    for split in (data.train, data.validation):
        np.testing.assert_array_equal(split.inputs, train[split.ids])
        np.testing.assert_array_equal(split.labels, np.array(tiny_tfds.LABELS)[split.ids])
    np.testing.assert_array_equal(data.test.inputs, test)
    assert np.bincount(data.validation.labels).tolist() == [1, 1, 1]


def test_std_of_a_constant_channel_is_not_zero():
    found = statistics(np.full((2, 3, 3, 1), 51, np.uint8))
    np.testing.assert_allclose(found["mean"], 0.2)
    assert found["std"] == pytest.approx(1 / 255, abs=1e-4)


def test_progress_counts_to_the_whole(tiny, monkeypatch):
    seen = []
    load(tiny[0], on_progress=lambda *x: seen.append(x))
    assert seen == [(30, 39), (39, 39)]
    load(tiny[0], on_progress=lambda *x: seen.append(x))
    assert len(seen) == 2  # nothing was read


def test_a_large_set_is_left_on_disk(tiny):
    config, train, test = tiny
    data = load(dataclasses.replace(config, memory_mb=0))
    assert data.streamed
    for split in (data.train, data.validation, data.test):
        assert isinstance(split, View)
    assert (len(data.train), len(data.validation), len(data.test)) == (27, 3, 9)
    for i, example_id in enumerate(data.train.ids):
        image, label = data.train[i]
        np.testing.assert_array_equal(image, train[example_id])
        assert label == tiny_tfds.LABELS[example_id]
    np.testing.assert_array_equal(data.test[4][0], test[4])
    kept = load(config)
    assert isinstance(kept.train, Split)
    assert kept.spec == data.spec
    ids = np.concatenate([data.train.ids, data.validation.ids])
    np.testing.assert_array_equal(np.sort(ids), np.arange(30))


def test_classes_have_the_names_that_are_stored(tiny, tmp_path):
    images = tiny_tfds.random_images(2)
    splits = {"train": (images, [0, 1]), "test": (images, [1, 0])}
    tiny_tfds.write(tmp_path, "named", splits, classes=["cat", "dog"])
    named = load(Data(name="named", dir=str(tmp_path), validation=0.0)).spec
    assert named.names == ("cat", "dog")
    assert load(tiny[0]).spec.names == ("0", "1", "2")  # stored without any
    assert load(Data()).spec.names == ()
    other = dataclasses.replace(named, names=("katze", "hund"))
    assert (other, hash(other)) == (named, hash(named))  # the same program


@pytest.mark.parametrize("memory_mb", [0, 1])  # streamed, and not
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pixels_that_were_encoded_with_loss_are_told_of(tmp_path, monkeypatch, kind, memory_mb):
    """Where a set is published as pixels: elsewhere JPEG is as published."""
    images = tiny_tfds.random_images(4)
    splits = {"train": (images, [0, 1, 2, 0]), "test": (images, [0, 1, 2, 0])}
    tiny_tfds.write(tmp_path, "pixels", splits, images_as=kind)
    config = Data(name="pixels", dir=str(tmp_path), memory_mb=memory_mb)
    assert data.ANEW not in load(config).spec.note
    monkeypatch.setattr(data, "PIXELS", ("pixels",))
    assert load(config).spec.note.endswith(f"; {data.ANEW}") == (kind == "JPEG")


def test_grey_images(tmp_path):
    images = tiny_tfds.random_images(6, (4, 4, 1))
    splits = {"train": (images, [0, 1] * 3), "test": (images, [0, 1] * 3)}
    tiny_tfds.write(tmp_path, "grey", splits, classes=2, shape=(4, 4, 1))
    data = load(Data(name="grey", dir=str(tmp_path)))
    assert data.spec.shape == (4, 4, 1)
    np.testing.assert_array_equal(data.test.inputs, np.stack(images))


@pytest.mark.parametrize("memory_mb", [0, 1])
def test_images_of_varying_size(tmp_path, memory_mb):
    sizes = [(4, 8), (9, 5), (6, 6), (4, 4)]
    images = [tiny_tfds.random_images(1, (h, w, 3), seed=h)[0] for h, w in sizes]
    splits = {"train": (images, [0, 1, 2, 0]), "test": (images, [0, 1, 2, 0])}
    tiny_tfds.write(tmp_path, "vary", splits, shape=(None, None, 3))
    config = Data(name="vary", dir=str(tmp_path), memory_mb=memory_mb)
    with pytest.raises(UsageError, match=r"--data\.image-size"):
        load(config)
    data = load(dataclasses.replace(config, image_size=4))
    assert data.spec.shape == (4, 4, 3)
    test = data.test
    first, last = (
        (test[0][0], test[3][0]) if isinstance(test, View) else (test.inputs[0], test.inputs[3])
    )
    np.testing.assert_array_equal(first, images[0][:, 2:6])  # already 4 high: only cropped
    np.testing.assert_array_equal(last, images[3])


def test_test_labels_that_are_withheld(tmp_path):
    images = tiny_tfds.random_images(6)
    splits = {
        "train": (images, [0, 1, 2] * 2),
        "validation": (images[:4], [0, 1, 2, 0]),
        "test": (images[:3], [-1, -1, -1]),
    }
    tiny_tfds.write(tmp_path, "withheld", splits)
    data = load(Data(name="withheld", dir=str(tmp_path)))
    assert data.test.labels.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("label", [-1, 3])
def test_labels_that_are_no_class_are_refused_when_a_set_is_read(tmp_path, split, label):
    """Withheld, or beyond the classes: they would end amid cutting or evaluating."""
    labels = {"train": [0, 1, 2, 0, 1, 2], "test": [0, 1, 2, 0, 1, 2]}
    labels[split][4] = label
    images = tiny_tfds.random_images(6)
    splits = {name: (images, x) for name, x in labels.items()}
    tiny_tfds.write(tmp_path, "wrong", splits, classes=4)
    described = tmp_path / "wrong" / "1.0.0" / "features.json"
    described.write_text(described.read_text().replace('"4"\n', '"3"\n'))
    config = Data(name="wrong", dir=str(tmp_path), validation=0.5)
    which = {"train": "training"}.get(split, split)
    said = rf"1 of 6 stored {which} .* of the 3 classes, the first {label} \(example 4\): mend the"
    for _ in range(2):  # the second time from the cache
        with pytest.raises(UsageError, match=rf"^--data\.name wrong: {said}"):
            load(config)


@pytest.mark.parametrize("memory_mb", [0, 1])
def test_images_of_another_size_than_a_set_declares_are_refused(tmp_path, memory_mb):
    images = tiny_tfds.random_images(6, (5, 5, 3))
    splits = {"train": (images, [0, 1, 2, 0, 1, 2]), "test": (images, [0, 1, 2, 0, 1, 2])}
    tiny_tfds.write(tmp_path, "odd", splits, shape=(5, 5, 3))
    described = tmp_path / "odd" / "1.0.0" / "features.json"
    described.write_text(described.read_text().replace('"5"', '"4"'))
    config = Data(name="odd", dir=str(tmp_path), memory_mb=memory_mb)
    said = r" of shape \(5, 5, 3\), where the set's are of \(4, 4, 3\): mend the set$"
    which = "example 0 is" if not memory_mb else "--data.name odd: stored training images are"
    for _ in range(2):  # the second time from the cache
        with pytest.raises(UsageError, match=f"^{which}{said}"):
            next(evaluation_batches(as_view(load(config).test), 2))  # type: ignore[arg-type]


def test_a_known_name_whose_images_have_other_channels_is_refused(tmp_path):
    images = tiny_tfds.random_images(4, (28, 28, 3))
    splits = {"train": (images, [0, 1, 2, 0]), "test": (images, [0, 1, 2, 0])}
    tiny_tfds.write(tmp_path, "mnist", splits, shape=(28, 28, 3), classes=10)
    (tmp_path / "mnist" / "1.0.0").rename(tmp_path / "mnist" / "3.0.1")
    described = tmp_path / "mnist" / "3.0.1" / "dataset_info.json"
    described.write_text(described.read_text().replace("1.0.0", "3.0.1"))
    with pytest.raises(UsageError, match=r"of shape \(28, 28, 3\), .* of \(28, 28, 1\)"):
        load(Data(name="mnist:3.0.1", dir=str(tmp_path)))


# real data, where it is prepared


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "train_size"), [("mnist", 60000), ("cifar10", 50000), ("cifar100", 50000)]
)
def test_real_sets(name, train_size):
    try:
        data = load(Data(name=name, dir=os.environ.get("TFDS_DATA_DIR", "")))
    except UsageError as error:
        pytest.skip(str(error))
    assert len(data.train) + len(data.validation) == data.ids_below == train_size
    assert len(data.test) == 10000
    pixels = data.train.inputs[:10000] / 255
    np.testing.assert_allclose(pixels.mean(axis=(0, 1, 2)), data.spec.mean, atol=0.01)
    np.testing.assert_allclose(pixels.std(axis=(0, 1, 2)), data.spec.std, atol=0.01)
    assert len(np.unique(data.train.labels[:1000])) == data.spec.classes
