"""Which features are those of a kind."""

import jax.numpy as jnp
import pytest

from kd_jax.distill import taps
from kd_jax.errors import UsageError
from kd_jax.forward import Outputs


def said(*names):
    return Outputs(jnp.zeros((1, 2)), {name: jnp.zeros((1, 1)) for name in names})


CONVOLUTIONAL = said("stem", "stage1", "stage2", "stage2_pre", "stage3", "stage3_pre", "pooled")
TRANSFORMER = said(
    *("stem", "stage1", "attention1_scores", "attention1_values"),
    *("stage2", "attention2_scores", "attention2_values"),
)


@pytest.mark.parametrize(
    ("kind", "names"),
    {
        "stages": ["stage1", "stage2", "stage3"],
        "pre": ["stage1", "stage2_pre", "stage3_pre"],
        "second": ["stage2"],
        "last": ["stage3"],
        "last_pre": ["stage3_pre"],
        "pooled": ["pooled"],
        "stages_pooled": ["stage1", "stage2", "stage3", "pooled"],
        "pre_pooled": ["stage1", "stage2_pre", "stage3_pre", "pooled"],
        "from_stem": ["stem", "stage1", "stage2", "stage3"],
    }.items(),
)
def test_what_a_convolutional_network_has_of_each_kind(kind, names):
    assert taps.published(kind, CONVOLUTIONAL) == names


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("attention", ["attention1_scores", "attention2_scores"]),
        ("last_attention", ["attention2_scores", "attention2_values"]),
        ("from_stem", ["stem", "stage1", "stage2"]),
    ],
)
def test_what_a_transformer_has_of_each_kind(kind, names):
    assert taps.published(kind, TRANSFORMER) == names


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("second", ("stem", "stage1", "pooled")),
        ("pooled", ("stage1",)),
        ("stages_pooled", ("stage1", "stage2")),
        ("stages_pooled", ("pooled",)),
        ("pre_pooled", ("stage1", "stage2")),
        ("pre_pooled", ("pooled",)),
        ("from_stem", ("stage1",)),
        ("from_stem", ("stem",)),
        ("last_attention", ("attention1_scores",)),
        ("last_attention", ("attention1_values",)),
    ],
)
def test_a_kind_that_a_network_has_not_is_refused(kind, names):
    with pytest.raises(UsageError, match=r"^teacher-taps: the teacher has no feature that is"):
        taps.published(kind, said(*names), "teacher")


def test_stages_are_all_that_are_numbered_so():
    assert taps.stages(said("stage2", "stage1", "stage4", "other")) == [
        "stage1",
        "stage2",
        "stage4",
    ]
    assert taps.stages(said()) == []
