"""Whether a stage, its model and its data fit together: all that can be known before training."""

import functools
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from kd_jax import freezing, tree
from kd_jax.augment import Augment
from kd_jax.config import Prune, Stage
from kd_jax.data import Dataset
from kd_jax.datasets import Spec
from kd_jax.devices import Layout, batch_sharding, memory
from kd_jax.errors import UsageError, require
from kd_jax.forward import Model
from kd_jax.portion import train_size
from kd_jax.prune import Evidence, Learned, allocate, sensitivity
from kd_jax.prune import masks as masks_lib
from kd_jax.state import Snapshot, no_masks, start
from kd_jax.tree import named_leaves
from kd_jax.units import amount


def example_shape(data: Dataset) -> jax.ShapeDtypeStruct:
    """One prepared example [1, H, W, C], for counting and tracing."""
    return jax.ShapeDtypeStruct((1, *data.spec.shape), jnp.float32)


def check(
    stage: Stage, model: Model, data: Dataset, devices: Layout = 0, who: str = "", seeds: int = 1
) -> None:
    """Raises UsageError for what can't work, before any training; it begins with the name of the
    stage's field, or with a flag. `who` is what to call the model; so many seeds train at once."""
    _check_labels(stage, data)
    size = train_size(stage, data)
    steps = stage.epochs * (size // stage.batch)
    require(
        stage.batch <= size,
        f"batch {stage.batch} is larger than the {size} training examples{_left_by(stage, data)}",
    )
    require(steps < 2**31, f"epochs {stage.epochs} make {steps} steps, and 2**31 are too many")
    require(
        stage.optim.warmup < max(steps, 1),
        f"optim.warmup {stage.optim.warmup} must be below the {steps} steps of the stage: lower it",
    )
    batch_sharding(devices, stage.batch)
    _check_augment("augment", stage.augment, data)
    if getattr(stage, "looking_twice", ()):
        _check_augment("second-view", stage.second_view, data)  # type: ignore[attr-defined]
    replay = getattr(stage, "replay", "off")
    require(
        replay == "off" or not data.streamed,
        f"replay {replay}: {data.spec.name} is streamed from disk: set it to off, or raise "
        "--data.memory-mb",
    )
    variables = check_model(stage.model, model, data, who)
    freezing.check(stage.freeze, variables["params"])
    _check_memory(stage, variables, f"--{stage.model} {who}".strip(), seeds)
    if isinstance(stage, Prune):
        _check_prune(stage, model, data.spec.shape, variables["params"], steps)
        _check_criterion(stage, model, data, variables)


def require_labels(said: str, labels: Iterable[int], data: Dataset) -> None:
    """Raises UsageError, which begins with what was `said`, where the data have no such labels."""
    last = data.spec.classes - 1
    require(
        all(0 <= label <= last for label in labels),
        f"{said}: {data.spec.name} has the labels 0 to {last}: name some of these",
    )


def _check_labels(stage: Stage, data: Dataset) -> None:
    if not stage.labels:
        return
    said = f"labels {' '.join(map(str, stage.labels))}"
    require_labels(said, stage.labels, data)
    require(
        not data.streamed,
        f"{said}: {data.spec.name} is streamed from disk, and which labels its examples have is "
        "not known beforehand: leave labels out, or raise --data.memory-mb",
    )
    require(
        train_size(stage, data) > 0,
        f"{said}: none of the {len(data.train)} training examples has one of them: name others, or "
        "raise --data.train-limit",
    )


def _check_prune(
    stage: Prune, model: Model, shape: tuple[int, ...], params: Any, steps: int
) -> None:
    try:
        stage.schedule.events(steps, stage.sparsity)
    except UsageError as error:
        raise UsageError(f"schedule.{str(error).partition('.')[2]}") from None
    given = (stage.include, stage.exclude, stage.structure.fits)
    masks = jax.eval_shape(lambda p: masks_lib.start(p, *given), params)
    shapes = {name: mask.shape for name, mask in named_leaves(masks).items()}
    amounts = allocate.of_layers("amounts", stage.amounts, [*shapes])
    allocate.of_layers("thresholds", stage.thresholds, [*shapes])
    sizes = {name: stage.structure.size(shape) for name, shape in shapes.items()}
    if stage.budget != "units":
        allocate.room(stage.budget, sizes, stage.sparsity)
    elif stage.allocation not in ("threshold", "std"):
        allocate.counts(stage.allocation, shapes, sizes, stage.sparsity, amounts)
    if stage.budget == "macs":
        sensitivity.macs(model, shape, masks)
    try:
        jax.eval_shape(stage.penalty or (lambda params, masks: ()), params, masks)
    except UsageError as error:
        raise UsageError(f"penalty.{error}") from None


def _check_criterion(stage: Prune, model: Model, data: Dataset, variables: Any) -> None:
    """Tries on shapes whether the criterion can score this network."""
    inputs = jax.ShapeDtypeStruct((1, *data.spec.shape), jnp.float32)

    def score(variables: Any, inputs: Any, key: Any) -> Any:
        params = variables["params"]
        others = {name: part for name, part in variables.items() if name != "params"}
        forward = lambda p, c, x, train: model.forward({"params": p, **c}, x, train, key)[0].logits  # noqa: E731
        given = (stage.include, stage.exclude, stage.structure.fits)
        masks, criterion = masks_lib.start(params, *given), stage.criterion
        learned = isinstance(criterion, Learned)
        seen = Evidence(
            params=params,
            masks=masks,
            key=key,
            losses=(lambda p: jnp.sum(forward(p, others, inputs, True).astype(jnp.float32)),),
            inputs=(inputs,),
            targets=(jnp.zeros((1, data.spec.classes)),),
            network=forward,
            collections=others,
            shape=data.spec.shape,
            learned=criterion.start(params, masks, stage.structure, key) if learned else {},
            structure=stage.structure,
        )
        return criterion(seen)

    jax.eval_shape(score, variables, inputs, jax.random.key(0))


def _left_by(stage: Stage, data: Dataset) -> str:
    """What makes the training examples as few as they are, and the fix."""
    held_out = len(data.validation)
    labels = " ".join(map(str, stage.labels))
    causes = {
        f"labels {labels}": bool(labels),
        f"fraction {stage.fraction:g}": stage.fraction < 1,
        "--data.train-limit": len(data.train) + held_out < data.ids_below,
        "--data.validation": held_out > len(data.train),
    }
    found = [cause for cause, is_one in causes.items() if is_one]
    return f" that {' and '.join(found)} leave: change that, or lower it" if found else ": lower it"


def _check_memory(stage: Stage, variables: Any, who: str, seeds: int) -> None:
    """What a step can't do without: state and gradients. Activations come on top."""
    params = variables["params"]
    others = {name: part for name, part in variables.items() if name != "params"}
    averages = stage.ema is not None or stage.swa is not None
    begin = lambda p, c: start(Snapshot(p, c, no_masks(p)), stage.optim, averages)  # noqa: E731
    needed = seeds * tree.size_bytes((params, jax.eval_shape(begin, params, others)))
    there = memory()
    require(
        there is None or needed <= there,
        f"{who}: weights, gradients and moments take {amount(needed, 'B')}"
        f"{f' for {seeds} seeds at once' if seeds > 1 else ''}, and there are "
        f"{amount(there or 0, 'B')} of memory: choose a smaller model"
        f"{', or --together False' if seeds > 1 else ''}",
    )


def _check_augment(field: str, augment: Augment, data: Dataset) -> None:
    side = min(data.spec.shape[:2])
    for name in ("crop", "shift"):
        value = getattr(augment, name)
        require(
            value < side,
            f"{field}.{name} {value} moves images of {side} pixels out of sight: lower it",
        )


@functools.lru_cache(maxsize=8)
def _abstract(model: Model, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """(variables, logits) of one float32 example of a shape, as they would come out."""
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    key = jax.random.key(0)
    variables = jax.eval_shape(model.init, key, example)
    train = lambda variables, x, key: model.forward(variables, x, True, key)[0].logits  # noqa: E731
    return variables, jax.eval_shape(train, variables, example, key)


def check_model(role: str, model: Model, data: Dataset, who: str = "") -> Any:
    """The model's variables, as shapes. Raises UsageError for one that can't take the data's
    inputs, or has other classes; it begins with the flag of the role, teacher or student."""
    spec = data.spec
    who = f"--{role} {who}".strip()
    try:
        variables, logits = _abstract(model, spec.shape)
    except Exception as error:  # whatever a model may raise; all of it says the same
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UsageError(
            f"{who} can't take inputs of shape {spec.shape}, those of {spec.name} ({reason}): "
            "choose another model or --data.image-size"
        ) from error
    require(
        logits.shape == (1, spec.classes),
        f"{who} gives outputs of shape {logits.shape[1:]} for an example, and {spec.name} has "
        f"{spec.classes} classes: teacher, student and data must have the same",
    )
    return variables


def check_fits(where: str, role: str, model: Model, spec: Spec) -> None:
    """A few words in somebody's file must not fill the memory. Raises UsageError where a network
    would, before it is made."""
    needed, there = tree.size_bytes(_abstract(model, spec.shape)[0]), memory()
    require(
        there is None or needed <= there,
        f"{where}: the {role} would take {amount(needed, 'B')}, and there are "
        f"{amount(there or 0, 'B')} of memory",
    )


def check_network(who: str, network: Snapshot, variables: Any, seeds: int) -> None:
    """Raises UsageError unless a network, [S, ...], is one of so many seeds for a model whose
    variables, as shapes, are given."""
    expected = {name: (seeds, *x.shape) for name, x in named_leaves(variables).items()}
    found = {name: tuple(x.shape) for name, x in named_leaves(network.variables).items()}
    for name in sorted(expected.keys() | found.keys()):
        here, needed = found.get(name, "none"), expected.get(name, "none")
        require(
            here == needed,
            f"{who}: {name} of shape {here} where the model with {seeds} seeds has {needed} "
            "(weights of one network are stacked by kd_jax.network(params, collections, seeds))",
        )
