"""Numbers as bits and bytes, and bytes read back with suspicion."""

import numpy as np

from kd_jax.errors import UsageError

WIDEST = 32  # bits of a packed number


class Damaged(UsageError):
    """Bytes that no encoder has written."""


def sound(condition: bool, message: str) -> None:
    """Raises Damaged(message) unless the condition holds."""
    if not condition:
        raise Damaged(message)


def pack(numbers: np.ndarray, widths: np.ndarray | int) -> bytes:
    """Numbers one after another, each in its own number of bits (0 to 32), the highest bit first;
    zero bits fill the last byte."""
    if isinstance(widths, int) and widths == 8:
        return np.asarray(numbers, np.uint8).tobytes()
    widths = np.broadcast_to(np.asarray(widths, np.int64), np.shape(numbers))
    ends = np.cumsum(widths)
    total = int(ends[-1]) if ends.size else 0
    starts = ends - widths
    # Each number, shifted to its place in the two words that it may touch. What shares a word
    # shares no bit, so sums are unions; and double precision holds all of a word.
    shifts = (64 - widths - (starts & 31)).astype(np.uint64)
    shifted = np.asarray(numbers, np.uint64) << shifts
    word, count = starts >> 5, total // 32 + 2
    words = np.bincount(word, shifted >> np.uint64(32), count)
    words += np.bincount(word + 1, shifted & np.uint64(2**32 - 1), count)
    return words.astype(">u4").tobytes()[: -(-total // 8)]


def unpack(data: bytes, width: int, count: int) -> np.ndarray:
    """The inverse of `pack` for numbers of one width: int64 [count].

    Raises:
      Damaged: these bytes are not so many numbers.
    """
    sound(len(data) == -(-count * width // 8), "a stream has another length than its numbers take")
    if width == 0:
        return np.zeros(count, np.int64)  # takes no memory until it is written to
    if width == 8:
        return np.frombuffer(data, np.uint8).astype(np.int64)
    starts = np.arange(count, dtype=np.int64) * width
    padded, first = np.frombuffer(data + bytes(5), np.uint8), starts >> 3
    window = np.zeros(count, np.int64)
    for i in range(5):  # 32 bits that begin anywhere in a byte
        window = window << 8 | padded[first + i]
    return window >> (40 - width - (starts & 7)) & (2**width - 1)


def width_of(alphabet: int) -> int:
    """Bits of one of so many symbols."""
    return max(alphabet - 1, 0).bit_length()


class Writer:
    """Bytes to which parts are added."""

    def __init__(self) -> None:
        self.data = bytearray()

    def number(self, number: int) -> None:
        """A whole number >= 0, seven bits a byte, the lowest first."""
        while number > 127:
            self.data.append(number & 127 | 128)
            number >>= 7
        self.data.append(number)

    def signed(self, number: int) -> None:
        """A whole number of either sign."""
        self.number(2 * number if number >= 0 else -2 * number - 1)

    def block(self, data: bytes) -> None:
        """Bytes with their count before them."""
        self.number(len(data))
        self.data += data


class Reader:
    """Reads what a Writer wrote; all methods raise Damaged where there is no such thing."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        sound(0 <= count <= len(self.data) - self.at, "it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        number = 0
        for shift in range(0, 63, 7):
            (byte,) = self.take(1)
            number |= (byte & 127) << shift
            if byte < 128:
                return number
        raise Damaged("a number has too many digits")

    def signed(self) -> int:
        half, odd = divmod(self.number(), 2)
        return -half - 1 if odd else half

    def block(self) -> bytes:
        return self.take(self.number())

    def end(self) -> None:
        sound(self.at == len(self.data), "it goes on after its end")
