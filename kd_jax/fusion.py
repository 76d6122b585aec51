"""A stage that fuses: (description, several networks) -> one network, untrained."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import compiled, hosts, jobs
from kd_jax.checkpoint import Store
from kd_jax.checks import check, check_model, check_network
from kd_jax.config import Fuse
from kd_jax.data import Dataset, guess
from kd_jax.devices import Layout, put, sharding_of
from kd_jax.ensembles import fused, networks_of, with_shares
from kd_jax.errors import require
from kd_jax.forward import Model
from kd_jax.jobs import Taught
from kd_jax.loop import Reporter, Silent, tell_of_guesses
from kd_jax.metrics import accuracy, predictions
from kd_jax.shares import equal, fitted
from kd_jax.soundness import check_finite, empty_layers
from kd_jax.soups import averaged, differing, greedy
from kd_jax.state import Snapshot
from kd_jax.tree import named_leaves

Array = jax.Array


def model_of(stage: Fuse, models: Sequence[Model], seeds: int = 1) -> Model:
    """What a stage makes of networks of these models, of one seed each; or, across seeds, of so
    many."""
    count = seeds if stage.across == "seeds" else 1
    every = tuple(model for model in models for _ in range(count))
    return fused(every, stage.how) if stage.ensemble else every[0]


def joined(stage: Fuse, networks: Sequence[Snapshot], shares: Array) -> Snapshot:
    """The soup, or the ensemble, of networks [S, ...] with shares [S, M]."""
    if not stage.ensemble:
        return jax.vmap(averaged)(tuple(networks), shares)
    both = networks_of(networks)
    variables = with_shares(both.variables, shares)
    return Snapshot(variables.pop("params"), variables, both.masks)


def check_fusion(
    stage: Fuse, models: Sequence[Model], data: Dataset, devices: Layout = 0, who: str = ""
) -> None:
    """Raises UsageError, which begins with a field's name, where networks of these models can't be
    fused, or there are no examples to decide by."""
    by = "fit-shares True" if stage.fit_shares else f"how {stage.how}"
    require(
        not stage.chooses or len(data.validation) > 0,
        f"{by} decides by validation examples, and there are none: set --data.validation above 0",
    )
    forms = [check_model(stage.model, model, data, who) for model in models]
    if stage.ensemble:
        return
    shapes = [{name: x.shape for name, x in named_leaves(form).items()} for form in forms]
    other = differing(shapes)
    found = " and ".join(dict.fromkeys(str(form.get(other, "none")) for form in shapes))
    require(
        not other,
        f"of {' '.join(stage.of)}: a {stage.how} is of networks of one form, and {other} is of "
        f"shape {found}: take others, or set how to probabilities",
    )
    if stage.recalibrate and len(forms[0]) > 1:
        check(stage, models[0], data, devices, who)


def fuse(
    stage: Fuse,
    members: Sequence[Taught],
    data: Dataset,
    *,
    seeds: Sequence[int] = (0,),
    devices: Layout = 0,
    store: Store | None = None,
    report: Reporter | None = None,
    name: str = "",
) -> Taught:
    """(model, network [S, ...]) of several such pairs: to be evaluated, to teach, or, of a soup, to
    be gone on from.

    Shares are the stage's weights; or are fitted on the validation split; or are those of a greedy
    soup. Of the last two each seed has its own. Batch statistics of a soup are estimated anew; of a
    greedy one, of each soup that is tried.

    Args:
      stage: what it says of seeds is passed over, and its names are not looked at.
      members: as many as it names; or, with weights, that many times as many, those of the first
        name first, which share its weight.

    Raises:
      UsageError: they can't be fused.
    """
    report, began = report or Silent(), time.monotonic()
    _check_members(stage, members, data, len(seeds))
    models, networks = zip(*members, strict=True)
    check_fusion(stage, models, data, devices)
    kitchen = _Kitchen(stage, models, networks, data, seeds, devices)
    shares = kitchen.shares()
    model, network = kitchen.model, jax.block_until_ready(kitchen.cook(shares))
    if hosts.several():  # what is written must be on the devices of all
        network = put(sharding_of(jax.devices()), network)
    listed = ", ".join(f"{share:.2f}" for share in np.mean(shares, axis=0))
    report.note(f"{name}: fused, shares {listed}".removeprefix(": "))
    measured = kitchen.measured(model, network, report)
    if store is not None:
        seconds = time.monotonic() - began
        facts = {"stage": name, "seeds": list(seeds), "shares": shares, "seconds": seconds}
        store.finish(network, facts | measured)
    return model, network


def _check_members(stage: Fuse, members: Sequence[Taught], data: Dataset, seeds: int) -> None:
    count, weights = len(members), len(stage.shares)
    require(count > 1, "of: one network alone can't be fused: give two or more")
    require(
        not weights or count % weights == 0,
        f"shares: {weights} for {count} networks: give one a network, or leave them out",
    )
    for i, (model, network) in enumerate(members):
        variables = check_model(stage.model, model, data)
        check_network(f"of: network {i}", network, variables, seeds)
        check_finite(f"of: network {i}", network)


@dataclasses.dataclass(frozen=True)
class _Kitchen:
    """The members, and what can be made of them."""

    stage: Fuse
    models: Sequence[Model]
    networks: Sequence[Snapshot]
    data: Dataset
    seeds: Sequence[int]
    devices: Layout

    @property
    def model(self) -> Model:
        return fused(tuple(self.models), self.stage.how) if self.stage.ensemble else self.models[0]

    def said(self, model: Model, network: Snapshot) -> tuple[np.ndarray, np.ndarray]:
        """(logits [S, N, K], labels [N]) of the validation split."""
        return predictions(compiled.predictor(model, self.data.spec), network, self.data.validation)

    def measured(self, model: Model, network: Snapshot, report: Reporter) -> dict[str, Any]:
        """What is to be known of the result, if there are examples to tell. As of trained networks,
        the reporter hears of one that has died or only guesses."""
        check_finite(f"of {' '.join(self.stage.of)}", network, self.seeds)
        for said in empty_layers(network):
            report.note(said)
        if not len(self.data.validation):
            return {}
        found, spec = accuracy(*self.said(model, network)), self.data.spec
        tell_of_guesses(found, self.seeds, spec.classes, guess(self.data), report)
        return {"validation_accuracy": found}

    def shares(self) -> np.ndarray:
        """Of each seed's members, [S, M]."""
        stage, count = self.stage, len(self.models)
        if not stage.chooses:
            weights = np.repeat(stage.shares, count // max(len(stage.shares), 1)).tolist()
            return np.tile(equal(count, weights), (len(self.seeds), 1))
        each = [self.said(*member) for member in zip(self.models, self.networks, strict=True)]
        logits, labels = np.stack([said for said, _ in each], axis=1), each[0][1]
        if stage.fit_shares:
            fit = functools.partial(fitted, stage.how)
            return np.asarray(jax.vmap(fit, in_axes=(0, None))(logits, labels))
        score = lambda shares: accuracy(*self.said(self.models[0], self.cook(shares)))  # noqa: E731
        return greedy(accuracy(logits, labels), score)

    def cook(self, shares: np.ndarray) -> Snapshot:
        """What the members make with shares [S, M]."""
        found = self._mix(tuple(self.networks), jnp.asarray(shares, jnp.float32))
        if self._oven is None:
            return found
        prepared, shown = self._oven
        given = (prepared.settings, prepared.seeds)
        state = prepared.begin(prepared.put(found))
        event = ("calibrate", None)
        state = prepared.compiled.change_masks(*given, state, event, None, shown)
        return prepared.compiled.rest(*given, state)

    @functools.cached_property
    def _mix(self) -> Any:
        return jax.jit(functools.partial(joined, self.stage))

    @functools.cached_property
    def _oven(self) -> tuple[jobs.Prepared, Any] | None:
        """By what, and on which examples, batch statistics are estimated anew."""
        stage, data = self.stage, self.data
        if stage.ensemble or not self.networks[0].collections or not stage.recalibrate:
            return None
        prepared = jobs.prepare((stage,), self.models[0], data, None, self.seeds, self.devices)
        if prepared.resident is not None:
            return prepared, prepared.resident
        batches = jobs.streamed(stage, data, prepared.seeds)(0)
        return prepared, tuple(itertools.islice(batches, stage.recalibrate))
