"""Weights that share values: each layer has a codebook, and its weights are places in it.

Han, Mao, Dally, "Deep Compression: Compressing Deep Neural Networks with Pruning, Trained
Quantization and Huffman Coding", 2016, https://arxiv.org/abs/1510.00149.

The parameters keep their shape. Weights of one code are equal; the network sees all of them as the
largest of them, and the gradient of each is that of their sum (or mean), so that whatever the
optimizer makes of equal numbers and equal gradients, they stay equal.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
ITERATIONS = 300  # of k-means, at most
MOST = 257  # codes there may be: zero, and 2^8 shared values


def cluster(w: Array, bits: Array | int) -> Array:
    """Codes of weights, int16 of their shape: 0 where a weight is zero, else from 1 on, by k-means
    with 2^bits centroids, which begin evenly between the least and the largest weight that is not
    zero (the paper's linear initialisation). Of a centroid without weights nothing comes."""
    x, alive = w.reshape(-1), w.reshape(-1) != 0
    count = jnp.asarray(2 ** jnp.asarray(bits), jnp.int32)
    places = jnp.arange(MOST - 1)
    used = places < count
    least = jnp.min(jnp.where(alive, x, jnp.inf))
    most = jnp.max(jnp.where(alive, x, -jnp.inf))
    first = least + (most - least) * places / jnp.maximum(count - 1, 1)
    first = jnp.where(used, first, jnp.inf)

    def nearest(centroids: Array) -> Array:
        # Centroids stay in order: those of neighbouring sets of numbers are.
        return jnp.searchsorted((centroids[1:] + centroids[:-1]) / 2, x).astype(jnp.int32)

    def moved(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        centroids, _, i = carry
        code = jnp.where(alive, nearest(centroids), MOST - 1)
        sums = jnp.zeros(MOST).at[code].add(jnp.where(alive, x, 0.0))[:-1]
        many = jnp.zeros(MOST).at[code].add(1.0)[:-1]
        new = jnp.where(many > 0, sums / jnp.maximum(many, 1), centroids)
        return new, jnp.any(new != centroids), i + 1

    going = lambda carry: carry[1] & (carry[2] < ITERATIONS)  # noqa: E731
    begin = (first, jnp.array(True), jnp.array(0))
    centroids, _, _ = jax.lax.while_loop(going, moved, begin)
    code = jnp.where(alive, 1 + nearest(centroids), 0)
    return code.astype(jnp.int16).reshape(w.shape)


def means(w: Array, code: Array) -> Array:
    """Weights, each the mean of those of its code; zero for code 0."""
    flat, place = w.reshape(-1), code.reshape(-1).astype(jnp.int32)
    sums = jnp.zeros(MOST).at[place].add(flat)
    many = jnp.zeros(MOST).at[place].add(1.0)
    values = (sums / jnp.maximum(many, 1)).at[0].set(0.0)
    return values[place].reshape(w.shape)


def ranked(w: Array) -> Array:
    """Codes of weights that share values already: the place of each among these, from 1 on in
    order; 0 where it is zero."""
    flat = w.reshape(-1)
    values = jnp.unique(jnp.where(flat == 0, jnp.inf, flat), size=MOST, fill_value=jnp.inf)
    code = jnp.where(flat == 0, 0, 1 + jnp.searchsorted(values, flat))
    return code.astype(jnp.int16).reshape(w.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def shared(w: Array, code: Array, mean: bool = False) -> Array:
    """Weights as the network sees them: those of one code are equal, those of code 0 zero. The
    gradient of each is the sum of those of its code, as that of a centroid is (Han et al.); or with
    `mean` their mean, for which a learning rate means what it means for single weights."""
    del mean
    place = code.reshape(-1).astype(jnp.int32)
    # The largest, not the mean, which would be rounded: equal numbers stay what they are.
    values = jnp.full(MOST, -jnp.inf, w.dtype).at[place].max(w.reshape(-1)).at[0].set(0.0)
    return values[place].reshape(w.shape)


def _forward(w: Array, code: Array, mean: bool) -> Any:
    return shared(w, code, mean), code


def _backward(mean: bool, code: Array, g: Array) -> Any:
    place = code.reshape(-1).astype(jnp.int32)
    sums = jnp.zeros(MOST, g.dtype).at[place].add(g.reshape(-1)).at[0].set(0.0)
    if mean:
        sums = sums / jnp.maximum(jnp.zeros(MOST, g.dtype).at[place].add(1.0), 1)
    return sums[place].reshape(g.shape), None


shared.defvjp(_forward, _backward)
