"""A stage made ready to run: from its description, model and data to what the loop takes."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import compiled, hosts, lessons
from kd_jax.batch import Batch
from kd_jax.checks import check, check_model, example_shape
from kd_jax.config import Distill, Prune, Stage
from kd_jax.data import Dataset, Split, guess
from kd_jax.devices import Layout, batch_sharding, loops_well, put, replicated, splits
from kd_jax.ensembles import MEMBERS
from kd_jax.errors import require
from kd_jax.events import alive_of, averaged, calibrated_at, event_steps, events, pruning
from kd_jax.forward import Model
from kd_jax.freezing import Patterns
from kd_jax.metrics import accuracy, predictions
from kd_jax.objective import Settings, part_names
from kd_jax.pieces import Job
from kd_jax.portion import shown, train_size
from kd_jax.program import Program, Resident, Teacher
from kd_jax.stage_settings import one_of, settings_of
from kd_jax.state import Snapshot, TrainState
from kd_jax.stream import View, stream

Array = jax.Array
Taught = tuple[Model, Snapshot]  # a teacher: the model and its network, [S, ...]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A stage, and what it runs with.

    Attributes:
      variants: the stage; or several that differ in numbers alone, to be trained together.
      program, compiled: its static choices, and the programs made of them.
      settings, seeds: what these are given; seeds is an array [S].
      data: the data set.
      resident: the stage's share of the training split on the device; None where it is streamed.
    """

    variants: tuple[Stage, ...]
    program: Program
    compiled: compiled.Compiled
    settings: Settings
    seeds: Array
    data: Dataset
    resident: Resident | None

    @property
    def stage(self) -> Stage:
        """The stage; of several variants, the first."""
        return self.variants[0]

    @property
    def home(self) -> Any:
        """Where arrays live that are not split over devices."""
        return replicated(self.program.sharding)

    def put(self, network: Any) -> Any:
        """A network, or variables, put where those in training live."""
        return put(self.program.sharding, network)

    def begin(self, network: Snapshot | None) -> TrainState:
        """The state at step 0, from a network [S, ...] or [S·V, ...] or, with None, from fresh
        parameters."""
        labels = labels_by_id(self.stage, self.data)
        return self.compiled.start(self.settings, self.seeds, network, labels)


def prepare(
    variants: Sequence[Stage],
    model: Model,
    data: Dataset,
    teacher: Taught | None,
    seeds: Sequence[int],
    devices: Layout,
) -> Prepared:
    """Raises UsageError where stage, model, data and teacher don't fit together."""
    stage = variants[0]
    program = program_of(stage, model, data, teacher and teacher[0], devices)
    programs = compiled.build(program, loops_well(model, example_shape(data)))
    return Prepared(
        variants=tuple(variants),
        program=program,
        compiled=programs,
        settings=settings_of(*variants),
        seeds=jnp.asarray(seeds, jnp.uint32),
        data=data,
        resident=_resident(stage, program, data),
    )


def check_variants(
    variants: Sequence[Stage], model: Model, data: Dataset, teacher: Model | None, devices: Layout
) -> None:
    """Raises UsageError unless the stages differ only in numbers that one program can be given."""
    if len(variants) == 1:
        return

    def static(stage: Stage) -> tuple:
        program = program_of(stage, model, data, teacher, devices)
        settings = jax.tree.structure(one_of(stage))
        seen = train_size(stage, data), stage.labels
        return program, seen, settings, event_steps(stage, program.steps)

    first = static(variants[0])
    require(
        all(static(stage) == first for stage in variants[1:]),
        "it changes the program (its shapes, steps or choices), so that one program can't "
        "train all of them: set --together False, to train one after another",
    )


def program_of(
    stage: Stage, model: Model, data: Dataset, teacher: Model | None, devices: Layout
) -> Program:
    """The stage's static choices, once it is checked."""
    check(stage, model, data, devices)
    _check_peers(stage, model)
    model = _frozen(model, stage.freeze) if stage.freeze_statistics else model
    terms = getattr(stage, "terms", {})
    learns = stage if isinstance(stage, Distill) else None
    by = learns.taught_by if learns else "teacher"
    taught = by == "teacher" and any(term.taught for term in terms.values())
    require(not taught or teacher is not None, "a stage with distillation terms needs a teacher")
    if taught and teacher is not None:
        check_model("teacher", teacher, data)
    steps_per_epoch = train_size(stage, data) // stage.batch
    program = Program(
        model=model,
        teacher=teacher if taught else None,
        spec=data.spec,
        augment=stage.augment,
        batch=stage.batch,
        steps=stage.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        itself=by == "average",
        peers=learns.alike if learns else 0,
        second=learns.second_view if learns and learns.looking_twice else None,
        reads=(MEMBERS,) if learns and learns.by_member else (),
        prunes=isinstance(stage, Prune),
        freeze=stage.freeze,
        freeze_statistics=stage.freeze_statistics,
        recalibrate=stage.recalibrate if calibrated_at(stage, stage.epochs) else 0,
        sharding=batch_sharding(devices, stage.batch),
        **(pruning(stage, stage.epochs * steps_per_epoch) if isinstance(stage, Prune) else {}),
    )
    swa = averaged(stage, program.length, steps_per_epoch)
    return lessons.tapped(dataclasses.replace(program, swa=swa), terms)


