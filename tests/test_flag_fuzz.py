"""Made-up command lines of every experiment: a mistake is refused in one line that names the flag,
at once; what is taken means what was written. Never a traceback."""

import random
import time
import types
from collections.abc import Mapping
from typing import Literal, Union, get_args, get_origin

import pytest

from kd_jax import cli, flags
from kd_jax.errors import UsageError

HUGE = ("1" + "0" * 30, "-1" + "0" * 30, str(2**31))
# What is no value of a type, whatever field it is for.
WRONG = {
    int: ("x", "1.5", "", "nan", "1e3", "0x10", "True", "None", "--", *HUGE),
    float: ("x", "", "nan", "inf", "-inf", "1e39", "1,5", "True", "0x1p3"),
    bool: ("", "1", "0", "yes", "2", "None", "tru"),
    str: (),
}


def inner(kind):
    """(the type of one value, whether it may be left out, whether there are several)."""
    optional = get_origin(kind) in (Union, types.UnionType)
    if optional:
        (kind,) = [k for k in get_args(kind) if k is not type(None)]
    several = get_origin(kind) is tuple
    return (get_args(kind)[0] if several else kind), optional, several


def wrong_values(kind):
    """Words that are no value of a field, and have to be refused."""
    if isinstance(kind, Mapping):
        return [["nothing-of-this-name"], [""], [], ["a", "b"], ["+"], ["kd+"]]
    one, optional, several = inner(kind)
    if get_origin(one) is Literal:
        words = [[word] for word in ("nothing-of-this-name", "", "0x") if word not in get_args(one)]
    else:
        words = [[word] for word in WRONG[one] if not (optional and word == "None")]
    return words if several else [*words, [], ["1", "2", "3"]]


def lines(experiment, names, rng, count):
    """(words of a command line, the flag that is wrong) of an experiment's fields."""
    kinds = flags.known(experiment)
    for _ in range(count):
        name = rng.choice(names)
        wrong = wrong_values(kinds[name])
        flag = f"--{name}" if rng.random() < 0.5 else f"--{name.replace('_', '-')}"
        if wrong and rng.random() < 0.8:
            words = rng.choice(wrong)
            yield [f"{flag}={words[0]}"] if len(words) == 1 else [flag, *words], flag
        else:  # a slip of the fingers
            place = rng.randrange(2, len(flag))
            slip = flag[:place] + rng.choice("qxz_.") + flag[place:]
            if slip.removeprefix("--").replace("-", "_") not in kinds:
                yield [slip, "1"], slip


def check(experiment, words, flag):
    began = time.perf_counter()
    try:
        flags.parse(experiment, words, "x")
    except UsageError as error:
        said = str(error)
        assert "\n" not in said, words
        named = flag.removeprefix("--").replace("_", "-")
        assert named in said.replace("_", "-"), f"{words}: {said}"
    else:
        pytest.fail(f"taken as it is: {' '.join(words)}")
    assert time.perf_counter() - began < 2, words


def fuzz(count, seed):
    """Refuses so many command lines of all experiments."""
    rng, done, names = random.Random(seed), 0, cli.names()
    while done < count:
        experiment = cli.preset(rng.choice(names))
        known = list(flags.known(experiment))
        for words, flag in lines(experiment, known, rng, 25):
            check(experiment, words, flag)
            done += 1
    return done


def test_mistakes_are_refused():
    assert fuzz(600, seed=0) >= 600


@pytest.mark.slow
def test_ten_thousand_mistakes_are_refused():
    assert fuzz(10_000, seed=1) >= 10_000


@pytest.mark.parametrize("name", ["digits", "digits_shrink", "digits_quantize"])
def test_numbers_that_no_field_can_mean_are_refused(name):
    """Hugely negative ones: but for those that say so, no field of an experiment is below 0."""
    experiment = cli.preset(name)
    for field, kind in flags.known(experiment).items():
        if not isinstance(kind, Mapping) and inner(kind)[0] in (int, float):
            check(
                experiment,
                [f"--{field}", "-1e30" if inner(kind)[0] is float else "-999999999"],
                field,
            )


@pytest.mark.parametrize("name", ["digits", "digits_pruning_zoo"])
def test_what_is_taken_means_what_was_written(name):
    """Each number of an experiment, a little larger."""
    experiment, rng = cli.preset(name), random.Random(2)
    kinds = [(n, k) for n, k in flags.known(experiment).items() if k in (int, float)]
    taken = 0
    for field, kind in rng.sample(kinds, min(len(kinds), 60)):
        before = flag_value(experiment, field)
        value = before + 1 if kind is int else before * 1.001
        try:
            found = flags.parse(experiment, [f"--{field}", repr(value)], "x")
        except UsageError:
            continue
        assert flag_value(found, field) == value
        taken += 1
    assert taken > 30


def flag_value(experiment, field):
    """The value of a field by its flag's name."""
    node = experiment
    path = field.split(".")
    if path[0] in experiment.stages:
        node = experiment.stages
    for part in path:
        node = node[part] if isinstance(node, Mapping) else getattr(node, part)
    return node
