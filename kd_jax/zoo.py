"""Every published method on one pair of networks: the stages of a comparison at equal budget."""

import dataclasses
from typing import Any

from kd_jax.config_distill import Distill
from kd_jax.config_stages import Stage, Train
from kd_jax.distill import AB, FSP, KD, TERMS, LabelSmoothing, Term
from kd_jax.distill.presets import PRESETS, preset
from kd_jax.models.base import ModelConfig

EPOCHS = 240  # of the benchmark that most numbers were published for
BEFORE = 30  # of these, those of a stage before the one on labels
# Weight of the hard labels beside terms as they are by default: no setting was published.
PLAIN = {"mixture": 0.0, "gkd": 0.1, "class_relation": 0.1}
TIMES = ("start", "warmup", "stop", "cooldown", "paraphrase", "curriculum")


def distillation(
    teacher: Train, student: Train, pair: tuple[ModelConfig, ModelConfig], leave_out: tuple = ()
) -> dict[str, Stage]:
    """A stage for each entry of PRESETS and for the methods that are not among them: AB and FSP (a
    stage before), those without a published setting, label smoothing, DML, the student's own
    average, DOT.

    All have the epochs, batches, optimizer and augmentation of `student`, and the published weights
    for this pair, or for any other where there are none for it; what is counted in epochs is
    scaled to these epochs. Nothing is tuned to the data.

    Args:
      teacher, student: how the teacher is trained, and the student alone.
      pair: their configs.
      leave_out: names of methods.
    """
    fields_of = dataclasses.fields(student)
    common: dict[str, Any] = {field.name: getattr(student, field.name) for field in fields_of}
    stages: dict[str, Stage] = {"train": teacher, "alone": student}
    for name in PRESETS:
        fields = preset(name, *pair, student.augment)
        fields["terms"] = scaled(fields["terms"], student.epochs)
        by = "alone" if name == "tfkd_self" else "train"
        fields["teacher"] = by if any(term.taught for term in fields["terms"].values()) else ""
        stages[name.replace("+", "_")] = _distill(common, **fields)
    for name, term in (("ab", AB()), ("fsp", FSP())):
        stages |= _in_two(name, term, common)
    for name, hard_weight in PLAIN.items():
        terms = {name: TERMS[name]}
        stages[name] = _distill(common, teacher="train", hard_weight=hard_weight, terms=terms)
    alone = {"teacher": "", "hard_weight": 0.0}
    terms = {"label_smoothing": LabelSmoothing()}
    stages["label_smoothing"] = _distill(common, **alone, terms=terms)
    mutual = {"hard_weight": 1.0, "terms": {"kd": KD(weight=1.0, temperature=1.0)}}
    stages["dml"] = _distill(common, **mutual, taught_by="peers")
    stages["average"] = _distill(common, **mutual, taught_by="average", ema=0.99)
    dot = dataclasses.replace(student.optim, name="dot")
    stages["kd_dot"] = _distill(common, **preset("kd"), optim=dot)
    return {name: stage for name, stage in stages.items() if name not in leave_out}


def scaled(terms: dict[str, Term], epochs: int) -> dict[str, Term]:
    """Terms whose times, published for 240 epochs, are the same shares of these."""

    def times(term: Term) -> dict[str, Any]:
        given = {name: getattr(term, name, None) for name in TIMES}
        return {name: value * epochs / EPOCHS for name, value in given.items() if value}

    return {name: dataclasses.replace(term, **times(term)) for name, term in terms.items()}


def _in_two(name: str, term: Term, common: dict[str, Any]) -> dict[str, Stage]:
    """A stage that learns from the teacher's features alone, and one from labels, of the same
    length together."""
    epochs = common["epochs"]
    first = max(1, round(epochs * BEFORE / EPOCHS))
    before = _distill(common, epochs=first, hard_weight=0.0, terms={name: term})
    after = Train(**{**common, "epochs": epochs - first, "start": f"{name}_before"})
    return {f"{name}_before": before, name: after}


def _distill(common: dict[str, Any], **fields: Any) -> Distill:
    return Distill(**{**common, **fields})
