"""Union-find on arrays, by hand."""

import numpy as np

from kd_jax.prune.units import FROZEN, Units


def test_units_are_new_and_alone():
    units = Units()
    first, second = units.fresh(3), units.fresh(2)
    assert first.tolist() == [1, 2, 3]
    assert second.tolist() == [4, 5]
    assert units.count == 6
    assert FROZEN not in [*first, *second]
    assert units.find(np.array([5, 1, 5, FROZEN])).tolist() == [5, 1, 5, FROZEN]
    assert not units.bound(np.array([FROZEN]))


def test_what_is_united_has_the_least_number_of_all():
    units = Units()
    units.fresh(6)
    units.unite(np.array([6, 4]), np.array([5, 3]))
    assert units.find(np.arange(7)).tolist() == [0, 1, 2, 3, 3, 5, 5]
    units.unite(np.array([6, 6]), np.array([4, 2]))  # a root that meets two lower ones at once
    assert units.find(np.arange(7)).tolist() == [0, 1, 2, 2, 2, 2, 2]
    units.unite(np.array([4]), np.array([FROZEN]))
    assert units.find(np.arange(7)).tolist() == [0, 1, 0, 0, 0, 0, 0]


def test_one_bound_unit_binds_all_that_is_united_with_it_and_no_other():
    units = Units()
    free, held = units.fresh(4), units.fresh(1, bound=True)
    assert not units.bound(free)
    assert units.bound(held)
    assert units.bound(np.array([free[0], held[0]]))  # one of several is enough
    units.unite(free[1:2], held)
    assert units.bound(free[1:2])
    assert not units.bound(free[[0, 2, 3]])
    units.unite(free[3:], free[2:3])
    units.unite(free[3:], free[1:2])
    assert units.bound(free[2:3])
    assert not units.bound(free[:1])


def test_marks_are_of_these_numbers_alone():
    units = Units()
    units.fresh(4)
    assert units.marked(np.array([1, 3])).tolist() == [False, True, False, True, False]


def test_there_may_be_any_number():
    units = Units()
    held = units.fresh(3, bound=True)
    many = units.fresh(5000)
    assert units.count == 5004
    assert units.find(many).tolist() == many.tolist()
    assert units.bound(held)
    assert not units.bound(many)
    units.unite(many[1:], many[:-1])  # one long chain
    assert set(units.find(many).tolist()) == {4}
