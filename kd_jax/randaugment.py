"""RandAugment: a few operations on an image, drawn anew for each example.

Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space",
2020, https://arxiv.org/abs/1909.13719.

All is computed in whole numbers, with 16 bits after the point where there are fractions: every
program and device gets the same pixels. Under vmap a `lax.switch` would compute all fourteen
operations for every example. Here they are three passes in which each has its place, and those that
were not drawn change nothing: one gather of moved pixels, one blend with a degenerate image, one
table of tones, whose costliest part is a histogram. Two operations on 128 images of 32x32x3 take a
CPU 15 ms (jax 0.12; 30 to 45 ms with 0.10).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Array = jax.Array

OPERATIONS = (
    *("identity", "auto_contrast", "equalize", "rotate", "solarize", "color", "posterize"),
    *("contrast", "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y"),
)
STRONGEST = 10.0  # magnitude at which an operation is as strong as it can be
LEVELS = 1000  # of strength, in each direction
ONE = 1 << 16
WHITE = 255


def randaugment(
    key: Array, image: Array, operations: int, magnitude: float | Array | None, mean: Array
) -> Array:
    """So many operations in a row on an image [H, W, C] of whole numbers in 0..255, C 1 or 3.

    Each is drawn from OPERATIONS, and does what it does in PIL, black coming in from outside. Of a
    strength u in ±1, which is ±magnitude / 10 with a random sign: turn by 30·u degrees, shear by
    0.3·u, move by 0.45·u of the side; blend by the factor 1 + 0.9·u; solarize from 256·(1 − |u|)
    on; keep 8 − 4·|u| bits, rounded down.

    Without a magnitude it is the variant of Sohn et al., "FixMatch: Simplifying Semi-Supervised
    Learning with Consistency and Confidence", 2020, https://arxiv.org/abs/2001.07685, as its
    PyTorch ports have it: u is drawn for each operation, moves reach 0.3 of the side, factors lie
    in 0.05 to 0.95; and at last comes a square hole, its side drawn up to half the image's, filled
    with `mean` [C].

    The paper gives no ranges: these are those of AutoAugment, which its code takes, but there
    solarize and posterize are weaker the larger the magnitude, and a factor of 0.1 + 0.18·magnitude
    is weakest at 5; here all grow with it, and signs are random, as in torchvision, whose magnitude
    of 30 is 10 here. Where PIL rounds fractions of double precision, a pixel can differ by 1.
    """
    drawn = magnitude is None

    def one(n: int | Array, image: Array) -> Array:
        name_key, level_key = (jax.random.fold_in(jax.random.fold_in(key, n), i) for i in (0, 1))
        which = jax.random.randint(name_key, (), 0, len(OPERATIONS))
        if magnitude is None:
            level = jax.random.randint(level_key, (), -LEVELS, LEVELS + 1)
        else:
            size = jnp.round(magnitude * (LEVELS / STRONGEST)).astype(jnp.int32)
            level = jnp.where(jax.random.bernoulli(level_key), size, -size)
        which, level = lax.optimization_barrier((which, level))
        return operate(image, which, level, drawn)

    image = lax.fori_loop(0, operations, one, image.astype(jnp.int32))
    return hole(jax.random.fold_in(key, operations), image, mean) if drawn else image


def operate(image: Array, which: Array | int, level: Array | int, drawn: bool = False) -> Array:
    """The operation OPERATIONS[which] with strength u = level / LEVELS."""
    move, factor = (0.3, (50, 45)) if drawn else (0.45, (100, 90))
    # Fused into one another, passes are computed anew for each pixel that the next one reads.
    image = lax.optimization_barrier(_moved(image, which, level, move))
    image = lax.optimization_barrier(_blended(image, which, level, factor))
    return _toned(image, which, level)


def hole(key: Array, image: Array, fill: Array) -> Array:
    """A square of side 0 to half the width, around a place drawn from all; what would lie beyond
    the upper and left edge is moved inside, what lies beyond the others is lost."""
    height, width, _ = image.shape
    side_key, place_key = (jax.random.fold_in(key, i) for i in (0, 1))
    side = jax.random.randint(side_key, (), 0, width // 2 + 1)
    centre = jax.random.randint(place_key, (2,), 0, jnp.array([height, width]))
    start = jnp.maximum(centre - side // 2, 0)
    within = lambda count, first: _between(jnp.arange(count), first, first + side)  # noqa: E731
    inside = within(height, start[0])[:, None] & within(width, start[1])[None, :]
    return jnp.where(inside[:, :, None], fill.astype(image.dtype)[None, None], image)


def _is(which: Array | int, *names: str) -> Array:
    """Whether the operation is one of these."""
    return jnp.isin(which, jnp.array([OPERATIONS.index(name) for name in names]))


def _between(x: Array, low: Array | int, high: Array | int) -> Array:
    return (x >= low) & (x < high)


def _at(level: Array | int, of: Callable[[np.ndarray], np.ndarray]) -> Array:
    """The whole number that a function of u has at a level, from a table."""
    u = np.arange(-LEVELS, LEVELS + 1) / LEVELS
    return jnp.asarray(of(u), jnp.int32)[level + LEVELS]


def _fixed(level: Array | int, of: Callable[[np.ndarray], np.ndarray]) -> Array:
    """The same, of fractions, times ONE."""
    return _at(level, lambda u: np.round(ONE * of(u)))


def _moved(image: Array, which: Array | int, level: Array | int, reach: float) -> Array:
    """Turned about the middle, sheared along the upper or left edge, or translated: the pixel that
    lies where [[cos, a − sin], [b + sin, cos]] (x, y) + (c, d) does."""
    height, width, _ = image.shape
    given = lambda name, of: jnp.where(_is(which, name), _fixed(level, of), 0)  # noqa: E731
    turns = _is(which, "rotate").astype(jnp.int32)
    cos = jnp.where(turns > 0, _fixed(level, lambda u: np.cos(np.radians(30 * u))), ONE)
    sin = given("rotate", lambda u: np.sin(np.radians(30 * u)))
    a, b = given("shear_x", lambda u: 0.3 * u), given("shear_y", lambda u: 0.3 * u)
    c = given("translate_x", lambda u: reach * width * u)
    d = given("translate_y", lambda u: reach * height * u)
    # Places are counted in half pixels, from the middle where it turns.
    x = (2 * jnp.arange(width) + 1 - turns * width)[None, :]
    y = (2 * jnp.arange(height) + 1 - turns * height)[:, None]
    from_x = (cos * x + (a - sin) * y + ONE * turns * width + 2 * c) >> 17
    from_y = ((b + sin) * x + cos * y + ONE * turns * height + 2 * d) >> 17
    inside = _between(from_x, 0, width) & _between(from_y, 0, height)
    found = image[jnp.clip(from_y, 0, height - 1), jnp.clip(from_x, 0, width - 1)]
    return jnp.where(inside[:, :, None], found, 0)


def _blended(
    image: Array, which: Array | int, level: Array | int, factor: tuple[int, int]
) -> Array:
    """degenerate + factor·(image − degenerate), factor = base + gain·u, these in percent; the
    degenerate image is grey (color), its mean (contrast), black (brightness), smoothed (sharpness).
    """
    base, gain = factor
    grey = _grey(image)
    mean = (2 * jnp.sum(grey) + grey.size) // (2 * grey.size)
    conditions = [_is(which, name) for name in ("color", "contrast", "sharpness")]
    options = [jnp.broadcast_to(x, image.shape) for x in (grey, mean, _smooth(image))]
    degenerate = jnp.select(conditions, options, 0)
    share = base * LEVELS + gain * level
    blend = degenerate + share * (image - degenerate) // (100 * LEVELS)
    blends = _is(which, "color", "contrast", "brightness", "sharpness")
    return jnp.where(blends, jnp.clip(blend, 0, WHITE), image)


def _grey(image: Array) -> Array:
    """[H, W, 1]: the luma of ITU-R 601-2."""
    if image.shape[-1] == 1:
        return image
    weights = jnp.array([19595, 38470, 7471])
    return (jnp.sum(image * weights[None, None], axis=-1, keepdims=True) + (1 << 15)) >> 16


def _smooth(image: Array) -> Array:
    """Each pixel counts 5, its eight neighbours 1; those at the edge stay as they are."""
    height, width, _ = image.shape
    shifts = [(i, j) for i in range(3) for j in range(3)]
    around = sum(image[i : height - 2 + i, j : width - 2 + j] for i, j in shifts)
    inner = (2 * (around + 4 * image[1:-1, 1:-1]) + 13) // 26
    return image.at[1:-1, 1:-1].set(inner)


def _toned(image: Array, which: Array | int, level: Array | int) -> Array:
    """What is done to each channel's values, wherever they lie."""
    low, high = (f(image, axis=(0, 1), keepdims=True) for f in (jnp.min, jnp.max))
    stretched = (image - low) * WHITE // jnp.maximum(high - low, 1)
    threshold = _at(level, lambda u: np.ceil(256 * (1 - np.abs(u))))
    lost = _at(level, lambda u: 8 - np.floor(8 - 4 * np.abs(u)))
    options = {
        "auto_contrast": jnp.where(high > low, stretched, image),
        "equalize": _equalized(image),
        "solarize": jnp.where(image < threshold, image, WHITE - image),
        "posterize": (image >> lost) << lost,
    }
    return jnp.select([_is(which, name) for name in options], [*options.values()], image)


def _equalized(image: Array) -> Array:
    """All values equally often, as far as may be; of fewer than 255 pixels nothing is made."""
    pixels, channels = image.reshape(-1, image.shape[-1]), jnp.arange(image.shape[-1])
    counts = jnp.zeros((WHITE + 1, image.shape[-1]), jnp.int32).at[pixels, channels[None]].add(1)
    below = jnp.cumsum(counts, axis=0) - counts
    brightest = jnp.max(pixels, axis=0)
    step = (len(pixels) - counts[brightest, channels]) // WHITE
    table = jnp.minimum((step[None] // 2 + below) // jnp.maximum(step, 1)[None], WHITE)
    return jnp.where(step[None, None] > 0, table[image, channels[None, None]], image)
