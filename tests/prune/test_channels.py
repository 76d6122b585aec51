import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cutting import cut_at_random, random_variables
from foreign_nets import NETS, shape_of

from kd_jax import cost
from kd_jax.errors import UsageError
from kd_jax.forward import from_apply
from kd_jax.prune import choose, scores, shrink, trace
from kd_jax.prune.amounts import macs_of_units as macs

KEY = jax.random.key(0)
# Three hidden units, from two inputs, through a norm's scale and a bias to two classes.
INTO = np.array([[1.0, -2.0, 0.5], [2.0, 2.0, 0.0]], np.float32)
SCALE = np.array([0.5, -3.0, 1.0], np.float32)
BIAS = np.array([0.0, 1.0, 2.0], np.float32)
OUT = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]], np.float32)


def three_units():
    params = {
        "a": {"kernel": INTO, "bias": BIAS},
        "norm": {"scale": SCALE},
        "b": {"kernel": OUT},
    }

    def apply(variables, x, train):
        p = variables["params"]
        x = (x @ p["a"]["kernel"]) * p["norm"]["scale"][None] + p["a"]["bias"][None]
        return jax.nn.relu(x) @ p["b"]["kernel"]

    variables = {"params": jax.tree.map(jnp.asarray, params)}
    return from_apply(apply, variables), variables


def drawn(name):
    return random_variables(NETS[name], shape_of(name), "float32", np.random.default_rng(0))


def test_an_unknown_criterion():
    with pytest.raises(UsageError, match="Did you mean 'group_norm'"):
        scores(trace(NETS["plain"], shape_of("plain")), drawn("plain"), "groupnorm", KEY)


EXPECTED = {
    "l1": [3, 4, 0.5],
    "l2": [5**0.5, 8**0.5, 0.5],
    # Kernel, bias, scale and the kernel that reads them.
    "group_norm": [(5 + 0 + 0.25 + 1) / 4, (8 + 1 + 9 + 4) / 4, (0.25 + 4 + 1 + 18) / 4],
    "norm_scale": [0.5, 3, 1],
    "fpgm": [3 + 4.25**0.5, 3 + 10.25**0.5, 4.25**0.5 + 10.25**0.5],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_scores_by_hand(name):
    model, variables = three_units()
    (score,) = scores(trace(model, (4, 2)), variables, name, KEY).values()
    np.testing.assert_allclose(score, EXPECTED[name], rtol=1e-6)


def test_random_scores_are_a_function_of_key_and_group():
    structure = trace(NETS["densenet"], shape_of("densenet"))
    variables = drawn("densenet")
    one = scores(structure, variables, "random", KEY)
    again = scores(structure, variables, "random", KEY)
    other = scores(structure, variables, "random", jax.random.key(1))
    assert all((one[name] == again[name]).all() for name in one)
    values = np.concatenate([*one.values(), *other.values()])
    assert len(np.unique(values)) == len(values)


def test_a_group_without_a_norm_is_kept_whole_by_its_scale():
    """The stream goes through norms; the hidden units of attention and MLP don't."""
    structure = trace(NETS["fused_heads"], shape_of("fused_heads"))
    found = scores(structure, drawn("fused_heads"), "norm_scale", KEY)
    kept = choose(structure, found, 0.5)
    (stream,) = (g for g in structure.groups if any("scale" in leaf for leaf, _ in g.entries))
    assert {name: len(units) for name, units in kept.items()} == {
        g.name: g.size // 2 if g is stream else g.size for g in structure.groups
    }


# How many ------------------------------------------------------------------------------------

SCORES = {"a": np.array([1.0, 2, 3, 4]), "b": np.array([10.0, 30, 20, 40, 50, 90])}


def test_of_each_group_the_same_fraction():
    kept = choose(None, SCORES, 0.5)
    assert {name: units.tolist() for name, units in kept.items()} == {"a": [2, 3], "b": [3, 4, 5]}


def test_groups_compete_by_scores_over_their_mean():
    """Means 2.5 and 40: scaled 0.4 0.8 1.2 1.6 and 0.25 0.75 0.5 1 1.25 2.25."""
    kept = choose(None, SCORES, 0.5, together=True)
    assert {name: units.tolist() for name, units in kept.items()} == {"a": [2, 3], "b": [3, 4, 5]}
    kept = choose(None, SCORES, 0.8, together=True)
    assert {name: units.tolist() for name, units in kept.items()} == {"a": [3], "b": [5]}
    # The last of a group stays, though others of the other group score higher.
    low = {"a": np.array([1.0, 1]), "b": np.array([0.0, 0, 0, 1000])}
    kept = choose(None, low, 0.5, together=True)
    assert {name: units.tolist() for name, units in kept.items()} == {"a": [0, 1], "b": [3]}


def test_counts_suit_the_hardware():
    kept = choose(None, SCORES, 0.5, multiple_of=4)
    assert {name: units.tolist() for name, units in kept.items()} == {
        "a": [0, 1, 2, 3],
        "b": [1, 3, 4, 5],
    }


def test_ties_go_to_the_first_and_nan_to_the_last():
    kept = choose(None, {"a": np.array([1.0, np.nan, 1, 1])}, 0.5)
    assert kept["a"].tolist() == [0, 2]


def test_many_networks_keep_as_many_of_each_group():
    many = {"a": np.array([[1.0, 2, 3, 4], [4, 3, 2, 1]])}
    assert choose(None, many, 0.5)["a"].tolist() == [[2, 3], [0, 1]]


def test_a_share_of_the_work():
    model, shape = NETS["unet"], shape_of("unet")
    structure = trace(model, shape)
    variables = drawn("unet")
    found = scores(structure, variables, "l1", KEY)
    kept = choose(structure, found, macs=0.5)
    whole = macs(structure, {})
    counts = {name: len(units) for name, units in kept.items()}
    share = macs(structure, counts) / whole
    assert 0.35 < share <= 0.5
    # One unit more of any group is either above the share or more than the same cut gives.
    assert macs(structure, {name: count + 1 for name, count in counts.items()}) > 0.5 * whole
    small, smaller, _ = shrink(model, variables, structure, kept)
    inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
    assert cost.macs(small.forward, smaller, inputs) == share * whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give one of an amount of units"),
        ({"amount": 0.5, "macs": 0.5}, "give one of an amount of units"),
        ({"amount": 1.0}, "less than 1"),
        ({"amount": 0.5, "multiple_of": 0}, "multiple_of is 0"),
        ({"macs": 0.0}, "above 0 and at most 1"),
        ({"macs": 1e-9}, "with one unit left of each group it is still"),
    ],
)
def test_amounts_that_can_not_be(options, message):
    structure = trace(NETS["plain"], shape_of("plain"))
    found = {group.name: np.ones(group.size) for group in structure.groups}
    with pytest.raises(UsageError, match=message):
        choose(structure, found, **options)


@pytest.mark.parametrize("name", ["densenet", "recurrent", "flax_attention"])
def test_the_work_that_is_left_is_counted_without_tracing(name):
    model = NETS[name]
    structure, kept, _, inputs, (small, smaller, _) = cut_at_random(model, shape_of(name))
    counts = {group: len(units) for group, units in kept.items()}
    assert macs(structure, counts) == cost.macs(small.forward, smaller, inputs)
