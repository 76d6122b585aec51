"""Sparse forms: how a file says at which places of a tensor the stored entries are.

All others are zero. Places are counted in C order, the last axis fastest. A form turns sorted
places into streams of symbols, and back.
"""

import dataclasses
from typing import Protocol

import numpy as np

from kd_jax.encode.bits import sound

Shape = tuple[int, ...]
Layout = list[tuple[int, int]]  # (symbols, size of their alphabet) of each stream


class Form(Protocol):
    def fits(self, shape: Shape) -> bool:
        """Whether a tensor of this shape can be stored so."""
        ...

    def stored(self, places: np.ndarray, size: int) -> np.ndarray:
        """The places of what is stored: those that must be, and what else the form needs."""
        ...

    def layout(self, shape: Shape, count: int) -> Layout:
        """Of the streams for so many stored entries."""
        ...

    def split(self, places: np.ndarray, shape: Shape) -> list[np.ndarray]:
        """The streams of these stored places."""
        ...

    def join(self, streams: list[np.ndarray], shape: Shape) -> np.ndarray:
        """The inverse of `split`; Damaged, or any places, where they are of no encoder."""
        ...


@dataclasses.dataclass(frozen=True)
class Dense:
    """Every entry is stored."""

    def fits(self, shape: Shape) -> bool:
        return True

    def stored(self, places: np.ndarray, size: int) -> np.ndarray:
        return np.arange(size)

    def layout(self, shape: Shape, count: int) -> Layout:
        return []

    def split(self, places: np.ndarray, shape: Shape) -> list[np.ndarray]:
        return []

    def join(self, streams: list[np.ndarray], shape: Shape) -> np.ndarray:
        return np.arange(size_of(shape))


@dataclasses.dataclass(frozen=True)
class Bitmask:
    """A bit an entry, eight to a symbol."""

    def fits(self, shape: Shape) -> bool:
        return True

    def stored(self, places: np.ndarray, size: int) -> np.ndarray:
        return places

    def layout(self, shape: Shape, count: int) -> Layout:
        return [(-(-size_of(shape) // 8), 256)]

    def split(self, places: np.ndarray, shape: Shape) -> list[np.ndarray]:
        kept = np.zeros(size_of(shape), bool)
        kept[places] = True
        return [np.packbits(kept)]

    def join(self, streams: list[np.ndarray], shape: Shape) -> np.ndarray:
        return np.flatnonzero(np.unpackbits(streams[0].astype(np.uint8)))


@dataclasses.dataclass(frozen=True)
class Rows:
    """Compressed rows (CSR): how many entries each row has, and the column of each. A column is an
    index of the last axis, the outputs of a kernel."""

    def fits(self, shape: Shape) -> bool:
        return len(shape) > 1 and size_of(shape) > 0

    def stored(self, places: np.ndarray, size: int) -> np.ndarray:
        return places

    def layout(self, shape: Shape, count: int) -> Layout:
        columns = shape[-1]
        return [(size_of(shape) // columns, columns + 1), (count, columns)]

    def split(self, places: np.ndarray, shape: Shape) -> list[np.ndarray]:
        columns = shape[-1]
        counts = np.bincount(places // columns, minlength=size_of(shape) // columns)
        return [counts, places % columns]

    def join(self, streams: list[np.ndarray], shape: Shape) -> np.ndarray:
        counts, columns = streams
        sound(int(counts.sum()) == len(columns), "rows have other entries than columns")
        return np.repeat(np.arange(len(counts)), counts) * shape[-1] + columns


@dataclasses.dataclass(frozen=True)
class Gaps:
    """The distance of each entry from the one before, less one, in `bits` bits; the first one's is
    from the place -1. Where it is too far, a filler is stored on the way: an entry that is zero.

    Han, Mao, Dally, "Deep Compression", 2016, https://arxiv.org/abs/1510.00149, section 3 and
    figure 2: with 3 bits, a filler after every 8 places. There the first distance is from the
    place 0.
    """

    bits: int

    def fits(self, shape: Shape) -> bool:
        return True

    def stored(self, places: np.ndarray, size: int) -> np.ndarray:
        steps = np.diff(places, prepend=-1)
        fillers = (steps - 1) >> self.bits
        repeated = np.repeat(places - steps, fillers + 1)
        # 1, 2, ... fillers of 2^bits each after the place before, and then the place itself.
        first = np.repeat(np.cumsum(fillers + 1) - fillers - 1, fillers + 1)
        found = repeated + ((np.arange(len(repeated)) - first + 1) << self.bits)
        found[np.cumsum(fillers + 1) - 1] = places
        return found

    def layout(self, shape: Shape, count: int) -> Layout:
        return [(count, 1 << self.bits)]

    def split(self, places: np.ndarray, shape: Shape) -> list[np.ndarray]:
        return [np.diff(places, prepend=-1) - 1]

    def join(self, streams: list[np.ndarray], shape: Shape) -> np.ndarray:
        return np.cumsum(streams[0] + 1) - 1


FORMS: dict[str, Form] = {
    "dense": Dense(),
    "bitmask": Bitmask(),
    "rows": Rows(),
    **{f"gaps{bits}": Gaps(bits) for bits in (2, 3, 4, 5, 6, 7, 8, 10, 12, 14)},
}


def size_of(shape: Shape) -> int:
    """Entries of a tensor of this shape, in whole numbers of any size."""
    size = 1
    for axis in shape:
        size *= axis
    return size
