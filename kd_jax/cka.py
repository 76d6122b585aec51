"""CKA: how alike the features of two networks are, layer by layer, on the same examples."""

import dataclasses
import functools
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.augment import normalise
from kd_jax.datasets import Spec
from kd_jax.errors import require
from kd_jax.forward import Model
from kd_jax.state import Snapshot
from kd_jax.typed import Typed

Array = jax.Array

EXAMPLES = 512  # at most
BATCH = 64  # of which the features are held at once
FEWEST = 4  # examples of a batch: of fewer, the estimate is not defined

CONVENTION = (
    "CKA: linear centred kernel alignment of Kornblith et al. 2019, 1 for features that are equal "
    f"but for rotation and scale; on up to {EXAMPLES} test examples, spread evenly over the split, "
    f"by the unbiased estimate of Nguyen et al. 2021 over batches of up to {BATCH}, which can fall "
    "below 0. Maps are flattened, so places count."
)


@dataclasses.dataclass(frozen=True)
class Layers:
    """What a network's features say of some examples, in a form that can be compared.

    Attributes:
      names: of its L features in the network's order, the logits last.
      vectors: float64 [S, L, D] of unit length: the centred Gram matrices of all batches. Not a
        number where a feature is the same for all examples of every batch.
    """

    names: tuple[str, ...]
    vectors: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Similarity(Typed):
    """How alike a network's features and its teacher's are, layer by layer."""

    layers: Sequence[str]
    """Names of the network's features in its own order, the logits last."""
    others: Sequence[str]
    """Of the teacher's."""
    cka: Sequence[Sequence[Sequence[float]]]
    """[seed][layer][teacher's layer]; see `similarity`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = (len(self.layers), len(self.others))
        fits = all(len(one) == shape[0] and {*map(len, one)} == {shape[1]} for one in self.cka)
        require(fits, f"Similarity.cka is not of {shape[0]} by {shape[1]} layers: run it again")

    @property
    def namesakes(self) -> dict[str, list[float]]:
        """{layer: its CKA with the teacher's layer of the same name, an entry a seed}."""
        places = {name: self.others.index(name) for name in self.layers if name in self.others}
        rows = {name: self.layers.index(name) for name in places}
        return {name: [one[rows[name]][places[name]] for one in self.cka] for name in places}


def places(count: int) -> np.ndarray:
    """Which examples of a split of so many to compare: int [batches, B], each batch spread over the
    split, whose order may be class by class; [0, 0] where there are too few."""
    if count < FEWEST:
        return np.zeros((0, 0), int)
    batches = -(-min(count, EXAMPLES) // BATCH)
    size = min(count, EXAMPLES) // batches
    return (np.arange(batches * size) * count // (batches * size)).reshape(size, batches).T


def layers(model: Model, spec: Spec, snapshot: Snapshot, inputs: np.ndarray) -> Layers:
    """Of a network [S, ...] in evaluation mode on stored inputs [batches, B, ...].

    Raises UsageError where B is below 4.
    """
    size = inputs.shape[1]
    require(size >= FEWEST, f"CKA of batches of {size} is not defined: give {FEWEST} or more")
    found = [_program(model, spec)(snapshot, batch) for batch in inputs]
    grams = np.stack([np.asarray(one.values) for one in found], axis=2)  # [S, L, batches, B, B]
    with np.errstate(invalid="ignore", divide="ignore"):  # diverged, or always the same
        vectors = centred(grams).reshape(*grams.shape[:2], -1)
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return Layers(found[0].names, vectors)


def similarity(student: Layers, teacher: Layers) -> np.ndarray:
    """CKA of each layer of a network with each of another's, on the same examples: [S, L, M].

    Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019,
    https://arxiv.org/abs/1905.00414, with a linear kernel: HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)).
    Each HSIC is the sum over batches of the unbiased estimate, as in Nguyen, Raghu, Kornblith, "Do
    Wide and Deep Networks Learn the Same Things?", 2021, https://arxiv.org/abs/2010.15327: it needs
    one batch of features at a time, and does not come out near 1 where there are more features than
    examples, as the plain one does.
    """
    return student.vectors @ teacher.vectors.swapaxes(-1, -2)


def centred(grams: np.ndarray) -> np.ndarray:
    """Gram matrices [..., B, B] whose inner product is B(B-3) times the unbiased HSIC.

    Without the diagonal, rows and columns are made to sum to zero (Székely, Rizzo, "Partial
    Distance Correlation with Methods for Dissimilarities", 2014, https://arxiv.org/abs/1310.2926).
    Written out, the product is that of Song et al., "Feature Selection via Dependence
    Maximization", 2012, https://jmlr.org/papers/v13/song12a.html, eq. 5.
    """
    n = grams.shape[-1]
    apart = 1.0 - np.eye(n)
    k = grams.astype(np.float64) * apart
    rows = k.sum(axis=-1, keepdims=True) / (n - 2)
    whole = rows.sum(axis=-2, keepdims=True) / (n - 1)
    return (k - rows - rows.swapaxes(-1, -2) + whole) * apart


def gram(features: Array) -> Array:
    """Inner products float32 [B, B] of the features [B, ...] of each two examples, flattened and
    less those of the first: centring makes up for any shift, and this one costs least precision."""
    x = features.reshape(features.shape[0], -1).astype(jnp.float32)
    x = x - x[:1]  # exactly zero, unlike with a mean, where all are the same
    # Not x @ x.T: under vmap on a CPU, XLA writes the transpose out and takes thrice as long.
    return jnp.einsum("id,jd->ij", x, x, precision=jax.lax.Precision.HIGHEST)


@flax.struct.dataclass
class _Grams:
    """Of a network's features: [L, B, B]."""

    values: Array
    names: tuple[str, ...] = flax.struct.field(pytree_node=False)


@functools.lru_cache(maxsize=16)
def _program(model: Model, spec: Spec):
    """(snapshot [S, ...], inputs [B, ...]) -> _Grams [S, ...]. The features stay on the device."""

    def one(snapshot: Snapshot, inputs: Array) -> _Grams:
        outputs, _ = model.forward(snapshot.variables, normalise(inputs, spec), train=False)
        said = {**outputs.features, "logits": outputs.logits}
        return _Grams(jnp.stack([gram(features) for features in said.values()]), tuple(said))

    return jax.jit(jax.vmap(one, in_axes=(0, None)))
