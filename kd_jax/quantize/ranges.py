"""From what numbers were seen to the range that a grid covers: what lies beyond is clipped."""

from typing import ClassVar, Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp

from kd_jax import tree
from kd_jax.errors import require
from kd_jax.quantize.uniform import Grid

Array = jax.Array
BINS = 2048  # of a histogram of magnitudes, as in other tools
TRIED = 100  # ranges that a search looks at


@flax.struct.dataclass
class Seen:
    """Numbers in a histogram.

    Attributes:
      least, most: of them.
      counts: [2 BINS], how many lie in each of as many equal parts of [−a, a], a = max |x|.
      mean: of their magnitudes.
    """

    least: Array
    most: Array
    counts: Array
    mean: Array

    @staticmethod
    def of(x: Array) -> "Seen":
        """Of these numbers alone."""
        least, most = jnp.min(x), jnp.max(x)
        counts = histogram(x, jnp.maximum(-least, most))
        return Seen(least, most, counts, jnp.mean(jnp.abs(x)))

    @property
    def extent(self) -> Array:
        """a."""
        return jnp.maximum(-self.least, self.most)

    @property
    def centres(self) -> Array:
        """[2 BINS], of the parts."""
        return self.extent * ((jnp.arange(2 * BINS) + 0.5) / BINS - 1)


def histogram(x: Array, extent: Array) -> Array:
    """[2 BINS], how many of these numbers lie in each part of [−extent, extent]."""
    place = (x.reshape(-1) / jnp.maximum(extent, 1e-30) + 1) * BINS
    part = jnp.clip(place.astype(jnp.int32), 0, 2 * BINS - 1)
    return jnp.zeros(2 * BINS, jnp.float32).at[part].add(1.0)


@runtime_checkable
class Calibration(Protocol):
    """(what was seen, bits, whether the grid is symmetric) -> (least, most) of the range."""

    def __call__(self, seen: Seen, bits: Array, symmetric: bool) -> tuple[Array, Array]: ...


def within(seen: Seen, threshold: Array) -> tuple[Array, Array]:
    """The range of what was seen, without what is larger than a threshold."""
    return jnp.maximum(seen.least, -threshold), jnp.minimum(seen.most, threshold)


@tree.traceable
class AbsMax:
    """From −a to a, a the largest magnitude."""

    def __call__(self, seen: Seen, bits: Array, symmetric: bool) -> tuple[Array, Array]:
        return -seen.extent, seen.extent


@tree.traceable
class MinMax:
    """From the least number to the largest."""

    def __call__(self, seen: Seen, bits: Array, symmetric: bool) -> tuple[Array, Array]:
        return seen.least, seen.most


@tree.traceable
class Percentile:
    """So many per cent of the magnitudes lie in the range."""

    percent: float = 99.99
    """Of the magnitudes that are not clipped."""

    def __post_init__(self) -> None:
        percent = self.percent
        require(0 < percent <= 100, f"percent {percent} must be in (0, 100]")

    def __call__(self, seen: Seen, bits: Array, symmetric: bool) -> tuple[Array, Array]:
        share = jnp.cumsum(magnitudes(seen)) / jnp.maximum(jnp.sum(seen.counts), 1)
        last = jnp.argmax(share >= self.percent / 100 - 1e-7)
        return within(seen, seen.extent * (last + 1) / BINS)


@tree.traceable
class MSE:
    """The range whose grid is nearest to the numbers, in mean squares: of a hundred, from all down
    to a hundredth of it. What its search sees are the histogram's parts."""

    def __call__(self, seen: Seen, bits: Array, symmetric: bool) -> tuple[Array, Array]:
        def error(share: Array) -> Array:
            least, most = within(seen, seen.extent * share)
            symmetrical = Grid.symmetric(jnp.maximum(-least, most), bits)
            grid = symmetrical if symmetric else Grid.affine(least, most, bits)
            return jnp.sum(seen.counts * (grid(seen.centres) - seen.centres) ** 2)

        shares = 1 - jnp.arange(TRIED) / TRIED
        return within(seen, seen.extent * shares[jnp.argmin(jax.lax.map(error, shares))])


@tree.traceable
class Entropy:
    """The range for which the numbers' distribution loses the least, KL(P || Q): P of the
    magnitudes in the range, those beyond counted at its end; Q the same in 2^(b−1) equal parts,
    each spread evenly over where P is not zero.

    Migacz, "8-bit Inference with TensorRT", GPU Technology Conference 2017,
    https://on-demand.gputechconf.com/gtc/2017/presentation/s7310-8-bit-inference-with-tensorrt.pdf.
    With fewer than 8 bits no range of less than 128 parts of 2048 is looked at either.
    """

    first: ClassVar[int] = 128

    def __call__(self, seen: Seen, bits: Array, symmetric: bool) -> tuple[Array, Array]:
        counts, levels = magnitudes(seen), 2.0 ** (jnp.asarray(bits, jnp.float32) - 1)
        place = jnp.arange(BINS)

        def divergence(size: Array) -> Array:
            inside = place < size
            p = jnp.where(inside, counts, 0.0)
            beyond = jnp.sum(counts) - jnp.sum(p)
            level = jnp.clip(place * levels / size, 0, levels - 1).astype(jnp.int32)
            filled = (p > 0).astype(jnp.float32)
            sums = jnp.zeros(BINS).at[level].add(p)
            many = jnp.zeros(BINS).at[level].add(filled)
            q = filled * sums[level] / jnp.maximum(many[level], 1)
            p = p.at[size - 1].add(beyond)
            return _kl(p, q)

        sizes = jnp.arange(self.first, BINS + 1, 8)
        found = jax.lax.map(divergence, sizes)
        # Of equal ones the widest.
        best = len(sizes) - 1 - jnp.argmin(found[::-1])
        return within(seen, seen.extent * sizes[best] / BINS)


def _kl(p: Array, q: Array) -> Array:
    """KL(p || q) of counts; what q has none of, though p has, counts as if it were a little."""
    p, q = p / jnp.maximum(jnp.sum(p), 1), q / jnp.maximum(jnp.sum(q), 1)
    return jnp.sum(jnp.where(p > 0, p * jnp.log(jnp.maximum(p, 1e-30) / jnp.maximum(q, 1e-9)), 0.0))


@tree.traceable
class LSQ:
    """Scale 2 mean|x| / √high, with which learned scales begin (Esser et al., 2020,
    https://arxiv.org/abs/1902.08153)."""

    def __call__(self, seen: Seen, bits: Array, symmetric: bool) -> tuple[Array, Array]:
        high = 2.0 ** (jnp.asarray(bits, jnp.float32) - 1) - 1
        high = high if symmetric else 2 * high + 1
        length = 2 * seen.mean * jnp.sqrt(high)
        if symmetric:
            return -length, length
        both = seen.least < 0
        return jnp.where(both, -length / 2, 0.0), jnp.where(both, length / 2, length)


def magnitudes(seen: Seen) -> Array:
    """[BINS], counts of |x| in each part of [0, a]."""
    return seen.counts[BINS:] + seen.counts[:BINS][::-1]
