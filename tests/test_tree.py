import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import tree
from kd_jax.errors import UsageError, require

PARAMS = {"b": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, "a": [jnp.arange(4), None]}


def test_leaves_by_name_in_the_trees_own_order():
    assert list(tree.named_leaves(PARAMS)) == ["a/0", "b/bias", "b/kernel"]
    assert tree.named_leaves(PARAMS)["b/kernel"].shape == (2, 3)


def test_map_named_gives_the_name_and_all_leaves():
    doubled = jax.tree.map(lambda x: 2 * x, PARAMS)
    found = tree.map_named(lambda name, x, y: (name, float(jnp.sum(y - x))), PARAMS, doubled)
    assert found["b"]["kernel"] == ("b/kernel", 6.0)
    assert found["a"] == [("a/0", 6.0), None]


def test_map_masked_leaves_alone_what_has_no_mask():
    masks = {"kernel": jnp.array([True, False]), "bias": None}
    params = {"kernel": jnp.array([1.0, 2.0]), "bias": jnp.array([3.0])}
    other = {"kernel": jnp.array([10.0, 20.0]), "bias": jnp.array([30.0])}
    found = tree.map_masked(lambda m, x, y: jnp.where(m, x, y), masks, params, other)
    np.testing.assert_array_equal(found["kernel"], [1, 20])
    assert found["bias"] is params["bias"]


def test_counts_and_bytes():
    params = {"w": jnp.array([0.0, 1.0, -2.0]), "h": jnp.zeros((2, 2), jnp.bfloat16), "n": None}
    assert tree.count(params) == 7
    assert tree.count_nonzero(params) == 2
    assert tree.size_bytes(params) == 3 * 4 + 4 * 2
    assert tree.count({}) == tree.size_bytes({}) == tree.count_nonzero({}) == 0


def test_counts_of_shapes_need_no_arrays():
    shapes = jax.eval_shape(lambda: PARAMS)
    assert tree.count(shapes) == 13
    assert tree.size_bytes(shapes) == 13 * 4


@tree.traceable
class Child:
    rate: float = 1.0


@tree.traceable
class Parent:
    scale: float = 2.0
    bound: float | None = None
    text: "float" = 0.5
    name: str = "x"
    count: int = 3
    child: Child = dataclasses.field(default_factory=Child, metadata={"leaf": True})

    kind: ClassVar[str] = "parent"

    def __post_init__(self):
        require(self.scale > 0, "scale must be above 0")


@tree.traceable
class Heir(Parent):
    more: float = 7.0
    scale: float = 5.0


def test_floats_are_leaves_and_the_rest_is_static():
    assert tree.named_leaves(Parent()) == {"scale": 2.0, "text": 0.5, "child/rate": 1.0}
    assert tree.named_leaves(Parent(bound=4.0))["bound"] == 4.0
    same = jax.tree.structure(Parent(scale=9.0, child=Child(rate=8.0)))
    assert jax.tree.structure(Parent()) == same
    assert jax.tree.structure(Parent(count=4)) != same
    assert jax.tree.structure(Parent(bound=1.0)) != same


def test_fields_are_inherited_in_their_kind():
    assert tree.named_leaves(Heir()) == {"scale": 5.0, "text": 0.5, "child/rate": 1.0, "more": 7.0}
    assert jax.tree.map(lambda x: x, Heir(name="y")) == Heir(name="y")


def test_traceable_is_frozen_and_takes_keywords_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Parent().scale = 3.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        Parent(1.0)  # type: ignore[call-arg]


def test_checked_when_made_but_not_when_traced():
    with pytest.raises(UsageError, match="scale must be above 0"):
        Parent(scale=-1.0)
    traces = []

    @jax.jit
    def area(parent):
        traces.append(parent)  # its scale has no value here, which __post_init__ would ask for
        return parent.scale * parent.child.rate * parent.count

    assert area(Parent(scale=2.0)) == 6
    assert area(Parent(scale=4.0, child=Child(rate=0.5))) == 6
    assert len(traces) == 1
    assert area(Parent(count=5)) == 10
    assert len(traces) == 2


def test_many_settings_in_one_program():
    stacked = jax.tree.map(lambda *x: jnp.stack(x), Parent(scale=1.0), Parent(scale=3.0))
    np.testing.assert_array_equal(jax.vmap(lambda p: p.scale * p.count)(stacked), [3, 9])
