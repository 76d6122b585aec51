"""A file that can be evaluated alone: how the network is made, as data, beside its arrays."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.data import Dataset
from kd_jax.datasets import Data, Spec, spec_of
from kd_jax.encode.bits import Damaged, sound
from kd_jax.encode.container import decoded
from kd_jax.encode.entries import Grid
from kd_jax.errors import UsageError, require, shortened
from kd_jax.forward import Model, from_linen
from kd_jax.gating import gated
from kd_jax.models.base import ModelConfig
from kd_jax.prune import Widths, rebuild
from kd_jax.quantize import Layout, quantised
from kd_jax.quantize.codebooks import ranked
from kd_jax.quantize.network import CODES, QUANTISED, WEIGHTS, grids
from kd_jax.reuse import reused
from kd_jax.serialize import from_data, to_data
from kd_jax.state import Snapshot, network
from kd_jax.tree import Tree, named_leaves, nested

NESTED = 16  # networks that are made of one another
LONGEST = 1 << 20  # entries of an axis, and of an example, of a network that another is made of
SAME = ("name", "classes", "mean", "std", "scale", "size")  # of a Spec: what a network hangs on
Architecture = dict[str, Any]
"""How a network is made: {"made": "plain", "config": ...}, or from another, {"of": Architecture}:
shrunk, gated, quantised, or reusing its teacher's classifier."""


@dataclasses.dataclass(frozen=True)
class About:
    """What a file says of its network.

    Attributes:
      made: how it is made.
      compute: in which numbers it computes.
      data, spec: the examples that it was trained on, and what a network must know of them.
      origin: {"experiment", "run", "stage", "seed"}, as words for people.
    """

    made: Architecture
    compute: str
    data: Data
    spec: Spec
    origin: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        data = {**to_data(self.data), "dir": ""}  # a folder of one machine
        spec = {name: getattr(self.spec, name) for name in (*SAME, "names")}
        return {**dataclasses.asdict(self), "data": data, "spec": spec}

    @staticmethod
    def from_json(said: Any) -> "About":
        """Raises UsageError where it says anything else."""
        try:
            spec = spec_of(said["spec"])
            data = from_data(said["data"], "data")
            require(isinstance(data, Data), "data: they are none")
            origin = dict(said["origin"])
            words = [*origin.keys(), *origin.values()]  # for a screen
            sound(
                all(isinstance(w, str) and w.isprintable() for w in words),
                "its origin is told in no words",
            )
            sound(isinstance(said["made"], dict), "its network is no network")
            # Of another machine are the folder of its data and the memory for them.
            data = dataclasses.replace(data, dir="", memory_mb=Data().memory_mb)
            return About(said["made"], said["compute"], data, spec, origin)
        except UsageError:
            raise
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise Damaged("it says nothing of its network: read it by kd_jax.decoded") from error


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A network out of a file."""

    model: Model
    snapshot: Snapshot
    """Of one seed, [1, ...]; with no masks."""
    about: About

    def check(self, data: Dataset) -> None:
        """Raises UsageError unless these are the data that it was trained for."""
        ours, theirs = self.about.spec, data.spec
        require(
            all(getattr(ours, name) == getattr(theirs, name) for name in SAME),
            f"the network is for {ours.name} {list(ours.shape)} of {ours.classes} classes, and the "
            f"data are {theirs.name} {list(theirs.shape)} of {theirs.classes}: give it its own",
        )


def plain(config: ModelConfig) -> Architecture:
    return {"made": "plain", "config": to_data(config)}


def shrunk(of: Architecture, widths: Widths) -> Architecture:
    """Of the widths only what the shapes of the arrays don't say."""
    groups = {name: list(pair) for name, pair in widths.groups.items()}
    return {
        "made": "shrunk",
        "of": of,
        "shape": widths.input_shape,
        "dtype": widths.dtype,
        "groups": groups,
    }


def gated_by(of: Architecture, amount: float, hidden: int, keep: tuple[str, ...]) -> Architecture:
    return {"made": "gated", "of": of, "amount": amount, "hidden": hidden, "keep": keep}


def quantised_by(of: Architecture, layout: Layout) -> Architecture:
    return {"made": "quantised", "of": of, **dataclasses.asdict(layout)}


def stored(variables: dict[str, Tree]) -> dict[str, Tree]:
    """The variables without the codes of shared weights, which these tell."""
    if QUANTISED not in variables:
        return variables
    grids = {kind: part for kind, part in variables[QUANTISED].items() if kind != CODES}
    return {**variables, QUANTISED: grids}


def whole(made: Architecture, variables: dict[str, Tree]) -> dict[str, Tree]:
    """The inverse of `stored`."""
    if made.get("made") != "quantised":
        return variables
    leaves = named_leaves(variables.get("params", {}))
    codes = nested({name: np.asarray(ranked(jnp.asarray(leaves[name]))) for name in made["codes"]})
    return {**variables, QUANTISED: {**variables.get(QUANTISED, {}), CODES: codes}}


