"""Why a network was cut as it was: what the loss of each layer costs; and which units were kept, by
what score, how active they were, and which examples excite them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import jobs, scoring, shrinking
from kd_jax.augment import normalise
from kd_jax.config import Prune, Shrink
from kd_jax.data import Split
from kd_jax.errors import require
from kd_jax.forward import Model, Variables
from kd_jax.many import SAME, STATE, over_runs
from kd_jax.prune import NM, Learned, Structure, sensitivity, unit_evidence
from kd_jax.runs import Run
from kd_jax.state import Snapshot
from kd_jax.tree import named_leaves, row

SEEN = 512  # examples that activations are of


@dataclasses.dataclass(frozen=True)
class Curves:
    """Of a stage that cuts, what the loss becomes where one layer (or group) alone is cut.

    Attributes:
      stage: its name.
      names: of the L layers or groups.
      gone: [L, K], the fraction of its units that is cut.
      losses: [L, K], mean cross-entropy in nats on the stage's first batches, mean over seeds.
      chosen: [L], the fraction that the stage cut of each, mean over seeds.
    """

    stage: str
    names: list[str]
    gone: np.ndarray
    losses: np.ndarray
    chosen: np.ndarray


@dataclasses.dataclass(frozen=True)
class Units:
    """Of a group of units of the first seed.

    Attributes:
      group: its name.
      kept: [units], whether each was kept.
      scores: [units], by the stage's criterion.
      activations: [units], the mean of what ReLU leaves of each unit's values; None where no
        module shows them.
      examples: [units, T], places in `shown` of those that excite it most, the first the most.
    """

    group: str
    kept: np.ndarray
    scores: np.ndarray
    activations: np.ndarray | None
    examples: np.ndarray | None


def curves(run: Run, stage: str, batches: int = 2) -> Curves:
    """Of the networks, of all seeds that train together, that a finished stage started from; by its
    criterion, which here scores by the labels alone.

    Raises:
      UsageError: the stage cuts nothing, or can't be scanned.
    """
    description = run.experiment.stages[stage]
    if isinstance(description, Shrink):
        return _of_units(run, stage, description, batches)
    require(isinstance(description, Prune), f"stage {stage} cuts nothing: name one that does")
    assert isinstance(description, Prune)
    require(
        not isinstance(description.structure, NM),
        f"stage {stage} keeps as many of each group of weights: there are no curves of it",
    )
    require(
        not isinstance(description.criterion, Learned),
        f"stage {stage} learns in training which weights matter: there are no curves of its start",
    )
    return _of_masks(run, stage, description, batches)


def _of_masks(run: Run, stage: str, description: Prune, batches: int) -> Curves:
    alone = {"teacher": "", "taught_by": "teacher", "terms": {}, "hard_weight": 1.0}
    alone |= {"replay": "off", "replay_top": 0, "combine": "logits", "teacher_weights": ()}
    description = dataclasses.replace(description, classifier="own", **alone)
    seeds, model = run.groups[0], run.model(stage)
    ready = jobs.prepare([description], model, run.data, None, seeds, run.experiment.layout)
    require(ready.resident is not None, f"stage {stage}: its data are streamed from disk")
    start = run.network(description.start, seeds) if description.start else None
    program = ready.program

    def one(settings, state, data):
        count = max(settings.criterion.looks_at, batches)
        shown = scoring.upcoming(program, settings.seed, state.step, None, data, count)
        active = program.active(state.masks, state.params)
        seen = scoring.evidence(program, settings, state, active, shown)
        loss = scoring.loss_of_masks(program, settings, state, shown[:batches])
        return sensitivity.curves(program.structure, settings.criterion(seen), active, loss)

    state = ready.begin(ready.put(start))
    scan = jax.jit(over_runs(one, (STATE, SAME)))
    kept, losses = jax.device_get(scan(ready.settings, ready.seeds, state, ready.resident))
    names = [*named_leaves(program.active(state.masks, state.params))]
    ended = named_leaves(run.network(stage, seeds).masks)
    chosen = np.array([1 - float(np.asarray(ended[name]).mean()) for name in names])
    return Curves(stage, names, *_mean(kept, losses), chosen)


def _of_units(run: Run, stage: str, description: Shrink, batches: int) -> Curves:
    seeds, model = run.groups[0], run.model(description.start)
    network = run.network(description.start, seeds)
    found = shrinking.scored(description, model, run.data, network, run.experiment.seed)
    description = dataclasses.replace(description, batches=batches)
    tried = shrinking.scanned(description, model, run.data, network, found)
    names, units = [*tried.kept], run.cut(stage).units()
    kept, losses = (
        np.stack([np.asarray(of[n]) for n in names], axis=1) for of in (tried.kept, tried.losses)
    )
    sizes = {n: kept[0, i, 0] for i, n in enumerate(names)}
    chosen = np.array([1 - units[n].shape[-1] / sizes[n] if n in units else 0.0 for n in names])
    return Curves(stage, names, *_mean(kept, losses), chosen)


def _mean(kept: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(fractions that are cut, losses) of [S, L, K]."""
    whole = np.maximum(kept[..., :1], 1)
    return 1 - np.mean(kept / whole, axis=0), np.mean(losses, axis=0)


