import dataclasses
import os

import numpy as np
import pytest
import tiny_tfds
from PIL import Image

from kd_jax import cache, sources
from kd_jax.data import Split, load, statistics
from kd_jax.datasets import Data
from kd_jax.errors import UsageError
from kd_jax.splits import choose, hold_out, permutation
from kd_jax.stream import View

LABELS = [i // 10 for i in range(30)]  # class by class, as real sets are stored


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tiny(tmp_path):
    """A stored set of 30 + 9 images in 3 classes: (its config, train images, test images)."""
    train, test = tiny_tfds.random_images(30), tiny_tfds.random_images(9, seed=1)
    splits = {"train": (train, LABELS), "test": (test, [i % 3 for i in range(9)])}
    tiny_tfds.write(tmp_path, "tiny", splits)
    return Data(name="tiny", dir=str(tmp_path)), np.stack(train), np.stack(test)


def cached_files():
    return sorted(cache.cache_dir().iterdir())


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
    assert data.train.ids[:5].tolist() == [213, 549, 536, 576, 69]
    assert data.train.labels[:10].tolist() == [8, 8, 4, 5, 1, 8, 3, 8, 0, 0]
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


# splitting


def test_validation_has_each_class_in_proportion():
    order = permutation(12, 3)
    labels = np.array([0] * 6 + [1] * 3 + [2] * 3)
    # Shares of 1.5, 0.75, 0.75: rounded down 1, 0, 0; the two largest remainders get one more.
    kept, held = hold_out(order, 0.25, labels)
    assert np.bincount(labels[held]).tolist() == [1, 1, 1]
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(12))
    # Both keep the shuffled order.
    np.testing.assert_array_equal(kept, [i for i in order if i in set(kept.tolist())])
    np.testing.assert_array_equal(held, [i for i in order if i in set(held.tolist())])


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 1 / 3, 0.29, 0.999])
@pytest.mark.parametrize("sizes", [[100] * 10, [50, 1, 7], [1], [0, 3, 0, 10]])
def test_shares_of_classes_add_up(fraction, sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    _, held = hold_out(permutation(len(labels), 0), fraction, labels)
    assert len(held) == round(fraction * len(labels))
    counts = np.bincount(labels[held], minlength=len(sizes))
    assert (np.abs(counts - fraction * np.array(sizes)) < 1).all()


def test_without_labels_validation_is_a_part_of_the_shuffled_order():
    order = permutation(10, 0)
    kept, held = hold_out(order, 0.3)
    np.testing.assert_array_equal(np.concatenate([held, kept]), order)
    assert len(held) == 3


def test_limits_keep_random_subsets_and_move_nothing():
    labels = np.repeat(np.arange(10), 100)
    all_of = choose(Data(), 1000, 500, labels)
    limited = choose(Data(train_limit=100, test_limit=40), 1000, 500, labels)
    np.testing.assert_array_equal(limited[0], all_of[0][:100])
    np.testing.assert_array_equal(limited[1], all_of[1][:40])
    assert len(limited[2]) == 40
    assert len(np.unique(labels[limited[0]])) == 10  # stored class by class, yet all are there
    assert limited[2].max() > 300
    assert (np.diff(limited[2]) > 0).all()
    np.testing.assert_array_equal(all_of[2], np.arange(500))


def test_split_seed_changes_who_is_held_out_but_not_test():
    one, other = choose(Data(), 100, 50), choose(Data(split_seed=1), 100, 50)
    assert set(one[1].tolist()) != set(other[1].tolist())
    np.testing.assert_array_equal(one[2], other[2])


def test_nothing_left_to_train_on():
    with pytest.raises(UsageError, match=r"--data\.validation 0\.9"):
        choose(Data(validation=0.9), 2, 2)


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
        np.testing.assert_array_equal(split.labels, np.array(LABELS)[split.ids])
    np.testing.assert_array_equal(data.test.inputs, test)
    assert np.bincount(data.validation.labels).tolist() == [1, 1, 1]


def test_std_of_a_constant_channel_is_not_zero():
    found = statistics(np.full((2, 3, 3, 1), 51, np.uint8))
    np.testing.assert_allclose(found["mean"], 0.2)
    assert found["std"] == pytest.approx(1 / 255, abs=1e-4)


def test_second_reading_comes_from_the_cache(tiny, monkeypatch):
    first = load(tiny[0])
    monkeypatch.setattr(sources.StoredImages, "read", lambda *_: pytest.fail("read again"))
    second = load(tiny[0])
    assert second.spec == first.spec
    for one, other in ((first.train, second.train), (first.test, second.test)):
        np.testing.assert_array_equal(one.inputs, other.inputs)
        np.testing.assert_array_equal(one.labels, other.labels)


def damage_end(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage_middle(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def damage_header(path):
    path.write_bytes(b"not this")


def damage_whole(path):
    path.write_bytes(b"")


def damage_by_pickle(path):
    with path.open("wb") as file:
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "damage", [damage_end, damage_middle, damage_header, damage_whole, damage_by_pickle]
)
def test_a_damaged_cache_is_made_again(tiny, damage):
    config, train, test = tiny
    load(config)
    before = {path: path.read_bytes() for path in cached_files()}
    assert len(before) == 9  # train, test and statistics: two arrays and their checksums each
    for path in before:
        damage(path)
    data = load(config)
    np.testing.assert_array_equal(data.train.inputs, train[data.train.ids])
    np.testing.assert_array_equal(data.test.inputs, test)
    assert {path: path.read_bytes() for path in cached_files()} == before


@pytest.mark.parametrize("content", ["[]", "3", '{"inputs": 0}', "{}", '{"../x": 1}'])
def test_damaged_checksums_are_no_reason_to_fail(tiny, content):
    config, train, _ = tiny
    load(config)
    for path in cached_files():
        if path.name.endswith("checksums.json"):
            path.write_text(content)
    data = load(config)
    np.testing.assert_array_equal(data.train.inputs, train[data.train.ids])


def test_a_cache_that_cannot_be_written_is_no_error(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(load(tiny[0]).train) == 27


def test_a_set_that_was_prepared_anew_is_read_anew(tmp_path):
    for count in (12, 15):
        folder = tmp_path / "tiny"
        if folder.exists():
            folder.rename(tmp_path / "old")
        images = tiny_tfds.random_images(count, seed=count)
        labels = [i % 3 for i in range(count)]
        tiny_tfds.write(tmp_path, "tiny", {"train": (images, labels), "test": (images, labels)})
        data = load(Data(name="tiny", dir=str(tmp_path)))
        np.testing.assert_array_equal(data.test.inputs, np.stack(images))


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
        assert label == LABELS[example_id]
    np.testing.assert_array_equal(data.test[4][0], test[4])
    kept = load(config)
    assert isinstance(kept.train, Split)
    assert kept.spec == data.spec
    ids = np.concatenate([data.train.ids, data.validation.ids])
    np.testing.assert_array_equal(np.sort(ids), np.arange(30))


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
    with pytest.raises(UsageError, match=r"--data\.image_size"):
        load(config)
    data = load(dataclasses.replace(config, image_size=4))
    assert data.spec.shape == (4, 4, 3)
    test = data.test
    first, last = (
        (test[0][0], test[3][0]) if isinstance(test, View) else (test.inputs[0], test.inputs[3])
    )
    np.testing.assert_array_equal(first, images[0][:, 2:6])  # already 4 high: only cropped
    np.testing.assert_array_equal(last, images[3])


def test_resize_scales_the_short_side_and_crops_the_centre():
    columns = np.repeat(np.array([0, 0, 50, 50, 90, 90, 200, 200], np.uint8)[None], 4, axis=0)
    image = sources.to_array(Image.fromarray(columns), 1, 2)
    assert image.shape == (2, 2, 1)
    # 8x4 -> 4x2 -> the two columns in the middle, of 50 and 90, smoothed by the filter.
    assert (image[0] == image[1]).all()
    assert 40 <= image[0, 0, 0] < 70 <= image[0, 1, 0] < 120
    tall = sources.to_array(Image.fromarray(columns.T), 3, 2)
    np.testing.assert_array_equal(tall[..., 0], image[..., 0].T)


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


# mistakes


def message(config: Data) -> str:
    with pytest.raises(UsageError) as error:
        load(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_unknown_names(tmp_path):
    assert "'cifar10'" in message(Data(name="cifr10"))
    assert "'oxford_iiit_pet'" in message(Data(name="oxford_iit_pet"))
    assert "Known: digits, mnist" in message(Data(name="qqqqqqqq"))
    assert "BuilderConfig" in message(Data(name="mnist/nothing"))
    assert "9.9.9" in message(Data(name="mnist:9.9.9", dir=str(tmp_path)))


def test_not_prepared(tmp_path):
    said = message(Data(name="cifar10", dir=str(tmp_path)))
    assert f"looked in {tmp_path}/cifar10/" in said
    assert 'pip install "kd-jax[prepare]"' in said
    assert (
        "import tensorflow_datasets as tfds; "
        f"tfds.builder('cifar10', data_dir={str(tmp_path)!r}, file_format='array_record')"
        ".download_and_prepare()"
    ) in said
    assert "--data.dir PATH" in said
    assert list(tmp_path.iterdir()) == []  # nothing was downloaded, nothing made


def test_no_such_directory(tmp_path):
    said = message(Data(name="mnist", dir=str(tmp_path / "nowhere")))
    assert said.startswith(f"--data.dir {tmp_path}/nowhere: no such directory")


def test_sets_that_are_not_classified_images(tmp_path):
    import tensorflow_datasets as tfds

    assert "not a set of images" in message(Data(name="imdb_reviews"))
    features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    records = [features.serialize_example({"text": "a"})] * 2
    tiny_tfds.write_examples(tmp_path, "words", features, {"train": records, "test": records})
    assert "text (Text)" in message(Data(name="words", dir=str(tmp_path)))


def test_stored_without_random_access(tmp_path):
    images = tiny_tfds.random_images(3)
    tiny_tfds.write(tmp_path, "old", {"train": (images, [0, 1, 2])}, file_format="tfrecord")
    said = message(Data(name="old", dir=str(tmp_path)))
    assert "as tfrecord" in said
    assert "file_format='array_record'" in said


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_split_is_missing(tmp_path, name):
    images = tiny_tfds.random_images(3)
    tiny_tfds.write(tmp_path, "partial", {name: (images, [0, 1, 2])})
    assert f"has {name};" in message(Data(name="partial", dir=str(tmp_path)))


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