def grids_of(variables: dict[str, Tree]) -> dict[str, Grid]:
    """{`params/Conv_0/kernel`: its grid} of the weights of a quantised network."""
    if QUANTISED not in variables:
        return {}
    found = grids(variables)[WEIGHTS].items()
    return {
        f"params/{n}": Grid(np.asarray(g.scale), np.asarray(g.zero, np.int32)) for n, g in found
    }


def reusing(of: Architecture, teacher: Architecture, reduction: int | None) -> Architecture:
    return {"made": "reusing", "of": of, "teacher": teacher, "reduction": reduction}


def build(made: Architecture, compute: str, spec: Spec, depth: int = 0) -> Model:
    """The network that is made so, within `depth` others.

    Raises:
      UsageError: nothing is made so, or only what would fill the memory.
    """
    sound(depth < NESTED, f"its network is made of more than {NESTED} others")
    kind = made["made"]
    if kind == "plain":
        config = from_data(made["config"], "network")
        require(isinstance(config, ModelConfig), f"network: {config!r} is no network")
        return from_linen(config.build(spec.classes, jnp.dtype(compute)))
    of = _limited(build(made["of"], compute, spec, depth + 1), spec)
    if kind == "shrunk":
        groups = {name: (kept, there) for name, (kept, there) in made["groups"].items()}
        widths = Widths(tuple(made["shape"]), made["dtype"], groups, {})
        sound(widths.suits(spec.shape), "its network is cut for examples of another shape")
        return rebuild(of, widths)
    if kind == "gated":
        keep = tuple(made["keep"])
        return gated(of, spec.shape, made["amount"], made["hidden"], keep).model
    if kind == "quantised":
        fields = {f.name: made[f.name] for f in dataclasses.fields(Layout)}
        names = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return quantised(of, Layout(**{**fields, **names}))
    require(kind == "reusing", f"network: it is made as {kind!r}, which this kd_jax does not know")
    reduction = () if made["reduction"] is None else (made["reduction"],)
    teacher = _limited(build(made["teacher"], compute, spec, depth + 1), spec)
    return reused(of, teacher, spec.shape, *reduction)


def _limited(model: Model, spec: Spec) -> Model:
    """A network of which another is made. That takes lists as long as its axes, of which the file
    need not hold any. Raises Damaged where these would fill the memory."""
    example = jax.ShapeDtypeStruct((1, *spec.shape), jnp.float32)
    sound(example.size <= LONGEST, f"it is for examples of {example.size:,} numbers")
    for name, leaf in named_leaves(jax.eval_shape(model.init, jax.random.key(0), example)).items():
        sound(max(leaf.shape, default=0) <= LONGEST, f"its {name} would be {list(leaf.shape)}")
    return model


def load(path: Path | str, most: int | None = None) -> Loaded:
    """The network in a file that `python run.py encode` wrote.

    Args:
      most: how many numbers it may hold, see `decoded`.

    Raises:
      UsageError: no such file, a damaged one, or one of a network that can't be made here.
    """
    path = Path(path)
    require(not path.exists() or path.is_file(), f"{path}: it is no file: name a .kdz file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: it can't be read ({error.strerror}): name a .kdz file"
        ) from error
    try:
        variables, said = decoded(data, most)
        about = About.from_json(said)
        variables = _whole(about, variables)
        model = _built(about, variables)
    except UsageError as error:
        raise UsageError(f"{path}: {shortened(str(error), 400)}") from error
    params = variables.pop("params", {})
    return Loaded(model, network(params, variables), about)


def _whole(about: About, variables: dict[str, Tree]) -> dict[str, Tree]:
    try:
        return whole(about.made, variables)
    except Exception as error:  # what is named there need not be
        raise Damaged(f"its codebooks can't be read ({type(error).__name__})") from error


def _built(about: About, variables: dict[str, Tree]) -> Model:
    """The model, for which these are the variables."""
    example = jax.ShapeDtypeStruct((1, *about.spec.shape), jnp.float32)
    try:
        model = build(about.made, about.compute, about.spec)
        expected = jax.eval_shape(model.init, jax.random.key(0), example)
    except UsageError:
        raise
    except Exception as error:  # whatever a model may raise of a config that is none
        raise Damaged(f"its network can't be made ({type(error).__name__})") from error
    form = lambda tree: {n: (x.shape, np.dtype(x.dtype)) for n, x in named_leaves(tree).items()}  # noqa: E731
    for name in sorted(form(expected).items() ^ form(variables).items()):
        raise Damaged(f"{name[0]} does not fit into its network")
    return model
