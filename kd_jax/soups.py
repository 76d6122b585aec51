"""Soups: one network whose weights are a mean of several networks' weights."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.state import Snapshot

Array = jax.Array


def averaged(networks: Sequence[Snapshot], shares: Array) -> Snapshot:
    """w = Σ_m share_m w_m, of networks of one form (no axis of seeds) and shares [M] of sum 1;
    collections likewise, and what is no float as the first network has it.

    What is pruned in all networks that have a share stays pruned, and nothing else: so networks
    that were pruned alike, such as retrained ones of one pruned network, lose no sparsity.

    Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy
    without increasing inference time", 2022, https://arxiv.org/abs/2203.05482; with masks Zimmer,
    Spiegel, Pokutta, "Sparse Model Soups", 2023, https://arxiv.org/abs/2306.16788. Networks that
    come from different initial values have nothing to average (without matching their units, which
    is not done here).
    """
    taken = shares > 0

    def mean(*leaves: Array) -> Array:
        if not jnp.issubdtype(leaves[0].dtype, jnp.floating):
            return leaves[0]
        return jnp.tensordot(shares.astype(leaves[0].dtype), jnp.stack(leaves), axes=1)

    def kept(*masks: Array | None) -> Array | None:
        shape = next((mask.shape for mask in masks if mask is not None), None)
        if shape is None:
            return None
        each = [jnp.ones(shape, bool) if mask is None else mask for mask in masks]
        return jnp.any(jnp.stack(each) & taken.reshape(-1, *(1,) * len(shape)), axis=0)

    params = jax.tree.map(mean, *(n.params for n in networks))
    collections = jax.tree.map(mean, *(n.collections for n in networks))
    masks = jax.tree.map(kept, *(n.masks for n in networks), is_leaf=lambda mask: mask is None)
    return Snapshot(params, collections, masks)


def greedy(accuracies: np.ndarray, accuracy_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Shares [S, M] of the greedy soup: by falling accuracy [S, M], each network is taken in unless
    the accuracy of the soup is then lower. The first of those of equal accuracy goes first.

    Args:
      accuracy_of: shares [S, M] -> accuracy [S] of these soups.
    """
    share = lambda taken: taken / taken.sum(axis=1, keepdims=True)  # noqa: E731
    seeds = np.arange(len(accuracies))
    taken, best = np.zeros(accuracies.shape, bool), np.full(len(accuracies), -np.inf)
    for candidate in np.argsort(-accuracies, axis=1, kind="stable").T:
        tried = taken.copy()
        tried[seeds, candidate] = True
        found = accuracy_of(share(tried))
        better = found >= best
        taken, best = np.where(better[:, None], tried, taken), np.where(better, found, best)
    return share(taken)


def differing(forms: Sequence[dict[str, tuple[int, ...]]]) -> str:
    """The first name whose shape is not the same in all forms {name: shape}; empty: none."""
    names = dict.fromkeys(name for form in forms for name in form)
    return next((n for n in names if len({form.get(n) for form in forms}) > 1), "")
