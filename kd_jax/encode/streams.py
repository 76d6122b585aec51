"""Symbols as bytes, by whichever coder needs the fewest."""

from collections.abc import Sequence

import numpy as np

from kd_jax.encode import ans, huffman
from kd_jax.encode.bits import WIDEST, Damaged, Reader, Writer, pack, sound, unpack, width_of
from kd_jax.errors import UsageError, did_you_mean, shortened

CODERS = ("fixed", "huffman", "ans")
"""fixed: as many bits as the alphabet takes; huffman: a canonical Huffman code; ans: rANS. A file
tells them by their place here."""
LARGEST = 1 << 14  # symbols of an alphabet that huffman and ans can code


def checked(coders: Sequence[str]) -> tuple[str, ...]:
    """Raises UsageError for a coder that there is not."""
    for name in coders:
        if name not in CODERS:
            hint = did_you_mean(name, CODERS)
            raise UsageError(f"--coders {shortened(repr(name))}: no such coder.{hint}")
    return ("fixed", *(name for name in CODERS[1:] if name in coders))


def sizes(counts: np.ndarray, alphabet: int, coders: Sequence[str]) -> dict[str, int]:
    """{coder: bytes of a stream with these counts of its symbols}; that of ans is about right."""
    total = int(counts.sum())
    found = {"fixed": -(-total * width_of(alphabet) // 8)}
    if 2 <= alphabet <= LARGEST and np.count_nonzero(counts) > 1:
        used = counts[: int(np.flatnonzero(counts)[-1]) + 1]
        found["huffman"], found["ans"] = huffman.size(used), ans.size(used)
    return {name: size for name, size in found.items() if name in coders}


def cost(symbols: np.ndarray, alphabet: int, coders: Sequence[str]) -> int:
    """About how many bytes `write` adds."""
    if alphabet > LARGEST:
        return 1 + -(-len(symbols) * width_of(alphabet) // 8)
    return 1 + min(sizes(np.bincount(symbols, minlength=alphabet), alphabet, coders).values())


def write(out: Writer, symbols: np.ndarray, alphabet: int, coders: Sequence[str]) -> None:
    """Adds symbols, whole numbers from 0 to alphabet - 1; a reader knows how many they are."""
    counts = np.bincount(symbols) if alphabet <= LARGEST else np.zeros(0, np.int64)
    found = sizes(counts, alphabet, coders) if alphabet <= LARGEST else {"fixed": 0}
    name, data = min(found, key=lambda name: found[name]), b""
    if found.get("ans", np.inf) <= 1.01 * found[name] + 16:  # about: now exactly
        data = ans.encode(symbols, counts)
        found["ans"] = len(data)
        name = min(found, key=lambda name: found[name])
    out.data.append(CODERS.index(name))
    if name == "fixed":
        out.data += pack(symbols, width_of(alphabet))  # of a length that is known
    else:
        out.block(huffman.encode(symbols, counts) if name == "huffman" else data)


def read(reader: Reader, count: int, alphabet: int) -> np.ndarray:
    """The inverse of `write`: int64 [count].

    Raises:
      Damaged: no stream of so many symbols of this alphabet.
    """
    (coder,) = reader.take(1)
    sound(coder < len(CODERS), "a stream has an unknown coder")
    sound(alphabet <= 1 << WIDEST, "an alphabet is too large")
    if CODERS[coder] != "fixed":
        sound(count > 1 and 2 <= alphabet <= LARGEST, "a stream of another alphabet is coded")
        return {"huffman": huffman, "ans": ans}[CODERS[coder]].decode(
            reader.block(), count, alphabet
        )
    width = width_of(alphabet)
    symbols = unpack(reader.take(-(-count * width // 8)), width, count)
    if symbols.size and int(symbols.max()) >= alphabet:
        raise Damaged("a symbol is outside its alphabet")
    return symbols