@functools.lru_cache(maxsize=16)
def _frozen(model: Model, freeze: Patterns) -> Model:
    """The network whose frozen norms keep their statistics; the same object for the same one, so
    that its programs are found again."""
    require(
        model.freeze is not None,
        "freeze-statistics True: the norms of this network (gated, cut, of peers, or a function) "
        "can't be told apart: set it to False",
    )
    assert model.freeze is not None
    return model.freeze(freeze)


def _check_peers(stage: Stage, model: Model) -> None:
    others = getattr(stage, "peer_models", ())
    require(
        model.members == 1 + len(others),
        f"peer-models {' '.join(others) or 'none'}: with its peers the stage has {1 + len(others)} "
        f"networks, and was given {model.members}: give it one, or kd_jax.mutual((model, peer))",
    )


def labels_by_id(stage: Stage, data: Dataset) -> Array:
    """int32 [N], the label of the stage's example of each id, -1 where there is none; [0] where no
    distillation term asks for it."""
    terms = getattr(stage, "terms", {})
    if not any(term.remembers for term in terms.values()):
        return jnp.zeros((0,), jnp.int32)
    part = shown(stage, data)
    labels = np.full(int(np.max(part.ids)) + 1, -1, np.int32)
    labels[part.ids] = part.labels
    return jnp.asarray(labels)


def job_of(
    prepared: Prepared,
    teacher: Teacher | Callable[[int], Teacher] | None,
    state: TrainState,
    begin: Callable[[], TrainState] | None = None,
    nans: bool = False,
) -> Job:
    """What the loop runs, from the state at step 0, which `begin` makes once more; see
    `taught.teacher_of`."""
    stage, program, data = prepared.stage, prepared.program, prepared.data
    home = prepared.home if splits(program.sharding) else None
    predict = compiled.predictor(program.model, data.spec, home)

    def validate(state: TrainState) -> list[float]:
        network = prepared.compiled.rest(prepared.settings, prepared.seeds, state)
        logits, labels = predictions(predict, network, data.validation)
        return accuracy(logits, labels).tolist()

    def sparsity(state: TrainState) -> list[float]:
        layers = jax.tree.leaves(state.masks)
        return list(1 - alive_of(layers) / sum(mask.size // len(mask) for mask in layers))

    resident = prepared.resident
    return Job(
        program=program,
        compiled=prepared.compiled,
        settings=prepared.settings,
        seeds=prepared.seeds,
        teacher=teacher,
        data=resident if resident is not None else streamed(stage, data, prepared.seeds),
        events=events(prepared.variants, program.steps, state),
        validate=validate if len(data.validation) else None,
        validate_every=stage.evaluate_every,
        sparsity=sparsity if jax.tree.leaves(state.masks) else None,
        norms=getattr(stage, "gradient_norms", False) and len(part_names(prepared.settings)) > 1,
        begin=begin,
        guess=guess(data),
        nans=nans,
    )


def _resident(stage: Stage, program: Program, data: Dataset) -> Resident | None:
    """The stage's share of the training split on the device; None where the set is streamed."""
    if not isinstance(data.train, Split):
        return None
    part = shown(stage, data)
    arrays = (part.ids, part.inputs, part.labels)
    return Resident(*hosts.place(arrays, replicated(program.sharding)))


def streamed(stage: Stage, data: Dataset, seeds: Array) -> Callable[[int], Iterator[Batch]]:
    """A function from a step to the batches from there on, of a set that is streamed."""
    require(len(seeds) == 1, "a streamed data set trains one seed at a time: set together to false")
    assert isinstance(data.train, View)
    view = dataclasses.replace(data.train, ids=data.train.ids[: train_size(stage, data)])
    return lambda step: stream(view, stage.batch, int(seeds[0]), step)
