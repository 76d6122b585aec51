"""Made-up command lines of every experiment: a mistake is refused in one line that names the flag,
at once; what is taken means what was written. Never a traceback."""

import random
import time
from collections.abc import Mapping

import flag_mistakes
import pytest
from flag_mistakes import TEXTS, inner, one_of_each, places, slips, spelled, wrong_values
from marks import slow_but

from kd_jax import cli, flags
from kd_jax.errors import UsageError


def check(experiment, words, flag):
    began = time.perf_counter()
    try:
        flags.parse(experiment, words, "x")
    except UsageError as error:
        said = str(error)
        shown = " ".join(words)[:200]
        assert "\n" not in said, shown
        assert len(said) < 3000, shown
        named = flag.removeprefix("--").replace("_", "-")
        assert named in said.replace("_", "-"), f"{shown}: {said}"
    else:
        pytest.fail(f"taken as it is: {' '.join(words)[:200]!r}")
    assert time.perf_counter() - began < 2, words


def fuzz(chosen, seed, count=1):
    """Refuses so many wrong values of each of these places, and some misspelt names of flags."""
    rng, done = random.Random(seed), 0
    for place in chosen:
        wrong = wrong_values(place.kind, place.field)
        for words in rng.sample(wrong, min(count, len(wrong))):
            check(place.experiment, spelled(place.name, words, rng), place.name)
            done += 1
        if rng.random() < 0.1:
            for words in slips(place, rng):
                check(place.experiment, words, words[0])
                done += 1
    return done


def test_a_wrong_value_of_each_field_is_refused():
    assert fuzz(one_of_each(), seed=0) > 750


@pytest.mark.slow
def test_all_wrong_values_of_each_field_are_refused():
    assert fuzz(one_of_each(), seed=1, count=100) > 7_500


@pytest.mark.slow
def test_a_wrong_value_of_every_flag_of_every_experiment_is_refused():
    assert fuzz(places(), seed=2) > 32_000


def test_each_text_has_values_that_can_not_be_meant():
    """But for those of which it shows later; nothing is listed that there is not."""
    texts = {
        place.field
        for place in places()
        if not isinstance(place.kind, Mapping) and inner(place.kind)[0] is str
    }
    assert texts == TEXTS.keys() | flag_mistakes.LATE.keys()


@pytest.mark.parametrize(
    "name", slow_but(["digits", "digits_shrink"], ["digits", "digits_shrink", "digits_quantize"])
)
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


@pytest.mark.parametrize("name", slow_but(["digits"], ["digits", "digits_pruning_zoo"]))
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
