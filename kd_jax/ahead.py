"""A stage's training step from shapes alone, ready to be compiled for devices that may be anywhere:
the program that training runs, without data, parameters or a teacher to run it on."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from kd_jax import compiled, jobs, run_checks
from kd_jax import state as state_lib
from kd_jax.augment import Augment
from kd_jax.batch import Batch
from kd_jax.config import Distill, Fuse
from kd_jax.data import Split
from kd_jax.devices import home_of, replicated, sharding_of
from kd_jax.ensembles import networks_of
from kd_jax.fusion import joined
from kd_jax.mutual import first
from kd_jax.objective import no_metrics
from kd_jax.portion import train_size
from kd_jax.program import Program, Resident, Teacher
from kd_jax.runs import Run
from kd_jax.stage_settings import settings_of

Shapes = Any  # a tree of jax.ShapeDtypeStruct


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a stage.

    Attributes:
      steps: how many the stage has.
      state, teacher, data: what it takes, as shapes; teacher is None where there is none.
      split: how a batch lies on the devices.
      lower: () -> jax.stages.Lowered.
    """

    steps: int
    state: Shapes
    teacher: Shapes
    data: Shapes
    split: NamedSharding
    lower: Callable[[], Any]


def step_of(
    run: Run, name: str, devices: Sequence[Any], networks: dict[str, Shapes], model_axis: int = 1
) -> Step:
    """A stage's step on a batch split over devices, attached or not; to be called and lowered
    inside `platform.tracing_for` theirs.

    Args:
      run: from `pipeline.planned`.
      networks: of the stages before it, as shapes; the stage's own is added.
      model_axis: devices that share one copy of the parameters.

    Raises:
      UsageError: stage, model and data don't fit together.
    """
    stage = run.experiment.stages[name]
    taught = None
    model = run.teacher_model(name)
    if model is not None and isinstance(stage, Distill):
        taught = (model, networks_of([networks[teacher] for teacher in stage.teachers]))
    split = sharding_of(devices, model_axis)
    with run_checks.flags_of(name):
        program = jobs.program_of(stage, run.trained(name), run.data, taught and taught[0], 1)
    program = dataclasses.replace(program, sharding=split)
    programs, settings = compiled.build(program, loop=False), settings_of(stage)
    seeds = _shape(jnp.uint32, len(run.groups[0]))
    labels = jobs.labels_by_id(stage, run.data)
    # Where it has shapes of its own, they are those of fresh parameters.
    begun = None if stage.reshapes else networks.get(stage.start)
    state = jax.eval_shape(programs.start, settings, seeds, begun, labels)
    network = jax.eval_shape(state_lib.rest, state)
    networks[name] = first(network) if program.model.members > 1 else network
    sums = jax.eval_shape(functools.partial(no_metrics, settings, seeds.size))
    size = train_size(stage, run.data)
    teacher = None if program.teacher is None else _teacher(run, name, program, taught)
    data = _data(run, program, size)
    given = (state, sums, teacher, data)
    # One step, also where training runs many as one loop: that is what repeats.
    one = programs.step if run.data.streamed else programs.single
    if not run.data.streamed:
        given = (*given, jax.eval_shape(programs.order, settings, seeds, state.step, data))
    lower = functools.partial(one.lower, settings, seeds, *_placed(given, split))
    return Step(program.steps, state, teacher, data, split, lower)


def fused_of(run: Run, name: str, networks: dict[str, Shapes]) -> None:
    """Adds the network that a stage makes of others, for those after it; there is no step."""
    stage = run.experiment.stages[name]
    assert isinstance(stage, Fuse)
    count = run.experiment.seeds if stage.across == "seeds" else 1
    parts = [networks[of] for of in stage.of for _ in range(count)]
    shares = _shape(jnp.float32, len(run.groups[0]), len(parts))
    networks[name] = jax.eval_shape(functools.partial(joined, stage), parts, shares)


def _shape(dtype: Any, *sizes: int) -> Shapes:
    return jax.ShapeDtypeStruct(sizes, dtype)


def _placed(given: Sequence[Shapes], split: NamedSharding) -> list[Shapes]:
    """State and teacher where training has them; all else is whole on every device."""
    home = replicated(split)
    at = lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)  # noqa: E731
    state, sums, teacher, *data = given
    if teacher is not None and teacher.logits is None:
        teacher = jax.tree.map(lambda x: at(x, home_of(split, x)), teacher)
    state = jax.tree.map(lambda x: at(x, home_of(split, x)), state)
    whole = lambda x: at(x, getattr(x, "sharding", None) or home)  # noqa: E731
    rest = jax.tree.map(whole, (sums, teacher, data))
    return [state, *rest[:2], *rest[2]]


def _data(run: Run, program: Program, size: int) -> Shapes:
    """The stage's share of the training split; of a set that is streamed, a batch."""
    train = run.data.train
    assert isinstance(train, Split)
    count = program.batch if run.data.streamed else size
    shapes = [_shape(x.dtype, count, *x.shape[1:]) for x in (train.ids, train.inputs, train.labels)]
    if run.data.streamed:
        return Batch(*shapes, weights=_shape(jnp.float32, count))
    return Resident(*shapes)


def _teacher(run: Run, name: str, program: Program, taught: Any) -> Shapes:
    """As `taught.teacher_of` has it: logits [S, N, K] that were collected or are replayed, or the
    teacher's variables."""
    stage = run.experiment.stages[name]
    known = stage.augment == Augment() or getattr(stage, "replay", "off") != "off"
    if run.data.streamed or not known or program.asks:
        return Teacher(variables=taught[1].variables)
    sizes = (len(run.groups[0]), train_size(stage, run.data), run.data.spec.classes)
    return Teacher(logits=_shape(jnp.float32, *sizes))
