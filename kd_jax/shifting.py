"""What a Shift stage makes of the network it starts from: the biases of some classes, raised or
lowered by what its validation logits say."""

import re
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from kd_jax import compiled, many
from kd_jax.checks import check_model, require_labels
from kd_jax.config_shift import Shift
from kd_jax.data import Dataset
from kd_jax.errors import require
from kd_jax.forward import Model
from kd_jax.metrics import predictions
from kd_jax.state import Snapshot
from kd_jax.tree import map_named, named_leaves

NEAR = 0.01  # at most so far beyond the margin of the last example that is to flip


def best_shift(logits: np.ndarray, labels: np.ndarray, classes: Sequence[int]) -> float:
    """The b that makes the most of argmax_k(z_k + b [k in C]) right, of several the one nearest to
    zero; of logits z [N, K], labels [N] and classes C. Exact, with no b tried.

    An example's prediction flips at its margin m = max_{k not in C} z_k - max_{k in C} z_k: for
    b > m it is the best class in C, for b < m the best of the others. So the number right changes
    at margins alone, and is counted between each two neighbours.

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
    https://arxiv.org/abs/1503.02531, section 3, chose b on the test set.
    """
    z = logits.astype(np.float64)
    named = np.isin(np.arange(z.shape[-1]), classes)
    inside, outside = (np.where(these, z, -np.inf) for these in (named, ~named))
    with np.errstate(invalid="ignore"):  # of a seed that diverged
        margin = outside.max(axis=-1) - inside.max(axis=-1)
    known = np.isfinite(margin)
    above = np.sort(margin[known & (inside.argmax(axis=-1) == labels)])  # right where b is
    below = np.sort(margin[known & (outside.argmax(axis=-1) == labels)])
    edges = np.unique(np.concatenate([above, below]))
    low, high = np.append(-np.inf, edges), np.append(edges, np.inf)
    right = np.searchsorted(above, low, side="right")
    right += below.size - np.searchsorted(below, high, side="left")
    if np.sum(z.argmax(axis=-1) == labels) >= right.max():
        return 0.0
    low, high = (ends[right == right.max()] for ends in (low, high))
    inwards = np.minimum((high - low) / 2, NEAR)
    nearest = np.clip(0.0, low + inwards, high - inwards)
    return float(nearest[np.argmin(np.abs(nearest))])


def check(stage: Shift, model: Model, data: Dataset) -> str:
    """The name of the parameter whose numbers are shifted. Raises UsageError, which begins with a
    field's name, where there is none, it is not clear which, or nothing to choose by."""
    classes, listed = data.spec.classes, " ".join(map(str, stage.classes))
    require_labels(f"classes {listed}", stage.classes, data)
    require(
        len(stage.classes) < classes,
        f"classes {listed}: where all are shifted alike nothing changes: leave some out",
    )
    require(
        stage.by is not None or len(data.validation) > 0,
        "by None is found by validation examples, and there are none: set it, or --data.validation "
        "above 0",
    )
    leaves = named_leaves(check_model(stage.model, model, data)["params"])
    found = [name for name in leaves if re.search(stage.bias, name)]
    there = [name for name, leaf in leaves.items() if leaf.shape == (classes,)]
    require(
        len(found) == 1 and found[0] in there,
        f"bias {stage.bias!r} finds {', '.join(found) or 'nothing'}, and not the one parameter of "
        f"{classes} numbers that is meant: change it. There are: {', '.join(there) or 'none'}",
    )
    return found[0]


def shifted(
    stage: Shift, model: Model, data: Dataset, network: Snapshot
) -> tuple[Snapshot, np.ndarray]:
    """(network [S, ...] whose biases are shifted, by how much each seed's [S]), of a network
    [S, ...]. Nothing is trained here.

    Raises:
      UsageError: it begins with a field's name.
    """
    bias = check(stage, model, data)
    named = np.isin(np.arange(data.spec.classes), stage.classes)
    mask = named_leaves(network.masks).get(bias)
    require(
        mask is None or bool(np.all(np.asarray(mask)[:, named])),
        f"bias {stage.bias!r}: {bias} is pruned, and what is pruned stays zero: shift before it is",
    )

    def by(amounts: np.ndarray) -> Snapshot:
        add = lambda b: b + jnp.asarray(amounts[:, None] * named, b.dtype)  # noqa: E731
        change = lambda name, leaf: add(leaf) if name == bias else leaf  # noqa: E731
        return network.replace(params=map_named(change, network.params))  # type: ignore[attr-defined]

    if stage.by is not None:
        amounts = np.full(many.length(network) or 1, stage.by)
        return by(amounts), amounts
    predict = compiled.predictor(model, data.spec)
    logits, labels = predictions(predict, network, data.validation)
    # Far beyond all logits, so that rounding doesn't count.
    far = 1 + np.max(np.abs(logits), initial=0, where=np.isfinite(logits))
    moved = predictions(predict, by(np.full(len(logits), far)), data.validation)[0] - logits
    known = np.isfinite(moved)
    require(
        bool(np.all(np.abs(moved - far * named)[known] <= 0.05 * far)),
        f"bias {stage.bias!r}: what is added to {bias} is not what logits gain, so that no shift "
        "can be found by them: change it, or set by",
    )
    amounts = np.asarray([best_shift(of_seed, labels, stage.classes) for of_seed in logits])
    return by(amounts), amounts


def words(stage: Shift, amounts: np.ndarray, seeds: Sequence[int]) -> str:
    """`biases of 7 8 shifted by +0.52 (seed 0), -0.10 (seed 1)`."""
    each = [f"{b:+.2f} (seed {seed})" for b, seed in zip(amounts, seeds, strict=True)]
    return f"biases of {' '.join(map(str, stage.classes))} shifted by {', '.join(each)}"
