"""Products of integers: a quantised network whose kernels are int8 and, where its inputs have grids
too, whose products are computed in int8 and summed in int32.

With x̂ = s (q − z) for inputs and ŵ = t p for weights, of which each output channel has its own t,

    Σ x̂ ŵ = s t (Σ q p − z Σ p):

all but the factor is integer arithmetic. What lies beyond an image's edge is zero, so q = z there.
Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018, https://arxiv.org/abs/1712.05877.

It works on any network whose forward pass can be traced, and on convolutions as well with weights
alone in int8, which are then multiplied as floats; those of qwix need inputs quantised too.
"""

from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import products
from kd_jax.errors import require
from kd_jax.forward import Model, Outputs, Variables
from kd_jax.quantize.network import INPUTS, QUANTISED, WEIGHTS, bare, grids
from kd_jax.quantize.uniform import Grid
from kd_jax.tree import map_named, named_leaves

Array = jax.Array
PRODUCT = "int8_product"  # what a program calls each of these, with (x, p, grid of x, grid of w)


def integers(variables: Variables) -> Variables:
    """The variables of a quantised network at rest, its kernels as int8."""
    on = grids(variables)[WEIGHTS]
    whole = lambda name, w: on[name].codes(w).astype(jnp.int8) if name in on else w  # noqa: E731
    return {**variables, "params": map_named(whole, variables["params"])}


def integer(model: Model) -> Model:
    """A quantised network for evaluation, of variables that `integers` gives."""
    own = model.beneath
    require(own is not None, "this network is not quantised: only one that is has integers")
    assert own is not None

    def forward(
        variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        del train, key
        found, whole = grids(variables), named_leaves(variables["params"])
        near = lambda n, w: found[WEIGHTS][n].values(w.astype(jnp.float32))  # noqa: E731
        # As floats for all that is no such product; what nobody reads XLA leaves out.
        floats = map_named(
            lambda n, w: near(n, w) if n in found[WEIGHTS] else w, variables["params"]
        )

        def product(name: str, eqn: Any, given: list[Any], place: int) -> Any:
            name = name.removeprefix("params/")
            both = name in found[INPUTS] and name in found[WEIGHTS] and place == 1
            if not both or not _plain(eqn):
                return None
            grids_ = (found[INPUTS][name], found[WEIGHTS][name])
            y = _called(eqn)(given[0].astype(jnp.float32), whole[name], *grids_)
            return y.astype(eqn.outvars[0].aval.dtype)

        given = bare({**variables, "params": floats})
        said, updated = products.forward(own, product, given, inputs)
        return Outputs(said.logits), {**updated, QUANTISED: variables[QUANTISED]}

    return Model(model.init, forward)


def _plain(eqn: Any) -> bool:
    """Whether it is a product of this kind: nothing dilated between inputs, no shared examples."""
    if eqn.primitive.name == "dot_general":
        return not any(eqn.params["dimension_numbers"][1])
    between = any(n != 1 for n in eqn.params["lhs_dilation"])
    return not between and eqn.params["batch_group_count"] == 1


def _called(eqn: Any) -> Any:
    """A product under its name, by which those who write programs in other forms know it."""
    product = lambda *given: _product(eqn, *given)  # noqa: E731
    product.__name__ = PRODUCT
    return jax.jit(product)


def _product(eqn: Any, x: Array, p: Array, of_x: Grid, of_w: Grid) -> Array:
    q = of_x.codes(x).astype(jnp.int8)
    convolves = eqn.primitive.name == "conv_general_dilated"
    y, summed = (_convolved if convolves else _multiplied)(eqn, q, p, of_x.zero)
    # What of the kernel's axes is left stands, in a dot product, last among the result's.
    factor = jnp.squeeze(of_x.scale * of_w.scale, summed)
    offset = of_x.zero.astype(jnp.int32) * jnp.sum(p.astype(jnp.int32), axis=summed)
    # A convolution's channels may stand anywhere.
    place = eqn.params["dimension_numbers"].out_spec[1] if convolves else y.ndim - 1

    def along(x: Array) -> Array:
        x = x.reshape((1,) * (y.ndim - x.ndim) + x.shape)
        return jnp.moveaxis(x, -1, place)

    return (y - along(offset)).astype(jnp.float32) * along(factor)


def _multiplied(eqn: Any, q: Array, p: Array, zero: Array) -> tuple[Array, tuple[int, ...]]:
    del zero
    numbers = eqn.params["dimension_numbers"]
    y = jax.lax.dot_general(q, p, numbers, preferred_element_type=jnp.int32)
    return y, tuple(numbers[0][1])


def _convolved(eqn: Any, q: Array, p: Array, zero: Array) -> tuple[Array, tuple[int, ...]]:
    params = eqn.params
    numbers = params["dimension_numbers"]
    widths = [(0, 0, 0)] * q.ndim
    for axis, (low, high) in zip(numbers.lhs_spec[2:], params["padding"], strict=True):
        widths[axis] = (low, high, 0)
    y = jax.lax.conv_general_dilated(
        jax.lax.pad(q, zero.astype(jnp.int8), widths),
        p,
        window_strides=params["window_strides"],
        padding=[(0, 0)] * (q.ndim - 2),
        rhs_dilation=params["rhs_dilation"],
        dimension_numbers=numbers,
        feature_group_count=params["feature_group_count"],
        preferred_element_type=jnp.int32,
    )
    return y, tuple(axis for axis in range(p.ndim) if axis != numbers.rhs_spec[0])
