"""The making of a run's stages that fuse."""

import jax
import jax.numpy as jnp

from kd_jax import fusion
from kd_jax.config import Fuse
from kd_jax.loop import Reporter
from kd_jax.runs import Run, Seeds
from kd_jax.state import Snapshot


def make(run: Run, name: str, seeds: Seeds, report: Reporter, who: str) -> None:
    """Makes the network of a stage for a group of seeds, and keeps it."""
    stage, given = run.experiment.stages[name], {"report": report, "name": who}
    assert isinstance(stage, Fuse)
    members = [
        (run.model(of), network) for of in stage.of for network in _networks(run, stage, of, seeds)
    ]
    # Across seeds there is one network, which the seeds have in common.
    own = seeds if stage.across == "stages" else (run.experiment.seed,) * len(seeds)
    given |= {"seeds": own, "devices": run.experiment.layout, "store": run.store(name, seeds)}
    fusion.fuse(stage, members, run.data, **given)


def _networks(run: Run, stage: Fuse, of: str, seeds: Seeds) -> list[Snapshot]:
    """Those of one of its stages, each [S, ...]: of these seeds; or, across seeds, of all one by
    one."""
    if stage.across == "stages":
        return [run.network(of, seeds)]
    every = [(run.network(of, group), i) for group in run.groups for i in range(len(group))]
    spread = lambda x, i: jnp.broadcast_to(x[i], (len(seeds), *x.shape[1:]))  # noqa: E731
    return [jax.tree.map(lambda x, i=i: spread(x, i), network) for network, i in every]
