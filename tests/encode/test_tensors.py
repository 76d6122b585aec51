"""Sparse forms by hand, and tensors of all kinds back and forth."""

import contextlib

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_jax.encode import tensors
from kd_jax.encode.bits import Damaged
from kd_jax.encode.entries import Grid
from kd_jax.encode.places import FORMS, Bitmask, Dense, Gaps, Rows
from kd_jax.errors import UsageError

settings.register_profile("tensors", deadline=None, max_examples=60)
settings.load_profile("tensors")


def there_and_back(x, grid=None, **given):
    """The tensor as it was stored; it must come back bit for bit."""
    coded = tensors.encode(x, grid, **given)
    back = tensors.decode(coded.data, coded.shape, coded.dtype, coded.form, coded.kind)
    assert (back.shape, back.dtype) == (x.shape, x.dtype)
    assert back.tobytes() == x.tobytes()
    return coded


def some(shape, kept, values, seed=0):
    """A share of its entries drawn from these values, the others zero."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(np.asarray(values, np.float32), shape)
    return np.where(rng.random(shape) < kept, chosen, np.float32(0)).astype(np.float32)


# Forms ---------------------------------------------------------------------------------------


def test_gaps_by_hand():
    """The example of Deep Compression's figure 2: entries at 1, 4 and 15, gaps of 3 bits. From 4 to
    15 is more than 8, so a filler is at 12."""
    form = Gaps(3)
    stored = form.stored(np.array([1, 4, 15]), 16)
    assert stored.tolist() == [1, 4, 12, 15]
    (gaps,) = form.split(stored, (16,))
    assert (gaps + 1).tolist() == [2, 3, 8, 3]  # the figure counts the first from place 0
    assert form.join([gaps], (16,)).tolist() == [1, 4, 12, 15]


def test_gaps_with_many_fillers():
    form = Gaps(2)
    assert form.stored(np.array([3]), 99).tolist() == [3]
    assert form.stored(np.array([4]), 99).tolist() == [3, 4]
    assert form.stored(np.array([11, 12, 24]), 99).tolist() == [3, 7, 11, 12, 16, 20, 24]
    assert form.stored(np.array([], int), 99).tolist() == []


def test_bitmask_and_rows_by_hand():
    places = np.array([0, 2, 9])
    assert Bitmask().split(places, (3, 4))[0].tolist() == [0b10100000, 0b01000000]
    counts, columns = Rows().split(places, (3, 4))
    assert counts.tolist() == [2, 0, 1]
    assert columns.tolist() == [0, 2, 1]
    assert Rows().layout((3, 4), 3) == [(3, 5), (3, 4)]


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.sampled_from(sorted(FORMS)))
def test_places_come_back(kept, name):
    form, shape = FORMS[name], (1, len(kept))
    stored = form.stored(np.flatnonzero(kept), len(kept))
    assert set(np.flatnonzero(kept)) <= set(stored)
    assert (np.diff(stored) > 0).all()
    streams = form.split(stored, shape)
    for symbols, (count, alphabet) in zip(streams, form.layout(shape, len(stored)), strict=True):
        assert len(symbols) == count
        assert ((symbols >= 0) & (symbols < alphabet)).all()
    np.testing.assert_array_equal(form.join(streams, shape), stored)


# Tensors -------------------------------------------------------------------------------------

SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)
KEPT = st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.95, 1.0])
DTYPES = ("float32", "bfloat16", "float16", "float64", "int8", "int32", "uint32", "bool")


@given(SHAPES, KEPT, st.sampled_from(DTYPES), st.integers(0, 99))
def test_any_tensor(shape, kept, dtype, seed):
    values = np.random.default_rng(seed).normal(size=40) * 3
    there_and_back(some(shape, kept, values, seed).astype(jnp.dtype(dtype)))


@given(SHAPES, KEPT, st.integers(1, 20), st.integers(0, 99))
def test_any_shared_weights(shape, kept, count, seed):
    there_and_back(some(shape, kept, np.linspace(-1, 1, count), seed))


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple),
    KEPT,
    st.sampled_from([2, 4, 8]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_grid(shape, kept, bits, each, shifted, seed):
    rng = np.random.default_rng(seed)
    form = shape[-1:] if each else ()
    scale = rng.uniform(0.01, 2, form).astype(np.float32)
    zero = rng.integers(-5, 6, form) if shifted else 0
    q = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
    x = (np.where(rng.random(shape) < kept, q, zero) - zero).astype(np.float32) * scale
    there_and_back(x, Grid(scale, zero))


def test_which_form_is_chosen():
    rng = np.random.default_rng(0)
    normal, shared = rng.normal(size=9999), np.linspace(-1, 1, 16)

    def chosen(*given, **more):
        coded = there_and_back(some(*given), **more)
        return coded.form, coded.kind

    assert chosen((200, 100), 1.0, normal) == ("dense", "raw")
    assert chosen((200, 100), 1.0, shared) == ("dense", "codebook")
    assert chosen((200, 100), 0.5, normal) == ("bitmask", "raw")
    # In fractions of a bit, zeros cost no more than gaps; in whole bits they do.
    assert chosen((200, 100), 0.05, shared) == ("dense", "codebook")
    form, kind = chosen((200, 100), 0.05, shared, coders=("fixed", "huffman"))
    assert (form[:4], kind) == ("gaps", "codebook")
    # Without entropy coding, gaps of 5 bits are those of Deep Compression's dense layers.
    assert chosen((784, 300), 0.08, shared, coders=("fixed",)) == ("gaps5", "codebook")


@pytest.mark.parametrize("name", [name for name in FORMS if name != "dense"])
def test_each_form_holds_a_tensor(name):
    x = some((3, 3, 8, 16), 0.2, np.linspace(-1, 1, 16))
    found = there_and_back(x, forms={"dense": Dense(), name: FORMS[name]}, coders=("fixed",))
    assert found.form == name
    assert found.stored >= found.kept == np.count_nonzero(x)


def test_bytes_by_hand():
    """32 shared weights at 8 % of 300 x 100 places, in fixed width."""
    x = some((300, 100), 0.08, np.linspace(-1, 1, 32))
    kept, forms = int((x != 0).sum()), {"gaps5": FORMS["gaps5"]}
    coded = there_and_back(x, coders=("fixed",), forms=forms)
    # Fillers are zero: with them 33 values, so 6 bits. A codebook of 33 float32, its size in two
    # bytes (132 > 127); the count of entries in two; and a byte for the coder of each stream.
    stored = coded.stored
    assert stored > kept
    assert coded.index_bytes == 2 + 1 + -(-stored * 5 // 8)
    assert coded.value_bytes == 2 + 33 * 4 + 1 + -(-stored * 6 // 8)
    assert coded.kept == kept
    assert len(coded.data) == coded.index_bytes + coded.value_bytes


def test_the_smallest_of_all_forms():
    for kept, values in ((0.3, np.linspace(-1, 1, 8)), (0.07, np.random.normal(size=999))):
        x = some((60, 50), kept, values, seed=3)
        dense = {"dense": Dense()}
        each = [there_and_back(x, forms=dense | {name: form}) for name, form in FORMS.items()]
        best = min(len(one.data) for one in each)
        assert len(there_and_back(x).data) <= best


def test_strange_values():
    x = np.zeros((40, 30), np.float32)
    x[0, :6] = [-0.0, np.nan, np.inf, -np.inf, 1e-45, 3.4e38]
    there_and_back(x)
    there_and_back(x, Grid(0.5))  # on no grid
    nans = np.array([0x7FC00000, 0x7FC00001, 0xFFC00000], np.uint32).view(np.float32)
    there_and_back(nans)


# Grids ---------------------------------------------------------------------------------------


def quantised(bits=8, shape=(64, 32)):
    """Rounded in float32, as a network is that was trained for it: small negative numbers became
    -0.0."""
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    scale = (np.abs(x).max(0) / (2 ** (bits - 1) - 1)).astype(np.float32)
    return np.rint(x / scale) * scale, Grid(scale)


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_a_grid_is_stored_as_whole_numbers(bits):
    x, grid = quantised(bits)
    assert np.signbit(x[x == 0]).any()
    coded = there_and_back(x, grid, coders=("fixed",))
    assert coded.kind == "grid"
    scales, numbers = 4 * 32, x.size * bits // 8
    assert numbers + scales <= coded.value_bytes <= numbers + scales + 16 + x.size // 8
    assert len(there_and_back(x, grid).data) <= len(coded.data)


def test_a_tensor_off_its_grid_is_stored_otherwise():
    x, grid = quantised()
    x[3, 4] = np.nextafter(x[3, 4], np.float32(9))
    assert there_and_back(x, grid).kind != "grid"
    assert there_and_back(x, Grid(np.float32(1e-30))).kind != "grid"
    assert there_and_back(x, Grid(np.float32(0))).kind != "grid"
    assert there_and_back(x.astype(np.float64), grid).kind != "grid"


def test_grids_that_do_not_fit():
    x, _ = quantised()
    with pytest.raises(
        UsageError, match=r"shapes \[64\] and \[\] does not broadcast to \[64, 32\]"
    ):
        tensors.encode(x, Grid(np.ones(64)))
    with pytest.raises(UsageError, match="zero_point is of float"):
        Grid(1.0, np.zeros(3))  # type: ignore[arg-type]


# Damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "values"), [(1.0, np.arange(9.0)), (0.5, np.arange(9.0)), (0.1, np.arange(1, 500) / 7)]
)
def test_damaged_tensors(kept, values):
    """Whatever a byte becomes: Damaged, or another tensor of that shape."""
    coded = tensors.encode(some((20, 30), kept, values))
    how = coded.shape, coded.dtype, coded.form, coded.kind
    for place in range(0, len(coded.data), max(1, len(coded.data) // 30)):
        for flip in (0x01, 0xFF):
            broken = bytearray(coded.data)
            broken[place] ^= flip
            with contextlib.suppress(Damaged):
                assert tensors.decode(bytes(broken), *how).shape == (20, 30)
    for data in (coded.data[:-1], coded.data + b"\0", b""):
        with pytest.raises(Damaged):
            tensors.decode(data, *how)


def test_tensors_of_another_kind():
    x, grid = quantised()
    coded = tensors.encode(x, grid)
    for form, kind in (("sparse", "raw"), ("dense", "zip"), ("rows", "raw"), ("gaps5", "codebook")):
        with pytest.raises(Damaged):
            tensors.decode(coded.data, coded.shape, coded.dtype, form, kind)
    with pytest.raises(Damaged):
        tensors.decode(coded.data, (64,), np.dtype(np.float32), "rows", "raw")
