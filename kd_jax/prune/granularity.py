"""What one decision removes: a weight, a weight of a group (n:m), a block, filter, row or layer.

Scores are pooled over a unit, units are counted and cut, and the cut is spread over their weights.
A sparsity is then a fraction of units, rounded as `allocate` says; units count alike, whatever
their size: the last blocks of a kernel may be smaller, and so may the filters of another layer.

Of a kernel [..., inputs, outputs] only entries are masked here. A filter that is zero still has its
bias, and a norm that follows its shift: which parameters go with it is told by tracing the network.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from kd_jax.errors import require, require_between
from kd_jax.prune import select

Array = jax.Array
Pool = Literal["mean", "max"]


@dataclasses.dataclass(frozen=True)
class Granularity:
    """How a layer of two or more axes is divided into units."""

    def units(self, x: Array, pool: Pool) -> Array:
        """x, pooled over the entries of each unit: booleans by max, that is any."""
        del pool
        return x

    def spread(self, units: Array, shape: tuple[int, ...]) -> Array:
        """What is said of units, of each of their entries [shape]."""
        del shape
        return units

    def scored(self, scores: Array) -> Array:
        """The scores of a layer's units."""
        return self.units(scores, getattr(self, "pool", "mean"))

    def keep(self, scores: Array, alive: Array, count: int | Array) -> Array:
        """Marks `count` of a layer's units: those of highest score, ties to the lower index."""
        return select.keep_top([scores], [alive], count)[0]

    def size(self, shape: tuple[int, ...]) -> int:
        """Of how many units a count of a layer speaks."""
        units = jax.eval_shape(lambda: self.units(jnp.ones(shape, bool), "max"))
        return units.size

    def alive(self, mask: Array) -> Array:
        """How many of these are left, where any of their entries is."""
        return jnp.sum(self.units(mask, "max"), dtype=jnp.int32)

    def fits(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether a layer can be divided so; one that can't is left out. Raises UsageError, which
        begins with a field's name, where that was not asked for."""
        del name, shape
        return True


@dataclasses.dataclass(frozen=True)
class Weights(Granularity):
    """Each weight by itself."""


@dataclasses.dataclass(frozen=True)
class NM(Granularity):
    """n weights are kept of each m that lie together along the inputs of a unit.

    Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021,
    https://arxiv.org/abs/2104.08378; Zhou et al., "Learning N:M Fine-grained Structured Sparse
    Neural Networks From Scratch", 2021, https://arxiv.org/abs/2102.04010. Before a schedule's end
    m − round(m·s) are kept, so that few schedules have steps in between.

    Attributes:
      n: how many are kept at the end; the sparsity must then be 1 − n/m.
      m: of how many.
      skip: leave out layers whose inputs m does not divide, instead of refusing them.
    """

    n: int = 2
    m: int = 4
    skip: bool = False

    def __post_init__(self) -> None:
        require_between("NM.n", self.n, 1, self.m - 1)
        require_between("NM.m", self.m, 2)

    def _groups(self, x: Array) -> Array:
        """[..., inputs / m, outputs, m]."""
        split = x.reshape(*x.shape[:-2], x.shape[-2] // self.m, self.m, x.shape[-1])
        return jnp.swapaxes(split, -1, -2)

    def keep(self, scores: Array, alive: Array, count: int | Array) -> Array:
        # Of dead ones the score is below all others, and NaN as low as any that live.
        low = jnp.nan_to_num(scores.astype(jnp.float32), nan=-jnp.inf)
        order = jnp.lexsort((-self._groups(low), ~self._groups(alive)), axis=-1)
        place = jnp.argsort(order, axis=-1)
        kept = jnp.swapaxes(place < count, -1, -2).reshape(scores.shape)
        return kept & alive

    def size(self, shape: tuple[int, ...]) -> int:
        return self.m

    def alive(self, mask: Array) -> Array:
        return jnp.min(jnp.sum(self._groups(mask), axis=-1, dtype=jnp.int32))

    def fits(self, name: str, shape: tuple[int, ...]) -> bool:
        divides = shape[-2] % self.m == 0
        require(
            divides or self.skip,
            f"structure.m {self.m} does not divide the {shape[-2]} inputs of {name}: exclude it, "
            "set structure.skip to leave such layers out, or take another m",
        )
        return divides


@dataclasses.dataclass(frozen=True)
class Block(Granularity):
    """Blocks of rows x columns of a kernel's inputs and outputs; each place of a convolution's
    window has its own. The last ones are smaller where the kernel is no multiple.

    Narang, Undersander, Diamos, "Block-Sparse Recurrent Neural Networks", 2017,
    https://arxiv.org/abs/1711.02782.

    Attributes:
      rows, columns: the block's size along inputs and outputs.
      pool: mean or max of the scores of its weights.
    """

    rows: int = 4
    columns: int = 4
    pool: Pool = "mean"

    def __post_init__(self) -> None:
        require_between("Block.rows", self.rows, 1)
        require_between("Block.columns", self.columns, 1)

    def units(self, x: Array, pool: Pool) -> Array:
        if pool == "max":
            lowest = False if x.dtype == bool else -jnp.inf
            return jnp.max(self._split(x, lowest), axis=(-3, -1))
        ones = jnp.ones(x.shape[-2:], x.dtype)
        count = jnp.sum(self._split(ones, 0), axis=(-3, -1))
        total = jnp.sum(self._split(x, 0), axis=(-3, -1))
        return total / jnp.broadcast_to(count, total.shape)

    def _split(self, x: Array, fill: float | bool) -> Array:
        """[..., blocks, rows, blocks, columns], filled up."""
        rows, columns = -(-x.shape[-2] // self.rows), -(-x.shape[-1] // self.columns)
        more = (rows * self.rows - x.shape[-2], columns * self.columns - x.shape[-1])
        pads = [(0, 0)] * (x.ndim - 2) + [(0, n) for n in more]
        x = jnp.pad(x, pads, constant_values=fill)
        return x.reshape(*x.shape[:-2], rows, self.rows, columns, self.columns)

    def spread(self, units: Array, shape: tuple[int, ...]) -> Array:
        wide = jnp.repeat(jnp.repeat(units, self.rows, axis=-2), self.columns, axis=-1)
        return wide[..., : shape[-2], : shape[-1]]


@dataclasses.dataclass(frozen=True)
class _Slices(Granularity):
    """All entries of one index of an axis.

    Attributes:
      pool: mean or max of the scores of their weights.
    """

    pool: Pool = "mean"

    def _axis(self) -> int:
        raise NotImplementedError

    def units(self, x: Array, pool: Pool) -> Array:
        axes = tuple(a for a in range(x.ndim) if a != x.ndim + self._axis())
        return jnp.max(x, axis=axes) if pool == "max" else jnp.mean(x, axis=axes)

    def spread(self, units: Array, shape: tuple[int, ...]) -> Array:
        others = [1] * len(shape)
        others[self._axis()] = units.size
        return jnp.broadcast_to(units.reshape(others), shape)


@dataclasses.dataclass(frozen=True)
class Filter(_Slices):
    """All weights of one output: a unit's of a dense kernel, a channel's of a convolution. Those of
    the last layer are the classes: exclude it.

    Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", 2017,
    https://arxiv.org/abs/1608.08710.
    """

    def _axis(self) -> int:
        return -1


@dataclasses.dataclass(frozen=True)
class Row(_Slices):
    """All weights that read one input, or one channel of them."""

    def _axis(self) -> int:
        return -2


@dataclasses.dataclass(frozen=True)
class Layer(Granularity):
    """All weights of a layer. What is left of a network then needs a way around it, as residual
    branches have: include the last layer of each branch, `block.*conv2/kernel`.

    Veit, Wilber, Belongie, "Residual Networks Behave Like Ensembles of Relatively Shallow
    Networks", 2016, https://arxiv.org/abs/1605.06431, who delete branches of trained networks.

    Attributes:
      pool: mean or max of the scores of its weights.
    """

    pool: Pool = "mean"

    def units(self, x: Array, pool: Pool) -> Array:
        return (jnp.max(x) if pool == "max" else jnp.mean(x)).reshape(1)

    def spread(self, units: Array, shape: tuple[int, ...]) -> Array:
        return jnp.broadcast_to(units.reshape((1,) * len(shape)), shape)


STRUCTURES: dict[str, Granularity] = {
    "weights": Weights(),
    "n_m": NM(),
    "block": Block(),
    "filter": Filter(),
    "row": Row(),
    "layer": Layer(),
}
