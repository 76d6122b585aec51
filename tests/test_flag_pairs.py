"""Flags that exclude one another, or need one another, on one command line: refused in one line
that names one of them."""

import random

import pytest

from kd_jax import cli, config, flags
from kd_jax.errors import UsageError

# For each kind of stage what can't go together, with the fields of the stage that are set. SELF is
# the stage's own name.
TRAINED = (
    "swa=0.75 ema=0.9 epochs=4",
    "swa=0.75 epochs=1",
    "weights=x.safetensors start=SELF",
    "weights= weights_sha256=" + "a" * 64,
    "start=SELF",
    "freeze: freeze_statistics=True",
    "labels:1,1",
    "augment.magnitude=3 augment.operations=0",
    "optim.name=dot optim.nesterov=True",
    "optim.name=dot optim.clip_norm=1",
    "optim.name=dot optim.momentum=0.5 optim.dot_delta=0.6",
)
TAUGHT = (
    "teacher=SELF",
    "taught_by=average ema=None",
    "taught_by=peers replay=float16",
    "replay=off replay_top=3",
    "terms=none hard_weight=0",
    "terms=kd second_hard_weight=1",
    "terms=at replay=float32",
    "terms=at taught_by=peers",
    "terms=kd peer_models:student taught_by=teacher",
    "teacher_weights:1,1,1,1,1",
    "classifier=teacher start=SELF",
)
RETRAINED = ("teacher=SELF terms=none", "peer_models:student taught_by=peers")
PAIRS = {
    config.Train: TRAINED,
    config.Distill: (*TRAINED, *TAUGHT, "teacher= terms=kd taught_by=teacher"),
    config.Prune: (
        *TRAINED,
        *TAUGHT,
        *RETRAINED,
        "normalise=l2 allocation=layer",
        "allocation=layer threshold=0.5",
        "allocation=std threshold=0",
        "allocation=layer threshold=0 thresholds:x=1",
        "allocation=layer threshold=0 schedule=dns",
        "allocation=std threshold=1 criterion=random",
        "allocation=std threshold=1 structure=filter",
        "allocation=std threshold=1 amounts:x=0.5",
        "allocation=std threshold=1 schedule=static",
        "allocation=layer budget=macs",
        "allocation=sensitivity budget=macs amounts:x=0.5",
        "allocation=sensitivity budget=bytes structure=filter",
        "allocation=global structure=n_m sparsity=0.5",
        "allocation=layer structure=n_m sparsity=0.9",
        "allocation=layer structure=n_m sparsity=0.5 schedule=set",
        "allocation=layer structure=layer",
        "allocation=global structure=layer amounts:x=0.5",
        "allocation=global structure=layer schedule=rigl",
        "criterion=snip schedule=static",
        "criterion=movement schedule=lottery",
        "criterion=movement allocation=sensitivity",
        "criterion=movement schedule=one_shot schedule.at=0",
        "criterion=sparsegpt allocation=global",
        "schedule=sr_ste optim.name=dot",
        "schedule=admm optim.name=dot",
    ),
    config.Shrink: (
        *TRAINED,
        *TAUGHT,
        *RETRAINED,
        "start=",
        "macs=0.5 size=0.5",
        "macs=0.5 latency=0.5",
    ),
    config.Gate: (*TRAINED, *TAUGHT, *RETRAINED, "start="),
    config.Quantize: (
        *TRAINED,
        *TAUGHT,
        *RETRAINED,
        "start=",
        "size=0.5 layer_bits:x=4",
        "values=uniform bits=1",
        "scales=learned epochs=0",
        "scales=learned values=codebook inputs=0",
    ),
    config.Shift: ("start=", "classes:1,1", "classes:", "weights=x start=SELF", "start=SELF"),
    config.Fuse: (
        "start=SELF",
        "of:SELF,SELF",
        "of: across=stages",
        "how=greedy_soup shares:1,1",
        "how=logits fit_shares=True shares:1,1",
        "how=soup fit_shares=True",
        "shares:1,1,1,1,1,1,1,1,1",
        "epochs=3 how=soup",
        "weights=x how=soup",
    ),
}
WHOLE = (
    "--devices 3 --model-axis 2",
    "--devices 1 --model-axis 4",
    "--teacher none --seeds 1",
    "--seeds 10001 --seed 1",
)


def line(stage: str, pair: str) -> tuple[list[str], set[str]]:
    """(a command line that sets these fields of a stage, the flags in it)."""
    words, named = [], set()
    for part in pair.replace("SELF", stage).split(" "):
        field, equals, value = part.partition("=" if ":" not in part else ":")
        flag = f"--{stage}.{field}".replace("_", "-")
        words += [f"{flag}={value}"] if equals == "=" else [flag, *value.split(",")]
        words = [word for word in words if word]
        named.add(flag)
    return words, named


def stages():
    """(an experiment, the name of one of its stages), of all."""
    for name in cli.names():
        experiment = cli.preset(name)
        for stage in experiment.stages:
            yield experiment, stage


def refuse(experiment, words, named):
    with pytest.raises(UsageError) as caught:
        flags.parse(experiment, words, "x")
    said = str(caught.value)
    assert "\n" not in said
    assert "unknown" not in said, said  # of a variant: then nothing of the pair is tried
    assert any(flag in said.replace("_", "-") for flag in named), f"{' '.join(words)}: {said}"


def first(kind):
    return next((e, s) for e, s in stages() if type(e.stages[s]) is kind)


@pytest.mark.parametrize("kind", PAIRS)
def test_flags_that_exclude_one_another(kind):
    experiment, stage = first(kind)
    for pair in PAIRS[kind]:
        refuse(experiment, *line(stage, pair))


def test_every_kind_of_stage_has_such_pairs():
    assert PAIRS.keys() == set(config.STAGES)


@pytest.mark.parametrize("words", WHOLE)
def test_of_the_whole_experiment(words):
    given = words.split()
    named = {word for word in given if word.startswith("--")}
    refuse(cli.preset("digits"), given, named)


@pytest.mark.slow
def test_in_every_stage_of_every_experiment():
    """A few of them in each."""
    rng, done = random.Random(3), 0
    for experiment, stage in stages():
        pairs = PAIRS[type(experiment.stages[stage])]
        for pair in rng.sample(pairs, 5):
            by = getattr(experiment.stages[stage], "taught_by", "teacher")
            if by != "teacher" and pair.startswith("teacher="):
                continue  # nobody asks for it there
            words, named = line(stage, pair)
            # Some exclude what a stage has before; of those the message may name that.
            refuse(experiment, words, {*named, f"--{stage}.".replace("_", "-")})
            done += 1
    assert done > 2000
