"""Units as numbers, and which of them are one: union-find on arrays."""

import numpy as np

FROZEN = 0
"""The unit that is never cut; whatever is united with it isn't either."""


class Units:
    """Sets of numbers that only grow together. A set is known by its least number, its root."""

    def __init__(self):
        self._parent = np.zeros(1024, np.int64)
        self._bound = np.zeros(1024, bool)
        self.count = 1

    def fresh(self, size: int, bound: bool = False) -> np.ndarray:
        """`size` new units. Bound are those of which something is known to hang on."""
        first, self.count = self.count, self.count + size
        while self.count > len(self._parent):
            self._parent = np.concatenate([self._parent, np.zeros_like(self._parent)])
            self._bound = np.concatenate([self._bound, np.zeros_like(self._bound)])
        ids = np.arange(first, self.count)
        self._parent[ids] = ids
        self._bound[ids] = bound
        return ids

    def bound(self, ids: np.ndarray) -> bool:
        """Whether any of these is one with a bound unit."""
        return bool(self._bound[self.find(ids)].any())

    def find(self, ids: np.ndarray) -> np.ndarray:
        """The root of each."""
        roots = self._parent[ids]
        while True:
            above = self._parent[roots]
            if (above == roots).all():
                break
            roots = above
        self._parent[ids] = roots
        return roots

    def unite(self, a: np.ndarray, b: np.ndarray) -> None:
        """Makes the i-th of a and the i-th of b one, for every i."""
        while True:
            low, high = self.find(a), self.find(b)
            low, high = np.minimum(low, high), np.maximum(low, high)
            apart = low != high
            if not apart.any():
                return
            # A root that meets several lower ones takes the least; the others follow next turn.
            np.minimum.at(self._parent, high[apart], low[apart])
            np.logical_or.at(self._bound, low[apart], self._bound[high[apart]])

    def marked(self, roots: np.ndarray) -> np.ndarray:
        """Booleans by number: whether it is one of these."""
        marks = np.zeros(self.count, bool)
        marks[roots] = True
        return marks
