"""Wrong flags, each answered by one line that names it in full."""

import dataclasses

import pytest
from test_flags import refused
from tiny_experiment import tiny

from kd_jax import flags
from kd_jax.config import Experiment
from kd_jax.distill import TERMS
from kd_jax.prune import PENALTIES

KNOWN = ", ".join(sorted(TERMS))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--sedes 3", "unknown flag --sedes. Did you mean --seeds?"),
        ("--distil.batch 3", "unknown flag --distil.batch. Did you mean --distill.batch?"),
        (
            "--distill.temperature 3",
            "unknown flag --distill.temperature. Did you mean --distill.terms.kd.temperature?",
        ),
        ("--prune.schedule.every 7", "unknown flag --prune.schedule.every. Did you mean"),
        ("--stages.prune.epochs 7", "unknown flag --stages.prune.epochs. Did you mean"),
        ("--xyz 7", "unknown flag --xyz. See --help."),
        ("--name x", "unknown flag --name."),
        ("--student.class VGG", "unknown flag --student.class."),
        ("--distill 3", "--distill '3' is unknown. Known: "),
        ("--prune.teacher +", "--prune.teacher '+' has no name beside a +"),
        ("--distill.teacher train+", "--distill.teacher 'train+' has no name beside a +"),
        ("--prune.include (", "--prune.include pattern '(' is no regular expression (missing )"),
        ("--train 3", "unknown flag --train."),
        ("-- 3", "unknown flag --."),
        ("stray", "'stray' is no flag: flags begin with two dashes. See --help."),
        ("-seeds 3", "'-seeds' is no flag: flags begin with two dashes. See --help."),
        ("--student resnt20", "--student 'resnt20' is unknown. Did you mean 'resnet20'?"),
        ("--student none", "--student 'none' is unknown. Known: "),
        ("--student", "--student takes one of lenet_300_100, "),
        ("--student --seeds 3", "--student takes one of lenet_300_100, "),
        ("--student a b", "--student takes one of "),
        ("--student=", "--student '' is unknown."),
        ("--distill.terms kd+foo", "--distill.terms 'foo' is unknown. "),
        ("--distill.terms=", f"--distill.terms '' is unknown. Known: {KNOWN}."),
        (
            "--distill.terms kd logits",
            f"--distill.terms takes one of {', '.join(TERMS)}, or several joined by +, but got ",
        ),
        ("--distill.terms kd+", "--distill.terms 'kd+' has no name beside a +: put one there"),
        ("--distill.terms +kd", "--distill.terms '+kd' has no name beside a +: put one there"),
        ("--out X -x", "--out takes one value, a text, but got 'X' '-x' (flags begin with two"),
        ("--student vgg8 seeds 3", "--student takes one of "),
        ("--smok", "unknown flag --smok. Did you mean --smoke?"),
        ("--smoke=True", "unknown flag --smoke. It takes no value."),
        ("--prune.penalty l2", "--prune.penalty 'l2' is unknown. Known: l1_count, none, slimming."),
        ("--prune.schedule qubic", "--prune.schedule 'qubic' is unknown. Did you mean 'cubic'?"),
        ("--distill.epochs two", "--distill.epochs 'two': it must be a whole number"),
        ("--distill.epochs=", "--distill.epochs '': it must be a whole number"),
        ("--distill.epochs", "--distill.epochs takes one value, a whole number, but got none"),
        ("--seeds --seed 3", "--seeds takes one value, a whole number, but got none"),
        ("--seeds 3 4", "--seeds takes one value, a whole number, but got '3' '4'"),
        ("--together maybe", "--together 'maybe': it must be True or False"),
        ("--compute float16", "--compute 'float16' is unknown. Did you mean 'bfloat16'?"),
        ("--prune.criterion magnitud", "--prune.criterion 'magnitud' is unknown. Did you mean"),
        ("--out=", "--out is empty: name a folder"),
        ("--data.name=", "--data.name is empty"),
        ("--seeds 0", "--seeds 0 must be in [1, 10000]"),
        ("--only prun", "--only 'prun' is no stage. Did you mean 'prune'?"),
        ("--prune.sparsity 1.0", "--prune.sparsity 1.0 must be in [0, 1)"),
        ("--distill.optim.learning-rate 0", "--distill.optim.learning-rate 0.0 must be above 0"),
        ("--distill.optim.learning_rate nan", "--distill.optim.learning-rate nan must be above 0"),
        ("--distill.optim.learning-rate inf", "--distill.optim.learning-rate is inf: it must be"),
        ("--distill.terms.kd.temperature 0", "--distill.terms.kd.temperature is 0: it must be"),
        ("--distill.augment.crop -1", "--distill.augment.crop -1: must be 0 or more"),
        ("--data.train_limit -1", "--data.train-limit -1: must be 0 or more"),
        ("--student.dropout 1", "--student.dropout=1.0: use a fraction"),
        ("--prune.schedule cubic --prune.schedule.every 0", "--prune.schedule.every is 0: it must"),
        ("--prune.penalty l1_count --prune.penalty.alpha 2", "--prune.penalty.alpha is 2: it must"),
        ("--distill.teacher tran", "--distill.teacher 'tran' is no stage. Did you mean 'train'?"),
        ("--distill.teacher=", "--distill.teacher is empty, but the terms kd need one"),
        ("--teacher none", "--train.model is 'teacher', but the experiment has no teacher"),
        ("--distill.start prune", "--prune.start 'distill' closes a circle of stages"),
    ],
)
def test_a_mistake_is_named_with_its_whole_flag(arguments, said):
    found = refused(*arguments.split())
    assert found.startswith(said)
    assert "\n" not in found


def floats_of(experiment: Experiment) -> list[str]:
    kinds = flags.known(experiment)
    return [name for name, kind in kinds.items() if kind in (float, float | None)]


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf", "1e39"])
def test_no_number_may_be_infinite_or_no_number(bad):
    penalised = dataclasses.replace(tiny().stages["prune"], penalty=PENALTIES["l1_count"])
    base = tiny(stages={**tiny().stages, "prune": penalised})
    names = floats_of(base)
    assert len(names) > 35
    for name in names:
        found = refused(f"--{name}", bad, preset=base)
        assert found.startswith(f"--{name.replace('_', '-')}"), found
    assert "milestones" in refused("--train.optim.milestones", "0.5", bad)
