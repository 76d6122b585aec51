import dataclasses
from collections.abc import Mapping

import pytest
from tiny_experiment import tiny

from kd_jax import cli, flags
from kd_jax.config import Prune, smoke
from kd_jax.distill import TERMS
from kd_jax.errors import UsageError
from kd_jax.models import MODELS
from kd_jax.prune import CRITERIA, PENALTIES, SCHEDULES, STRUCTURES, Cubic, Learned, PruningLoss
from kd_jax.serialize import flatten


def parse(*arguments, preset=None):
    return flags.parse(preset or tiny(), list(arguments), "run.py run tiny")


def refused(*arguments, preset=None):
    with pytest.raises(UsageError) as error:
        parse(*arguments, preset=preset)
    return str(error.value)


def words(value):
    """What a value is as words of a command line."""
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def values_of(experiment):
    """{flag's name: value} of all that flags set; the name and the classes are no flags."""
    flat = flatten(experiment).items()
    return {name: v for name, v in flat if name != "name" and not name.endswith(".class")}


# All pairs of the benchmark have the same stages, and the zoos many of one kind: digits' stands for
# them. Smoke runs have the flags of whole ones.
ZOOS = [name for name in cli.names() if "_zoo" in name or name.startswith("cifar100_")]
EACH = [
    pytest.param(
        name, small, id=f"{name}-{'smoke' if small else 'full'}", marks=[pytest.mark.slow] * slow
    )
    for name in cli.names()
    for small in (False, True)
    for slow in [name in ZOOS or (small and name != "digits")]
]


@pytest.mark.parametrize(("name", "small"), EACH)
def test_every_field_is_a_flag_that_takes_its_own_value(name, small):
    experiment = smoke(cli.preset(name)) if small else cli.preset(name)
    values = values_of(experiment)
    assert len(values) > 60
    assert set(values) <= set(flags.known(experiment))
    for spell in (lambda n: n, lambda n: n.replace("_", "-")):
        separate = [w for n, v in values.items() for w in (f"--{spell(n)}", *words(v))]
        assert parse(*separate, preset=experiment) == experiment
        single = {n: words(v)[0] for n, v in values.items() if len(words(v)) == 1}
        joined = [f"--{spell(n)}={word}" for n, word in single.items()]
        assert parse(*joined, preset=experiment) == experiment


def test_a_flag_changes_its_field_and_no_other():
    """Each whole number and each yes or no of the experiment by itself."""
    base = tiny()
    replay = {"replay": "float16"}  # without it replay-top is refused
    stages = {n: dataclasses.replace(base.stages[n], **replay) for n in ("distill", "prune")}
    stages = base.stages | stages
    # Without it freeze-statistics is refused.
    stages = {n: dataclasses.replace(stage, freeze=("bias$",)) for n, stage in stages.items()}
    base = dataclasses.replace(base, stages=stages)
    tried = 0
    for name, value in values_of(base).items():
        if type(value) is bool:
            new = not value
        elif type(value) is int and name not in ("devices", "model_axis"):
            new = value + 1
        else:
            continue
        tried += 1
        after = values_of(parse(f"--{name}", str(new), preset=base))
        assert after == {**values_of(base), name: new}
        assert type(after[name]) is type(value)
    assert tried > 25


def test_negative_numbers_and_empty_strings_are_values():
    assert parse("--data.dir", "").data.dir == ""
    assert refused("--prune.sparsity", "-0.1") == "--prune.sparsity -0.1 must be in [0, 1)"
    assert refused("--prune.sparsity=-1e-3") == "--prune.sparsity -0.001 must be in [0, 1)"
    assert refused("--distill.epochs", "-3") == "--distill.epochs -3 must be at least 1"


def test_a_value_that_looks_like_a_flag_goes_after_an_equals_sign():
    assert parse("--prune.exclude=--x").stages["prune"].exclude == ("--x",)
    assert parse("--out=a=b").out == "a=b"
    assert refused("--out", "--x") == "--out takes one value, a text, but got none"


def test_the_last_of_equal_flags_counts():
    assert parse("--seeds", "4", "--seeds=5").seeds == 5
    assert parse("--student", "vgg8", "--student", "resnet8").student == MODELS["resnet8"]


def test_tuples_take_any_number_of_words():
    assert parse("--student.widths", "3", "4").student.widths == (3, 4)
    assert parse("--student.widths").student.widths == ()
    assert parse("--only", "train", "distill").only == ("train", "distill")


