"""What a file says of the stored entries themselves: their bytes, places in a codebook, or whole
numbers on a uniform grid."""

import dataclasses
from typing import Protocol, Self

import numpy as np

from kd_jax.encode.bits import Reader, Writer, sound
from kd_jax.encode.places import Shape, size_of
from kd_jax.encode.streams import LARGEST, read, write
from kd_jax.errors import require

SAMPLE = 1 << 16  # entries that are looked at before all are
Places = np.ndarray | slice
MINUS = np.uint32(1 << 31)  # -0.0


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where a quantised tensor's entries lie: w = (q − zero_point) · scale in float32, q whole.

    Attributes:
      scale: float32, of a shape that broadcasts to the tensor's: () for all of it, [K] for one an
        output channel (the last axis).
      zero_point: whole numbers, likewise.
    """

    scale: np.ndarray
    zero_point: np.ndarray

    def __init__(self, scale: np.ndarray | float, zero_point: np.ndarray | int = 0) -> None:
        zero = np.asarray(zero_point)
        require(
            np.issubdtype(zero.dtype, np.integer) and bool((np.abs(zero) < 2**31).all()),
            f"zero_point is of {zero.dtype}: give whole numbers of 32 bits",
        )
        object.__setattr__(self, "scale", np.asarray(scale, np.float32))
        object.__setattr__(self, "zero_point", zero.astype(np.int64))

    def of(self, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
        """(scale, zero point) of every entry. Raises UsageError where they don't broadcast."""
        try:
            both = np.broadcast_to(self.scale, shape), np.broadcast_to(self.zero_point, shape)
        except ValueError:
            shapes = f"{list(self.scale.shape)} and {list(self.zero_point.shape)}"
            require(False, f"a grid of shapes {shapes} does not broadcast to {list(shape)}")
            raise
        return both[0].reshape(-1), both[1].reshape(-1)


class Kind(Protocol):
    """A way to store entries, with what it needs beside its streams. Entries are seen as words,
    whole numbers with the same bits."""

    @property
    def alphabets(self) -> list[int]:
        """Of its streams, a symbol an entry each."""
        ...

    def narrowed(self, streams: list[np.ndarray]) -> tuple[Self, list[np.ndarray]]:
        """Itself without what none of the stored entries needs, and the streams for that."""
        ...

    def write(self, out: Writer) -> None: ...

    def join(self, streams: list[np.ndarray], places: Places, shape: Shape) -> np.ndarray:
        """The words at these places."""
        ...


@dataclasses.dataclass(frozen=True)
class Raw:
    """Any entries: a stream for each of their bytes. Those of the exponent are few, and shorter
    once coded."""

    dtype: np.dtype

    @property
    def alphabets(self) -> list[int]:
        return [256] * self.dtype.itemsize

    def narrowed(self, streams: list[np.ndarray]) -> tuple["Raw", list[np.ndarray]]:
        return self, streams

    def write(self, out: Writer) -> None:
        pass

    @staticmethod
    def read(reader: Reader, dtype: np.dtype, shape: Shape) -> "Raw":
        return Raw(dtype)

    @staticmethod
    def fit(x: np.ndarray, grid: Grid | None) -> tuple["Raw", list[np.ndarray]]:
        planes = words_of(x).view(np.uint8).reshape(-1, x.dtype.itemsize).T
        return Raw(x.dtype), [np.ascontiguousarray(plane) for plane in planes]

    def join(self, streams: list[np.ndarray], places: Places, shape: Shape) -> np.ndarray:
        planes = np.stack(streams, axis=-1).astype(np.uint8)
        return planes.reshape(-1).view(word_type(self.dtype))


