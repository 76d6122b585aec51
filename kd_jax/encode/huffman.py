"""Huffman's code, canonical, in lanes."""

import numpy as np

from kd_jax.encode.bits import Reader, Writer, pack, sound, unpack
from kd_jax.encode.lanes import STEPS, by_lane, lanes_of

LONGEST = 15  # bits of a code word, so that four bits tell its length
LANE = 15  # bits that tell those of a lane: STEPS * LONGEST < 2**15


def lengths(counts: np.ndarray, longest: int = LONGEST) -> np.ndarray:
    """Bits of each symbol's code word, by how often it occurs [K]; 0 for one that never does.

    Σ count · length is the least that whole bits allow, unless a word were longer than `longest`:
    then the rarest symbols count as if they occurred more often, until none is.

    Huffman, "A Method for the Construction of Minimum-Redundancy Codes", 1952,
    https://doi.org/10.1109/JRPROC.1952.273898.
    """
    counts = np.asarray(counts, np.int64)
    least = max(int(counts.sum()) >> longest, 1)
    while (found := _lengths(counts)).max(initial=0) > longest:
        counts = np.where(counts > 0, np.maximum(counts, least), 0)
        least *= 2
    return found


def _lengths(counts: np.ndarray) -> np.ndarray:
    used = np.flatnonzero(counts)
    used = used[np.argsort(counts[used], kind="stable")]
    found = np.zeros(len(counts), np.int64)
    if len(used) < 2:
        found[used] = 1
        return found
    # Symbols and the nodes above them both come in rising order: two queues, no heap.
    weights, count = counts[used].tolist(), len(used)
    parents, leaf, inner = [0] * (2 * count - 1), 0, count
    for node in range(count, 2 * count - 1):
        total = 0
        for _ in range(2):
            if leaf < count and (inner == node or weights[leaf] <= weights[inner]):
                least, leaf = leaf, leaf + 1
            else:
                least, inner = inner, inner + 1
            parents[least] = node
            total += weights[least]
        weights.append(total)
    depths = [0] * (2 * count - 1)
    for node in range(2 * count - 3, -1, -1):  # a parent's number is above its children's
        depths[node] = depths[parents[node]] + 1
    found[used] = depths[:count]
    return found


def codes(lengths: np.ndarray) -> np.ndarray:
    """The canonical code words: of those of one length, counted up in the order of the symbols, and
    shorter ones first. The lengths are thus all that need be stored."""
    order, sizes = _sorted(lengths)
    found = np.zeros(len(lengths), np.int64)
    found[order] = (np.cumsum(sizes) - sizes) >> (LONGEST - lengths[order])
    return found


def _sorted(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the symbols that occur, by length and number; how many words of LONGEST bits begin so)."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    return order, 1 << (LONGEST - lengths[order])


def size(counts: np.ndarray) -> int:
    """Bytes of the table, the lanes and the words of a stream with these counts of its symbols."""
    found, lanes = lengths(counts), lanes_of(int(counts.sum()))
    table, sizes = 4 + -(-len(counts) // 2), -(-(lanes - 1) * LANE // 8)
    return table + sizes + -(-int(counts @ found) // 8)


def encode(symbols: np.ndarray, counts: np.ndarray) -> bytes:
    """Their code words, with the table of lengths. At least two different symbols."""
    of = lengths(counts)
    order, begins = by_lane(len(symbols))
    words = symbols[order]
    bits = np.add.reduceat(of[words], begins)
    out = Writer()
    out.number(len(of))
    out.data += pack(of, 4) + pack(bits[:-1], LANE) + pack(codes(of)[words], of[words])
    return bytes(out.data)


def decode(data: bytes, count: int, alphabet: int) -> np.ndarray:
    """The inverse of `encode`, for so many symbols.

    Raises:
      Damaged: no stream of so many symbols.
    """
    reader, lanes = Reader(data), lanes_of(count)
    used = reader.number()
    sound(2 <= used <= alphabet, "a Huffman table is too large or too small")
    of = unpack(reader.take(-(-used * 4 // 8)), 4, used)
    bits = unpack(reader.take(-(-(lanes - 1) * LANE // 8)), LANE, lanes - 1)
    order, sizes = _sorted(of)
    sound(int(sizes.sum()) == 1 << LONGEST, "a Huffman table is not complete")
    longest = int(of.max())
    sizes >>= LONGEST - longest
    symbol_of, length_of = np.repeat(order, sizes), np.repeat(of[order], sizes)
    return _walk(reader.take(len(data) - reader.at), bits, symbol_of, length_of, longest, count)


def _walk(
    data: bytes,
    bits: np.ndarray,
    symbol_of: np.ndarray,
    length_of: np.ndarray,
    longest: int,
    count: int,
) -> np.ndarray:
    """All lanes at once, a word of each at a time: the next bits of a lane, `longest` of them, are
    a place in the table of what they begin with."""
    begins = np.concatenate(([0], np.cumsum(bits)))
    sound(int(begins[-1]) <= 8 * len(data), "a Huffman stream is shorter than its lanes")
    # A lane that is damaged may run over its end, and over that of the stream.
    padded = np.frombuffer(data + bytes(STEPS * LONGEST // 8 + 4), np.uint8).astype(np.int64)
    window = padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]
    out, at, lanes = np.empty(count, np.int64), begins.copy(), len(begins)
    for begin in range(0, count, lanes):
        live = at[: count - begin]
        word = window[live >> 3] >> (24 - longest - (live & 7)) & (2**longest - 1)
        out[begin : begin + lanes] = symbol_of[word]
        live += length_of[word]
    ended = bool((at[:-1] == begins[1:]).all()) and -(-int(at[-1]) // 8) == len(data)
    sound(ended, "a Huffman stream ends elsewhere than its lanes")
    return out
