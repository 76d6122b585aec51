"""Made-up command lines whose words are all values, but extreme ones: each is refused in one line
before any training, or trains."""

import random
from collections.abc import Mapping
from typing import Literal, get_args, get_origin

import pytest
from flag_mistakes import inner

from kd_jax import cli, flags, pipeline
from kd_jax.errors import UsageError
from kd_jax.loop import Silent

EXTREMES = {
    int: ("0", "1", "2", "3", "7", "64", "1000000", "2147483647", "-1"),
    float: ("0", "1e-30", "1e-8", "0.5", "0.999999", "1", "1.0001", "2", "100", "1e30", "3e38"),
    bool: ("True", "False"),
    str: ("", "x", "train", "teacher", "*", ".*kernel", "dense", "(", "a=1", ".*=0.5"),
}
LIGHT = ("digits", "digits_assistant", "digits_fuse", "digits_kd_zoo_vit")


def words_of(kind, rng):
    """Words that are a value of a field's type."""
    if isinstance(kind, Mapping):
        return [rng.choice(list(kind))]
    one, optional, several = inner(kind)
    if optional and rng.random() < 0.2:
        return ["None"]
    choices = get_args(one) if get_origin(one) is Literal else EXTREMES[one]
    return [str(rng.choice(choices)) for _ in range(rng.randrange(4) if several else 1)]


def line(experiment, rng):
    """One to three flags of an experiment; where a flag picks a variant, of its fields too."""
    words, chosen = [], experiment
    for _ in range(rng.choice((1, 1, 2, 3))):
        kinds = flags.known(chosen)
        name = rng.choice([n for n in kinds if n != "out" and not n.startswith("data.")])
        value = words_of(kinds[name], rng)
        words += [f"--{name}={value[0]}"] if len(value) == 1 else [f"--{name}", *value]
        chosen = flags.parse(experiment, words, "x")
    return words, chosen


def one_line(error):
    assert "\n" not in str(error)
    assert len(str(error)) < 2000


def prepared(names, count, seed, folder):
    """(how many lines of so many could train, how many were refused)."""
    rng, taken, refused = random.Random(seed), 0, 0
    for _ in range(count):
        try:
            _, experiment = line(cli.preset(rng.choice(names)), rng)
            pipeline.prepare(experiment, folder, Silent())
            taken += 1
        except UsageError as error:
            one_line(error)
            refused += 1
    return taken, refused


@pytest.mark.slow
def test_extremes_are_refused_or_can_train(tmp_path):
    taken, refused = prepared(LIGHT, 40, 0, tmp_path)
    assert taken > 5
    assert refused > 5


@pytest.mark.slow
def test_many_extremes_are_refused_or_can_train(tmp_path):
    names = [name for name in cli.names() if name.startswith("digits")]
    taken, refused = prepared(names, 400, 1, tmp_path)
    assert taken > 50
    assert refused > 50


@pytest.mark.slow
def test_extremes_that_are_taken_do_train(tmp_path, capfd, monkeypatch):
    """To the end, or to one line that says why not: numbers that are not finite end a run."""

    def unforeseen(error):
        raise AssertionError("no error but a UsageError may end a run") from error

    monkeypatch.setattr(cli, "trouble", unforeseen)
    rng, statuses = random.Random(2), []
    for number in range(60):
        name = rng.choice(LIGHT)
        try:
            words, _ = line(cli.preset(name), rng)
        except UsageError:
            continue
        statuses.append(
            cli.main(["run", name, "--smoke", *words, "--out", str(tmp_path / f"{number}")])
        )
        said = capfd.readouterr().err
        assert "Traceback" not in said, words
        if statuses[-1]:
            assert statuses[-1] == 2, words
            assert len([row for row in said.splitlines() if row.startswith("error:")]) == 1, words
    assert statuses.count(0) > 5
