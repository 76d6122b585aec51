"""Each of RandAugment's operations by hand and against PIL, and what is drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from test_augment_operations import a_batch

from kd_jax.augment import Augment, augment
from kd_jax.datasets import Spec
from kd_jax.errors import UsageError
from kd_jax.randaugment import LEVELS, OPERATIONS, hole, operate, randaugment

SPEC = Spec(name="x", classes=3, mean=(0.5,), std=(0.25,), size=(6, 6))
QUICK = {"xla_backend_optimization_level": 0}  # compiling is most of what these tests take
compiled = jax.jit(operate, static_argnames="drawn", compiler_options=QUICK)
STATIC = ("config", "spec", "view")
augmented = jax.jit(augment, static_argnames=STATIC, compiler_options=QUICK)
MEAN = jnp.array([7])


def does(name, strength, image, drawn=False):
    """The operation on [H, W] or [H, W, C] pixels, in the same form."""
    image = np.asarray(image, np.int32)
    given = image.reshape(*image.shape[:2], -1)
    level = round(strength * LEVELS)
    return np.asarray(compiled(given, OPERATIONS.index(name), level, drawn=drawn)).reshape(
        image.shape
    )


RAMP = np.arange(9).reshape(3, 3) * 10 + 10  # 10 20 30 / 40 50 60 / 70 80 90


@pytest.mark.parametrize(
    ("name", "strength", "expected"),
    [
        ("identity", 1.0, RAMP),
        # From 10..90 to 0..255: 255 (x - 10) / 80.
        ("auto_contrast", 0.0, [[0, 31, 63], [95, 127, 159], [191, 223, 255]]),
        ("equalize", 0.0, RAMP),  # of so few pixels nothing is made
        ("rotate", 0.0, RAMP),
        # By 30 degrees: the upper left corner, at (-1, -1) from the middle, is the pixel that lies
        # at (0.5 - 0.87, -0.5 - 0.87), rounded (0, -1).
        ("rotate", 1.0, [[20, 30, 60], [40, 50, 90], [40, 80, 80]]),
        ("solarize", 0.75, [[10, 20, 30], [40, 50, 60], [185, 175, 165]]),  # from 64 on
        ("posterize", 1.0, [[0, 16, 16], [32, 48, 48], [64, 80, 80]]),  # four bits are kept
        ("posterize", 0.1, [[10, 20, 30], [40, 50, 60], [70, 80, 90]]),  # seven
        ("color", -1.0, RAMP),  # grey is as grey as it can be
        ("contrast", -1.0, [[46, 47, 48], [49, 50, 51], [52, 53, 54]]),  # a tenth about 50
        ("brightness", 0.5, [[14, 29, 43], [58, 72, 87], [101, 116, 130]]),  # times 1.45
        ("sharpness", 1.0, RAMP),  # the middle is the mean of its neighbours
        ("shear_x", 1.0, [[10, 20, 30], [40, 50, 60], [80, 90, 0]]),  # by 0.15, 0.45, 0.75
        ("shear_y", 1.0, [[10, 20, 60], [40, 50, 90], [70, 80, 0]]),
        ("translate_x", -1.0, [[0, 10, 20], [0, 40, 50], [0, 70, 80]]),  # by 1.35
        ("translate_y", 0.75, [[40, 50, 60], [70, 80, 90], [0, 0, 0]]),  # by 1.01
    ],
)
def test_by_hand(name, strength, expected):
    np.testing.assert_array_equal(does(name, strength, RAMP), expected)


def test_equalize_by_hand():
    # 512 pixels, 0 three times as often as 9: a step is 384 // 255 = 1, so that the value 9 is
    # 0 + 384 of a step of 1, cut at 255, and 0 is 0.
    image = np.array([0, 0, 0, 9] * 128).reshape(16, 32)
    np.testing.assert_array_equal(does("equalize", 0.0, image), np.where(image, 255, 0))
    np.testing.assert_array_equal(does("equalize", 0.0, image * 0 + 4), image * 0 + 4)
    # Each value once is one of 256 levels already.
    whole = np.arange(256).reshape(16, 16)
    np.testing.assert_array_equal(does("equalize", 0.0, whole), whole)


def test_colour_and_sharpness_by_hand():
    red = np.zeros((3, 3, 3)) + np.array([200, 0, 0])
    grey = 60  # 0.299 of 200, rounded
    np.testing.assert_array_equal(does("color", -1.0, red)[1, 1], [74, 54, 54])
    np.testing.assert_array_equal(does("color", 0.0, red), red)
    np.testing.assert_array_equal(does("color", 1.0, red)[0, 0], [255, 0, 0])
    assert does("contrast", -1.0, red)[0, 0].tolist() == [grey + 14, 54, 54]
    dot = np.zeros((3, 3))
    dot[1, 1] = 130  # smoothed: 50; nothing else is no edge
    np.testing.assert_array_equal(does("sharpness", -1.0, dot), np.where(dot > 0, 58, 0))
    np.testing.assert_array_equal(does("sharpness", 1.0, dot), np.where(dot > 0, 202, 0))


def test_fixmatch_weakens_and_moves_less():
    np.testing.assert_array_equal(does("brightness", 1.0, RAMP, True), RAMP * 0.95 // 1)
    np.testing.assert_array_equal(does("brightness", -1.0, RAMP * 2, True), RAMP // 10)
    moved = does("translate_x", -1.0, np.tile(RAMP, (1, 2)), True)  # by 1.8
    np.testing.assert_array_equal(moved[0], [0, 0, 10, 20, 30, 10])


def by_pil(name, u, picture):
    factor, (width, height) = 1 + 0.9 * u, picture.size
    moves = {
        "shear_x": (1, 0.3 * u, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, 0.3 * u, 1, 0),
        "translate_x": (1, 0, 0.45 * u * width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, 0.45 * u * height),
    }
    if name in moves:
        return picture.transform(picture.size, Image.Transform.AFFINE, moves[name])
    enhancer = getattr(ImageEnhance, name.capitalize(), None)
    if enhancer is not None:
        return enhancer(picture).enhance(factor)
    return {
        "identity": lambda: picture,
        "auto_contrast": lambda: ImageOps.autocontrast(picture),
        "equalize": lambda: ImageOps.equalize(picture),
        "rotate": lambda: picture.rotate(30 * u),
        "solarize": lambda: ImageOps.solarize(picture, 256 * (1 - abs(u))),
        "posterize": lambda: ImageOps.posterize(picture, int(8 - 4 * abs(u))),
    }[name]()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_as_in_pil(name, channels):
    random = np.random.default_rng(OPERATIONS.index(name))
    places = np.arange(32 * 24).reshape(32, 24, 1)
    for u in (-1.0, -0.613, -0.25, 0.0, 0.417, 0.88, 1.0):
        shades = 100 + 80 * np.sin(places / 37) + random.integers(-20, 60, (32, 24, channels))
        image = shades.astype(np.uint8)
        picture = Image.fromarray(image if channels == 3 else image[..., 0])
        expected = np.asarray(by_pil(name, u, picture), np.int32).reshape(image.shape)
        off = np.abs(does(name, u, image) - expected)
        if name == "rotate":  # where a place falls between two pixels, as good as
            assert np.mean(off > 0) < 0.01
        else:  # of fractions, PIL's own rounding
            fractions = hasattr(ImageEnhance, name.capitalize()) or name == "auto_contrast"
            assert off.max() <= fractions
            assert np.mean(off > 0) < 0.05


# What is drawn ------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="operations", compiler_options=QUICK)
def a_thousand(image, magnitude, operations):
    keys = jax.random.split(jax.random.key(3), 1000)
    one = lambda key: randaugment(key, image[..., None], operations, magnitude, MEAN)  # noqa: E731
    return jax.vmap(one)(keys)[..., 0]


def views(magnitude, operations=1, image=RAMP):
    """A thousand views of one image [3, 3]: [1000, 3, 3]."""
    return np.asarray(a_thousand(np.asarray(image), magnitude, operations))


def test_all_operations_are_drawn_with_both_signs():
    possible = {
        does(name, sign, RAMP).tobytes(): (name, sign) for name in OPERATIONS for sign in (-1, 1)
    }
    found = [view.tobytes() for view in views(10.0)]
    assert set(found) == set(possible)
    # RAMP itself is what identity and three others make of it, with either sign.
    same = np.mean([one == RAMP.astype(np.int32).tobytes() for one in found])
    of_ramp = [np.array_equal(does(name, 1, RAMP), RAMP) for name in OPERATIONS]
    assert same == pytest.approx(sum(of_ramp) / len(OPERATIONS), abs=0.05)


def test_no_magnitude_moves_nothing_and_two_operations_do_more_than_one():
    still = {x.astype(np.int32).tobytes() for x in (RAMP, does("auto_contrast", 0, RAMP))}
    assert {view.tobytes() for view in views(0.0)} == still  # auto_contrast has no strength
    same = [np.mean((views(10.0, n) == RAMP[None]).all(axis=(1, 2))) for n in (1, 2)]
    assert same[1] < 0.75 * same[0]


def test_a_hole_lies_anywhere_and_takes_up_to_half():
    keys = jax.random.split(jax.random.key(0), 500)
    image = jnp.zeros((8, 6, 1), jnp.int32)
    holes = np.asarray(jax.vmap(lambda key: hole(key, image, MEAN))(keys))[..., 0]
    assert set(np.unique(holes)) == {0, 7}
    heights = (holes == 7).any(axis=2).sum(axis=1)
    widths = (holes == 7).any(axis=1).sum(axis=1)
    assert {*heights, *widths} == {0, 1, 2, 3}
    np.testing.assert_array_equal((holes == 7).sum(axis=(1, 2)), heights * widths)
    assert (holes == 7).any(axis=0).all()


def test_without_a_magnitude_strengths_vary():
    plain = np.full((3, 3), 100)
    assert len(np.unique(views(9.0, image=plain)[:300, 1, 1])) < 8
    assert len(np.unique(views(None, image=plain)[:300, 1, 1])) > 20


# In a batch ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_view_is_a_function_of_seed_epoch_and_id():
    spec = Spec(name="x", classes=3, mean=(0.5,) * 3, std=(0.25,) * 3, size=(6, 6))
    config, batch = Augment(operations=1), a_batch(8, (6, 6, 3))
    found = augmented(config, 3, 5, batch, spec).inputs
    optimised = jax.jit(augment, static_argnames=STATIC)(config, 3, 5, batch, spec).inputs
    np.testing.assert_array_equal(found, optimised)
    order = jnp.array([5, 2, 7, 0])
    part = jax.tree.map(lambda x: x[order], batch)
    np.testing.assert_array_equal(augmented(config, 3, 5, part, spec).inputs, found[order])
    for seed, epoch, view in ((4, 5, "augment"), (3, 6, "augment"), (3, 5, "other")):
        other = augmented(config, seed, epoch, batch, spec, view).inputs
        assert (other != found).any()
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(batch, jax.NamedSharding(mesh, jax.P("batch")))
    np.testing.assert_array_equal(augmented(config, 3, 5, spread, spec).inputs, found)


def test_pixels_of_few_levels_keep_them():
    """Digits are stored in 0..16."""
    spec = Spec(name="x", classes=3, mean=(0.0,), std=(1.0,), scale=16.0, size=(6, 6))
    batch = a_batch(64)
    batch = batch.replace(inputs=batch.inputs % 17)
    still = augmented(Augment(operations=1, magnitude=0.0), 0, 0, batch, spec).inputs
    same = (still == batch.inputs / 16).all(axis=(1, 2, 3))
    assert same.mean() > 0.8  # all but auto_contrast
    moved = augmented(Augment(operations=3), 0, 0, batch, spec).inputs
    np.testing.assert_array_equal(moved * 16, jnp.round(moved * 16))
    assert moved.min() == 0
    assert moved.max() == 1


@pytest.mark.slow
def test_the_magnitude_may_be_traced():
    batch = a_batch(16)
    run = jax.jit(lambda config: augment(config, 0, 0, batch, SPEC).inputs, compiler_options=QUICK)
    for magnitude in (3.0, 10.0):
        config = Augment(operations=1, magnitude=magnitude)
        same = augmented(config, 0, 0, batch, SPEC).inputs
        np.testing.assert_array_equal(run(config), same)
    assert run._cache_size() == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"operations": -1}, r"--augment\.operations -1: must be 0 or more"),
        ({"operations": 2, "magnitude": 11.0}, r"--augment\.magnitude is 11: it must be at least"),
        ({"magnitude": 9.0}, r"--augment\.magnitude is that of operations, of which there are"),
    ],
)
def test_what_can_not_be(fields, said):
    with pytest.raises(UsageError, match=said):
        Augment(**fields)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (
            jnp.ones((2, 6, 6, 1)),
            r"--augment\.operations 2: they are of grey or coloured .*float32",
        ),
        (jnp.ones((2, 6, 6, 2), jnp.uint8), r"--augment\.operations 2: .*\(2, 6, 6, 2\)"),
        (jnp.ones((2, 6), jnp.uint8), r"--augment\.operations 2: inputs are no images"),
    ],
)
def test_what_it_can_not_vary(inputs, said):
    with pytest.raises(UsageError, match=said):
        augment(Augment(operations=2), 0, 0, a_batch(2).replace(inputs=inputs), SPEC)
