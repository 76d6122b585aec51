"""A network that computes with quantised weights and inputs: a Model like any other.

The parameters keep their names and shapes, so masks, optimizers and checkpoints know nothing of
it; the grids stand beside them in a collection. In training the parameters may lie anywhere, and
the network sees them on their grids; at rest they are there themselves.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import products
from kd_jax.forward import Model, Outputs, Variables
from kd_jax.quantize.codebooks import ranked, shared
from kd_jax.quantize.uniform import Grid, on_grid
from kd_jax.tree import map_named, named_leaves, nested

Array = jax.Array
QUANTISED = "quantised"  # the collection; and of parameters, the scales that are trained
WEIGHTS, INPUTS, CODES = "weights", "inputs", "codes"


@dataclasses.dataclass(frozen=True)
class Layout:
    """What of a network is quantised.

    Attributes:
      weights: names of the parameters (`Conv_0/kernel`) that have a grid.
      inputs: names of the kernels whose inputs have one.
      codes: names of the parameters that have a codebook instead.
      channels: whether each output channel, the last axis of a kernel, has a scale of its own.
      learned: whether scales are trained with the weights.
      mean: whether weights that share a value move by the mean of their gradients, not the sum.
    """

    weights: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    channels: bool = True
    learned: bool = False
    mean: bool = False

    def scales(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of the scales of a kernel of this shape."""
        ones = (1,) * len(shape)
        return (*ones[:-1], shape[-1]) if self.channels and shape else ones


