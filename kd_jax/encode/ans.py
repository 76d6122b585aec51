"""Asymmetric numeral systems: entropy coding at fractions of a bit, in lanes.

Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression
rate of arithmetic coding", 2013, https://arxiv.org/abs/1311.2540 (the range variant, rANS); Giesen,
"Interleaved entropy coders", 2014, https://arxiv.org/abs/1402.3392 (lanes that share one stream).
"""

import numpy as np

from kd_jax.encode.bits import Damaged, Reader, Writer, pack, sound, unpack, width_of
from kd_jax.encode.lanes import lanes_of

LOW = 1 << 16  # a lane's state is in [LOW, 2**32), and it reads and writes 16 bits
TABLE = 7  # bits of an entry of the table


def _resolution(alphabet: int) -> int:
    """r: frequencies are whole numbers that add up to 2^r."""
    return max(12, width_of(alphabet) + 2)


def _entries(counts: np.ndarray) -> np.ndarray:
    """The table: how often each symbol occurs, as floats of 3 bits and an exponent of 4. Being 6 %
    off at most costs a thousandth of a bit."""
    total = max(int(counts.sum()), 1)
    # Whole numbers alone: another machine must come to the same.
    scaled = np.where(counts > 0, np.maximum(counts * LOW // total, 1), 0)
    exponent = np.maximum(np.frexp(scaled)[1] - 4, 0)
    digits = (scaled + (1 << exponent >> 1)) >> exponent
    carried = digits == 16
    exponent, digits = exponent + carried, np.where(carried, 8, digits)
    return np.where(digits < 8, digits, (exponent + 1) << 3 | digits & 7)


def _frequencies(entries: np.ndarray) -> np.ndarray:
    """f_s >= 1 for each symbol that occurs, Σ f = 2^r."""
    exponent, digits = entries >> 3, entries & 7
    counts = np.where(exponent == 0, digits, (8 + digits) << np.maximum(exponent - 1, 0))
    total, whole = int(counts.sum()), 1 << _resolution(len(entries))
    sound(total > 0, "a table of frequencies is empty")
    found = np.where(counts > 0, np.maximum((2 * whole * counts + total) // (2 * total), 1), 0)
    # What rounding left over goes to, or comes from, the most frequent symbols.
    while missing := whole - int(found.sum()):
        most = int(np.argmax(found))
        found[most] += max(missing, -(int(found[most]) // 2))
    return found


def size(counts: np.ndarray) -> int:
    """About how many bytes a stream with these counts of its symbols takes, its table included."""
    total = int(counts.sum())
    found, whole = _frequencies(_entries(counts)), 1 << _resolution(len(counts))
    some = counts > 0
    bits = float(counts[some] @ np.log2(whole / found[some]))
    return 4 + -(-len(counts) * TABLE // 8) + 3 * lanes_of(total) + int(bits / 8) + 1


def encode(symbols: np.ndarray, counts: np.ndarray) -> bytes:
    """x' = ⌊x / f⌋ 2^r + c + (x mod f), from the last symbol to the first; c_s = Σ f_t, t < s."""
    entries = _entries(counts)
    f = _frequencies(entries)
    bits = _resolution(len(entries))
    f_of, c_of = f[symbols].astype(np.uint64), (np.cumsum(f) - f)[symbols].astype(np.uint64)
    lanes = lanes_of(len(symbols))
    x, words = np.full(lanes, LOW, np.uint64), []
    for begin in reversed(range(0, len(symbols), lanes)):
        f, c = f_of[begin : begin + lanes], c_of[begin : begin + lanes]
        live = x[: len(f)]
        over = live >= f << np.uint64(32 - bits)
        words.append(live[over].astype("<u2"))  # the lower half
        live >>= np.where(over, np.uint64(16), np.uint64(0))
        whole, rest = np.divmod(live, f)
        live[:] = (whole << np.uint64(bits)) + c + rest
    out = Writer()
    out.number(len(entries))
    out.data += pack(entries, TABLE) + x.astype("<u4").tobytes()
    out.data += np.concatenate(words[::-1] or [np.zeros(0, "<u2")]).tobytes()
    return bytes(out.data)


def decode(data: bytes, count: int, alphabet: int) -> np.ndarray:
    """s: c_s <= x mod 2^r < c_s + f_s; x' = f ⌊x / 2^r⌋ + (x mod 2^r) − c.

    Raises:
      Damaged: no stream of so many symbols.
    """
    reader, lanes = Reader(data), lanes_of(count)
    used = reader.number()
    sound(1 <= used <= alphabet, "a table of frequencies is too large or too small")
    f = _frequencies(unpack(reader.take(-(-used * TABLE // 8)), TABLE, used))
    bits = _resolution(used)
    symbol_of = np.repeat(np.arange(used), f)
    f_of = f[symbol_of].astype(np.uint64)
    from_c = np.arange(1 << bits, dtype=np.uint64) - (np.cumsum(f) - f)[symbol_of].astype(np.uint64)
    x = np.frombuffer(reader.take(4 * lanes), "<u4").astype(np.uint64)
    sound((len(data) - reader.at) % 2 == 0, "a stream has half a word")
    words = np.frombuffer(reader.take(len(data) - reader.at), "<u2")
    out, at = np.empty(count, np.int64), 0
    for begin in range(0, count, lanes):
        live = x[: count - begin]
        place = live & np.uint64((1 << bits) - 1)
        out[begin : begin + lanes] = symbol_of[place]
        live[:] = f_of[place] * (live >> np.uint64(bits)) + from_c[place]
        (low,) = np.nonzero(live < LOW)
        more = words[at : at + len(low)]
        if len(more) < len(low):
            raise Damaged("a stream ends too early")
        live[low] = live[low] << np.uint64(16) | more
        at += len(low)
    sound(at == len(words) and bool((x == LOW).all()), "a stream ends elsewhere than it began")
    return out
