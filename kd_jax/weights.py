"""The network that a stage begins with, from a file of pre-trained weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import pretrained, randomness
from kd_jax.forward import Model
from kd_jax.models.base import ModelConfig
from kd_jax.state import Snapshot, no_masks
from kd_jax.tree import map_named, named_leaves


def shapes_of(model: Model, shape: Sequence[int]) -> dict[str, Any]:
    """A network's variables, as shapes; `shape` is that of an input [H, W, C]."""
    inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    return dict(jax.eval_shape(model.init, jax.random.key(0), inputs))


def load_weights(
    file: str | Path,
    config: ModelConfig,
    model: Model,
    shape: Sequence[int],
    seeds: Sequence[int] = (0,),
) -> Snapshot:
    """The network in a file, to start from: the same for all seeds, but for a classifier that is
    fresh where the file's has other classes.

    Args:
      file: safetensors, as torchvision, timm or kd_jax name them.
      config: the architecture.
      model: the same, built for the data's classes: from_linen(config.build(classes, dtype)).
      shape: of an example, [H, W, C].

    Raises:
      UsageError: the file's tensors are not this network's; it names the first.
    """
    return network(file, config, model, shape, seeds)[0]


def network(
    file: str | Path,
    config: ModelConfig,
    model: Model,
    shape: Sequence[int],
    seeds: Sequence[int],
) -> tuple[Snapshot, str]:
    """As load_weights, and what to say of it."""
    shapes = shapes_of(model, shape)
    found = pretrained.look(file, config, shapes)
    taken = pretrained.read(found, config, shapes, tuple(shape))
    fresh = _fresh(model, shape, found.fresh, seeds)
    stacked = lambda path: jnp.broadcast_to(taken[path], (len(seeds), *taken[path].shape))  # noqa: E731
    variables = map_named(lambda path, _: fresh[path] if path in fresh else stacked(path), shapes)
    params = variables.pop("params")
    said = f"{Path(file).name} ({found.layout}'s layout, {len(found.tensors)} tensors)"
    if found.fresh:
        before = f", in place of one of {found.classes} classes," if found.classes else ""
        said += f"; the classifier{before} is fresh"
    return Snapshot(params, variables, no_masks(params)), said


def _fresh(
    model: Model, shape: Sequence[int], paths: Sequence[str], seeds: Sequence[int]
) -> dict[str, jax.Array]:
    """{path: values [S, ...]} as fresh networks of these seeds have them; of the rest of them
    nothing is computed."""
    inputs = jnp.zeros((1, *shape), jnp.float32)

    def one(seed: jax.Array) -> dict[str, jax.Array]:
        made = named_leaves(dict(model.init(randomness.stream(seed, "init"), inputs)))
        return {path: made[path] for path in paths}

    return jax.jit(jax.vmap(one))(jnp.asarray(seeds, jnp.uint32)) if paths else {}
