"""From stored examples to what a model is given: normalised, augmented, with targets.

An example's augmented view is a function of (seed, epoch, the example's id): it comes out the same
in any batch, order or number of devices, so a teacher's outputs on it can be kept and replayed.
Mixup alone depends on the batch.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from kd_jax import randomness
from kd_jax.batch import Batch
from kd_jax.datasets import Spec
from kd_jax.errors import require, require_between
from kd_jax.randaugment import STRONGEST, WHITE, randaugment
from kd_jax.tree import traceable

Array = jax.Array


@traceable
class Augment:
    """How training examples are varied. All off: they are only normalised."""

    flip: bool = False
    """Mirror left and right with probability one half."""
    crop: int = 0
    """Pad so many black pixels on each side and crop a random window of the stored size."""
    shift: int = 0
    """Move by up to so many pixels in each direction, filling with black: the jitter of Hinton's
    MNIST nets. The same operation as crop; with both, the two random offsets add."""
    cutout: int = 0
    """Side of a square hole at a random place, filled with the mean (DeVries & Taylor 2017)."""
    mixup: float | None = None
    """α of the Beta distribution from which the mixing weight is drawn (Zhang et al. 2018)."""
    operations: int = 0
    """RandAugment (Cubuk et al. 2020): so many operations in a row, drawn from fourteen."""
    magnitude: float | None = None
    """Strength of these operations, 0 to 10; None: drawn for each, and at last comes a hole of up
    to half the image's side (as in FixMatch, Sohn et al. 2020)."""

    def __post_init__(self):
        for field in ("crop", "shift", "cutout"):
            value = getattr(self, field)
            require(value >= 0, f"--augment.{field} {value}: must be 0 or more pixels")
        count = self.operations
        require(count >= 0, f"--augment.operations {count}: must be 0 or more")
        require_between("--augment.magnitude", self.magnitude, 0, STRONGEST)
        require(
            self.magnitude is None or count > 0,
            "--augment.magnitude is that of operations, of which there are none: set operations, "
            "for instance to 2",
        )
        if isinstance(self.mixup, int | float):  # a traced alpha can't be checked
            require(
                self.mixup > 0,
                f"--augment.mixup {self.mixup}: alpha must be above 0; leave the flag out for no "
                "mixup",
            )


def one_hot(labels: Array, classes: int) -> Array:
    """Float32 [B, classes]."""
    return jax.nn.one_hot(labels, classes, dtype=jnp.float32)


def smooth(targets: Array, epsilon: float | Array) -> Array:
    """(1 - ε) t + ε / K: label smoothing of targets [..., K].

    Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016,
    https://arxiv.org/abs/1512.00567, section 7.
    """
    classes = targets.shape[-1]
    return (1 - epsilon) * targets + epsilon / classes


def normalise(inputs: Array, spec: Spec) -> Array:
    """(x / scale - mean) / std of pixels: uint8 [B, ..., C] -> float32. Other types are not pixels
    as stored (features, tokens, prepared images) and pass through."""
    if inputs.dtype != jnp.uint8:
        return inputs
    # Computed as (x - scale mean) (1 / (scale std)): a compiler has no freedom in one difference
    # and one product, so that all programs and devices get the same bits.
    channels = (1,) * (inputs.ndim - 1) + (-1,)
    mean = np.asarray(spec.mean) * spec.scale
    inverse_std = 1 / (np.asarray(spec.std) * spec.scale)
    centred = inputs.astype(jnp.float32) - mean.astype(np.float32).reshape(channels)
    return centred * inverse_std.astype(np.float32).reshape(channels)


def prepare(batch: Batch, spec: Spec) -> Batch:
    """A stored batch as a model is given it: normalised inputs, one-hot targets [B, K]."""
    return dataclasses.replace(
        batch,
        inputs=normalise(batch.inputs, spec),
        targets=one_hot(batch.labels, spec.classes),
    )


def flip(key: Array, image: Array) -> Array:
    """Mirrors an image [H, W, C] left and right with probability one half."""
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def translate(image: Array, offset: Array, reach: int) -> Array:
    """Moves an image [H, W, C] by offset [2] (down, right), each within ±reach; zeros come in."""
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)))
    return lax.dynamic_slice(padded, (reach - offset[0], reach - offset[1], 0), image.shape)


def cutout(key: Array, image: Array, side: int) -> Array:
    """Zeros a square of a normalised image [H, W, C], around a centre uniform over its pixels;
    the part of the square outside the image is lost.

    DeVries & Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017,
    https://arxiv.org/abs/1708.04552. Their code halves the side by integer division on both ends,
    so an odd side leaves a hole one pixel smaller than asked for; here it has the side asked for.
    """
    height, width, _ = image.shape
    centre = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    start = centre - side // 2
    from_top = jnp.arange(height) - start[0]
    from_left = jnp.arange(width) - start[1]
    rows = (from_top >= 0) & (from_top < side)
    columns = (from_left >= 0) & (from_left < side)
    hole = rows[:, None] & columns[None, :]
    return jnp.where(hole[:, :, None], 0, image)


