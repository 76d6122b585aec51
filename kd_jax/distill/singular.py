"""Distillation from the singular vectors of maps."""

from functools import partial
from itertools import pairwise
from typing import ClassVar

import jax
import jax.numpy as jnp

from kd_jax.distill import connect
from kd_jax.distill.divergences import floats
from kd_jax.distill.norms import unit
from kd_jax.distill.taps import FeatureTerm, Pairs
from kd_jax.errors import require
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class KDSVD(FeatureTerm):
    """Σ over successive taps of Σ_cdk (R_s − R_t)², R_cdk = exp(−(v_ck − v'_dk)² / 8).

    v, v' are the right singular vectors [C, k] of a map as a matrix [HW, C] and of the map before
    it, times the teacher's singular values as a unit vector. Of the student's k + 3 largest, those
    nearest to each of the teacher's are taken, with their signs.

    Lee, Kim, Song, "Self-supervised Knowledge Distillation Using Singular Value Decomposition",
    2018, https://arxiv.org/abs/1807.06819. Where widths differ, the student's maps first pass
    trained 1x1 convolutions. A later PyTorch port takes [C·H, W] for the matrix: other values.

    Attributes:
      vectors: k.
    """

    about: ClassVar[str] = "singular vectors of successive stages"

    vectors: int = 1

    rank: ClassVar[int | None] = 4

    def connectors(self, key: Array, pairs: Pairs) -> Tree:
        require(len(pairs) > 1, "student-taps: two successive features are compared, name them")
        sizes = [min(f.shape[1] * f.shape[2], f.shape[3]) for pair in pairs for f in pair]
        require(
            1 <= self.vectors <= min(sizes),
            f"vectors {self.vectors}: between 1 and {min(sizes)}, which the smallest map has",
        )
        return connect.init_widths(key, pairs)

    def __call__(self, pairs: Pairs, params: Tree) -> Array:
        ours, theirs = [], []
        for i, (student, teacher) in enumerate(pairs):
            f_s, f_t = floats(student, teacher)
            _, v_s = decompose(connect.widen(params, i, f_s), self.vectors + 3)
            sigma, v_t = decompose(f_t, self.vectors)
            scale = unit(sigma)[:, None, :]
            ours.append(aligned(v_s, v_t) * scale)
            theirs.append(v_t * scale)
        total = jnp.zeros(())
        for r_s, r_t in zip(likenesses(ours), likenesses(theirs), strict=True):
            total = total + jnp.sum((r_s - r_t) ** 2, axis=(1, 2, 3))
        return total


def decompose(features: Array, count: int) -> tuple[Array, Array]:
    """[B, H, W, C] -> the largest singular values [B, k], and right vectors [B, C, k]."""
    batch, height, width, channels = features.shape
    flat = features.reshape(batch, -1)
    # Vectors don't depend on the scale, and so gaps between values have one.
    matrix = unit(flat).reshape(batch, height * width, channels)
    sigma, v = right_vectors(matrix, min(count, height * width, channels))
    return sigma, v


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def right_vectors(matrix: Array, count: int) -> tuple[Array, Array]:
    """[B, N, C] -> (σ [B, k], V [B, C, k]), whose derivatives stay finite where values coincide."""
    _, sigma, v = jnp.linalg.svd(matrix, full_matrices=False)
    return sigma[:, :count], v.swapaxes(1, 2)[..., :count]


@right_vectors.defjvp
def _(count: int, primals: tuple[Array], tangents: tuple[Array]):
    (x,), (dx,) = primals, tangents
    _, sigma, v = jnp.linalg.svd(x, full_matrices=False)
    v = v.swapaxes(1, 2)
    top = v[..., :count]
    values = sigma**2
    xv, dxv = x @ v, dx @ v
    xtop, dxtop = xv[..., :count], dxv[..., :count]
    # dV = V (F ∘ Vᵀ d(XᵀX) V) + (1 − VVᵀ) d(XᵀX) V / σ², F_ij = 1 / (σ_j² − σ_i²)
    inner = dxv.swapaxes(1, 2) @ xtop + xv.swapaxes(1, 2) @ dxtop
    gaps = values[:, None, :count] - values[:, :, None]
    outside = dx.swapaxes(1, 2) @ xtop - v @ (dxv.swapaxes(1, 2) @ xtop)
    dv = v @ (_inverse(gaps) * inner) + outside * _inverse(values[:, None, :count])
    dsigma = jnp.sum(xtop * dxtop, axis=1) * _inverse(sigma[:, :count])
    return (sigma[:, :count], top), (dsigma, dv)


def _inverse(x: Array) -> Array:
    """1/x, and 0 at 0."""
    return x / (x**2 + 1e-12)


def aligned(v_s: Array, v_t: Array) -> Array:
    """Of the student's vectors [B, C, m] those nearest to each of the teacher's, [B, C, k]."""
    cosines = jax.lax.stop_gradient(jnp.einsum("bcm,bck->bmk", v_s, v_t))
    size = jnp.abs(cosines)
    nearest = jax.nn.one_hot(jnp.argmax(size, axis=1), size.shape[1], axis=1, dtype=v_s.dtype)
    return jnp.einsum("bcm,bmk->bck", v_s, nearest * jnp.sign(cosines))


def likenesses(vectors: list[Array]) -> list[Array]:
    """exp(−(v − v')² / 8) [B, C, D, k] of each tap's vectors and those of the tap before."""
    gaps = [v[:, :, None, :] - before[:, None, :, :] for before, v in pairwise(vectors)]
    return [jnp.exp(-(gap**2) / 8) for gap in gaps]
