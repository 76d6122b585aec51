"""What the networks of an experiment are called, in a reader's words."""

from collections.abc import Mapping

from kd_jax.config import Distill, Experiment, Retrain
from kd_jax.sweep import Variant


def label(experiment: Experiment, variants: Mapping[str, Variant], stage: str) -> str:
    """`student distilled and pruned, temperature 8`: of a stage's result. Where several would be
    called the same, by their stages' names too."""
    words, stages = _label(experiment, stage), experiment.stages
    base = lambda name: variants[name].base if name in variants else name  # noqa: E731
    alike = {base(name) for name in stages if _label(experiment, name) == words}
    fresh = not isinstance(stages[stage], Distill) and not stages[stage].sources
    if len(alike) > 1 and not fresh:
        words = f"{words}, {base(stage)}"
    return f"{words}, {variants[stage].words}" if stage in variants else words


def _label(experiment: Experiment, stage: str) -> str:
    description = experiment.stages[stage]
    start = description.start
    before = _label(experiment, start) if start else description.model
    called = description.called(before, experiment.seeds)
    if called:
        return called
    if isinstance(description, Distill) and (description.taught or not description.terms):
        return _taught_label(experiment, stage, description)
    alone = description.model != "teacher" and experiment.teacher is not None
    return f"{description.model} alone" if alone else description.model


def _taught_label(experiment: Experiment, stage: str, description: Distill) -> str:
    if any(not experiment.stages[name].trains for name in description.teachers):
        by = " and ".join(_label(experiment, name) for name in description.teachers)
        return f"{description.model} distilled from {by}"
    first, generation = _lineage(experiment, stage)
    if generation:
        return f"{_label(experiment, first).removesuffix(' alone')}, generation {generation}"
    by = {experiment.stages[teacher].model for teacher in description.teachers}
    beside = f" beside {' and '.join(description.peer_models)}" if description.peer_models else ""
    return f"{description.model} distilled{' by assistant' * (by == {'assistant'})}{beside}"


def _lineage(experiment: Experiment, stage: str) -> tuple[str, int]:
    """(the first of a line in which each network taught the next of its own architecture, how many
    came after it): born-again networks."""
    stages = experiment.stages
    description = stages[stage]
    alike = [stages[teacher].model for teacher in description.teachers] == [description.model]
    if isinstance(description, Retrain) or not alike:
        return stage, 0
    first, before = _lineage(experiment, description.teachers[0])
    return first, before + 1