def quantised(model: Model, layout: Layout) -> Model:
    """The same network, with `layout` on grids."""

    def init(key: Array, inputs: Array) -> Variables:
        return beside(layout, model.init(key, inputs))

    def forward(
        variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        # Evaluated is a network at rest, whose weights lie on their grids already.
        own = bare(seen(layout, variables) if train else variables)
        said, updated = _run(layout, model, grids(variables)[INPUTS], own, inputs, train, key)
        return said, {**updated, QUANTISED: variables[QUANTISED]}

    tapped = model.tapped
    return Model(
        init,
        forward,
        tapped and (lambda paths: quantised(tapped(paths), layout)),
        rests=lambda variables: at_rest(layout, variables),
        beneath=model,
    )


def _run(
    layout: Layout,
    model: Model,
    given: dict[str, Grid],
    variables: Variables,
    inputs: Array,
    train: bool,
    key: Array | None,
) -> tuple[Outputs, Variables]:
    """The network's forward pass, whose products see inputs on their grids."""
    if not given:
        return model.forward(variables, inputs, train, key)

    def product(name: str, eqn: Any, operands: list[Any], place: int) -> Any:
        grid = given.get(name.removeprefix("params/"))
        if grid is None:
            return None
        x = operands[1 - place]
        own = float(np.prod(x.shape[1:])) if layout.learned else 1.0
        x = _lies_on(grid, x.astype(jnp.float32), own, layout.learned).astype(x.dtype)
        return products.bind(eqn, [x, operands[1]] if place else [operands[0], x])[0]

    return products.forward(model, product, variables, inputs, train, key)


def _lies_on(grid: Grid, x: Array, numbers: float, learned: bool) -> Array:
    """x on a grid, of which so many numbers belong to a scale."""
    gain = 1 / jnp.sqrt(numbers * jnp.maximum(grid.high, 1.0)) if learned else jnp.ones(())
    scale = jnp.maximum(grid.scale, 1e-12) if learned else grid.scale
    return on_grid(x, scale, grid.zero, grid.low, grid.high, gain)


def grids(variables: Variables) -> dict[str, dict[str, Grid]]:
    """{"weights" or "inputs": {name: its grid}}."""
    kept, trained = variables[QUANTISED], variables["params"].get(QUANTISED, {})
    found: dict[str, dict[str, Grid]] = {}
    for kind in (WEIGHTS, INPUTS):
        parts: dict[str, dict[str, Array]] = {}
        for whose in (kept, trained):
            for path, leaf in named_leaves(whose.get(kind, {})).items():
                name, _, field = path.rpartition("/")
                parts.setdefault(name, {})[field] = leaf
        found[kind] = {name: Grid(**fields) for name, fields in parts.items()}
    return found


def codes_of(variables: Variables) -> dict[str, Array]:
    """{name: the codes of weights that share values}."""
    return named_leaves(variables[QUANTISED].get(CODES, {}))


def at_rest(layout: Layout, variables: Variables) -> Variables:
    """The variables as they are kept: weights lie on their grids, no zero has a sign, and codes are
    what anybody finds who only has the weights."""
    kept = seen(layout, variables)
    names = {*layout.weights, *layout.codes}
    plain = lambda name, w: jnp.where(w == 0, 0.0, w) if name in names else w  # noqa: E731
    params = map_named(plain, kept["params"])
    codes = {n: ranked(w) for n, w in named_leaves(params).items() if n in layout.codes}
    return {**kept, "params": params, QUANTISED: {**kept[QUANTISED], CODES: nested(codes)}}


def seen(layout: Layout, variables: Variables) -> Variables:
    """The variables with weights on their grids."""
    on, codes = grids(variables)[WEIGHTS], codes_of(variables)

    def leaf(name: str, w: Array) -> Array:
        if name in codes:
            return shared(w, codes[name], layout.mean)
        if name not in on:
            return w
        return _lies_on(on[name], w, w.size / on[name].scale.size, layout.learned)

    return {**variables, "params": map_named(leaf, variables["params"])}


def bare(variables: Variables) -> Variables:
    """The variables that the network itself knows."""
    params = {name: part for name, part in variables["params"].items() if name != QUANTISED}
    others = {name: part for name, part in variables.items() if name not in ("params", QUANTISED)}
    return {"params": params, **others}


def beside(layout: Layout, variables: Variables, parts: dict[str, Any] | None = None) -> Variables:
    """A network's variables with grids beside them: `parts`, {"weights", "inputs": {name: Grid},
    "codes": {name: codes}}; or such as cover -1 to 1."""
    parts = parts or _blank(layout, variables["params"])
    params = dict(variables["params"])
    kept = {kind: {n: g.data() for n, g in parts[kind].items()} for kind in (WEIGHTS, INPUTS)}
    if layout.learned:
        pop = lambda grids: nested({n: {"scale": g.pop("scale")} for n, g in grids.items()})  # noqa: E731
        params[QUANTISED] = {kind: pop(kept[kind]) for kind in kept}
    others = {name: part for name, part in variables.items() if name != "params"}
    grids_ = {kind: nested(kept[kind]) for kind in kept}
    return {"params": params, **others, QUANTISED: {**grids_, CODES: nested(parts[CODES])}}


def _blank(layout: Layout, params: Any) -> dict[str, Any]:
    leaves = named_leaves(params)
    one = lambda name: jnp.ones(layout.scales(leaves[name].shape))  # noqa: E731
    return {
        WEIGHTS: {name: Grid.symmetric(one(name), 8) for name in layout.weights},
        INPUTS: {name: Grid.affine(-jnp.ones(()), jnp.ones(()), 8) for name in layout.inputs},
        CODES: {name: jnp.zeros(leaves[name].shape, jnp.int16) for name in layout.codes},
    }


def sites(model: Model, variables: Any, inputs: Any) -> tuple[str, ...]:
    """The parameters that inputs are multiplied by outside of loops, in program order; of arrays or
    their shapes."""
    found: dict[str, None] = {}

    def heard(name: str, eqn: Any, given: list[Any], place: int) -> None:
        del eqn, given, place
        if name.startswith("params/"):
            found[name.removeprefix("params/")] = None

    jax.eval_shape(lambda v, x: products.forward(model, heard, v, x), variables, inputs)
    return tuple(found)


def inputs_of(model: Model, variables: Variables, inputs: Array) -> dict[str, list[Array]]:
    """{kernel: what is multiplied by it, once or more often}, in a forward pass."""
    found: dict[str, list[Array]] = {}

    def heard(name: str, eqn: Any, given: list[Any], place: int) -> None:
        del eqn
        if name.startswith("params/"):
            x = given[1 - place].astype(jnp.float32)
            found.setdefault(name.removeprefix("params/"), []).append(x)

    products.forward(model, heard, variables, inputs)
    return found