@dataclasses.dataclass(frozen=True)
class Codebook:
    """Few distinct entries (shared weights): each is a place in their list, and the list is stored
    as it is, sorted by bits. Han, Mao, Dally 2016, section 3."""

    words: np.ndarray

    @property
    def alphabets(self) -> list[int]:
        return [len(self.words)]

    def narrowed(self, streams: list[np.ndarray]) -> tuple["Codebook", list[np.ndarray]]:
        """Without the zero, which comes first, where no filler needs it."""
        (places,) = streams
        spare = int(len(places) > 0 and places.min() > 0)
        return Codebook(self.words[spare:]), [places - spare]

    def write(self, out: Writer) -> None:
        out.block(self.words.tobytes())

    @staticmethod
    def read(reader: Reader, dtype: np.dtype, shape: Shape) -> "Codebook":
        data = reader.block()
        sound(len(data) % dtype.itemsize == 0, "a codebook has half an entry")
        return Codebook(np.frombuffer(data, word_type(dtype)))

    @staticmethod
    def fit(x: np.ndarray, grid: Grid | None) -> tuple["Codebook", list[np.ndarray]] | None:
        """None where there are too many distinct entries for it to be worth it."""
        words = words_of(x)
        most = min(LARGEST, max(16, len(words) // 4))
        if len(np.unique(words[:SAMPLE])) > most:
            return None
        found, places = np.unique(words, return_inverse=True)
        if len(found) > most:
            return None
        if len(found) and found[0]:  # a filler may need it
            found, places = np.insert(found, 0, 0), places + 1
        return Codebook(found), [places]

    def join(self, streams: list[np.ndarray], places: Places, shape: Shape) -> np.ndarray:
        return self.words[streams[0]]


@dataclasses.dataclass(frozen=True)
class OnGrid:
    """Quantised entries: q − lowest, with the grid's scales and zero points.

    Attributes:
      count: of the values of q.
      minus: whether one symbol more stands for -0.0, to which a small negative number is rounded.
    """

    grid: Grid
    lowest: int
    count: int
    minus: bool

    @property
    def alphabets(self) -> list[int]:
        return [self.count + self.minus]

    def narrowed(self, streams: list[np.ndarray]) -> tuple["OnGrid", list[np.ndarray]]:
        """Without the values below and above all of them; -0.0 still comes after the last."""
        (symbols,) = streams
        minus = symbols == self.count
        least, most = _ends(symbols[~minus])
        left = OnGrid(self.grid, self.lowest + least, most - least + 1, bool(minus.any()))
        return left, [np.where(minus, left.count, symbols - least)]

    def write(self, out: Writer) -> None:
        for part in (self.grid.scale, self.grid.zero_point):
            out.number(part.ndim)
            for axis in part.shape:
                out.number(axis)
        out.data += self.grid.scale.tobytes()
        zeros = self.grid.zero_point.reshape(-1)
        first, last = _ends(zeros)
        out.signed(first)
        out.number(last - first)
        write(out, zeros - first, last - first + 1, ("fixed",))
        out.signed(self.lowest)
        out.number(self.count)
        out.number(int(self.minus))

    @staticmethod
    def read(reader: Reader, dtype: np.dtype, shape: Shape) -> "OnGrid":
        sound(dtype == np.float32, "a grid of other numbers than float32")
        shapes = [tuple(reader.number() for _ in range(reader.number())) for _ in range(2)]
        for found in shapes:
            inner = shape[len(shape) - len(found) :]
            fits = len(found) <= len(shape) and all(
                a in (1, b) for a, b in zip(found, inner, strict=False)
            )
            sound(fits and size_of(found) <= len(reader.data), "a grid of another shape")
        scale = np.frombuffer(reader.take(4 * size_of(shapes[0])), np.float32).reshape(shapes[0])
        first, span = reader.signed(), reader.number()
        zeros = read(reader, size_of(shapes[1]), span + 1) + first
        lowest, count, minus = reader.signed(), reader.number(), bool(reader.number())
        sound(max(abs(first), abs(lowest)) < 2**31 and count <= LARGEST, "a grid is too fine")
        return OnGrid(Grid(scale, zeros.reshape(shapes[1])), lowest, count, minus)

    @staticmethod
    def fit(x: np.ndarray, grid: Grid | None) -> tuple["OnGrid", list[np.ndarray]] | None:
        """None where the tensor does not lie on the grid, bit for bit."""
        if grid is None or x.dtype != np.float32:
            return None
        scale, zero = grid.of(x.shape)
        flat = x.reshape(-1)
        with np.errstate(all="ignore"):
            steps = np.rint(flat.astype(np.float64) / scale)
        steps = np.where(np.abs(steps) < LARGEST, steps, 0)  # not a number either
        q, words = steps.astype(np.int64) + zero, words_of(x)
        (low, high), minus = _ends(q), words == MINUS
        count = high - low + 1
        made = OnGrid(grid, low, count, bool(minus.any()))
        symbols = np.where(minus, count, q - low)
        same = made.join([symbols], slice(None), x.shape) == words
        return (made, [symbols]) if count < LARGEST and bool(same.all()) else None

    def join(self, streams: list[np.ndarray], places: Places, shape: Shape) -> np.ndarray:
        scale, zero = (part[places] for part in self.grid.of(shape))
        with np.errstate(all="ignore"):  # a damaged scale may be no number
            steps = (streams[0] + self.lowest - zero).astype(np.float32)
            words = (steps * scale).view(np.uint32)
        return np.where(streams[0] == self.count, MINUS, words)


def _ends(numbers: np.ndarray) -> tuple[int, int]:
    """(least, most); zeros of none."""
    return (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)


KINDS: dict[str, type] = {"raw": Raw, "codebook": Codebook, "grid": OnGrid}


def word_type(dtype: np.dtype) -> np.dtype:
    """Whole numbers of as many bits; the lowest byte first, whatever the machine."""
    return np.dtype(f"<u{dtype.itemsize}")


def words_of(x: np.ndarray) -> np.ndarray:
    """The entries' bits [N], so that -0.0 is no zero and a NaN equals itself."""
    return np.ascontiguousarray(x).reshape(-1).view(word_type(x.dtype))
