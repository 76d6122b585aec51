"""What an experiment would take on a TPU slice that is not there: its true training steps are
compiled ahead of time, from shapes alone, and the compiled programs are read.

No data set is read and nothing is trained. These are figures of the compiler, and the times are
lower bounds by a roofline: no timings on a TPU.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

from jax.errors import JaxRuntimeError

from kd_jax import ahead, pipeline, roofline, tree
from kd_jax.ahead import Shapes
from kd_jax.chips import Slice
from kd_jax.config import Experiment
from kd_jax.devices import bytes_each
from kd_jax.errors import UsageError, require
from kd_jax.platform import tracing_for
from kd_jax.portion import train_size
from kd_jax.roofline import Figures
from kd_jax.runs import Run

Note = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """A stage of the experiment on the slice; sizes are those of one device's copy.

    Attributes:
      stage: its name.
      batch: examples a step, on all devices together.
      steps: of one run of the stage.
      runs: how many there are, one after another.
      seeds: that one run trains in one program.
      parameters, parameter_bytes: of all seeds of a run.
      state: bytes of all that changes in training, parameters included.
      teacher, data: bytes of the teacher's variables or logits, and of the examples.
      figures: of one step on one chip; None where the compiler found no room for it.
      refusal: what the compiler then said.
    """

    stage: str
    batch: int
    steps: int
    runs: int
    seeds: int
    parameters: int
    parameter_bytes: int
    state: int
    teacher: int
    data: int
    figures: Figures | None
    refusal: str = ""

    @property
    def seconds(self) -> float | None:
        """The least time of all runs; None where the step can't run."""
        return self.figures and self.figures.least_seconds * self.steps * self.runs

    def fits(self, memory: float) -> bool:
        """Whether a step fits into so many bytes."""
        return self.figures is not None and self.figures.peak <= memory


@dataclasses.dataclass(frozen=True)
class Plan:
    """An experiment on a slice.

    Attributes:
      target: the slice; without its devices, which are nothing to keep.
      chips: how many it has.
      stages: in the order in which they run.
    """

    experiment: str
    compute: str
    target: Slice
    chips: int
    stages: list[StagePlan]

    @property
    def seconds(self) -> float | None:
        """The least time of all stages, one after another; None where one can't run."""
        times = [stage.seconds for stage in self.stages]
        return None if None in times else sum(time for time in times if time is not None)


def plan(
    experiment: Experiment,
    target: Slice,
    batch: int | Literal["auto"] | None = None,
    note: Note = lambda text: None,
) -> Plan:
    """Compiles one step of every stage of an experiment for a slice.

    Args:
      target: from `chips.tpu_slice`, or of any devices whose backend compiles.
      batch: examples a step on all devices together, for every stage in place of its own; "auto":
        for each stage the largest that fits, of the powers of two times the number of devices.
      note: is told what is being compiled.

    Raises:
      UsageError: the experiment can't work, or a batch does not divide over the devices.
    """
    count = len(target.devices)
    require(
        experiment.devices in (0, count),
        f"--devices {experiment.devices}: a plan is for all {count} devices of {target.name}: "
        "leave it out, or take another --topology",
    )
    if batch is not None:
        require(batch == "auto" or batch >= 1, f"--batch {batch}: must be at least 1")
        experiment = _with_batch(experiment, 1 if batch == "auto" else batch)
    copies = _copies(experiment, target)
    for name in experiment.order():
        if not experiment.stages[name].trains:
            continue
        size = experiment.stages[name].batch
        require(
            batch == "auto" or size % copies == 0,
            f"--{'batch' if batch else f'{name}.batch'} {size} does not divide over the {copies} "
            f"devices of {target.name}: use a multiple of {copies}",
        )
    with tracing_for(target.devices[0].platform):
        stages = _stages(experiment, target, batch == "auto", note)
    target = dataclasses.replace(target, devices=())
    return Plan(experiment.name, experiment.compute, target, target.chips, stages)


def _copies(experiment: Experiment, target: Slice) -> int:
    """Of the parameters: over so many groups of devices a batch is split."""
    axis, count = experiment.model_axis, len(target.devices)
    require(
        count % axis == 0,
        f"--model-axis {axis} does not divide the {count} devices of {target.name}: use a divisor",
    )
    return count // axis


def _stages(experiment: Experiment, target: Slice, largest: bool, note: Note) -> list[StagePlan]:
    axis = experiment.model_axis
    # Those of this machine are no matter.
    run = pipeline.planned(dataclasses.replace(experiment, devices=1, model_axis=1))
    networks: dict[str, Shapes] = {}
    stages = []
    for name in experiment.order():
        if not run.experiment.stages[name].trains:
            ahead.fused_of(run, name, networks)  # it has no steps
            continue
        one = functools.partial(
            _stage, name=name, target=target, axis=axis, networks=networks, note=note
        )
        stages.append(_largest(run, name, target, one) if largest else one(run))
    return stages


def _with_batch(experiment: Experiment, batch: int) -> Experiment:
    """With another batch in all stages."""
    stages = experiment.stages.items()
    changed = {name: dataclasses.replace(stage, batch=batch) for name, stage in stages}
    return dataclasses.replace(experiment, stages=changed)


def _largest(run: Run, name: str, target: Slice, one: Callable[[Run], StagePlan]) -> StagePlan:
    """The plan with the largest batch that fits, by bisection; where none does, with the smallest.
    It takes for granted that a larger batch takes more memory. A batch so large that the stage has
    too few steps does not fit either."""
    size, count = train_size(run.experiment.stages[name], run.data), len(target.devices)
    sizes = [count * 2**k for k in range(32) if count * 2**k <= size]
    require(
        bool(sizes),
        f"--topology {target.name}: {count} devices for {size} training examples: take fewer",
    )
    plans: dict[int, StagePlan] = {}
    low, high = 0, len(sizes)  # all below low fit, none from high on
    while low < high:
        middle = (low + high) // 2
        experiment = _with_batch(run.experiment, sizes[middle])
        try:
            plans[middle] = one(dataclasses.replace(run, experiment=experiment))
        except UsageError:  # too few steps are left for the stage's warm-up or schedule
            if middle == 0:
                raise
        if middle in plans and plans[middle].fits(target.chip.memory):
            low = middle + 1
        else:
            high = middle
    return plans[max(low - 1, 0)]


def _stage(
    run: Run, name: str, target: Slice, axis: int, networks: dict[str, Shapes], note: Note
) -> StagePlan:
    """Compiles one step of a stage."""
    batch = run.experiment.stages[name].batch
    step = ahead.step_of(run, name, target.devices, networks, axis)
    note(f"compiling {name} for {target.name}, batch {batch:,}")
    figures, refusal = _compile(step.lower, target)
    return StagePlan(
        stage=name,
        batch=batch,
        steps=step.steps,
        runs=len(run.groups),
        seeds=len(run.groups[0]),
        parameters=tree.count(step.state.params),
        parameter_bytes=bytes_each(step.split, step.state.params),
        state=bytes_each(step.split, step.state),
        teacher=bytes_each(step.split, step.teacher),
        data=tree.size_bytes(step.data),
        figures=figures,
        refusal=refusal,
    )


def _compile(lower: Callable, target: Slice) -> tuple[Figures | None, str]:
    """(figures, "") of a step; or (None, the compiler's reason) where memory doesn't suffice."""
    try:
        return roofline.figures(lower().compile(), target), ""
    except JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None, str(error).splitlines()[0]
