"""Bits, Huffman's code and rANS: by hand, back and forth, against the entropy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_jax.encode import ans, bits, huffman, streams
from kd_jax.encode.bits import Damaged, Reader, Writer
from kd_jax.encode.lanes import STEPS, by_lane, lanes_of
from kd_jax.errors import UsageError

settings.register_profile("coders", deadline=None, max_examples=40)
settings.load_profile("coders")


def entropy(symbols):
    """In bits, of all of them."""
    counts = np.bincount(symbols)
    counts = counts[counts > 0]
    return float(counts @ np.log2(counts.sum() / counts))


def drawn(count, alphabet, seed=0, spread=4.0):
    """Symbols of a geometric distribution."""
    rng = np.random.default_rng(seed)
    return np.minimum(rng.geometric(1 / spread, count) - 1, alphabet - 1)


# Bits ----------------------------------------------------------------------------------------


def test_bits_by_hand():
    # 101 01 1 0000 11 -> 10101100 00110000
    assert bits.pack(np.array([5, 1, 1, 0, 3]), np.array([3, 2, 1, 4, 2])) == b"\xac\x30"
    assert bits.unpack(b"\xac\x30", 4, 4).tolist() == [10, 12, 3, 0]
    assert bits.unpack(b"\xac\x30", 3, 5).tolist() == [5, 3, 0, 3, 0]


@given(st.integers(0, 32), st.lists(st.integers(0, 2**32 - 1), max_size=70))
def test_numbers_of_one_width(width, numbers):
    numbers = np.array([number & (2**width - 1) for number in numbers], np.int64)
    data = bits.pack(numbers, width)
    assert len(data) == -(-len(numbers) * width // 8)
    np.testing.assert_array_equal(bits.unpack(data, width, len(numbers)), numbers)


def test_numbers_of_any_length():
    out, numbers = Writer(), [0, 1, 127, 128, 300, 2**31, 2**60]
    for number in numbers:
        out.number(number)
        out.signed(-number)
    assert out.data[:4] == b"\x00\x00\x01\x01"
    reader = Reader(bytes(out.data))
    assert [(reader.number(), reader.signed()) for _ in numbers] == [(n, -n) for n in numbers]
    reader.end()
    for data in (b"", b"\x80", b"\xff" * 12):
        with pytest.raises(Damaged):
            Reader(data).number()


# Lanes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, STEPS, STEPS + 1, 3 * STEPS - 1])
def test_lanes_hold_every_symbol_once(count):
    places, begins = by_lane(count)
    assert len(begins) == lanes_of(count)
    assert sorted(places) == list(range(count))
    parts = np.split(places, begins[1:])
    assert all((part % len(begins) == lane).all() for lane, part in enumerate(parts))
    assert max(map(len, parts)) <= STEPS


# Huffman -------------------------------------------------------------------------------------


def test_huffman_by_hand():
    """a 5, b 2, c 1, d 1: c and d meet at 2, b with them at 4, a with these at 9."""
    lengths = huffman.lengths(np.array([5, 2, 1, 1]))
    assert lengths.tolist() == [1, 2, 3, 3]
    codes = huffman.codes(lengths)
    words = [f"{code:0{length}b}" for code, length in zip(codes, lengths, strict=True)]
    assert words == ["0", "10", "110", "111"]
    # a b d a, of 0 10 111 0: 0101 1100. Before them the number of lengths and these.
    assert huffman.encode(np.array([0, 1, 3, 0]), np.array([2, 1, 0, 1]))[0] == 4
    symbols = np.array([0, 1, 0, 2, 0, 3, 0, 1, 0])
    data = huffman.encode(symbols, np.bincount(symbols))
    assert data == b"\x04" + b"\x12\x33" + bytes([0b01001100, 0b11101000])
    np.testing.assert_array_equal(huffman.decode(data, 9, 4), symbols)


def test_canonical_codes_count_up_within_a_length():
    """The first code of a length is twice that after the last of the length before; RFC 1951's
    own example, section 3.2.2."""
    codes = huffman.codes(np.array([3, 3, 3, 3, 3, 2, 4, 4]))
    assert codes.tolist() == [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111]


def test_huffman_is_the_best_of_whole_bits():
    """Between the entropy and a bit a symbol more; and exact where all are powers of two."""
    symbols = drawn(20_000, 40)
    counts = np.bincount(symbols)
    spent = int(counts @ huffman.lengths(counts))
    assert entropy(symbols) <= spent < entropy(symbols) + len(symbols)
    powers = np.array([8, 4, 2, 1, 1])
    assert huffman.lengths(powers).tolist() == [1, 2, 3, 4, 4]


def test_no_word_is_longer_than_its_length_can_be_told():
    """Counts like Fibonacci's numbers make the longest words."""
    counts = [1, 1]
    while len(counts) < 30:
        counts.append(counts[-1] + counts[-2])
    assert huffman._lengths(np.array(counts)).max() == 29
    lengths = huffman.lengths(np.array(counts))
    assert lengths.max() <= huffman.LONGEST
    assert sum(2.0**-length for length in lengths.tolist()) == 1
    full = huffman.lengths(np.ones(streams.LARGEST, int))
    assert full.min() == full.max() == 14


