"""A compiled program's text, read: instructions, what they call, and the arrays they make.

The text is XLA's own after scheduling (`compiled.as_text()`), that of one device. The instructions:
https://openxla.org/xla/operation_semantics; layouts: https://openxla.org/xla/tiled_layout.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

NAME = re.compile(r"%([\w.\-]+)")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\(([^)]*)\)?(.*)$")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"\b(?:body|calls|to_apply|branch_computations)=\{?((?:%[\w.\-]+(?:, )?)+)")
_LAYOUT = re.compile(r"\{([\d,]*)(?::T\(([\d,]*)\))?")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')

ENTERED = {"while", "call", "conditional", "async-start"}
"""What runs other computations' instructions, one by one."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of the program: `%name = shape opcode(%operand, ...), attributes`. The operand of a
    parameter is its place."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a shape.

    Attributes:
      bytes: of its elements.
      stored: bytes with the padding of its layout.
      main: whether it lives in the device's main memory (HBM), and not on the chip itself.
    """

    bytes: int
    stored: int
    main: bool


Scope = dict[str, Instruction]  # a computation: its instructions in order, by name


@functools.lru_cache(maxsize=1)
def parse(text: str) -> tuple[dict[str, Scope], str]:
    """({computation: its instructions}, name of the one that is called)."""
    program: dict[str, Scope] = {}
    entry, scope = "", {}
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            scope = program.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        found = None if header else _INSTRUCTION.match(line)
        if found:
            name, shape, opcode, operands, attributes = found.groups()
            names = tuple(NAME.findall(operands)) or (operands,)  # the place of a parameter
            scope[name] = Instruction(name, shape, opcode, names, attributes)
    return program, entry


def run(text: str, fusions: bool) -> Iterator[tuple[int, Instruction, Scope]]:
    """(how often it runs, instruction, the computation around it) from the entry on, inside loops
    and calls too; with `fusions`, inside these as well. A loop whose number of turns isn't known
    counts once, a conditional with all its branches."""
    program, entry = parse(text)
    entered = ENTERED | ({"fusion"} if fusions else set())

    def walk(name: str, times: int) -> Iterator[tuple[int, Instruction, Scope]]:
        scope = program.get(name, {})
        for instruction in scope.values():
            yield times, instruction, scope
            if instruction.opcode in entered:
                known = _TURNS.search(instruction.attributes)
                turns = times * (int(known[1]) if known else 1)
                for inner in called(instruction):
                    yield from walk(inner, turns)

    return walk(entry, 1)


def called(instruction: Instruction) -> list[str]:
    """The computations that an instruction runs, or is made of."""
    groups = _CALLED.findall(instruction.attributes)
    return [name for group in groups for name in NAME.findall(group)]


def arrays(shape: str) -> list[Array]:
    """The arrays of a shape, those of a tuple in order."""
    found = []
    for _, bits, dimensions, layout in _ARRAY.findall(shape):
        sizes = _numbers(dimensions)
        each, padded = int(bits or 8), _padded(sizes, layout)
        count, stored = (-(-math.prod(s) * each // 8) for s in (sizes, padded))
        found.append(Array(count, stored, "S(" not in layout))
    return found


def _numbers(text: str | None) -> list[int]:
    return [int(part) for part in (text or "").split(",") if part]


def _padded(sizes: list[int], layout: str) -> list[int]:
    """The sizes as stored: {0,1:T(8,128)} has axis 0 as its innermost, and the two innermost axes
    filled up to multiples of 128 and 8 (https://openxla.org/xla/tiled_layout)."""
    found = _LAYOUT.match(layout)
    if found is None:
        return sizes
    stored = [sizes[axis] for axis in _numbers(found[1])]  # from the innermost
    tile = _numbers(found[2])[::-1]
    stored += [1] * (len(tile) - len(stored))
    return [-(-n // t) * t for n, t in zip(stored, tile, strict=False)] + stored[len(tile) :]
