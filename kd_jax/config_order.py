"""How the stages of an experiment go together: which networks each may take, and which stages come
before it."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from kd_jax.config_distill import Distill, Retrain
from kd_jax.config_fuse import Fuse
from kd_jax.config_prune import Prune
from kd_jax.config_quantize import Quantize
from kd_jax.config_stages import Stage
from kd_jax.errors import UsageError, did_you_mean, require, shortened

Stages = Mapping[str, Stage]


def needs(stage: Stage) -> tuple[str, ...]:
    """The stages whose networks a stage takes."""
    return (*stage.sources, *stage.teachers)


def lineage(stages: Stages, name: str) -> Iterator[str]:
    """A stage, and those that its network is a changed form of, the last one first."""
    while name:
        yield name
        name = stages[name].before


def ordered(stages: Stages, names: Iterable[str]) -> tuple[str, ...]:
    """These stages and all that they need, each after those it needs. Raises UsageError where they
    go in a circle."""
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            field = stages[path[-1]].flag_of(name)
            raise UsageError(
                f"{path[-1]}.{field} {name!r} closes a circle of stages, "
                f"{' -> '.join((*path, name))}: set it to another"
            )
        for other in needs(stages[name]):
            visit(other, (*path, name))
        if name not in done:
            done.append(name)

    for name in names:
        visit(name, ())
    return tuple(done)


def check_reference(stages: Stages, flag: str, name: str) -> None:
    """Raises UsageError, which begins with the flag, where there is no stage of this name."""
    if name not in stages:
        raise UsageError(f"{flag} {shortened(repr(name))} is no stage.{did_you_mean(name, stages)}")


def check_taken(stages: Stages, name: str, roles: Collection[str], seeds: int) -> None:
    """Raises UsageError where a stage can't take what it names; `roles`: the models that the
    experiment has."""
    stage = stages[name]
    require(
        stage.model in roles,
        f"{name}.model is {stage.model!r}, but the experiment has no {stage.model}: set "
        f"--{stage.model}",
    )
    if stage.start:
        _check_start(stages, name)
    for peer in getattr(stage, "peer_models", ()):
        require(
            peer in roles,
            f"{name}.peer-models {peer}: the experiment has no {peer}: set --{peer}",
        )
    if isinstance(stage, Distill):
        required = not isinstance(stage, Retrain) and (stage.taught or not stage.terms)
        require(
            bool(stage.teacher) or not required or stage.taught_by != "teacher",
            f"{name}.teacher is empty, but to distil needs one: set it to a stage",
        )
    for other in needs(stage):
        check_reference(stages, f"{name}.{stage.flag_of(other)}", other)
    if isinstance(stage, Distill) and stage.taught_by != "teacher":
        # It teaches nothing now, and may be a setting of before; a slip is one all the same.
        for other in {*stage.teacher.split("+")} - {"", Distill.teacher}:
            check_reference(stages, f"{name}.teacher", other)
    stage.check_among(name, {other: stages[other].model for other in needs(stage)}, seeds)


def _check_start(stages: Stages, name: str) -> None:
    stage = stages[name]
    check_reference(stages, f"{name}.start", stage.start)
    before = stages[stage.start]
    require(
        not before.ensemble,
        f"{name}.start {stage.start!r} is an ensemble, and can't be gone on from: learn "
        f"from it (--{name}.teacher {stage.start}), or set {stage.start}.how to soup",
    )
    require(
        before.model == stage.model,
        f"{name}.start {stage.start!r} is of the {before.model}, but {name}.model is "
        f"{stage.model!r}",
    )


def check_order(stages: Stages) -> None:
    """Raises UsageError where a stage can't come after those that it needs."""
    ordered(stages, stages)
    for name in stages:
        _check_sparsity(stages, name)
        _check_last(stages, name)


def _check_sparsity(stages: Stages, name: str) -> None:
    """What is pruned stays pruned, through all stages in between."""
    stage = stages[name]
    before = stages.get(stage.start)
    while before is not None:
        if isinstance(stage, Prune) and isinstance(before, Prune):
            by_threshold = stage.threshold > 0 or before.threshold > 0
            which = lambda s: (s.include, s.exclude)  # noqa: E731
            other_layers = which(stage) != which(before)
            require(
                by_threshold or other_layers or stage.sparsity >= before.sparsity,
                f"{name}.sparsity {stage.sparsity} is below the {before.sparsity} of what it "
                "starts from, and what is pruned stays pruned: raise it",
            )
        before = stages.get(before.start)


def _check_last(stages: Stages, name: str) -> None:
    """What each input goes through, and in which numbers, is decided last."""
    stage = stages[name]
    if isinstance(stage, Fuse) and not stage.ensemble:
        quantised = lambda name: isinstance(stages[name], Quantize)  # noqa: E731
        late = [member for member in stage.of if any(map(quantised, lineage(stages, member)))]
        require(
            not late,
            f"{name}.of {' '.join(late)}: quantised, and a mean of such weights lies on no "
            f"grid: take the networks before, and quantise the {stage.how}",
        )
    for before in lineage(stages, stage.start) if stage.reshapes else ():
        said = stages[before].done
        require(
            not stages[before].last,
            f"{name}.start {stage.start!r}: that network is {said}, and can't be cut, gated or "
            f"quantised any more: do that before it is {said}",
        )
