"""Networks whose zeros are left out: matrices of mostly zeros, stored and multiplied as such.

A masked kernel costs what a dense one costs. Here the forward pass is traced, and where an input is
multiplied by a matrix that is a parameter, that matrix may be given in compressed rows (BCSR).
Whether this is faster depends on device, sparsity and batch, so it is measured. Convolutions stay
dense: there is no sparse kernel for them.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.cost import eqn_macs
from kd_jax.forward import Model, Outputs, Variables
from kd_jax.latency import Latency, interleaved
from kd_jax.platform import equations
from kd_jax.products import COPIES, run
from kd_jax.tree import map_named, named_leaves, path_name
from kd_jax.typed import Typed

if TYPE_CHECKING:  # it brings scipy.sparse, a tenth of what all of kd_jax takes to import
    from jax.experimental.sparse import BCSR

Array = jax.Array

WORTH = 0.5  # share of zeros below which compressed rows are not tried
GAIN = 0.95  # of the dense product's time, that a sparse one may take at most to be chosen

CONVENTION = (
    "Zeros left out: MACs without those of zero weights, what a device would gain that skips every "
    "zero; and measured, matrices in compressed rows (BCSR) where each is faster than its dense "
    "product at this batch on this device, dense and sparse network timed in turns. Convolutions "
    "stay dense."
)


@dataclasses.dataclass(frozen=True)
class Product:
    """An input multiplied by a parameter in a forward pass.

    Attributes:
      name: of the parameter, `Dense_0/kernel`.
      macs: multiply-accumulates of the dense product.
      rows: of the input as a matrix; 0 for what can't be sparse: a convolution, or a parameter that
        is no matrix with the summed axis first.
    """

    name: str
    macs: int
    rows: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseTiming(Typed):
    """A network with some matrices in compressed rows, against itself all dense."""

    layers: list[str]
    """Names of these; none where no matrix is faster so."""
    dense: Latency
    sparse: Latency


def products(model: Model, variables: Variables, inputs: Any) -> list[Product]:
    """Those of a forward pass in evaluation mode, in program order; of arrays or their shapes."""
    found: list[Product] = []

    def heard(name: str, eqn: Any, given: list[Any], place: int) -> None:
        del given, place
        found.append(Product(name, eqn_macs(eqn), _rows(eqn)))

    keeps = lambda eqn: eqn.primitive.name in COPIES  # noqa: E731
    jax.eval_shape(lambda v, x: _logits(model, v, x, heard, keeps), variables, inputs)
    return found


def _rows(eqn: Any) -> int:
    """Of an input [..., C] that is multiplied by a kernel [C, K] from the right; else 0."""
    if eqn.primitive.name != "dot_general":
        return 0
    x, w = (v.aval.shape for v in eqn.invars)
    plain = eqn.params["dimension_numbers"] == (((len(x) - 1,), (0,)), ((), ()))
    return int(np.prod(x[:-1])) if plain and len(w) == 2 else 0


def macs_nonzero(found: list[Product], params: Any, total: int) -> int:
    """Multiply-accumulates without those of zero weights, of so many in all."""
    leaves = jax.device_get(named_leaves(params))
    # None of what has no entries is zero, as none of it is multiplied.
    kept = {name: np.count_nonzero(x) / x.size if x.size else 1.0 for name, x in leaves.items()}
    return total - round(sum(product.macs * (1 - kept[product.name]) for product in found))


def sparse(model: Model) -> Model:
    """The same network for evaluation, some of whose parameters may be what `compress` makes of
    them. Logits are equal but for rounding."""

    def forward(
        variables: Variables, inputs: Array, train: bool = False, key: Array | None = None
    ) -> tuple[Outputs, Variables]:
        del train, key
        rows = {n: leaf for n, leaf in _parameters(variables).items() if _is_sparse(leaf)}
        # Made dense, for whatever else is done with them: what nobody reads XLA leaves out.
        dense = jax.tree.map(
            lambda leaf: leaf.todense().T if _is_sparse(leaf) else leaf,
            variables,
            is_leaf=_is_sparse,
        )

        def product(name: str, eqn: Any, given: list[Any], place: int) -> Any:
            fits = name in rows and place == 1 and _rows(eqn)
            return _multiply(given[0], rows[name]) if fits else None

        logits = _logits(model, dense, inputs, product, _copies)
        return Outputs(logits), {n: part for n, part in variables.items() if n != "params"}

    return Model(model.init, forward)


def compress(variables: Variables, layers: Collection[str]) -> Variables:
    """Variables with the transposed matrices of `layers` in compressed rows."""

    from jax.experimental.sparse import BCSR

    def leaf(name: str, x: Array) -> Any:
        return BCSR.fromdense(jnp.asarray(x).T) if name in layers else x

    return {**variables, "params": map_named(leaf, variables["params"])}


def _is_sparse(leaf: Any) -> bool:
    from jax.experimental.sparse import BCSR

    return isinstance(leaf, BCSR)


def _copies(eqn: Any) -> bool:
    """Whether an equation leaves its operands as they are."""
    types = [[v.aval.dtype for v in of] for of in (eqn.invars, eqn.outvars)]
    return eqn.primitive.name in COPIES and types[0] == types[1]


def _parameters(variables: Variables) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"], is_leaf=_is_sparse)
    return {path_name(path): leaf for path, leaf in leaves}


def _logits(model: Model, variables: Variables, inputs: Array, product: Any, keeps: Any) -> Array:
    """Of a forward pass in evaluation mode; `product` makes those with parameters."""
    forward = lambda v, x: model.forward(v, x, train=False)[0].logits  # noqa: E731
    program, leaves = equations(forward, variables, inputs), named_leaves(variables)
    whose = [name.partition("/")[2] if name.startswith("params/") else "" for name in leaves]
    names = {i: name for i, name in enumerate(whose) if name}
    (logits,) = run(program, [*leaves.values(), inputs], names, product, keeps)
    return logits


def _multiply(x: Array, transposed: "BCSR") -> Array:
    """x @ W, [..., C] by [C, K]; only a sparse matrix on the left has a fast kernel."""
    y = (transposed @ x.reshape(-1, x.shape[-1]).T).T
    return y.reshape(*x.shape[:-1], y.shape[-1])


def measure(
    model: Model, variables: Variables, inputs: Mapping[int, Array], seconds: float | None = None
) -> dict[str, SparseTiming]:
    """{batch: how fast it is with those matrices in compressed rows that are faster so}; empty
    where no matrix has zeros enough to try.

    Args:
      variables: of one network.
      inputs: {batch size: prepared inputs [batch, ...]}.
    """
    named = named_leaves(variables["params"])
    found = {}
    for batch, x in inputs.items():
        tried = [p for p in products(model, variables, x) if p.rows and _zeros(named[p.name])]
        if not tried:
            return {}
        layers = [p.name for p in tried if _faster(named[p.name], p.rows, seconds)]
        less = compress(variables, layers)
        networks = {"dense": (model, variables), "sparse": (sparse(model), less)}
        calls = {name: _call(*network, x) for name, network in networks.items()}
        found[str(batch)] = SparseTiming(layers=layers, **interleaved(calls, seconds))
    return found


def _call(model: Model, variables: Variables, x: Array) -> Callable[[], Array]:
    run = jax.jit(lambda v, x: model.forward(v, x, train=False)[0].logits)
    return lambda: run(variables, x)


def _zeros(kernel: Array) -> bool:
    return bool(1 - np.count_nonzero(kernel) / kernel.size >= WORTH)


def _faster(kernel: Array, rows: int, seconds: float | None) -> bool:
    """Whether a product by compressed rows takes less time than the dense one."""
    from jax.experimental.sparse import BCSR

    x = jnp.ones((rows, kernel.shape[0]), kernel.dtype)
    less, product, multiply = BCSR.fromdense(kernel.T), jax.jit(jnp.matmul), jax.jit(_multiply)
    calls = {"dense": lambda: product(x, kernel), "sparse": lambda: multiply(x, less)}
    found = interleaved(calls, seconds)
    return found["sparse"].median_ms < GAIN * found["dense"].median_ms
