"""Knowledge review: fusion of a student's stages, and the loss of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_features import E_S, F_S, F_T, G_S, G_T, SMALL, agrees
from made_lessons import lesson

from kd_jax.distill import ReviewKD
from kd_jax.distill.review import fuse, hcl, init_kaiming, nearest
from kd_jax.errors import UsageError


def float32(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


def test_the_context_loss_is_that_of_the_reference():
    agrees(
        lambda f, g: ReviewKD()([(f, F_T), (g, G_T)], {}),
        [F_S, G_S],
        1.5041315392342347,
        0.14214330166054423,
    )


def test_the_context_loss_by_hand():
    # 4x4 once, then 2x2 and 1x1 at a half and a quarter.
    f, g = F_S.reshape(4, 2, 2, 2, 2, 3), F_T.reshape(4, 2, 2, 2, 2, 3)
    gaps = [F_S - F_T, (f - g).mean((2, 4)), (F_S - F_T).mean((1, 2))[:, None, None]]
    squares = [np.mean(gap**2, axis=(1, 2, 3)) for gap in gaps]
    expected = (squares[0] + squares[1] / 2 + squares[2] / 4) / 1.75
    np.testing.assert_allclose(hcl(*float32(F_S, F_T)), expected, rtol=1e-5)
    one = float32(E_S[:, None, None], 2 * E_S[:, None, None])
    np.testing.assert_allclose(hcl(*one), np.mean(E_S**2, 1), rtol=1e-5)


def test_an_upsampled_map_repeats_the_nearest_place():
    x = jnp.arange(4.0).reshape(1, 2, 2, 1)
    up = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    np.testing.assert_array_equal(nearest(x, (4, 4))[0, ..., 0], up)
    np.testing.assert_array_equal(nearest(x, (3, 1))[0, ..., 0], [[0], [0], [2]])


def test_attention_weighs_a_stage_and_what_is_deeper():
    f, deep = float32(F_S, SMALL[..., :3])
    params = ReviewKD().connectors(jax.random.key(0), [(f, f), (f, f)])["fusion0"]
    attention = {"kernel": jnp.zeros((1, 1, 6, 2)), "bias": jnp.log(jnp.array([3.0, 1 / 3]))}
    alone = fuse(params, f, None, (4, 4))[1]
    both = fuse({**params, "attention": attention}, f, deep, (4, 4))[1]
    np.testing.assert_allclose(both, 0.75 * alone + 0.25 * nearest(deep, (4, 4)), atol=1e-5)


@pytest.mark.slow
def test_a_deep_tap_of_the_student_learns_from_the_shallow_ones_of_the_teacher():
    given = lesson()
    term = ReviewKD()
    pairs = term.pairs(given.student, given.teacher)
    assert [f.shape[1:] for f, _ in pairs] == [(8, 8, 3), (4, 4, 5), (2, 2, 6), (6,)]
    assert term.reads(given.student, given.teacher)[1] == [
        *("stage1_pre", "stage2_pre", "stage3_pre"),
        "pooled",
    ]
    params = jax.jit(term.connectors)(jax.random.key(0), pairs)
    assert "attention" not in params["fusion3"]  # there is nothing deeper
    assert params["fusion0"]["enter"]["conv"]["kernel"].shape == (1, 1, 3, 6)
    assert params["fusion0"]["leave"]["conv"]["kernel"].shape == (3, 3, 6, 4)
    narrow = jax.eval_shape(ReviewKD(width=2).connectors, jax.random.key(0), pairs)
    assert narrow["fusion0"]["enter"]["conv"]["kernel"].shape == (1, 1, 3, 2)

    def shallow(pooled):
        deeper = fuse(params["fusion3"], pooled[:, None, None], None, (1, 1))[1]
        return jnp.sum(fuse(params["fusion2"], pairs[2][0], deeper, (2, 2))[0] ** 3)

    assert jnp.max(jnp.abs(jax.jit(jax.grad(shallow))(pairs[3][0]))) > 0


def test_convolutions_begin_uniform_within_the_root_of_three_over_what_they_read():
    kernel = init_kaiming(jax.random.key(0), 2, 3, 4000)["conv"]["kernel"]
    assert kernel.shape == (2, 2, 3, 4000)
    assert -0.5 <= jnp.min(kernel) < -0.499
    assert 0.499 < jnp.max(kernel) < 0.5


def test_what_is_neither_map_nor_vector_is_refused():
    tokens = jnp.zeros((2, 5, 3))
    with pytest.raises(UsageError, match=r"^teacher-taps: one is of shape \(2, 5, 3\)"):
        ReviewKD().connectors(jax.random.key(0), [(jnp.zeros((2, 3)), tokens)])
