"""What the networks of an experiment are called, in a reader's words."""

from collections.abc import Mapping

from kd_jax.config import Distill, Experiment, Fuse, Gate, Prune, Quantize, Retrain, Shift, Shrink
from kd_jax.sweep import Variant

DONE = {Prune: "pruned", Shrink: "shrunk", Gate: "gated", Quantize: "quantised"}
FUSED = {
    "logits": "mean logits",
    "probabilities": "mean probabilities",
    "vote": "vote",
    "soup": "soup",
    "greedy_soup": "greedy soup",
}


def label(experiment: Experiment, variants: Mapping[str, Variant], stage: str) -> str:
    """`student distilled and pruned, temperature 8`: of a stage's result. Where several would be
    called the same, by their stages' names too."""
    words, stages = _label(experiment, stage), experiment.stages
    base = lambda name: variants[name].base if name in variants else name  # noqa: E731
    alike = {base(name) for name in stages if _label(experiment, name) == words}
    fresh = not isinstance(stages[stage], (Distill, Fuse)) and not stages[stage].start
    if len(alike) > 1 and not fresh:
        words = f"{words}, {base(stage)}"
    return f"{words}, {variants[stage].words}" if stage in variants else words


def _label(experiment: Experiment, stage: str) -> str:
    description = experiment.stages[stage]
    if isinstance(description, Fuse):
        return _fused_label(experiment, description)
    if isinstance(description, Retrain):
        before = description.start
        first = _label(experiment, before) if before else description.model
        done = next(word for kind, word in DONE.items() if isinstance(description, kind))
        return f"{first}, {done}" if "," in first else f"{first} and {done}"
    if isinstance(description, Shift):
        return f"{_label(experiment, description.start)}, biases shifted"
    if isinstance(description, Distill) and (description.taught or not description.terms):
        return _taught_label(experiment, stage, description)
    alone = description.model != "teacher" and experiment.teacher is not None
    return f"{description.model} alone" if alone else description.model


def _fused_label(experiment: Experiment, fuse: Fuse) -> str:
    """By the stages' names: what their networks are called would make it too long."""
    parts = " + ".join(name.partition("/")[0] for name in fuse.of)
    how = "fitted " * fuse.fit_shares + "weighted " * bool(fuse.shares) + FUSED[fuse.how]
    seeds = f"{experiment.seeds} seeds of " if fuse.across == "seeds" else ""
    return f"{how} of {seeds}{parts}"


def _taught_label(experiment: Experiment, stage: str, description: Distill) -> str:
    if any(isinstance(experiment.stages[name], Fuse) for name in description.teachers):
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
    made_smaller = isinstance(description, Retrain)
    teachers = [] if made_smaller else [*getattr(description, "teachers", ())]
    if [stages[teacher].model for teacher in teachers] != [description.model]:
        return stage, 0
    first, before = _lineage(experiment, teachers[0])
    return first, before + 1
