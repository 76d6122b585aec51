import numpy as np
import pytest
import tiny_tfds

from kd_jax import cache, sources
from kd_jax.data import load
from kd_jax.datasets import Data


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def tiny(tmp_path):
    """(Its config, train images, test images)."""
    train, test = tiny_tfds.three_classes(tmp_path)
    return Data(name="tiny", dir=str(tmp_path)), train, test


def cached_files():
    return sorted(cache.cache_dir().iterdir())


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
