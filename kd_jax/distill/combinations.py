"""Which teachers, terms, views and weights of a distilling stage go together."""

from typing import Any

from kd_jax.distill.logits import LogitTerm
from kd_jax.errors import require, shortened


def check(stage: Any) -> None:
    """Raises UsageError, which begins with a field's name, for choices of a stage that distils
    which don't go together."""
    require(stage.hard_weight >= 0, f"hard-weight {stage.hard_weight} must not be negative")
    require(
        bool(stage.teacher) or not stage.taught or stage.taught_by != "teacher",
        f"teacher is empty, but the terms {', '.join(stage.taught)} need one: set it to a "
        "stage, or terms to none",
    )
    _check_who_teaches(stage)
    _check_replay(stage)
    _check_second_view(stage)
    _check_complete(stage)
    weights = [stage.hard_weight, *(term.weight for term in stage.terms.values())]
    require(
        any(w > 0 for w in weights),
        f"hard-weight {stage.hard_weight} and no term with a weight above 0: there is nothing "
        "to learn from; set one above 0",
    )


def _check_who_teaches(stage: Any) -> None:
    require(
        stage.classifier == "own" or len(stage.teachers) == 1,
        f"classifier {stage.classifier} needs one teacher: set classifier to own",
    )
    require(
        stage.classifier == "own" or not stage.start,
        f"start {shortened(repr(stage.start))} with classifier {stage.classifier}: that is another "
        "network than the one that was trained; set classifier to own, or leave start out",
    )
    require(stage.peers >= 2, f"peers {stage.peers} must be at least 2")
    _check_peer_models(stage)
    require(
        stage.taught_by != "average" or stage.ema is not None,
        "taught-by average: the student has no average: set ema, for instance to 0.999",
    )
    weights, teachers = stage.teacher_weights, stage.teachers
    require(
        not weights or (len(weights) == len(teachers) and min(weights) > 0),
        f"teacher-weights {' '.join(map(str, weights))}: give each of the {len(teachers)} "
        f"teachers {', '.join(teachers)} one above 0",
    )
    reading = [n for n, t in stage.terms.items() if t.taught and not isinstance(t, LogitTerm)]
    require(
        not _several(stage) or not reading,
        f"terms {', '.join(reading)} can't be learned from several: take terms of logits",
    )


def _check_peer_models(stage: Any) -> None:
    models = " ".join(stage.peer_models)
    require(
        not models or stage.taught_by == "peers",
        f"peer-models {models} with taught-by {stage.taught_by}: they teach nothing then; set "
        "taught-by to peers",
    )
    require(
        not models or not stage.start,
        f"peer-models {models} with start {stage.start!r}: peers of other architectures begin "
        "afresh; leave start empty",
    )
    reading = ", ".join(name for name, term in stage.terms.items() if not term.logits_alone)
    require(
        not models or not reading,
        f"terms {reading} read features, and peers of other architectures (peer-models {models}) "
        "have no common ones: take terms of logits",
    )


def _several(stage: Any) -> bool:
    """Whether terms are taken with each of several who teach."""
    return stage.taught_by == "peers" or stage.by_member


def _check_replay(stage: Any) -> None:
    replay, top = stage.replay, stage.replay_top
    require(top >= 0, f"replay-top {top} must not be negative")
    require(
        top == 0 or replay != "off",
        f"replay-top {top} without replay: set replay to float16 or float32",
    )
    require(
        stage.taught_by == "teacher" or replay == "off",
        f"replay {replay} with taught-by {stage.taught_by}: who learns can't be recorded "
        "beforehand: set replay to off",
    )
    require(
        not stage.by_member or replay == "off",
        f"replay {replay} with combine {stage.combine} keeps too little: set it to off, or "
        "combine to logits",
    )
    reading = [name for name, term in stage.terms.items() if not term.logits_alone]
    require(
        replay == "off" or not reading,
        f"replay {replay} keeps logits alone, and the terms {', '.join(reading)} read "
        "features too: set replay to off",
    )
    twice = stage.looking_twice
    require(
        replay == "off" or not twice,
        f"replay {replay} keeps what is said of one view, and the terms {', '.join(twice)} read "
        "two: set replay to off",
    )


def _check_second_view(stage: Any) -> None:
    weight, twice = stage.second_hard_weight, stage.looking_twice
    require(weight >= 0, f"second-hard-weight {weight} must not be negative")
    require(
        weight == 0 or bool(twice),
        f"second-hard-weight {weight}, but no term reads a second view: set it to 0, or take one "
        "that does, such as mlkd with strong",
    )
    require(
        not twice or not _several(stage),
        f"terms {', '.join(twice)} can't be learned from several on a second view: set strong to "
        "False",
    )


def _check_complete(stage: Any) -> None:
    complete = " and ".join(name for name, term in stage.terms.items() if term.complete)
    for field in ("hard_weight", "second_hard_weight"):
        value, name = getattr(stage, field), field.replace("_", "-")
        require(
            not complete or value == 0,
            f"{name} {value} with the term {complete}, which holds the hard labels itself: set "
            f"{name} to 0",
        )
    require(
        not complete or stage.label_smoothing == 0,
        f"label-smoothing {stage.label_smoothing} with the term {complete}, which takes the labels "
        "as they are: set label-smoothing to 0",
    )
