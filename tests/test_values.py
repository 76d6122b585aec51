from typing import Literal

import pytest

from kd_jax import values
from kd_jax.errors import UsageError
from kd_jax.models.base import ModelConfig
from kd_jax.models.mlp import MLP

Shape = Literal["linear", "geometric"]


@pytest.mark.parametrize(
    ("kind", "words", "value"),
    [
        (int, ["3"], 3),
        (int, ["-3"], -3),
        (float, ["-0.1"], -0.1),
        (float, ["1"], 1.0),
        (float, ["5e-4"], 5e-4),
        (bool, ["True"], True),
        (bool, ["false"], False),
        (str, [""], ""),
        (str, ["-x"], "-x"),
        (Shape, ["linear"], "linear"),
        (float | None, ["None"], None),
        (float | None, ["none"], None),
        (float | None, ["0.5"], 0.5),
        (tuple[int, ...], [], ()),
        (tuple[int, ...], ["1", "2"], (1, 2)),
        (tuple[str, ...], ["a", "b"], ("a", "b")),
        (tuple[int, int], ["1", "2"], (1, 2)),
    ],
)
def test_words_are_read_as_the_type_says(kind, words, value):
    found = values.read(kind, words, "--flag")
    assert found == value
    assert type(found) is type(value)
    assert values.fits(kind, found)


@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        (int, ["two"], "--flag 'two': it must be a whole number"),
        (int, ["2.5"], "--flag '2.5': it must be a whole number"),
        (int, [""], "--flag '': it must be a whole number"),
        (int, [], "--flag takes one value, a whole number, but got none"),
        (
            int,
            ["1", "2"],
            "--flag takes one value, a whole number, but got '1' '2' (flags begin with two dashes)",
        ),
        (float, ["None"], "--flag 'None': it must be a number"),
        (float | None, ["x"], "--flag 'x': it must be a number"),
        (bool, ["yes"], "--flag 'yes': it must be True or False"),
        (Shape, ["liner"], "--flag 'liner' is unknown. Did you mean 'linear'?"),
        (Shape, [], "--flag takes one value, one of linear, geometric, but got none"),
        (tuple[int, ...], ["1", "x"], "--flag 'x': it must be a whole number"),
        (tuple[int, int], ["1"], "--flag takes 2 values, but got '1'"),
    ],
)
def test_a_wrong_word_is_named_with_what_may_stand_there(kind, words, said):
    with pytest.raises(UsageError) as error:
        values.read(kind, words, "--flag")
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, 1.0),
        (int, True),
        (float, False),
        (float, "1"),
        (float | None, "None"),
        (str, None),
        (Shape, "cubic"),
        (tuple[int, ...], [1, 2]),
        (tuple[int, ...], (1, "2")),
        (tuple[int, int], (1, 2, 3)),
        (dict[str, MLP], {"a": 1}),
        (ModelConfig, None),
    ],
)
def test_what_does_not_fit_a_type(kind, value):
    assert not values.fits(kind, value)


def test_what_fits_a_type_beside_what_is_read():
    assert values.fits(float, 1)
    assert values.fits(ModelConfig, MLP())
    assert values.fits(ModelConfig | None, None)
    assert values.fits(dict[str, ModelConfig], {"a": MLP()})


@pytest.mark.parametrize("word", ["a\0b", "a\nb", "\x1b[2J", "\udcff", "x" * 20_000])
def test_what_is_no_text_is_none(word):
    with pytest.raises(UsageError, match=r"^--flag '.{1,130}(: leave it out|: shorten it)$"):
        values.read(str, [word], "--flag")
    assert values.read(str, ["größer als 東京　*"], "--flag") == "größer als 東京　*"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["report", "\udcff"], "'\\udcff': these bytes are no text"),
        (["run", "x", "--out", "\udcff"], "--out '\\udcff': these bytes"),
        (["run", "x", "--out=a\udcff"], "--out 'a\\udcff': these bytes"),
    ],
)
def test_bytes_that_are_no_text_are_named(words, said):
    with pytest.raises(UsageError) as caught:
        values.check_encoded(words)
    assert str(caught.value).startswith(said)
    values.check_encoded(["run", "--out", "größer"])