def units(run: Run, stage: str, examples: int = 8) -> list[Units]:
    """Of each group of a stage that cut units for good: which were kept, and why."""
    description = run.experiment.stages[stage]
    require(isinstance(description, Shrink), f"stage {stage} cuts no units: name a Shrink stage")
    assert isinstance(description, Shrink)
    model = run.model(description.start)
    network = run.network(description.start, run.groups[0])
    structure = shrinking.traced(model, run.data.spec.shape)
    found = shrinking.scored(description, model, run.data, network, run.experiment.seed)
    excited = _excited(run, model, structure, network)
    kept = run.cut(stage).units()
    result = []
    for group in structure.groups:
        alive = np.ones(group.size, bool)
        if group.name in kept:
            alive = np.isin(np.arange(group.size), kept[group.name][0])
        of_examples = excited.get(group.name)
        activations = None if of_examples is None else of_examples.mean(axis=1)
        top = None if of_examples is None else np.argsort(-of_examples, axis=1)[:, :examples]
        scores = np.asarray(found[group.name][0])
        result.append(Units(group.name, alive, scores, activations, top))
    return result


def shown(run: Run) -> Split:
    """The examples that activations are of: of the validation split, or else of the first to
    train on."""
    part = run.data.validation if len(run.data.validation) else run.data.train
    require(isinstance(part, Split), "the data are streamed from disk: raise --data.memory-mb")
    assert isinstance(part, Split)
    return Split(part.inputs[:SEEN], part.labels[:SEEN], part.ids[:SEEN])


def _excited(
    run: Run, model: Model, structure: Structure, network: Snapshot
) -> dict[str, np.ndarray]:
    """{group: [units, examples]}: the mean of what ReLU leaves of a unit's values, of the first
    seed's network. Groups that no module shows are missing."""
    if model.tapped is None:
        return {}
    variables = row(network.variables, 0)
    inputs = normalise(jnp.asarray(shown(run).inputs), run.data.spec)

    @jax.jit
    def means(variables: Variables, inputs: jax.Array) -> dict[str, jax.Array]:
        features = unit_evidence.features(model, structure, variables, inputs)
        maps = {g.name: unit_evidence.maps(structure, g, features) for g in structure.groups}
        return {name: _by_example(each) for name, each in maps.items() if each}

    return jax.device_get(means(variables, inputs))


def _by_example(maps: tuple[jax.Array, ...]) -> jax.Array:
    """[units, B], of maps [units, n, B, ...]; the mean over those that are of each example."""
    found = []
    for units in maps:
        others = (1, *range(3, units.ndim))
        found.append(jnp.mean(jax.nn.relu(units), axis=others))
    return jnp.mean(jnp.stack(found), axis=0)
