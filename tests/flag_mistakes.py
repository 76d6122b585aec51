"""Mistaken values of every flag, made from the dataclasses of the experiments: for the tests that
try them."""

import dataclasses
import functools
import random
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from kd_jax import cli, flags
from kd_jax.config import Experiment

HUGE = ("1" + "0" * 30, "-1" + "0" * 30, str(2**31), "9" * 5000)
# What is no value of a type, whatever field it is for.
WRONG = {
    int: ("x", "1.5", "", "nan", "1e3", "0x10", "True", "None", "--", *HUGE),
    float: ("x", "", "nan", "inf", "-inf", "1e39", "1,5", "True", "0x1p3", "9" * 400),
    bool: ("", "1", "0", "yes", "2", "None", "tru"),
    str: ("a\0b", "a\nb", "\udcff", "x" * 20_000),
}
PATTERNS = ("", "(", "[", "*", "a{99999999999999999999}", "(?P<")
LAYERS = ("", "x", "=", "x=", "=1", "x=nan", "x=-1", "(=0.5", "x=y")
STAGES = ("nothing-of-this-name", "x" * 5000)
PATHS = ("x" * 300, "x/" * 3000)
# What else can't be meant, of the fields that are texts, by the last part of their names.
TEXTS = {
    "name": ("",),
    "dir": PATHS,
    "out": ("", *PATHS),
    "take_from": PATHS,
    "weights": PATHS,
    "weights_sha256": ("x", "0" * 63, "0" * 64),
    "start": STAGES,
    "teacher": (*STAGES, "+"),
    "of": STAGES,
    "only": ("", *STAGES),
    "compare": ("", *STAGES),
    "deliver": STAGES,
    "freeze": PATTERNS,
    "include": PATTERNS,
    "exclude": PATTERNS,
    "keep": PATTERNS,
    "bias": PATTERNS,
    "amounts": (*LAYERS, "x=1"),
    "thresholds": (*LAYERS, "x=0", "x=inf"),
    "layer_bits": (*LAYERS, "x=99", "x=1.5", "x=" + "9" * 5000),
    "criterion": ("", "nothing-of-this-name"),
}
# Texts of which, but for signs that no text has, only what is looked up later shows whether they
# mean something, before training too.
LATE = {
    "sweep": "which fields can be swept, the whole experiment tells when it is expanded",
    "student_taps": "which features there are, the network tells when it is traced",
    "teacher_taps": "which features there are, the network tells when it is traced",
    "student_classifier": "which modules there are, the network tells when it is traced",
    "teacher_classifier": "which modules there are, the network tells when it is traced",
}


@dataclasses.dataclass(frozen=True)
class Place:
    """A flag of an experiment: its dotted name, its type, and the dataclass whose field it is."""

    experiment: Experiment
    name: str
    kind: Any
    owner: type
    among: int  # so many flags of the experiment

    @property
    def field(self) -> str:
        return self.name.split(".")[-1]


def inner(kind):
    """(the type of one value, whether it may be left out, whether there are several)."""
    optional = get_origin(kind) in (Union, types.UnionType)
    if optional:
        (kind,) = [k for k in get_args(kind) if k is not type(None)]
    several = get_origin(kind) is tuple
    return (get_args(kind)[0] if several else kind), optional, several


def wrong_values(kind, field=""):
    """Words that are no value of a field, and have to be refused."""
    if isinstance(kind, Mapping):
        return [["nothing-of-this-name"], [""], [], ["a", "b"], ["+"], ["kd+"]]
    one, optional, several = inner(kind)
    if get_origin(one) is Literal:
        words = [[word] for word in ("nothing-of-this-name", "", "0x") if word not in get_args(one)]
    else:
        given = (*WRONG[one], *(TEXTS.get(field, ()) if one is str else ()))
        words = [[word] for word in given if not (optional and word == "None")]
    return words if several else [*words, [], ["1", "2", "3"]]


@functools.cache
def places() -> tuple[Place, ...]:
    """Every flag of every experiment."""
    found = []
    for name in cli.names():
        experiment = cli.preset(name)
        kinds = flags.known(experiment)
        for path, kind in kinds.items():
            owner = type(_owner(experiment, path))
            found.append(Place(experiment, path, kind, owner, len(kinds)))
    return tuple(found)


def _owner(experiment: Experiment, path: str) -> Any:
    first, *rest = path.split(".")
    node: Any = experiment
    if first in experiment.stages:
        node = experiment.stages
    for part in (first, *rest)[:-1]:
        node = node[part] if isinstance(node, Mapping) else getattr(node, part)
    return node


def one_of_each() -> list[Place]:
    """A place of each field of each dataclass, in the smallest of the experiments that have it: how
    long a line takes grows with the experiment."""
    found: dict[tuple[type, str], Place] = {}
    for place in sorted(places(), key=lambda place: place.among):
        # The stages themselves are fields of a dictionary, which a name of their own tells apart.
        found.setdefault((place.owner, "" if place.owner is dict else place.field), place)
    return list(found.values())


def spelled(name: str, words: list[str], rng: random.Random) -> list[str]:
    """A flag with its words, as one may write it."""
    flag = f"--{name}" if rng.random() < 0.5 else f"--{name.replace('_', '-')}"
    return [f"{flag}={words[0]}"] if len(words) == 1 else [flag, *words]


def slips(place: Place, rng: random.Random) -> Iterator[list[str]]:
    """The flag's name with a slip of the fingers."""
    flag = f"--{place.name}"
    at = rng.randrange(2, len(flag))
    slip = flag[:at] + rng.choice("qxz_.") + flag[at:]
    if slip.removeprefix("--").replace("-", "_") not in flags.known(place.experiment):
        yield [slip, "1"]
