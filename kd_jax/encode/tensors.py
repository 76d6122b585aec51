"""One tensor as bytes, in the form that takes the fewest."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from kd_jax.encode import streams
from kd_jax.encode.bits import Reader, Writer, sound
from kd_jax.encode.entries import KINDS, Grid, word_type, words_of
from kd_jax.encode.places import FORMS, Form, Gaps, Shape, size_of

NEAR = 1.003, 16  # how far an estimate of bytes may be from the truth: times and plus


@dataclasses.dataclass(frozen=True)
class Coded:
    """A stored tensor.

    Attributes:
      form: of its places, one of FORMS.
      kind: of its entries, one of KINDS.
      data: the bytes: first `index_bytes` that tell the places, then the entries.
      stored: entries stored, fillers among them.
      kept: entries that are not zero.
    """

    shape: Shape
    dtype: np.dtype
    form: str
    kind: str
    data: bytes
    index_bytes: int
    stored: int
    kept: int

    @property
    def size(self) -> int:
        """Entries of the tensor."""
        return size_of(self.shape)

    @property
    def value_bytes(self) -> int:
        return len(self.data) - self.index_bytes


@dataclasses.dataclass(frozen=True)
class _Candidate:
    form: str
    kind: str
    entries: object
    places: np.ndarray
    index: list[tuple[np.ndarray, int]]
    values: list[tuple[np.ndarray, int]]

    def cost(self, coders: Sequence[str]) -> int:
        size = len(self.header().data)
        return size + sum(streams.cost(s, k, coders) for s, k in (*self.index, *self.values))

    def header(self) -> Writer:
        out = Writer()
        self.entries.write(out)  # type: ignore[attr-defined]
        return out

    def coded(self, x: np.ndarray, kept: int, coders: Sequence[str]) -> Coded:
        out = Writer()
        if self.form != "dense":
            out.number(len(self.places))
        for symbols, alphabet in self.index:
            streams.write(out, symbols, alphabet, coders)
        before = len(out.data)
        out.data += self.header().data
        for symbols, alphabet in self.values:
            streams.write(out, symbols, alphabet, coders)
        told = (self.form, self.kind, bytes(out.data), before, len(self.places), kept)
        return Coded(x.shape, x.dtype, *told)


def encode(
    x: np.ndarray,
    grid: Grid | None = None,
    coders: Sequence[str] = streams.CODERS,
    forms: Mapping[str, Form] = FORMS,
) -> Coded:
    """The tensor in the smallest of all forms of its places and kinds of its entries. Which these
    are is estimated from histograms; those that come near the best are written, and their bytes
    counted.

    Args:
      forms: those to choose from; gaps that need as many fillers as there are entries are left
        out, so that dense must be among them.
    """
    places = np.flatnonzero(words_of(x))
    found = [*_candidates(x, grid, places, forms)]
    costs = [candidate.cost(coders) for candidate in found]
    times, plus = NEAR
    near = [c for c, cost in zip(found, costs, strict=True) if cost <= times * min(costs) + plus]
    coded = (candidate.coded(x, len(places), coders) for candidate in near)
    return min(coded, key=lambda one: len(one.data))


def _candidates(
    x: np.ndarray, grid: Grid | None, kept: np.ndarray, forms: Mapping[str, Form]
) -> Iterator[_Candidate]:
    known = {name: kind.fit(x, grid) for name, kind in KINDS.items()}
    filled = True
    for name, form in forms.items():
        if name != "dense" and (len(kept) == x.size or not form.fits(x.shape)):
            continue
        places = form.stored(kept, x.size)
        if isinstance(form, Gaps):
            # Wider gaps are worth nothing without fillers, nor are as many fillers as entries.
            filled, before = len(places) > len(kept), filled
            if not before or len(places) > 2 * len(kept) + 16:
                continue
        sizes = [alphabet for _, alphabet in form.layout(x.shape, len(places))]
        index = [*zip(form.split(places, x.shape), sizes, strict=True)]
        for kind, fit in known.items():
            if fit is not None:
                entries, parts = fit[0].narrowed([part[places] for part in fit[1]])
                values = [*zip(parts, entries.alphabets, strict=True)]
                yield _Candidate(name, kind, entries, places, index, values)


def decode(data: bytes, shape: Shape, dtype: np.dtype, form: str, kind: str) -> np.ndarray:
    """The tensor, bit for bit.

    Raises:
      Damaged: no encoder has written these bytes for such a tensor.
    """
    sound(form in FORMS and kind in KINDS, f"a tensor is stored as {form!r}, {kind!r}")
    sound(FORMS[form].fits(shape), f"a tensor of shape {list(shape)} is stored as {form}")
    reader, size = Reader(data), size_of(shape)
    count, places = size, slice(None)  # all of them, without a list of them
    if form != "dense":
        count = reader.number()
        sound(count <= size, "a tensor has more entries than places")
        places = _places(reader, FORMS[form], shape, count)
    entries = KINDS[kind].read(reader, dtype, shape)
    values = [streams.read(reader, count, alphabet) for alphabet in entries.alphabets]
    reader.end()
    words = np.zeros(size, word_type(dtype))
    words[places] = entries.join(values, places, shape)
    sound(dtype.kind != "b" or int(words.max(initial=0)) < 2, "a truth value is neither")
    return words.view(dtype).reshape(shape)


def _places(reader: Reader, form: Form, shape: Shape, count: int) -> np.ndarray:
    layout = form.layout(shape, count)
    places = form.join([streams.read(reader, n, k) for n, k in layout], shape)
    sound(len(places) == count, "a tensor has other entries than places")
    if count:
        rises = places[0] >= 0 and places[-1] < size_of(shape)
        sound(rises and bool((np.diff(places) > 0).all()), "a tensor has an entry outside of it")
    return places
