import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_digits

from kd_jax.datasets import DATASETS, Data, Spec
from kd_jax.errors import UsageError


@pytest.mark.parametrize("name", DATASETS)
def test_table_is_consistent(name):
    spec = DATASETS[name]
    assert spec.name == name
    assert spec.classes >= 2
    assert spec.note
    assert len(spec.mean) == len(spec.std)
    assert spec.size is None or spec.shape == (*spec.size, len(spec.mean))
    assert all(0 < m < 1 for m in spec.mean)
    assert all(0 < s < 0.5 for s in spec.std)
    assert hash(spec) == hash(dataclasses.replace(spec))


def test_digits_numbers_are_those_of_its_pixels():
    pixels = load_digits().images / DATASETS["digits"].scale
    assert pixels.max() == 1.0
    np.testing.assert_allclose(DATASETS["digits"].mean, pixels.mean(), atol=1e-4)
    np.testing.assert_allclose(DATASETS["digits"].std, pixels.std(), atol=1e-4)


def test_shape_of_a_set_of_varying_size_names_the_flag():
    spec = Spec(name="x", classes=2, mean=(0.5,) * 3, std=(0.25,) * 3)
    with pytest.raises(UsageError, match=r"--data\.image-size"):
        _ = spec.shape
    assert dataclasses.replace(spec, size=(5, 7)).shape == (5, 7, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("validation", 1.0),
        ("validation", -0.1),
        ("validation", float("nan")),
        ("train_limit", -1),
        ("test_limit", -1),
        ("image_size", -1),
        ("image_size", 4097),
        ("memory_mb", -1),
        ("split_seed", -1),
        ("split_seed", 2**32),
    ],
)
def test_a_wrong_flag_is_named_with_its_value(field, value):
    flag = field.replace("_", "-")
    with pytest.raises(UsageError, match=rf"--data\.{flag} {value if value != '' else ''}") as e:
        Data(**{field: value})
    assert "\n" not in str(e.value)


def test_only_dir_says_where_rather_than_what():
    where = [f.name for f in dataclasses.fields(Data) if f.metadata.get("where")]
    assert where == ["dir"]
