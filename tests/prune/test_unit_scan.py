"""How much each group of units may lose, found from a scan, and down to what."""

import cutting
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from foreign_nets import NETS, shape_of
from marks import slow_but

from kd_jax import tree
from kd_jax.errors import UsageError
from kd_jax.prune import UnitScan, choose, scan_units, scores, shrink, trace, zeroed
from kd_jax.prune.unit_scan import emptied

KEY = jax.random.key(0)


def drawn(name):
    return cutting.random_variables(NETS[name], shape_of(name), "float32", np.random.default_rng(0))


@pytest.mark.parametrize("name", ["unet", "fused_heads", "densenet"])
def test_marks_empty_what_a_cut_would(name):
    structure, variables = trace(NETS[name], shape_of(name)), drawn(name)
    kept = cutting.random_units(structure, np.random.default_rng(1))
    alive = {g.name: np.isin(np.arange(g.size), kept[g.name]) for g in structure.groups}
    expected = zeroed(variables, structure, kept)
    found = emptied(structure, variables, jax.tree.map(jnp.asarray, alive))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
def test_the_scan_says_what_each_cut_costs():
    name = "plain"
    structure, variables, model = trace(NETS[name], shape_of(name)), drawn(name), NETS[name]
    given = scores(structure, variables, "l1", KEY)
    inputs = cutting.random_inputs(shape_of(name), "float32", np.random.default_rng(2))
    loss = lambda v, batch: jnp.mean(model.forward(v, batch[0])[0].logits ** 2)  # noqa: E731
    scan = scan_units(structure, variables, given, loss, [(inputs,), (2 * inputs,)])
    for group in structure.groups:
        assert scan.kept[group.name][0] == group.size
        for k in (0, 4, 9):
            count = int(scan.kept[group.name][k])
            best = np.sort(np.argsort(-np.asarray(given[group.name]), kind="stable")[:count])
            smaller, cut, _ = shrink(model, variables, structure, {group.name: best})
            found = np.mean(
                [np.mean(smaller.forward(cut, x)[0].logits ** 2) for x in (inputs, 2 * inputs)]
            )
            np.testing.assert_allclose(scan.losses[group.name][k], found, rtol=1e-4)


KEPT = {"a": np.array([4, 2, 1]), "b": np.array([8, 4, 1])}
SCORES = {"a": np.array([1.0, 2, 3, 4]), "b": np.arange(8.0)}


def test_what_costs_little_goes_first():
    scan = UnitScan(KEPT, {"a": np.array([0.0, 2, 9]), "b": np.array([0.0, 1, 13])})
    kept = choose(None, SCORES, 0.5, scan=scan)
    assert {name: len(units) for name, units in kept.items()} == {"a": 2, "b": 4}
    assert kept["a"].tolist() == [2, 3]
    # Of several networks the mean tells: 0 1 4.5, and 0 5 56.
    several = {"a": np.array([[0.0, 2, 9], [0, 0, 0]]), "b": np.array([[0.0, 1, 13], [0, 9, 99]])}
    many = UnitScan({name: np.stack([k, k]) for name, k in KEPT.items()}, several)
    both = {name: np.stack([s, s]) for name, s in SCORES.items()}
    kept = choose(None, both, 0.25, scan=many)
    assert {name: units.shape for name, units in kept.items()} == {"a": (2, 2), "b": (2, 7)}


@pytest.mark.parametrize("target", slow_but(["size"], ["macs", "size"]))
def test_a_target_is_met(target):
    name = "unet"
    structure, variables, model = trace(NETS[name], shape_of(name)), drawn(name), NETS[name]
    given = scores(structure, variables, "l1", KEY)
    inputs = cutting.random_inputs(shape_of(name), "float32", np.random.default_rng(2))
    loss = lambda v, batch: jnp.mean(model.forward(v, batch[0])[0].logits ** 2)  # noqa: E731
    scan = scan_units(structure, variables, given, loss, [(inputs,)])
    kept = choose(structure, given, **{target: 0.5}, scan=scan)
    smaller = shrink(model, variables, structure, kept)[1]
    if target == "size":
        assert 0.4 < tree.count(smaller) / tree.count(variables) <= 0.5
    alike = choose(structure, given, **{target: 0.5})
    assert {n: len(k) for n, k in alike.items()} != {n: len(k) for n, k in kept.items()}


def test_any_cost_may_be_the_target():
    asked = []

    def cost(counts):
        asked.append(counts)
        return sum(counts.values()) if counts else 12

    kept = choose(None, SCORES, cost=(cost, 0.6))
    assert sum(map(len, kept.values())) == 7
    assert len(asked) < 12  # each may be a measurement
    scan = UnitScan(KEPT, {name: np.zeros(3) for name in KEPT})
    with pytest.raises(UsageError, match="not by both"):
        choose(None, SCORES, 0.5, scan=scan, together=True)
