"""What each kind of stages makes of the networks that it takes, before it trains: one table."""

import dataclasses
from collections.abc import Callable
from typing import Any

from kd_jax import fusion, gating, latency, quantizing, shifting, shrinking
from kd_jax.config import Fuse, Gate, Quantize, Shift, Shrink, Stage, Train
from kd_jax.cuts import Cut
from kd_jax.data import Dataset
from kd_jax.devices import Layout
from kd_jax.encode import network as network_lib
from kd_jax.encode.network import Architecture
from kd_jax.forward import Model
from kd_jax.shrinking import Kept
from kd_jax.state import Snapshot
from kd_jax.tree import count

Seeds = tuple[int, ...]
Note = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Given:
    """A stage, and what it takes.

    Attributes:
      stage: its description.
      models: of the networks that its own is made of, those of its `sources`.
      data: the data set.
      seeds: how many the experiment has.
      cut: what it decided for all of them, if it is of a kind that does.
    """

    stage: Any
    models: tuple[Model, ...]
    data: Dataset
    seeds: int
    cut: Cut

    @property
    def start(self) -> tuple[Model, tuple[int, ...]]:
        """(the model of what it starts from, the shape of an example)."""
        return self.models[0], self.data.spec.shape


def _as_it_is(given: Given, network: Snapshot, *_: Any) -> Snapshot:
    return network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """What is asked of a kind beside what its stages say as data; of what it doesn't answer, that
    it goes on with the network as it is.

    Attributes:
      model: of its network, where that is made of others.
      check: raises UsageError, which begins with a field's name, where it can't work; is told how
        the devices are laid out, and what to call the model.
      tell: what is to be known before it begins; empty: nothing.
      decide: from the networks [S, ...] of all seeds and the first seed, once, which units are
        kept; None where there is nothing to decide.
      begin: the network [S, ...] that it begins with, from that of some of the seeds, and their
        places among all; may note what it does.
      made: the architecture of its network, from that of the one before.
      became: what became of its network, in a reader's words; empty: nothing to speak of.
    """

    model: Callable[[Given], Model] = lambda given: given.models[0]
    check: Callable[[Given, Layout, str], Any] = lambda given, layout, who: None
    tell: Callable[[Given], str] = lambda given: ""
    decide: Callable[[Given, Snapshot, int], Kept] | None = None
    begin: Callable[[Given, Snapshot, Seeds, slice, Note], Snapshot] = _as_it_is
    made: Callable[[Given, Architecture], Architecture] = lambda given, of: of
    became: Callable[[Given, Snapshot], str] = lambda given, network: ""


def _shrunk(given: Given) -> Model:
    if given.cut.known:
        return given.cut.model(*given.start)
    return shrinking.expected(given.stage, *given.start)


def _check_cut(given: Given, layout: Layout, who: str) -> None:
    if not given.data.streamed:
        shrinking.check(given.stage, given.models[0], given.data)


def _tell_of_cut(given: Given) -> str:
    return "" if given.cut.known else f"choosing what to cut by {given.stage.criterion}"


def _decide_cut(given: Given, networks: Snapshot, seed: int) -> Kept:
    model, data = given.models[0], given.data
    return shrinking.decide(given.stage, model, data, networks, seed, latency.measure)


def _cut(given: Given, network: Snapshot, seeds: Seeds, rows: slice, note: Note) -> Snapshot:
    return given.cut.network(*given.start, network, rows)


def _gated(given: Given) -> gating.Gated:
    return gating.of_stage(given.stage, *given.start)


def _tell_of_gates(given: Given) -> str:
    names = ", ".join(_gated(given).whole)
    return f"every input has {names} whole: there a gate would be no cut" if names else ""


def _made_gated(given: Given, of: Architecture) -> Architecture:
    stage = given.stage
    return network_lib.gated_by(of, stage.amount, stage.hidden, stage.keep)


def _became_gated(given: Given, network: Snapshot) -> str:
    gates = _gated(given).gates
    return f"gated to {sum(gates.counts.values())} of {gates.units} units"


def _quantise(given: Given, network: Snapshot, seeds: Seeds, rows: slice, note: Note) -> Snapshot:
    note("choosing grids")
    return quantizing.begin(given.stage, given.models[0], given.data, network)


def _made_quantised(given: Given, of: Architecture) -> Architecture:
    return network_lib.quantised_by(of, quantizing.layout_of(given.stage, *given.start))


def _shift(given: Given, network: Snapshot, seeds: Seeds, rows: slice, note: Note) -> Snapshot:
    found, by = shifting.shifted(given.stage, given.models[0], given.data, network)
    note(shifting.words(given.stage, by, seeds))
    return found


KINDS: dict[type[Stage], Kind] = {
    Train: Kind(),
    Shrink: Kind(
        model=_shrunk,
        check=_check_cut,
        tell=_tell_of_cut,
        decide=_decide_cut,
        begin=_cut,
        made=lambda given, of: network_lib.shrunk(of, given.cut.widths()),
        became=lambda given, network: f"shrunk to {count(network.params):,} parameters",
    ),
    Gate: Kind(
        model=lambda given: _gated(given).model,
        tell=_tell_of_gates,
        begin=lambda given, network, seeds, *_: _gated(given).begin(network, seeds),
        made=_made_gated,
        became=_became_gated,
    ),
    Quantize: Kind(
        model=lambda given: quantizing.of_stage(given.stage, *given.start),
        begin=_quantise,
        made=_made_quantised,
        became=lambda given, network: given.stage.form,
    ),
    Shift: Kind(
        check=lambda given, *_: shifting.check(given.stage, given.models[0], given.data),
        begin=_shift,
    ),
    Fuse: Kind(
        model=lambda given: fusion.model_of(given.stage, given.models, given.seeds),
        check=lambda given, *how: fusion.check_fusion(given.stage, given.models, given.data, *how),
    ),
}


def kind_of(stage: Stage) -> Kind:
    """The entry of a stage's class, or of the nearest that it is derived from."""
    return next(KINDS[cls] for cls in type(stage).__mro__ if cls in KINDS)
