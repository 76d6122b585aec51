"""Networks of all kinds on grids, for tests."""

import jax
import jax.numpy as jnp
import tiny

from kd_jax.forward import from_linen
from kd_jax.models.cifar_resnet import CifarResNet
from kd_jax.models.lstm import LSTM
from kd_jax.models.mobilenet import MobileNetV2
from kd_jax.models.vit import ViT
from kd_jax.quantize import Grid, Layout, quantised
from kd_jax.quantize.network import beside, inputs_of, sites
from kd_jax.tree import named_leaves

INPUTS = jax.random.normal(jax.random.key(7), (3, 8, 8, 1))


def network(model, inputs=INPUTS, bits=8, of_inputs=8, **how):
    """(the quantised model, its variables at rest)."""
    variables = jax.jit(model.init)(jax.random.key(1), inputs)
    kernels = {n: w for n, w in named_leaves(variables["params"]).items() if n.endswith("kernel")}
    at = sites(model, variables, inputs)
    layout = Layout(weights=(*kernels,), inputs=tuple(n for n in kernels if n in at), **how)
    extent = lambda w: jnp.max(jnp.abs(w), axis=tuple(range(w.ndim - 1)), keepdims=True)  # noqa: E731
    on = {n: Grid.symmetric(extent(w), bits) for n, w in kernels.items()}
    seen = inputs_of(model, variables, inputs)
    ends = {
        n: (min(x.min() for x in seen[n]), max(x.max() for x in seen[n])) for n in layout.inputs
    }
    parts = {"weights": on, "codes": {}}
    parts["inputs"] = {n: Grid.affine(*ends[n], of_inputs) for n in layout.inputs}
    it = quantised(model, layout)
    assert it.rests is not None
    return it, it.rests(beside(layout, variables, parts))


MODELS = {
    "conv": (tiny.convnet, INPUTS),
    "mlp": (tiny.perceptron, INPUTS),
    "resnet": (lambda: from_linen(CifarResNet(depth=8, width=4).build(10, jnp.float32)), INPUTS),
    "depthwise": (
        lambda: from_linen(MobileNetV2().tiny().build(10, jnp.float32)),
        INPUTS.repeat(3, -1),
    ),
    "attention": (lambda: from_linen(ViT().tiny().build(10, jnp.float32)), INPUTS),
    "recurrent": (lambda: from_linen(LSTM().tiny().build(10, jnp.float32)), INPUTS),
}
