"""One-shot pruning that makes up for what it removes: the weights of a layer that are left are
changed, so that its outputs on data stay what they were, as nearly as they can."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from kd_jax.errors import UsageError, require_between
from kd_jax.platform import equations
from kd_jax.products import run
from kd_jax.prune.activations import ELEMENTWISE
from kd_jax.prune.criteria import DataCriterion
from kd_jax.prune.evidence import Evidence
from kd_jax.prune.granularity import NM, Granularity
from kd_jax.tree import Tree, map_named, named_leaves, traceable

Array = jax.Array


@traceable
class SparseGPT(DataCriterion):
    """w² / [H⁻¹]_jj², H = Σ x xᵀ over all that a weight's layer is given: by how much the layer's
    squared error grows, at least, where w becomes zero and the weights after it make up for it;
    which they then do (optimal brain surgeon, of each output by itself, from input to input).

    Frantar, Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
    2023, https://arxiv.org/abs/2301.00774. Weights are chosen for a block of inputs at a time, the
    same share of each, when those before have been made up for. The paper prunes one layer after
    the other and shows each what the pruned ones before it put out; here all see the same. Where
    the data say nothing of an input, its weights go first.

    Attributes:
      damping: added to the diagonal of H, as a share of its mean.
      block: inputs for which weights are chosen at a time; 0: all.
    """

    rewrites: ClassVar[bool] = True

    batches: int = 4
    damping: float = 0.01
    block: int = 128

    def __post_init__(self) -> None:
        DataCriterion.__post_init__(self)
        require_between("SparseGPT.damping", self.damping, 0, open_low=True)
        require_between("SparseGPT.block", self.block, 0)

    def rewrite(
        self, evidence: Evidence, structure: Granularity, keep: dict[str, Any]
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """({layer: its new mask}, {layer: its new weights}).

        Args:
          keep: {layer: weights to keep}; of structure n_m, of each group.
        """
        products = input_products(evidence)
        weights, masks, found = named_leaves(evidence.params), named_leaves(evidence.masks), {}
        group = structure.m if isinstance(structure, NM) else 0
        for name, mask in masks.items():
            w = weights[name].astype(jnp.float32)
            matrix, alive = _rows(w), _rows(mask)
            new, kept = reconstruct(
                matrix, alive, products[name], keep[name], self.damping, self.block, group
            )
            found[name] = (_back(kept, mask.shape), _back(new, w.shape).astype(weights[name].dtype))
        return {n: m for n, (m, _) in found.items()}, {n: w for n, (_, w) in found.items()}

    def __call__(self, evidence: Evidence) -> Tree:
        """The scores before anything is made up for."""
        products, layers = input_products(evidence), named_leaves(evidence.masks)

        def score(name: str, w: Array) -> Array:
            if name not in layers:
                return jnp.abs(w)
            factor, _ = _factor(products[name], self.damping)
            matrix = _rows(w.astype(jnp.float32))
            return _back((matrix / jnp.diag(factor)[None]) ** 2, w.shape)

        return map_named(score, evidence.params)


def input_products(evidence: Evidence) -> dict[str, Array]:
    """{layer: Σ x xᵀ [C, C] over the inputs x [C] that it multiplies}, over the scoring batches;
    of a convolution, over all windows. In evaluation mode.

    Raises UsageError for a layer that is no plain product, such as a grouped convolution.
    """
    layers, found = named_leaves(evidence.masks), {}

    def heard(name: str, eqn: Any, given: list[Array], place: int) -> None:
        if name in layers:
            rows = _inputs(eqn, given) if place == 1 else None
            if rows is None:
                raise UsageError(
                    f"criterion SparseGPT can't tell what {name} multiplies, which is no plain "
                    "product of inputs and kernel: exclude it, or take another criterion"
                )
            found[name] = found.get(name, 0) + rows.T @ rows

    keeps = lambda eqn: eqn.primitive.name in ELEMENTWISE  # noqa: E731
    leaves = named_leaves(evidence.params)
    for inputs in evidence.inputs:
        said = lambda p, x=inputs: evidence.logits(p, x, train=False)  # noqa: E731
        program = equations(said, evidence.params)
        run(program, [*leaves.values()], dict(enumerate(leaves)), heard, keeps)
    missing = [name for name in layers if name not in found]
    if missing:
        raise UsageError(
            f"criterion SparseGPT can't see the inputs of {', '.join(missing)}, which the network "
            "multiplies in a loop or not at all: exclude them, or take another criterion"
        )
    return found


def _inputs(eqn: Any, given: list[Array]) -> Array | None:
    """[rows, C]: what each output is a product of, with the kernel [..., outputs] as [C, outputs];
    None where it isn't."""
    x, w = given[0].astype(jnp.float32), given[1]
    if eqn.primitive.name == "dot_general":
        (left, right), batch = eqn.params["dimension_numbers"]
        first = tuple(range(len(right)))
        if batch != ((), ()) or tuple(right) != first or w.ndim - len(right) < 1:
            return None
        others = [axis for axis in range(x.ndim) if axis not in left]
        return x.transpose(*others, *left).reshape(-1, w.size // _outputs(w, len(right)))
    params = eqn.params
    numbers = params["dimension_numbers"]
    plain = params["feature_group_count"] == params["batch_group_count"] == 1
    kernel_last = tuple(numbers.rhs_spec) == (w.ndim - 1, w.ndim - 2, *range(w.ndim - 2))
    if not plain or not kernel_last:
        return None
    window = tuple(w.shape[:-2])
    patches = lax.conv_general_dilated_patches(
        x,
        window,
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        numbers,
    )
    features = jnp.moveaxis(patches, numbers.out_spec[1], -1).reshape(-1, w.shape[-2], *window)
    # Patches have channels first, kernels last.
    return jnp.moveaxis(features, 1, -1).reshape(len(features), -1)


def _outputs(w: Array, contracted: int) -> int:
    size = 1
    for n in w.shape[contracted:]:
        size *= n
    return size


def _rows(x: Array) -> Array:
    """A kernel [..., outputs] as [outputs, C]."""
    return x.reshape(-1, x.shape[-1]).T


def _back(x: Array, shape: tuple[int, ...]) -> Array:
    return x.T.reshape(shape)


def _factor(products: Array, damping: float) -> tuple[Array, Array]:
    """(the upper Cholesky factor of H⁻¹ [C, C], whether nothing is known of an input [C])."""
    diagonal = jnp.diag(products)
    idle = diagonal <= 0
    h = products + jnp.diag(jnp.where(idle, 1.0, 0.0) + damping * jnp.mean(diagonal))
    inverse = jnp.linalg.inv(h)
    return jnp.linalg.cholesky((inverse + inverse.T) / 2).T, idle


def reconstruct(
    weights: Array,
    alive: Array,
    products: Array,
    keep: int | Array,
    damping: float = 0.01,
    block: int = 128,
    group: int = 0,
) -> tuple[Array, Array]:
    """(new weights, which are kept), both [R, C]; exactly `keep` of those alive are.

    Args:
      weights, alive: [R, C], an output a row, an input a column.
      products: Σ x xᵀ, [C, C].
      keep: weights to keep; with `group`, of each so many that lie together.
    """
    factor, idle = _factor(products, damping)
    count = weights.shape[1]
    size = group or min(block or count, count)
    room = jnp.sum(alive, dtype=jnp.int32) - (0 if group else keep)
    weights = jnp.where(alive & ~idle[None], weights, 0)
    columns = jnp.arange(count)

    def choose(weights: Array, kept: Array, j: Array) -> Array:
        """The mask with the weights of the block that begins at j chosen."""
        inside = (columns >= j) & (columns < j + size)
        scores = jnp.where(kept, (weights / jnp.diag(factor)[None]) ** 2, -1.0)
        if group:
            part = lax.dynamic_slice_in_dim(scores, j, size, axis=1)
            place = jnp.argsort(jnp.argsort(-part, axis=1, stable=True), axis=1, stable=True)
            chosen = lax.dynamic_update_slice_in_dim(kept, place < keep, j, axis=1)
            return jnp.where(inside[None], chosen & kept, kept)
        # As large a share is gone by the end of the block as its end is of all inputs.
        end = jnp.minimum(j + size, count)
        lost = jnp.sum(alive, dtype=jnp.int32) - jnp.sum(kept, dtype=jnp.int32)
        share = room.astype(jnp.float32) * end.astype(jnp.float32) / count
        due = jnp.where(end >= count, room, jnp.round(share).astype(jnp.int32)) - lost
        order = jnp.where(inside[None] & kept, scores, jnp.inf).reshape(-1)
        # Of equal scores the later one goes first, as everywhere.
        rank = jnp.argsort(jnp.lexsort((-jnp.arange(order.size), order)))
        return kept & ~((rank < due).reshape(kept.shape) & inside[None])

    def column(j: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        weights, kept = carry
        w = weights[:, j]
        error = jnp.where(kept[:, j], 0.0, w) / factor[j, j]
        weights = weights - error[:, None] * jnp.where(columns >= j, factor[j], 0.0)[None]
        return weights.at[:, j].set(jnp.where(kept[:, j], w, 0.0)), kept

    def of_block(b: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        weights, kept = carry
        first = b * size
        carry = weights, choose(weights, kept, first)
        return lax.fori_loop(first, jnp.minimum(first + size, count), column, carry)

    weights, kept = lax.fori_loop(0, -(-count // size), of_block, (weights, alive))
    return jnp.where(kept, weights, 0), kept
