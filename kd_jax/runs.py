"""A run: an experiment with its folder, data and models, and what of it is done."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax import gating, jsons, many, naming, versions
from kd_jax.checkpoint import Store
from kd_jax.config import Distill, Experiment, Gate
from kd_jax.cuts import Cut
from kd_jax.data import Dataset
from kd_jax.distill import SimKD
from kd_jax.ensembles import ensemble, networks_of
from kd_jax.errors import UsageError, require
from kd_jax.forward import Model
from kd_jax.gating import Gated
from kd_jax.kinds import Given, Kind, Seeds, kind_of
from kd_jax.mutual import mutual
from kd_jax.reuse import reused
from kd_jax.serialize import fingerprint, from_data, sources, what
from kd_jax.state import Snapshot
from kd_jax.sweep import Variant


@dataclasses.dataclass(frozen=True)
class Run:
    """An experiment with its folder, data and models at hand.

    Attributes:
      experiment: with a stage for each setting of a stage that is swept.
      variants: of which these are, by name.
    """

    experiment: Experiment
    folder: Path
    data: Dataset
    models: dict[str, Model]
    variants: dict[str, Variant] = dataclasses.field(default_factory=dict)

    @property
    def groups(self) -> list[Seeds]:
        """Seeds that train together."""
        first, count = self.experiment.seed, self.experiment.seeds
        seeds = tuple(range(first, first + count))
        return [seeds] if self.experiment.together else [(seed,) for seed in seeds]

    def members(self, stage: str) -> tuple[str, ...]:
        """The stages that train together with a stage, itself among them."""
        variant = self.variants.get(stage)
        if variant is None or not (self.experiment.together or variant.joint):
            return (stage,)
        stages, varied = self.experiment.stages, self.variants.keys()
        # Settings that cut, gate, quantise or fuse differently differ in shapes.
        reshaped = any(stages[s].reshapes for s in varied & {*self.experiment.lineage(stage)})
        fused = any(not stages[s].trains for s in varied & {stage, *self.experiment.needs(stage)})
        return (stage,) if stages[stage].apart or reshaped or fused else variant.siblings

    def flag(self, stage: str) -> str:
        """By which flags a stage's fields are set."""
        return self.variants[stage].base if stage in self.variants else stage

    def given(self, stage: str) -> Given:
        """What a stage takes, for those who know its kind."""
        description = self.experiment.stages[stage]
        models = tuple(self.model(name) for name in description.sources)
        return Given(description, models, self.data, self.experiment.seeds, self.cut(stage))

    def kind(self, stage: str) -> Kind:
        """What a stage's kind makes of networks."""
        return kind_of(self.experiment.stages[stage])

    def model(self, stage: str) -> Model:
        """Of a stage's result: what its kind makes of those that it takes; of a fresh network that
        of its role, with its teacher's classifier where it is to have that."""
        description = self.experiment.stages[stage]
        if description.sources:
            return self.kind(stage).model(self.given(stage))
        model = self.models[description.model]
        if getattr(description, "classifier", "own") == "own":
            return model
        terms = getattr(description, "terms", {}).values()
        reductions = [term.reduction for term in terms if isinstance(term, SimKD)]
        teacher = self.model(description.teachers[0])
        return reused(model, teacher, self.data.spec.shape, *reductions[:1])

    def trained(self, stage: str) -> Model:
        """What a stage trains: that, and its peers of other architectures where it has any."""
        peers = getattr(self.experiment.stages[stage], "peer_models", ())
        model = self.model(stage)
        return mutual((model, *(self.models[peer] for peer in peers))) if peers else model

    def cut(self, stage: str) -> Cut:
        """What a Shrink stage cuts, of all seeds."""
        return Cut(self.folder / stage)

    def became(self, stage: str, network: Snapshot) -> list[str]:
        """What became of its network on the way, in a reader's words."""
        before = [*self.experiment.lineage(stage)][::-1]
        said = [self.kind(name).became(self.given(name), network) for name in before]
        return [*dict.fromkeys(filter(None, said))]

    def gated(self, stage: str) -> Gated | None:
        """Its network and gater, where it has one."""
        for name in self.experiment.lineage(stage):
            description = self.experiment.stages[name]
            if isinstance(description, Gate):
                start = self.model(description.start)
                return gating.of_stage(description, start, self.data.spec.shape)
        return None

    def store(self, stage: str, seeds: Seeds) -> Store:
        """Of a stage and those that train together with it."""
        # Of many only the first and the last: a folder's name can't be of any length.
        few = len(seeds) <= 10
        listed = "-".join(map(str, seeds)) if few else f"{seeds[0]}-to-{seeds[-1]}"
        name = self.flag(stage) if len(self.members(stage)) > 1 else stage
        return Store(self.folder / name / f"seeds-{listed}")

    def network(self, stage: str, seeds: Seeds) -> Snapshot:
        """The result of a finished stage, [S, ...]."""
        members = self.members(stage)
        return many.of_variant(self._all(stage, seeds), members.index(stage), len(members))

    def _all(self, stage: str, seeds: Seeds) -> Snapshot:
        """Of all that train together with it, [S·V, ...]."""
        store = self.store(stage, seeds)
        if self.facts(stage, seeds) is None:
            command = f"python run.py run {self.experiment.name}"
            raise UsageError(
                f"{self.folder}: stage {stage!r} is not finished: go on with it by {command} and "
                "the flags it was begun with"
            )
        return store.load()

    def teacher_model(self, stage: str) -> Model | None:
        """Who teaches a stage: a network, or several as one; None where no other stage's does."""
        description = self.experiment.stages[stage]
        if not isinstance(description, Distill) or not description.teachers:
            return None
        models = tuple(self.model(name) for name in description.teachers)
        rule = "probabilities" if description.combine == "probabilities" else "logits"
        return ensemble(models, rule, description.teacher_weights)

    def teachers(self, stages: Sequence[str], seeds: Seeds) -> Snapshot:
        """The teacher's network of stages that train together, [S, ...] or [S·V, ...]."""
        each = [self.experiment.stages[stage].teachers for stage in stages]
        by_place = list(zip(*each, strict=True))
        differ = any(len(set(names)) > 1 for names in by_place)
        return networks_of([self.networks(names, seeds, differ) for names in by_place])

    def networks(self, names: Sequence[str], seeds: Seeds, spread: bool = False) -> Snapshot:
        """The result of one stage, [S, ...]; or, where V variants have one each (or it is to be
        spread to all), [S·V, ...]."""
        if len(set(names)) == 1 and not spread:
            return self.network(names[0], seeds)
        if tuple(names) == self.members(names[0]):
            return self._all(names[0], seeds)  # they lie there as they are asked for
        return many.of_runs([self.network(name, seeds) for name in names])

    def facts(self, stage: str, seeds: Seeds) -> dict[str, Any] | None:
        """What is known of a finished stage; None before. Its seconds are its share of those of
        all that train together."""
        facts = self.store(stage, seeds).facts()
        if facts is None:
            return None
        share = facts.get("seconds", 0.0) / len(self.members(stage))
        return {**facts, "seconds": share}

    def step_ms(self, stage: str) -> float | None:
        """Milliseconds of a training step of one group of seeds; None where it is not known."""
        paces = [self.store(stage, seeds).pace() for seeds in self.groups]
        known = [pace for pace in paces if pace]
        batch = self.experiment.stages[stage].batch
        return 1e3 * batch / float(np.median(known)) if known else None

    def history(self, stage: str) -> list[dict[str, Any]]:
        """The records of a stage's epochs, the lists of all seeds joined."""
        count, groups = len(self.members(stage)), []
        for seeds in self.groups:
            records = self.store(stage, seeds).history(len(seeds) * count)
            groups.append({record["step"]: record for record in records})
        # Where a group lacks an epoch, there is none of all seeds.
        steps = [step for step in groups[0] if all(step in group for group in groups)]
        return [self._joined(stage, [group[step] for group in groups]) for step in steps]

    def lost(self, stage: str) -> list[str]:
        """What can't be read of a finished stage's records: a line for each damaged file."""
        count = len(self.members(stage))
        said = [self.store(stage, seeds).lost(len(seeds) * count) for seeds in self.groups]
        return [*filter(None, said)]

    def _joined(self, stage: str, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        place, count = self.members(stage).index(stage), len(self.members(stage))
        join = lambda lists: [x for values in lists for x in values[place::count]]  # noqa: E731
        joined = dict(records[0])
        for name in ("validation_accuracy", "sparsity"):
            if all(name in record for record in records):
                joined[name] = join(record[name] for record in records)
        for kind in ("train", "gradients"):
            if all(kind in record for record in records):
                names = [n for n in joined[kind] if all(n in record[kind] for record in records)]
                joined[kind] = {n: join(record[kind][n] for record in records) for n in names}
        return joined

    @property
    def done(self) -> tuple[str, ...]:
        """The stages that are finished, whichever were asked for, each after those it needs."""
        every = dataclasses.replace(self.experiment, only=()).order()
        facts = {stage: [self.facts(stage, group) for group in self.groups] for stage in every}
        return tuple(stage for stage in every if None not in facts[stage])

    def label(self, stage: str) -> str:
        """What the network is, in a reader's words."""
        return naming.label(self.experiment, self.variants, stage)

    def reference(self, stage: str, order: Sequence[str]) -> str:
        """The stage of these whose network taught a stage's; or, where none did, that of the first
        teacher, or else of the first network."""
        own = getattr(self.experiment.stages[stage], "teacher", "")
        if own in order:
            return own
        teachers = [s for s in order if self.experiment.stages[s].model == "teacher"]
        return (teachers or list(order))[0]

    def baselines(self, stage: str, order: Sequence[str]) -> tuple[str, ...] | None:
        """The stages of these with which a stage is compared: those that the experiment names; or,
        of a variant, the first of its model that is none of its siblings, and that one of these
        which has the usual setting. None where the first of its model will do."""
        role = lambda name: self.experiment.stages[name].model  # noqa: E731
        variant, before = self.variants.get(stage), order[: order.index(stage)]
        if self.experiment.compare:
            named = [name for name in self.experiment.compare if name in before]
            return tuple(name for name in named if role(name) == role(stage))
        compared = self.experiment.stages[stage].compared
        if compared:
            return tuple(name for name in compared if name in order)
        if variant is None:
            return None
        model = lambda name: getattr(self.experiment, role(name))  # noqa: E731
        others = [name for name in before if name not in variant.siblings]
        earlier = [name for name in others if model(name) == model(stage)]
        usual = [name for name in variant.siblings if self.variants[name].usual and name != stage]
        return tuple(name for name in (*earlier[:1], *usual) if name in order)


def experiment_of(folder: Path) -> Experiment:
    """The experiment that a run's config.json tells of.

    Raises:
      UsageError: there is none, or it is damaged.
    """
    path = folder / "config.json"
    if not path.exists():
        raise UsageError(f"{folder}: no config.json here, so no run of kd_jax")
    try:
        data, fits = jsons.parsed(path.read_text(encoding="utf-8")), True
        if isinstance(data, dict):
            data, fits = jsons.unsummed(data)
        experiment = from_data(data)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(f"{path}: damaged ({error})") from error
    if not isinstance(experiment, Experiment):
        raise UsageError(f"{path}: damaged (it holds no Experiment)")
    require(
        fits,
        f"{path}: damaged or edited (its checksum is of other content): the same run command "
        "writes it anew; what is to be changed is given to run as flags",
    )
    return experiment


def folder_of(experiment: Experiment) -> Path:
    """Where an experiment's run lives: named by what it computes. Or where it has begun, before
    there were fields that the experiment leaves at their defaults: they are in the name too."""
    named = Path(experiment.out) / f"{experiment.name}-{fingerprint(experiment)}"
    begun = named if named.exists() else _begun(experiment, named)
    return begun or named


def _begun(experiment: Experiment, named: Path) -> Path | None:
    """A folder of another name whose run computes the same."""
    form = re.compile(rf"{re.escape(named.name[:-8])}[0-9a-f]{{8}}")
    try:
        others = sorted(path for path in named.parent.iterdir() if form.fullmatch(path.name))
    except (OSError, ValueError):  # ValueError: the name holds a null character
        return None
    for folder in others:
        try:
            saved = experiment_of(folder)
            by = versions.read(folder).get("sources", {})
        except (OSError, ValueError, TypeError):  # no run, or none that this version can read
            continue
        if what(saved) == what(experiment) and by == sources(experiment):
            return folder
    return None
