"""NNX modules as models: split once, plain arrays outside."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax.errors import UsageError
from kd_jax.forward import Model, Outputs, Variables, mode_argument, outputs_of

Array = jax.Array


def from_nnx(build: Callable, taps: tuple[str, ...] = ()) -> Model:
    """An NNX module, from the function that builds it: `build(rngs) -> module`.

    The module is split once into its structure and arrays; the arrays then live outside it, like
    those of any other model, in plain nested dicts: nnx.Param under "params", the rest (batch
    statistics, dropout's counters) under "rest".

    Args:
      taps: paths of modules within it, such as `layers/0`, whose outputs are to be features.
    """
    from flax import nnx  # here: whoever uses Linen alone never loads it

    if isinstance(build, nnx.Module):
        raise UsageError("from_nnx takes a function of rngs, e.g. from_nnx(lambda rngs: Net(rngs))")
    abstract = nnx.eval_shape(lambda: build(nnx.Rngs(0)))
    graph, params, rest = nnx.split(abstract, nnx.Param, ...)
    mode = mode_argument(type(abstract).__call__)

    def init(key: Array, inputs: Array) -> Variables:
        del inputs
        _, params, rest = nnx.split(build(nnx.Rngs(key)), nnx.Param, ...)
        return {"params": _to_names(params), "rest": _to_names(rest)}

    def forward(variables, inputs, train=False, key=None):
        module = nnx.merge(
            graph,
            _from_names(params, variables["params"]),
            _from_names(rest, variables["rest"]),
            copy=True,  # without it, BatchNorm can't write its statistics inside jax.grad
        )
        # Both: layers that the module doesn't hand its argument on to know only of their flags.
        module.train() if train else module.eval()
        with _listening(module, taps) as heard:
            outputs = outputs_of(module(inputs, **mode(train)))
        outputs = Outputs(logits=outputs.logits, features=outputs.features | heard)
        del key  # NNX dropout counts its own draws, in "rest"
        updated = nnx.state(module, nnx.Not(nnx.Param))
        return outputs, {"rest": _to_names(updated) if train else variables["rest"]}

    return Model(init, forward, lambda paths: from_nnx(build, paths))


@contextmanager
def _listening(module: Any, paths: tuple[str, ...]) -> Iterator[dict[str, Array]]:
    """{path: what the NNX module there puts out}, filled while the context lasts; a path at which
    there is none is left out."""
    heard: dict[str, Array] = {}
    changed = []
    for path in paths:
        node = module
        for part in path.split("/"):
            node = _child(node, part)
        if callable(node):
            kind = type(node)
            object.__setattr__(node, "__class__", _telling(kind, path, heard))
            changed.append((node, kind))
    try:
        yield heard
    finally:
        for node, kind in changed:
            object.__setattr__(node, "__class__", kind)


def _child(node: Any, part: str) -> Any:
    """What a module or a list of modules has under a name; None where there is nothing."""
    if not part.isdigit():
        return getattr(node, part, None)
    return node[int(part)] if hasattr(node, "__len__") and len(node) > int(part) else None


def _telling(kind: type, path: str, heard: dict[str, Array]) -> type:
    """The class of a module, whose calls also note what they put out."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = kind.__call__(self, *args, **kwargs)
        heard[path] = jax.tree.leaves(result)[0]
        return result

    return type(kind.__name__, (kind,), {"__call__": call})


def _to_names(state: Any) -> dict:
    """An NNX state as nested dicts with names for keys and plain arrays for leaves."""
    from flax import nnx

    def plain(node: Any) -> Any:
        if isinstance(node, dict):
            return {str(key): plain(value) for key, value in node.items()}
        is_key = jnp.issubdtype(node.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(node) if is_key else node

    return plain(nnx.to_pure_dict(state))


def _from_names(template: Any, named: dict) -> Any:
    """The inverse of _to_names, in the structure of `template`."""
    from flax import nnx

    def typed(path, leaf):
        node: Any = named
        for key in path:
            node = node[str(key)]
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return leaf.replace(jax.random.wrap_key_data(node) if is_key else node)

    flat = nnx.to_flat_state(template)
    return nnx.from_flat_state([(path, typed(path, leaf)) for path, leaf in flat])