# All coders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("coder", [huffman, ans])
@pytest.mark.parametrize("count", [2, 100, STEPS, STEPS + 1, 5 * STEPS + 77])
@pytest.mark.parametrize("alphabet", [2, 17, 256, 5000])
def test_back_and_forth_and_its_size(coder, count, alphabet):
    symbols = drawn(count, alphabet, seed=alphabet, spread=1 + alphabet / 3)
    symbols[:2] = 0, 1
    counts = np.bincount(symbols)
    data = coder.encode(symbols, counts)
    np.testing.assert_array_equal(coder.decode(data, count, alphabet), symbols)
    slack = 3 * lanes_of(count) + 4
    assert abs(coder.size(counts) - len(data)) <= (3 if coder is huffman else slack)


@pytest.mark.parametrize("spread", [1.05, 1.5, 4, 20])
def test_ans_comes_near_the_entropy(spread):
    """Within one part in a hundred and the table; also where a symbol is worth far less than a
    bit, which no Huffman code can tell."""
    symbols = drawn(200_000, 256, spread=spread)
    counts = np.bincount(symbols)
    least = entropy(symbols) / 8
    table, states = len(counts), 4 * lanes_of(len(symbols))
    assert least <= len(ans.encode(symbols, counts)) <= 1.01 * least + table + states
    if spread < 1.2:
        assert len(huffman.encode(symbols, counts)) > 2 * least


def test_ans_of_frequencies_that_rounding_upsets():
    counts = np.array([10**9, *[1] * 3000])
    frequencies = ans._frequencies(ans._entries(counts))
    assert frequencies.sum() == 1 << ans._resolution(len(counts))
    assert frequencies.min() == 1
    symbols = np.arange(3001)
    np.testing.assert_array_equal(ans.decode(ans.encode(symbols, counts), 3001, 3001), symbols)


@given(
    st.integers(1, 300),
    st.lists(st.integers(0, 299), max_size=200),
    st.sets(st.sampled_from(streams.CODERS)),
)
def test_any_stream(alphabet, symbols, coders):
    symbols = np.array(symbols, np.int64) % alphabet
    out = Writer()
    streams.write(out, symbols, alphabet, streams.checked(sorted(coders)))
    reader = Reader(bytes(out.data))
    np.testing.assert_array_equal(streams.read(reader, len(symbols), alphabet), symbols)
    reader.end()
    assert len(out.data) <= 1 + len(bits.pack(symbols, bits.width_of(alphabet)))


def test_a_stream_is_the_smallest_of_its_coders():
    def written(*coders):
        out = Writer()
        streams.write(out, symbols, 64, streams.checked(coders))
        return bytes(out.data)

    for count, spread in ((40, 3), (3000, 1.1), (3000, 5), (3000, 1e9)):
        symbols = drawn(count, 64, spread=spread)
        each = [written(), written("huffman"), written("ans")]
        assert written("huffman", "ans") == min(each, key=len)


def test_unknown_coders():
    with pytest.raises(UsageError, match=r"'hufman': no such coder. Did you mean 'huffman'"):
        streams.checked(["hufman"])


@pytest.mark.parametrize("coder", [huffman, ans])
def test_damaged_streams_are_refused_or_other_symbols(coder):
    """Any byte may be wrong: nothing but Damaged may come of it."""
    symbols = drawn(600, 16)
    data = coder.encode(symbols, np.bincount(symbols))
    refused = []
    for place in range(0, len(data), 5):
        broken = bytearray(data)
        broken[place] ^= 0x55
        try:
            found = coder.decode(bytes(broken), len(symbols), 16)
            assert found.min() >= 0
            assert found.max() < 16
        except Damaged:
            refused.append(place)
    assert len(refused) > 10
    for end in (0, 1, 8, len(data) // 2, len(data) - 1):
        with pytest.raises(Damaged):
            coder.decode(data[:end], len(symbols), 16)
    with pytest.raises(Damaged):
        coder.decode(data + b"\0\0", len(symbols), 16)
