import re

import numpy as np
import pytest
import tiny_tfds
from PIL import Image

from kd_jax import sources
from kd_jax.data import load
from kd_jax.datasets import Data
from kd_jax.errors import UsageError


def test_resize_scales_the_short_side_and_crops_the_centre():
    columns = np.repeat(np.array([0, 0, 50, 50, 90, 90, 200, 200], np.uint8)[None], 4, axis=0)
    image = sources.to_array(Image.fromarray(columns), 1, 2)
    assert image.shape == (2, 2, 1)
    # 8x4 -> 4x2 -> the two columns in the middle, of 50 and 90, smoothed by the filter.
    assert (image[0] == image[1]).all()
    assert 40 <= image[0, 0, 0] < 70 <= image[0, 1, 0] < 120
    tall = sources.to_array(Image.fromarray(columns.T), 3, 2)
    np.testing.assert_array_equal(tall[..., 0], image[..., 0].T)


def message(config: Data) -> str:
    with pytest.raises(UsageError) as error:
        load(config)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_unknown_names(tmp_path):
    assert "'cifar10'" in message(Data(name="cifr10"))
    assert "'oxford_iiit_pet'" in message(Data(name="oxford_iit_pet"))
    assert "Known: digits, mnist" in message(Data(name="qqqqqqqq"))
    fix = " Change what follows the set's name, or leave it out"
    said = message(Data(name="mnist/nothing"))
    assert re.fullmatch(rf".*: BuilderConfig nothing not found with version [\d.]+{fix}", said)
    said = message(Data(name="mnist:9.9.9", dir=str(tmp_path)))
    assert re.fullmatch(rf".* cannot be loaded at version 9\.9\.9, only: [\d.]+{fix}", said)


def test_a_set_that_needs_tensorflow_to_be_described(tmp_path, monkeypatch, capsys):
    import tensorflow_datasets as tfds

    def builder(*_, **__):
        print("Failed to import TensorFlow.")
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    monkeypatch.setattr(tfds, "builder", builder)
    said = message(Data(name="coco", dir=str(tmp_path)))
    assert said.startswith("--data.name coco: no set of images with one class each, or one that")
    assert "needs tensorflow even to be described" in said
    assert said.endswith('or pip install "kd-jax[prepare]"')
    assert capsys.readouterr().out == ""


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


def test_a_folder_too_deep(tmp_path):
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    for given in (folder, folder.parent):
        said = message(Data(name="mnist", dir=str(given)))
        assert said.endswith(f"or say where it is: --data.dir {tmp_path}")


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