def mixup(key: Array, batch: Batch, alpha: float | Array) -> Batch:
    """x = λ x_i + (1 - λ) x_j, y = λ y_i + (1 - λ) y_j with λ ~ Beta(α, α), one λ for the batch;
    j is the example before i (the first one's partner is the last).

    Zhang et al., mixup: Beyond Empirical Risk Minimization, 2018,
    https://arxiv.org/abs/1710.09412. Their code pairs by a random permutation; a batch is already
    in random order, so its neighbour serves. An example whose partner is padding stays as it is.
    """
    λ = jax.random.beta(key, alpha, alpha)
    partner_counts = jnp.roll(batch.weights, 1) > 0
    λ = jnp.where(partner_counts, λ, 1.0)

    def mix(x):
        λ_x = λ.reshape((-1,) + (1,) * (x.ndim - 1))
        return λ_x * x + (1 - λ_x) * jnp.roll(x, 1, axis=0)

    return dataclasses.replace(batch, inputs=mix(batch.inputs), targets=mix(batch.targets))


def example_keys(seed: int | Array, epoch: int | Array, ids: Array, view: str = "augment") -> Array:
    """[B] keys, each a function of (seed, epoch, id) alone; others for another view."""
    key = jax.random.fold_in(randomness.stream(seed, view), epoch)
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(ids)


def _geometry(config: Augment, key: Array, image: Array) -> Array:
    """Flip, crop and shift of one stored image [H, W, C]."""
    flip_key, crop_key, shift_key = (jax.random.fold_in(key, n) for n in range(3))
    if config.flip:
        image = flip(flip_key, image)
    reach = config.crop + config.shift
    if reach:
        crop = jax.random.randint(crop_key, (2,), -config.crop, config.crop + 1)
        shift = jax.random.randint(shift_key, (2,), -config.shift, config.shift + 1)
        image = translate(image, crop + shift, reach)
    return image


def _operations(config: Augment, key: Array, image: Array, spec: Spec) -> Array:
    """RandAugment of one stored image [H, W, C], in the 256 levels that its operations know."""
    white = int(spec.scale)
    mean = np.round(WHITE * np.asarray(spec.mean)).astype(np.int32)
    levels = (2 * WHITE * image.astype(jnp.int32) + white) // (2 * white)
    varied = randaugment(key, levels, config.operations, config.magnitude, jnp.asarray(mean))
    return ((2 * white * varied + WHITE) // (2 * WHITE)).astype(image.dtype)


def _check(config: Augment, inputs: Array) -> None:
    for field in ("flip", "crop", "shift", "cutout", "operations"):
        require(
            not getattr(config, field) or inputs.ndim == 4,
            f"--augment.{field} {getattr(config, field)}: inputs are no images [B, H, W, C] but "
            f"of shape {inputs.shape}; leave the flag out",
        )
    require(
        not config.operations or (inputs.dtype == jnp.uint8 and inputs.shape[-1] in (1, 3)),
        f"--augment.operations {config.operations}: they are of grey or coloured pixels of type "
        f"uint8, and inputs are of shape {inputs.shape}, type {inputs.dtype}; leave the flag out",
    )


def augment(
    config: Augment,
    seed: int | Array,
    epoch: int | Array,
    batch: Batch,
    spec: Spec,
    view: str = "augment",
) -> Batch:
    """A stored batch, varied and prepared. `seed`, `epoch`, mixup's alpha and the magnitude may be
    traced. Another `view` of the same example, epoch and seed is varied independently.

    Raises:
      UsageError: images are to be varied, but inputs are not [B, H, W, C].
    """
    keys = example_keys(seed, epoch, batch.ids, view)
    _check(config, batch.inputs)
    if config.flip or config.crop or config.shift:
        images = jax.vmap(lambda key, x: _geometry(config, key, x))(keys, batch.inputs)
        batch = dataclasses.replace(batch, inputs=images)
    if config.operations:
        images = jax.vmap(lambda key, x: _operations(config, jax.random.fold_in(key, 5), x, spec))(
            keys, batch.inputs
        )
        batch = dataclasses.replace(batch, inputs=images)
    batch = prepare(batch, spec)
    if config.cutout:
        images = jax.vmap(lambda key, x: cutout(jax.random.fold_in(key, 3), x, config.cutout))(
            keys, batch.inputs
        )
        batch = dataclasses.replace(batch, inputs=images)
    if config.mixup is not None:
        require(
            jnp.issubdtype(batch.inputs.dtype, jnp.floating),
            f"--augment.mixup: inputs of type {batch.inputs.dtype} can't be mixed; leave it out",
        )
        # One key a batch: no two batches of an epoch begin with the same example.
        batch = mixup(jax.random.fold_in(keys[0], 4), batch, config.mixup)
    return batch
