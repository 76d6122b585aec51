"""A network as two files that hold no program: its arrays (safetensors), and what they are the
arrays of (JSON)."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import arrays as files
from kd_jax import jsons, pipeline
from kd_jax.checks import check_fits
from kd_jax.config import Experiment
from kd_jax.cuts import Cut, rebuilt
from kd_jax.data import Dataset, Split
from kd_jax.datasets import spec_of
from kd_jax.errors import UsageError, reason, require, shortened
from kd_jax.export.network import Network
from kd_jax.forward import Model
from kd_jax.prune import Widths
from kd_jax.runs import Run
from kd_jax.serialize import from_data, to_data
from kd_jax.state import Snapshot
from kd_jax.tree import map_named, named_leaves
from kd_jax.writing import write_json

CONFIG, ARRAYS, FORMAT = "config.json", "model.safetensors", 1
AGAIN = "export it again"


def write(folder: Path, run: Run, stage: str, seed: int, network: Network) -> None:
    """Writes a stage's network, so that `load` needs nothing else."""
    needs = dataclasses.replace(run.experiment, only=(stage,), compare=()).order()
    data = dataclasses.replace(run.experiment.data, dir="")
    experiment = dataclasses.replace(
        run.experiment,
        stages={name: run.experiment.stages[name] for name in needs},
        data=data,
        out="runs",
        only=(),
        compare=(),
        deliver="",
        compute="float32",
    )
    shrunk = {name: run.cut(name) for name in needs if run.cut(name).known}
    masks = named_leaves(network.snapshot.masks)
    said = {
        "format": FORMAT,
        "stage": stage,
        "seed": seed,
        "data": dataclasses.asdict(network.spec),
        "pruned": [name for name, mask in masks.items() if not np.all(mask)],
        "widths": {name: jsons.parsed(cut.text()) for name, cut in shrunk.items()},
        "experiment": to_data(experiment),
    }
    arrays = {n: np.asarray(x) for n, x in named_leaves(network.snapshot.variables).items()}
    files.write(folder / ARRAYS, arrays, {"format": "kd_jax"})
    write_json(folder / CONFIG, jsons.summed(said))


@dataclasses.dataclass(frozen=True)
class _Given(Cut):
    """Widths that were read already."""

    said: Widths | None = None

    @property
    def known(self) -> bool:
        return self.said is not None

    def model(self, full: Model, shape: tuple[int, ...]) -> Model:
        assert self.said is not None
        return rebuilt(full, self.said, shape)


@dataclasses.dataclass(frozen=True)
class _Exported(Run):
    """A run of which there is nothing but what an export says."""

    widths: dict[str, Widths] = dataclasses.field(default_factory=dict)

    def cut(self, stage: str) -> Cut:
        return _Given(self.folder / stage, self.widths.get(stage))


def load(folder: str | Path) -> Network:
    """The network that an export's config.json and model.safetensors hold; neither runs anything.

    Raises:
      UsageError: they are damaged, or do not fit each other.
    """
    folder = Path(folder)
    said = _said(folder / CONFIG)
    try:
        spec, pruned = spec_of(said["data"]), frozenset(said.get("pruned", ()))
        widths = {n: Widths.from_json(json.dumps(w)) for n, w in said["widths"].items()}
        experiment, stage = from_data(said["experiment"], str(folder / CONFIG)), said["stage"]
        require(isinstance(experiment, Experiment), f"{folder / CONFIG}: holds no experiment")
        nothing = Split(np.zeros((0, *spec.shape), np.uint8), *[np.zeros(0, np.int32)] * 2)
        data = Dataset(spec, nothing, nothing, nothing, streamed=False, ids_below=0)
        models = pipeline.models_of(experiment, spec.classes)
        for role, model in models.items():
            check_fits(str(folder / CONFIG), role, model, spec)
        run = _Exported(experiment, folder, data, models, widths=widths)
        model = run.model(stage)
        example = jax.ShapeDtypeStruct((1, *spec.shape), jnp.float32)
        form = jax.eval_shape(model.init, jax.random.key(0), example)
    except UsageError as error:
        own = str(folder / CONFIG)
        said = shortened(str(error).removeprefix(f"{own}: "), 400)
        raise UsageError(f"{own}: {said}") from error
    except Exception as error:  # whatever a model may raise of a config that is none
        said = reason(error, 300)
        raise UsageError(f"{folder / CONFIG}: damaged ({said}): {AGAIN}") from error
    arrays = _arrays(folder / ARRAYS, named_leaves(form))
    variables = dict(map_named(lambda name, _: jnp.asarray(arrays[name]), form))
    params = variables.pop("params")
    masks = map_named(lambda name, w: w != 0 if name in pruned else None, params)
    return Network(model, Snapshot(params, variables, masks), spec)


def _said(path: Path) -> dict[str, Any]:
    try:
        said = jsons.parsed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: can't be read ({error}): {AGAIN}") from error
    said, fits = jsons.unsummed(said) if isinstance(said, dict) else ({}, True)
    other = f"its {jsons.SUM} is of other content"
    require(fits, f"{path}: damaged or edited ({other}): {AGAIN}")
    found = said.get("format")
    shown = shortened(str(found), 40)
    require(found == FORMAT, f"{path} has format {shown}, not {FORMAT}: {AGAIN}")
    return said


def _arrays(path: Path, form: dict[str, Any]) -> dict[str, np.ndarray]:
    arrays = files.read(path, AGAIN)
    for name in sorted(arrays.keys() | form.keys()):
        known, here = form.get(name), arrays.get(name)
        one = "none" if here is None else f"{here.dtype}{list(here.shape)}"
        other = "none" if known is None else f"{known.dtype}{list(known.shape)}"
        require(one == other, f"{path}: {name} is {one}, and {CONFIG} makes it {other}: {AGAIN}")
        finite = not np.issubdtype(here.dtype, np.floating) or bool(np.isfinite(here).all())  # type: ignore[union-attr]
        require(finite, f"{path}: {name} has entries that are not finite: {AGAIN}")
    return arrays
