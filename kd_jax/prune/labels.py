"""What is known of the arrays of a program: labels on their axes, and values once these are cut."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

UNKNOWN = float("nan")


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """The labels of one axis; or of several at once, after a reshape has split a labelled one."""

    axes: tuple[int, ...]
    """The axes of the array, in the order of the dimensions of `ids`."""
    ids: np.ndarray
    """The unit at each index."""
    value: np.ndarray
    """What all entries at this index are when its unit is cut; NaN where that is unknown."""

    def moved(self, places: dict[int, int]) -> "Block":
        """With every axis under its new number."""
        return Block(tuple(places[axis] for axis in self.axes), self.ids, self.value)

    def zeros(self) -> "Block":
        """After an operation of which only this is known: that it keeps zeros."""
        return dataclasses.replace(self, value=np.where(self.value == 0, 0.0, UNKNOWN))

    def take(self, axis: int, index: Any) -> "Block":
        """The labels at some indices of one of its axes."""
        place = self.axes.index(axis)
        pick = lambda a: np.take(a, index, axis=place)  # noqa: E731
        return Block(self.axes, pick(self.ids), pick(self.value))


@dataclasses.dataclass(frozen=True, eq=False)
class State:
    """What is known of an array. Axes in none of the blocks have a fixed size."""

    shape: tuple[int, ...]
    blocks: tuple[Block, ...] = ()
    const: float = UNKNOWN
    """The value of all entries, where it is known."""
    data: bool = True
    """Whether it depends on the network's inputs."""

    def of(self, axis: int) -> Block | None:
        """The block that labels an axis."""
        return next((block for block in self.blocks if axis in block.axes), None)


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """An equation with what is known of its operands and results, and the programs inside it."""

    eqn: Any
    ins: tuple[State, ...]
    outs: tuple[State, ...]
    inner: tuple["Program", ...] = ()
    facts: Any = None
    """What the rule has to tell the evaluation."""


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A jaxpr whose every array has a State."""

    jaxpr: Any
    consts: tuple[Any, ...]
    const_states: tuple[State, ...]
    ins: tuple[State, ...]
    nodes: tuple[Node, ...]
    outs: tuple[State, ...]

    def walk(self) -> Iterator[Node]:
        """All equations, those of inner programs after the one they are in."""
        for node in self.nodes:
            yield node
            for program in node.inner:
                yield from program.walk()


@dataclasses.dataclass(frozen=True, eq=False)
class Called:
    """What a rule returns whose equation holds programs, or has facts to tell."""

    outs: Sequence[State]
    inner: tuple[Program, ...] = ()
    facts: Any = None


@dataclasses.dataclass(frozen=True)
class Note:
    """Why units are kept."""

    primitive: str
    where: str
    """Module path and source line."""
    reason: str
    leaves: tuple[str, ...]
    """Parameter and axis, such as `params/Dense_0/kernel:1`."""


def without(blocks: Iterable[Block], axes: Iterable[int]) -> tuple[Block, ...]:
    """The blocks that label none of these axes."""
    axes = set(axes)
    return tuple(block for block in blocks if not axes & set(block.axes))
