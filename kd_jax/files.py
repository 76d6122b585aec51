"""Networks of a run as files that are evaluated alone."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import encode, extensions, stages, tree
from kd_jax.config import Distill
from kd_jax.data import Dataset
from kd_jax.distill import SimKD
from kd_jax.encode import network as network_lib
from kd_jax.encode.network import About, Architecture
from kd_jax.errors import UsageError, require
from kd_jax.forward import Model
from kd_jax.runs import Run
from kd_jax.state import Snapshot

ROOT = Path(__file__).resolve().parent.parent
MAIN = "import sys; from kd_jax.cli import main; sys.exit(main(sys.argv[1:]))"


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a network is worth on the whole test set, computed on a CPU."""

    accuracy: float
    cross_entropy: float
    examples: int
    digest: str
    """SHA-256 of all its arrays, with their names."""


def made_of(run: Run, stage: str) -> Architecture:
    """How the network of a stage is made, as data; see Run.model."""
    description = run.experiment.stages[stage]
    require(
        not description.ensemble,
        f"--stage {stage}: several networks, each of which may be encoded: name one of "
        f"{' '.join(description.sources)}, or a stage that is distilled from it",
    )
    if description.before:
        return run.kind(stage).made(run.given(stage), made_of(run, description.before))
    own = network_lib.plain(getattr(run.experiment, description.model))
    if not isinstance(description, Distill) or description.classifier == "own":
        return own
    found = [t.reduction for t in description.terms.values() if isinstance(t, SimKD)]
    teacher = made_of(run, description.teachers[0])
    return network_lib.reusing(own, teacher, found[0] if found else None)


def network(run: Run, stage: str, seed: int) -> Snapshot:
    """The network of one seed, [1, ...], in memory. Raises UsageError for a seed that was not
    run."""
    seeds = next((group for group in run.groups if seed in group), ())
    every = ", ".join(str(seed) for group in run.groups for seed in group)
    require(bool(seeds), f"--seed {seed}: the run has {every}")
    place = slice(seeds.index(seed), seeds.index(seed) + 1)
    return jax.tree.map(lambda x: np.asarray(x[place]), run.network(stage, seeds))


def encoded(
    run: Run,
    stage: str,
    seed: int,
    coders: Sequence[str] = encode.CODERS,
) -> encode.Encoded:
    """The file of a finished stage's network."""
    origin = {"experiment": run.experiment.name, "run": run.folder.name, "stage": stage}
    about = About(
        made=made_of(run, stage),
        compute=run.experiment.compute,
        data=run.experiment.data,
        spec=run.data.spec,
        origin={**origin, "seed": str(seed)},
    )
    found = tree.row(network(run, stage, seed).variables, 0)
    grids = network_lib.grids_of(found)
    return encode.encoded(network_lib.stored(found), grids, about.to_json(), coders)


def dense_bytes(model: Model, data: Dataset) -> int:
    """Of a network's arrays, all that it has."""
    example = jax.ShapeDtypeStruct((1, *data.spec.shape), jnp.float32)
    return tree.size_bytes(jax.eval_shape(model.init, jax.random.key(0), example))


def read(model: Model, data: Dataset, snapshot: Snapshot) -> Reading:
    """Evaluates one network, [1, ...]."""
    leaves = tree.named_leaves(snapshot.variables)
    digest = hashlib.sha256()
    for name in sorted(leaves):
        digest.update(name.encode() + np.asarray(leaves[name]).tobytes())
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        found = stages.evaluate(model, data, jax.tree.map(np.asarray, snapshot))
    numbers = {name: float(found[name][0]) for name in ("accuracy", "cross_entropy")}
    return Reading(**numbers, examples=len(data.test), digest=digest.hexdigest())


def read_afresh(path: Path, data_dir: str, most: int = 0) -> Reading:
    """What `python run.py evaluate FILE` finds in a process of its own.

    Args:
      most: how many numbers the file may hold; 0: as many as can be expected of its bytes.

    Raises:
      UsageError: that process has failed; with the last that it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "reading.json"
        words = ["evaluate", str(path), "--json", str(out), *extensions.loaded()]
        words += ["--data.dir", data_dir] * bool(data_dir)
        words += ["--most", str(most)] * bool(most)
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *words], capture_output=True, text=True, env=variables
        )
        said = (done.stderr or done.stdout).strip().splitlines()
        if done.returncode or not out.exists():
            raise UsageError(f"{path}: a fresh process can't evaluate it: {' '.join(said[-1:])}")
        return Reading(**json.loads(out.read_text(encoding="utf-8")))


def checked(run: Run, stage: str, seed: int, path: Path, data_dir: str) -> Reading:
    """What a fresh process finds in the file of a network.

    Raises:
      UsageError: that is not what the run's folder holds.
    """
    own = network(run, stage, seed)
    ours = read(run.model(stage), run.data, own)
    # It is ours, however few bytes its numbers take; a scalar counts as one of them.
    most = sum(max(x.size, *x.shape, 1) for x in jax.tree.leaves(own.variables))
    theirs = read_afresh(path, data_dir, most)
    require(ours.digest == theirs.digest, f"{path}: it decodes to other arrays: report this")
    require(
        ours.accuracy == theirs.accuracy,
        f"{path}: its accuracy is {theirs.accuracy:.4%} in a fresh process and {ours.accuracy:.4%} "
        "here: report this",
    )
    return theirs
