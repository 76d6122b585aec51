"""Criterion, allocation, structure and schedule: what goes together keeps its promises, and the
rest is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import prune_laws
import pytest
import tiny
import tiny_runs

from kd_jax import jobs, pieces, stages
from kd_jax.checkpoint import Store
from kd_jax.config import Prune, Train
from kd_jax.distill import KD
from kd_jax.errors import UsageError
from kd_jax.objective import no_metrics
from kd_jax.optim import Optim
from kd_jax.prune import (
    ADMM,
    CRITERIA,
    DNS,
    SCHEDULES,
    SET,
    SRSTE,
    STE,
    STRUCTURES,
    Cubic,
    Cyclic,
    Exponential,
    Iterative,
    Lottery,
    OneShot,
    RigL,
)
from kd_jax.prune import masks as masks_lib
from kd_jax.state import Snapshot, rest
from kd_jax.tree import named_leaves

STAGE = Prune(
    epochs=3,  # 12 steps
    batch=16,
    optim=Optim(learning_rate=0.05, weight_decay=1e-2),
    ema=0.8,
    sparsity=0.7,
)
SHORT = SCHEDULES | {
    "one_shot": OneShot(at=0.3, rounds=2),
    "iterative": Iterative(rounds=3),
    "cubic": Cubic(every=2),
    "exponential": Exponential(every=2),
    "lottery": Lottery(rounds=2, rewind=1),
    "cyclic": Cyclic(begin=0.1, phase=0.125, last=0.75, reset=True),
    "set": SET(every=2),
    "rigl": RigL(every=2),
    "ste": STE(every=2),
    "sr_ste": SRSTE(every=3),
    "admm": ADMM(rho=0.1, begin=0.1, every=3),
}


def stage(**names):
    """A stage of so named choices."""
    tables = {"criterion": CRITERIA, "structure": STRUCTURES, "schedule": SHORT}
    fields = {name: tables.get(name, {}).get(value, value) for name, value in names.items()}
    threshold = {"threshold": 0.15, "std": 0.5}.get(fields.get("allocation"), 0.0)
    fields = {"threshold": threshold, **fields}
    if names.get("structure") == "n_m":
        fields = {"sparsity": 0.5, **fields}
    return dataclasses.replace(STAGE, **fields)


def named(names):
    """What a case is called."""
    return "-".join([names["schedule"], *([names["criterion"]] if "criterion" in names else [])])


# Each schedule with another structure, allocation and criterion, so that all occur.
MIXED = [
    {"schedule": "one_shot", "criterion": "synflow", "allocation": "global", "normalise": "mean"},
    {"schedule": "iterative", "structure": "filter", "criterion": "snip", "allocation": "global"},
    {"schedule": "cubic", "structure": "block", "allocation": "erk", "criterion": "fisher"},
    {"schedule": "exponential", "structure": "row", "criterion": "wanda"},
    {"schedule": "iterative", "allocation": "sensitivity", "amounts": ("classifier=0.5",)},
    {"schedule": "lottery", "allocation": "erk", "criterion": "taylor"},
    {"schedule": "cyclic", "criterion": "random"},
    {"schedule": "cubic", "structure": "layer", "allocation": "global", "criterion": "snip"},
    {"schedule": "iterative", "criterion": "sparsegpt", "amounts": ("hidden=0.8",)},
    {"schedule": "one_shot", "criterion": "sparsegpt", "structure": "n_m"},
    {"schedule": "static", "allocation": "global", "amounts": ("classifier=0.5",)},
    {"schedule": "set", "structure": "block", "allocation": "layer"},
    {"schedule": "rigl", "allocation": "erk"},
    {"schedule": "ste", "criterion": "grasp", "allocation": "layer", "amounts": ("hidden=0.9",)},
    {"schedule": "sr_ste", "structure": "n_m"},
    {"schedule": "dns", "allocation": "std"},
    {"schedule": "admm", "allocation": "global", "structure": "block"},
    {"schedule": "cubic", "criterion": "movement", "allocation": "global", "normalise": "l2"},
    {"schedule": "one_shot", "criterion": "soft_movement", "structure": "filter"},
    {"schedule": "exponential", "criterion": "str", "allocation": "global"},
    {"schedule": "one_shot", "criterion": "l0", "structure": "row"},
    {"schedule": "cubic", "criterion": "l0", "allocation": "erk"},
]
# One for each way in which masks change: the others differ from these in a part that has tests of
# its own.
FAST = ["iterative-snip", "set", "dns"]
EACH = [
    pytest.param(names, id=named(names), marks=[pytest.mark.slow] * (named(names) not in FAST))
    for names in MIXED
]


@pytest.mark.parametrize("names", EACH)
def test_laws_hold_and_a_stopped_run_ends_like_another(names, tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_SECONDS", 0.0)
    given = stage(**names)
    store = Store(tmp_path / "whole")
    state, _ = tiny_runs.fit(given, store=store)
    prune_laws.check(given, state)
    if given.schedule.straight_through:  # the masked ones go on learning
        mask = np.asarray(state.masks["hidden"]["kernel"])
        assert np.all(np.asarray(state.params["hidden"]["kernel"])[~mask] != 0)
    again, history, diary = tiny_runs.stop_and_go_on(tmp_path / "parts", 8, "quit", given)
    assert diary.began in (
        [("", 12, 4)],
        [("", 12, 7)],
    )  # the latter where pieces are small by then
    assert not tiny.differences(again, state)
    assert history == store.history()


def test_all_that_can_be_named_is_tried():
    assert {names["schedule"] for names in MIXED} == set(SCHEDULES)
    assert {names.get("structure", "weights") for names in MIXED} == set(STRUCTURES)


@pytest.mark.slow  # test_contracts holds other schedules to this
def test_devices_prune_like_one():
    given = stage(schedule="rigl")
    one, many = (tiny_runs.fit(given, devices=n)[0] for n in (1, 4))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_variants_are_what_each_is_alone():
    stages = [stage(schedule="rigl", sparsity=sparsity) for sparsity in (0.5, 0.8)]
    together, _ = tiny_runs.fit(stages)
    for index, one in enumerate(stages):
        alone, _ = tiny_runs.fit(one)
        for a, b in zip(jax.tree.leaves(together.masks), jax.tree.leaves(alone.masks), strict=True):
            np.testing.assert_array_equal(a[index::2], b)


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["macs", "bytes"])
def test_a_budget_is_met_as_nearly_as_a_weight_allows(budget):
    given = stage(schedule="one_shot", allocation="sensitivity", budget=budget, sparsity=0.6)
    state, _ = tiny_runs.fit(given)
    masks = {"hidden": state.masks["hidden"]["kernel"], "classifier": None}
    masks["classifier"] = state.masks["classifier"]["kernel"]
    left = np.asarray([np.sum(mask, axis=(1, 2)) for mask in masks.values()])
    sizes = np.array([mask[0].size for mask in masks.values()])
    if budget == "macs":  # of a perceptron, a weight is one; of both layers alike
        assert left.sum(axis=0).tolist() == [int(sizes.sum() * 0.4)] * 2
    else:
        room = 0.4 * 4 * sizes.sum() - np.ceil(sizes / 8).sum()
        assert left.sum(axis=0).tolist() == [int(room // 4)] * 2


# What each schedule does


@pytest.mark.slow
def test_a_rewound_training_is_the_training_from_there_with_fewer_weights():
    """Steps 8 to 15 are the first eight over again: the same rates, batches and statistics."""
    given = dataclasses.replace(
        STAGE, epochs=4, schedule=Lottery(rounds=1), optim=Optim(weight_decay=1e-2, warmup=3)
    )
    state, _ = tiny_runs.fit(given)
    model, seeds = tiny.perceptron(), (0, 1)
    prepared = jobs.prepare([given], model, tiny.digits(), None, seeds, 1)
    first = rest(prepared.begin(None))
    masked = masks_lib.apply(state.masks, first.params)
    start = Snapshot(masked, first.collections, state.masks)
    plain = Train(epochs=2, batch=16, optim=given.optim, ema=given.ema)
    once, _ = tiny_runs.fit(plain, start=start, seeds=seeds)
    assert not tiny.differences(once.params, state.params)
    assert not tiny.differences(once.opt_state, state.opt_state)
    assert not tiny.differences(once.collections, state.collections)
    assert not tiny.differences(once.extra["ema"], state.extra["ema"])
    # The masks are of the weights at the end of the first training, not of those put back.
    trained, _ = tiny_runs.fit(plain, seeds=seeds)
    for name in ("hidden", "classifier"):
        size, mask = np.abs(trained.params[name]["kernel"]), np.asarray(state.masks[name]["kernel"])
        for seed in (0, 1):
            assert size[seed][mask[seed]].min() >= size[seed][~mask[seed]].max()


def masks_at(given, **changes):
    """{step: masks} after each change of them."""
    seen = {}
    original = pieces.Runner.change

    def change(self, step, state, event):
        state = original(self, step, state, event)
        seen.setdefault(step, []).append(jax.tree.map(np.array, state.masks))
        return state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces.Runner, "change", change)
        state, _ = tiny_runs.fit(given, **changes)
    return seen, state


def hidden(masks):
    return masks["hidden"]["kernel"][0]


def test_cyclic_frees_all_and_chooses_anew():
    seen, _ = masks_at(stage(schedule="cyclic", criterion="random"))
    phases = [hidden(seen[step][-1]) for step in sorted(seen)]
    kept = 512 - round(512 * 0.7)
    assert [int(p.sum()) for p in phases] == [kept, 512] * (len(phases) // 2) + [kept]
    assert (phases[0] != phases[-1]).any()


def test_rigl_grows_where_the_gradient_is_largest_and_weights_begin_at_zero():
    """Before the first step, where the gradient is that of the start, on the first batch."""
    given = stage(schedule=RigL(every=5, fraction=0.5, end=0.8), ema=None)
    prepared = jobs.prepare([given], tiny.perceptron(), tiny.digits(), None, (0,), 1)
    state = prepared.begin(None)
    keep = {"hidden/kernel": 154, "classifier/kernel": 24}
    told = (prepared.settings, prepared.seeds)
    state = prepared.compiled.change_masks(*told, state, ("scatter", keep))
    before, params = hidden(state.masks), jax.tree.map(lambda x: x[0], state.params)
    statistics = jax.tree.map(lambda x: x[0], state.collections)
    data, spec = tiny.digits(), tiny.digits().spec
    rows = np.asarray(prepared.compiled.order(*told, 0, prepared.resident)[0][:16])
    inputs = (data.train.inputs[rows] / spec.scale - np.asarray(spec.mean)) / np.asarray(spec.std)

    def loss(params):
        given = {"params": params, **statistics}
        said = tiny.perceptron().forward(given, jnp.float32(inputs), train=True)[0].logits
        return -jnp.mean(jax.nn.log_softmax(said)[np.arange(16), data.train.labels[rows]])

    gradient = np.abs(np.asarray(jax.jit(jax.grad(loss))(params)["hidden"]["kernel"]))
    weights = np.abs(np.asarray(params["hidden"]["kernel"]))
    before = np.asarray(before)
    changed = (("swap", 0.5), None, prepared.resident)
    state = prepared.compiled.change_masks(*told, state, *changed)
    after = np.asarray(hidden(state.masks))
    assert after.sum() == before.sum() == 154
    stayed = before & (weights >= np.sort(weights[before])[77])
    assert (after & stayed).sum() == 77
    grown = after & ~stayed
    assert gradient[grown].min() >= gradient[~after].max()
    np.testing.assert_array_equal(np.asarray(hidden(state.params))[grown & ~before], 0)


def test_the_decay_of_sr_ste_draws_masked_weights_alone():
    plain = stage(schedule=SRSTE(begin=0.0, every=99, decay=0.0), ema=None, epochs=1)
    drawn = dataclasses.replace(plain, schedule=SRSTE(begin=0.0, every=99, decay=0.5))
    one, other = (tiny_runs.fit(each, seeds=(0,))[0] for each in (plain, drawn))
    mask = hidden(one.masks)
    a, b = (np.asarray(hidden(state.params)) for state in (one, other))
    # The masked are hidden in the forward pass: only their own decay tells the two apart.
    np.testing.assert_allclose(a[mask], b[mask], rtol=1e-5)
    assert np.mean(np.abs(b[~mask]) < np.abs(a[~mask])) > 0.95


def test_dns_takes_its_thresholds_once_and_shows_weights_again():
    """By hand, step by step: θ = mean |w| + c σ of the first weights, c a layer's own; then what is
    above 1.1 θ is shown, and of what was shown what is above 0.9 θ stays."""
    given = stage(
        schedule=DNS(gamma=0.0, end=0.5),
        allocation="std",
        threshold=0.3,
        thresholds=("classifier=0.6",),
        ema=None,
        optim=Optim(learning_rate=0.3),
    )
    prepared = jobs.prepare([given], tiny.perceptron(), tiny.digits(), None, (0,), 1)
    told = (prepared.settings, prepared.seeds)
    state = prepared.begin(None)
    job = jobs.job_of(prepared, None, state)
    ((at, (event,)),) = job.events.items()
    assert at == 0
    state = prepared.compiled.change_masks(*told, state, event)
    found = {n: float(x[0]) for n, x in state.extra["thresholds"].items()}
    for name, factor in {"hidden/kernel": 0.3, "classifier/kernel": 0.6}.items():
        w = np.abs(np.asarray(named_leaves(state.params)[name][0]))
        np.testing.assert_allclose(found[name], w.mean() + factor * w.std(), rtol=1e-5)
    back, half = 0, prepared.program.steps // 2
    for step in range(half + 3):
        mask, w = np.array(hidden(state.masks)), np.abs(np.array(hidden(state.params)))
        zeros = no_metrics(prepared.settings, 1)
        state = prepared.compiled.advance(*told, state, zeros, None, prepared.resident, 1)[0]
        after, theta = np.asarray(hidden(state.masks)), found["hidden/kernel"]
        wanted = (mask & (w > 0.9 * theta)) | (w > 1.1 * theta) if step < half else mask
        np.testing.assert_array_equal(after, wanted)
        back += int((after & ~mask).sum())
    assert back
    assert {n: float(x[0]) for n, x in state.extra["thresholds"].items()} == found


def test_admm_draws_weights_to_their_projection():
    """By hand: Z = Π(W) and then Π(W + U), U = Σ (W − Z), and W less η times the gradient, which is
    that of a step without them and ρ (W − Z + U)."""
    optim = Optim(learning_rate=0.1, momentum=0.0, schedule="constant")
    given = stage(schedule=ADMM(rho=0.3, end=0.9), ema=None, optim=optim)
    prepared = jobs.prepare([given], tiny.perceptron(), tiny.digits(), None, (0,), 1)
    keep, told = (
        {"hidden/kernel": 154, "classifier/kernel": 24},
        (prepared.settings, prepared.seeds),
    )

    def stepped(state):
        zeros = no_metrics(prepared.settings, 1)
        return prepared.compiled.advance(*told, state, zeros, None, prepared.resident, 1)[0]

    def kernels(state):
        return [np.array(x) for x in (hidden(state.params), *drawn(state))]

    def drawn(state):
        return [x[0] for x in state.extra["drawn"]["hidden/kernel"]]

    def projected(w):
        return np.where(np.abs(w) >= np.sort(np.abs(w), axis=None)[-154], w, 0)

    state = prepared.begin(None)
    like = stepped(jax.tree.map(jnp.copy, state))  # not drawn yet
    state = prepared.compiled.change_masks(*told, state, ("project", keep))
    w, z, u = kernels(state)
    np.testing.assert_array_equal(z, projected(w))
    assert not u.any()
    assert np.count_nonzero(z) == 154
    state = stepped(state)
    pulled, _, _ = kernels(state)
    np.testing.assert_allclose(
        pulled, hidden(like.params) - 0.1 * 0.3 * (w - z), rtol=1e-5, atol=1e-7
    )
    state = prepared.compiled.change_masks(*told, state, ("project", keep))
    w, z, u = kernels(state)
    np.testing.assert_array_equal(z, projected(w))
    np.testing.assert_allclose(u, w - z, rtol=1e-6)
    state = prepared.compiled.change_masks(*told, state, ("project", keep))
    _, z, more = kernels(state)
    np.testing.assert_array_equal(z, projected(w + u))
    np.testing.assert_allclose(more, u + w - z, rtol=1e-6)
    assert hidden(state.masks).all()
    state = prepared.compiled.change_masks(*told, state, ("prune", keep))
    np.testing.assert_array_equal(hidden(state.masks), projected(w + more) != 0)
    np.testing.assert_array_equal(hidden(state.params), np.where(hidden(state.masks), w, 0))
    again = stepped(jax.tree.map(jnp.copy, state))
    other = dataclasses.replace(prepared.settings, rho=9.0)
    zeros = no_metrics(prepared.settings, 1)
    last = prepared.compiled.advance(
        other, prepared.seeds, state, zeros, None, prepared.resident, 1
    )
    assert not tiny.differences(again, last[0])  # nothing is drawn any more


@pytest.mark.slow
def test_what_is_drawn_harder_is_nearer_to_its_projection():
    """And several ρ train in one program."""
    given = [stage(schedule=ADMM(rho=rho, every=4, end=1.0), ema=None) for rho in (1e-4, 3.0)]
    seen = {}
    original = pieces.Runner.change

    def change(self, step, state, event):
        seen[event[0]] = np.array(state.params["hidden"]["kernel"])
        return original(self, step, state, event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces.Runner, "change", change)
        tiny_runs.fit(given, seeds=(0,))
    sizes = np.sort(np.abs(seen["prune"]).reshape(2, -1), axis=1)[:, : 512 - 154]
    assert np.linalg.norm(sizes[1]) < 0.5 * np.linalg.norm(sizes[0])


# What does not go together


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"allocation": "std"}, "threshold 0.0 with allocation 'std'"),
        ({"threshold": 0.1}, "threshold 0.1 with allocation 'layer'"),
        ({"normalise": "l2"}, "normalise l2 with allocation layer: only where layers"),
        ({"schedule": DNS()}, "allocation layer with schedule dns, which goes by thresholds"),
        ({"thresholds": ("a=1",)}, "thresholds a=1 with allocation layer, which goes by numbers"),
        ({"allocation": "std", "threshold": 1.0, "criterion": CRITERIA["snip"]}, "criterion SNIP"),
        (
            {"allocation": "std", "threshold": 1.0, "structure": STRUCTURES["row"]},
            "structure Row with allocation std, which cuts single weights",
        ),
        ({"allocation": "std", "threshold": 1.0, "amounts": ("a=0.5",)}, "amounts a=0.5 with"),
        (
            {"allocation": "std", "threshold": 1.0, "schedule": RigL()},
            "allocation std with schedule RigL, which keeps a number of weights",
        ),
        (
            {"structure": STRUCTURES["n_m"]},
            "sparsity 0.8 with structure n_m, 2 of 4: set it to 0.5",
        ),
        (
            {"structure": STRUCTURES["n_m"], "sparsity": 0.5, "allocation": "global"},
            "allocation global with structure n_m",
        ),
        (
            {"structure": STRUCTURES["n_m"], "sparsity": 0.5, "amounts": ("a=0.5",)},
            "amounts a=0.5 with structure n_m",
        ),
        (
            {"structure": STRUCTURES["n_m"], "sparsity": 0.5, "schedule": SET()},
            "structure n_m with schedule SET, which moves weights",
        ),
        (
            {"schedule": SCHEDULES["static"], "criterion": CRITERIA["snip"]},
            "criterion SNIP with schedule static, whose mask is random: take schedule one_shot",
        ),
        ({"structure": STRUCTURES["layer"]}, "allocation layer with structure layer, of which"),
        (
            {"structure": STRUCTURES["layer"], "allocation": "global", "amounts": ("a=0.5",)},
            "amounts a=0.5 with structure layer",
        ),
        (
            {"structure": STRUCTURES["layer"], "allocation": "global", "schedule": RigL()},
            "structure layer with schedule RigL",
        ),
        (
            {"schedule": SCHEDULES["iterative"], "criterion": CRITERIA["movement"]},
            "criterion Movement with schedule Iterative: while it learns masks are chosen by one_s",
        ),
        (
            {"criterion": CRITERIA["movement"]},
            "schedule.at 0 with criterion Movement, which has learned nothing by then: set it to",
        ),
        (
            {"criterion": CRITERIA["movement"], "schedule": Cubic(end=0.0)},
            "schedule.end 0 with criterion Movement, which has learned nothing by then",
        ),
        (
            {"criterion": CRITERIA["soft_movement"], "allocation": "std", "threshold": 1.0},
            "criterion SoftMovement with allocation std, which cuts |w|: take magnitude",
        ),
        (
            {
                "criterion": CRITERIA["movement"],
                "schedule": OneShot(at=0.5),
                "optim": Optim(name="dot"),
                "teacher": "train",
                "terms": {"kd": KD()},
            },
            "optim.name dot with criterion Movement, whose gradient is neither's: take sgd",
        ),
        (
            {"allocation": "std", "threshold": 1.0, "schedule": ADMM()},
            "allocation std with schedule ADMM, which keeps a number of weights",
        ),
        (
            {"schedule": ADMM(), "criterion": CRITERIA["movement"]},
            "criterion Movement with schedule ADMM: while it learns masks are chosen by one_shot",
        ),
        (
            {
                "schedule": ADMM(),
                "optim": Optim(name="dot"),
                "teacher": "train",
                "terms": {"kd": KD()},
            },
            "optim.name dot with schedule admm, whose pull is neither's gradient: take sgd",
        ),
        ({"amounts": ("a:0.5",)}, "amounts 'a:0.5' is not of the form PATTERN=SPARSITY"),
        (
            {
                "criterion": CRITERIA["movement"],
                "schedule": OneShot(at=0.5),
                "allocation": "sensitivity",
            },
            "allocation sensitivity with criterion Movement: a scan knows nothing",
        ),
        (
            {"criterion": CRITERIA["sparsegpt"], "allocation": "global"},
            "allocation global with criterion SparseGPT, which is told how much",
        ),
        (
            {"criterion": CRITERIA["sparsegpt"], "structure": STRUCTURES["filter"]},
            "structure Filter with criterion SparseGPT",
        ),
        (
            {"criterion": CRITERIA["sparsegpt"], "schedule": SCHEDULES["cyclic"]},
            "criterion SparseGPT with schedule Cyclic: weights that come back",
        ),
        ({"budget": "macs"}, "budget macs with allocation layer, which counts units"),
        (
            {"allocation": "sensitivity", "budget": "macs", "amounts": ("a=0.5",)},
            "amounts a=0.5 with budget macs",
        ),
        (
            {"allocation": "sensitivity", "budget": "bytes", "structure": STRUCTURES["filter"]},
            "budget bytes with structure Filter",
        ),
        ({"allocation": "sensitivity", "scan_batches": 0}, "scan-batches 0 must be at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, said):
    with pytest.raises(UsageError) as error:
        Prune(**fields)
    assert str(error.value).startswith(said)


def test_what_does_not_fit_the_network_is_refused_before_training(monkeypatch):
    def begun(*_):
        raise tiny_runs.Stopped

    monkeypatch.setattr(stages, "fit", begun)
    for fields, said in (
        ({"structure": "n_m", "include": ("hidden",)}, None),
        ({"structure": STRUCTURES["n_m"].__class__(n=3, m=5), "sparsity": 0.4}, "structure.m 5"),
        ({"amounts": ("conv=0.5",)}, "amounts 'conv=0.5' finds no layer"),
        ({"allocation": "sensitivity", "sparsity": 0.999}, "sparsity 0.999 keeps 1 of the 592"),
        (
            {"allocation": "sensitivity", "sparsity": 0.98, "budget": "bytes"},
            "sparsity 0.98 with budget bytes leaves no room",
        ),
    ):
        given = stage(**fields)
        with pytest.raises(UsageError if said else tiny_runs.Stopped, match=said):
            tiny_runs.fit(given)