@pytest.mark.parametrize("none", ["None", "none"])
def test_fields_that_may_be_none_take_none(none):
    stage = dataclasses.replace(tiny().stages["prune"], ema=0.5, penalty=PENALTIES["l1_count"])
    base = tiny(stages={**tiny().stages, "prune": stage})
    given = parse("--prune.ema", none, "--prune.penalty", none, preset=base).stages["prune"]
    assert given.ema is None
    assert given.penalty is None
    assert parse("--prune.optim.clip-norm", none).stages["prune"].optim.clip_norm is None
    alone = tiny(stages={"prune": Prune()})
    assert parse("--teacher", none, preset=alone).teacher is None


@pytest.mark.parametrize("order", [1, -1])
def test_variants_by_plain_name_in_any_order(order):
    def given(*pairs):
        return parse(*[word for pair in pairs[::order] for word in pair])

    found = given(("--student", "resnet20"), ("--student.width", "0.5"))
    assert found.student == dataclasses.replace(MODELS["resnet20"], width=0.5)

    found = given(("--prune.schedule", "cubic"), ("--prune.schedule.every", "7"))
    assert found.stages["prune"].schedule == Cubic(every=7)

    found = given(("--prune.penalty", "l1_count"), ("--prune.penalty.alpha", "0.25"))
    assert found.stages["prune"].penalty == PruningLoss(alpha=0.25)

    found = given(
        ("--distill.terms", "kd+logits"),
        ("--distill.terms.kd.temperature", "2"),
        ("--distill.terms.logits.weight", "0.5"),
    )
    terms = found.stages["distill"].terms
    assert list(terms) == ["kd", "logits"]
    assert terms["kd"].temperature == 2.0
    assert terms["logits"].weight == 0.5


@pytest.mark.parametrize("name", MODELS)
def test_every_model_can_be_picked(name):
    found = parse("--student", name, "--teacher", name, "--assistant", name)
    assert found.student == found.assistant == found.teacher == MODELS[name]


def test_every_term_schedule_and_penalty_can_be_picked():
    for name, term in TERMS.items():
        hard = "0" if term.complete else "0.1"
        found = parse("--distill.terms", name, "--distill.hard-weight", hard)
        assert found.stages["distill"].terms == {name: term}
    for name, criterion in CRITERIA.items():
        # What is trained takes some steps, before masks are cut.
        how = ("--prune.schedule.at", "0.8") if isinstance(criterion, Learned) else ()
        assert parse("--prune.criterion", name, *how).stages["prune"].criterion == criterion
    for name, schedule in SCHEDULES.items():
        how = ("--prune.allocation", "std", "--prune.threshold", "1") if name == "dns" else ()
        assert parse("--prune.schedule", name, *how).stages["prune"].schedule == schedule
    for name, structure in STRUCTURES.items():
        how = ("--prune.allocation", "global") if name == "layer" else ()
        assert parse("--prune.structure", name, *how).stages["prune"].structure == structure
    for name, penalty in PENALTIES.items():
        assert parse("--prune.penalty", name).stages["prune"].penalty == penalty


def test_terms_keep_their_settings_when_others_join_them():
    base = parse("--distill.terms.kd.temperature", "7")
    terms = parse("--distill.terms", "logits+kd", preset=base).stages["distill"].terms
    assert terms["kd"].temperature == 7.0
    assert parse("--distill.terms", "none").stages["distill"].terms == {}


def test_checks_are_of_the_whole_not_of_one_flag_after_another():
    """Neither flag is allowed by itself."""
    assert "hard-weight" in refused("--distill.terms", "mixture")
    parse("--distill.terms", "mixture", "--distill.hard-weight", "0")
    parse("--distill.hard-weight", "0", "--distill.terms", "mixture")
    assert "threshold" in refused("--prune.allocation", "std")
    parse("--prune.threshold", "0.5", "--prune.allocation", "std")


def test_the_preset_is_not_changed():
    base = tiny()
    parse("--student", "vgg8", "--seeds", "4", "--distill.terms.kd.temperature", "9", preset=base)
    assert base == tiny()


def test_help_lists_every_flag_and_follows_the_picked_variants(capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--student", "resnet8", "--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    picked = parse("--student", "resnet8")
    tables = {name for name, kind in flags.known(picked).items() if isinstance(kind, Mapping)}
    for name in flags.known(picked):
        assert f"--{name.replace('_', '-')}" in text, name
    assert "--student.shortcut" in text
    assert "Picked by plain name" in text
    assert "--smoke" in text
    assert "shufflenet_v2" in text
    assert tables == {
        *("teacher", "assistant", "student", "distill", "prune", "distill.terms", "prune.terms"),
        *("prune.criterion", "prune.structure", "prune.schedule", "prune.penalty"),
    }
