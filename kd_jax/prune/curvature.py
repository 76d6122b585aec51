"""Criteria by the curvature of the loss, from the gradients of single examples.

The network is in evaluation mode here: batch statistics of one example say nothing. They are made
for networks that are trained, whose gradient is about zero.
"""

import jax
import jax.numpy as jnp

from kd_jax.prune.criteria import DataCriterion, cross_entropy
from kd_jax.prune.evidence import Evidence
from kd_jax.tree import Tree, traceable

Array = jax.Array


@traceable
class Fisher(DataCriterion):
    """w²·E[g²], g the gradient of an example's cross-entropy with its label: the diagonal of the
    empirical Fisher information.

    Theis, Korshunova, Tejani, Huszár, "Faster gaze prediction with dense networks and Fisher
    pruning", 2018, https://arxiv.org/abs/1801.05787 (½ of this, and of feature maps).
    """

    def __call__(self, evidence: Evidence) -> Tree:
        def squares(inputs: Array, targets: Array) -> Tree:
            loss = lambda p: cross_entropy(evidence.logits(p, inputs, False), targets)  # noqa: E731
            return jax.tree.map(jnp.square, jax.grad(loss)(evidence.params))

        found = evidence.mean_of_examples(squares)
        return jax.tree.map(lambda w, f: w**2 * f, evidence.params, found)


@traceable
class OBD(DataCriterion):
    """½ h w², h the diagonal of the Hessian of the cross-entropy: the saliency of optimal brain
    damage.

    LeCun, Denker, Solla, "Optimal Brain Damage", 1990,
    https://proceedings.neurips.cc/paper/1989/hash/6c9882bbac1c7093bd25041881277658-Abstract.html.
    h is that of the Gauss-Newton approximation, as in the paper, and exact within it:
    mean over examples of Σ_k p_k (∂ log p_k / ∂w)². It is never negative, needs no labels, and
    costs a backward pass for each class of each example.
    """

    def __call__(self, evidence: Evidence) -> Tree:
        def curvature(inputs: Array, targets: Array) -> Tree:
            del targets

            def said(params: Tree) -> Array:
                return jax.nn.log_softmax(evidence.logits(params, inputs, False)[0])

            log_p, pullback = jax.vjp(said, evidence.params)

            def add(so_far: Tree, one: Array) -> tuple[Tree, None]:
                (g,) = pullback(one)
                share = jnp.sum(one * jnp.exp(log_p))
                return jax.tree.map(lambda s, x: s + share * x**2, so_far, g), None

            zeros = jax.tree.map(jnp.zeros_like, evidence.params)
            return jax.lax.scan(add, zeros, jnp.eye(log_p.size, dtype=jnp.float32))[0]

        h = evidence.mean_of_examples(curvature)
        return jax.tree.map(lambda w, h: h * w**2 / 2, evidence.params, h)
