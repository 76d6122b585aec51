"""What a compiled program exchanges with other devices, and with its own memory."""

import dataclasses
import math
import re

from kd_jax import hlo

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_STILL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}
_PIECES = {"slice", "dynamic-slice", "gather"}
_CYCLES = re.compile(r'"estimated_cycles":"(\d{1,15})"')


@dataclasses.dataclass(frozen=True)
class Collective:
    """Collectives of one kind over groups of one size, all turns in one call of the program.

    Attributes:
      kind: one of KINDS.
      group: devices that take part together.
      bytes: of the whole array that is reduced or gathered, or of what is exchanged.
      count: how many.
    """

    kind: str
    group: int
    bytes: int
    count: int

    @property
    def sent(self) -> float:
        """Bytes that each device must send at least: by a ring, which is optimal in bandwidth
        (Patarasuk, Yuan: Bandwidth optimal all-reduce algorithms for clusters of workstations,
        2009, https://doi.org/10.1016/j.jpdc.2008.09.002)."""
        others = (self.group - 1) / self.group
        return self.bytes * {"all-reduce": 2 * others, "collective-permute": 1.0}.get(
            self.kind, others
        )


def collectives(text: str, devices: int) -> list[Collective]:
    """What the devices exchange in one call, summed by kind and group."""
    sums: dict[tuple[str, int], tuple[int, int]] = {}
    for times, instruction, _ in hlo.run(text, fusions=True):
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        group = _group(instruction.attributes, devices)
        size, count = sums.get((kind, group), (0, 0))
        size += times * _payload(kind, instruction, group)
        sums[kind, group] = size, count + times
    return [Collective(*key, *found) for key, found in sorted(sums.items())]


def moved(text: str) -> int:
    """Bytes that one device reads from and writes to its main memory in one call, padding of the
    layouts included.

    Every instruction reads its operands and writes its results, a fusion as a whole; of an operand
    that is only sliced or gathered from, the pieces count. What the compiler keeps on the chip
    (memory space S(1) and up in a layout) costs nothing; nor, in a program that is given arguments
    to change, what is made in main memory of its other arguments alone: a loop does that once.
    """
    total = 0
    program, entry = hlo.parse(text)
    once = _once(text, program.get(entry, {}))
    for times, instruction, scope in hlo.run(text, fusions=False):
        opcode = instruction.opcode
        counts = opcode not in _STILL | hlo.ENTERED and not opcode.endswith("-done")
        if counts and not (scope is program[entry] and instruction.name in once):
            total += times * _traffic(instruction, scope, program)
    return total


def cycles(text: str) -> int:
    """Clock cycles of one call by the compiler's own estimate, which it notes at its fusions; 0
    where it notes none. Loops count as in `hlo.run`, and what is done once as in `moved`."""
    program, entry = hlo.parse(text)
    once = _once(text, program.get(entry, {}))
    total = 0
    for times, instruction, scope in hlo.run(text, fusions=False):
        found = _CYCLES.search(instruction.attributes)
        if found and not (scope is program[entry] and instruction.name in once):
            total += times * int(found[1])
    return total


def _once(text: str, scope: hlo.Scope) -> set[str]:
    """The instructions of the entry that hang on no donated argument, and whose results can wait in
    main memory for the next call; none where nothing is donated."""
    donated = set(re.findall(r"\((\d+), \{\}, \w+-alias\)", text.partition("\n")[0]))
    fixed: set[str] = set()
    for name, instruction in scope.items() if donated else ():
        if instruction.opcode == "parameter":
            alone = instruction.operands[0] not in donated
        else:
            alone = all(operand in fixed for operand in instruction.operands if operand in scope)
        if alone:
            fixed.add(name)
    return {name for name in fixed if all(array.main for array in hlo.arrays(scope[name].shape))}


def _payload(kind: str, instruction: hlo.Instruction, group: int) -> int:
    """Bytes of a collective, from the shape of its result."""
    sizes = [array.bytes for array in hlo.arrays(instruction.shape)]
    if instruction.opcode.endswith("-start") and kind != "all-reduce":
        return max(sizes)  # its result holds operand, result and flags
    return sum(sizes) * (group if kind == "reduce-scatter" else 1)


def _group(attributes: str, devices: int) -> int:
    """How many devices take part in each group of a collective."""
    mesh = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", attributes)
    if mesh:  # mesh['data'=4,'model'=2] {'data'}: along these axes
        sizes = dict(re.findall(r"'([^']*)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']*)'", mesh[2]))
    tiled = re.search(r"replica_groups=\[\d+,(\d+)\]", attributes)
    if tiled:  # [groups,devices of each]<=[...]
        return int(tiled[1])
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", attributes)
    return len(listed[1].split(",")) if listed else devices


def _traffic(instruction: hlo.Instruction, scope: hlo.Scope, program: dict[str, hlo.Scope]) -> int:
    """Bytes that an instruction reads from and writes to main memory."""
    results = hlo.arrays(instruction.shape)
    operands = [hlo.arrays(scope[name].shape) for name in instruction.operands if name in scope]
    if instruction.opcode in ("copy-start", "slice-start"):
        # (result, operand, flag) and ((operand), result, flag): the smaller is what is moved.
        ends = results[:2]
        return min(end.stored for end in ends) * sum(end.main for end in ends)
    if instruction.opcode in _PIECES and operands:
        source = any(array.main for array in operands[0])
        return sum(array.stored * (array.main + source) for array in results)
    if instruction.opcode == "dynamic-update-slice" and len(operands) > 1:
        return 2 * sum(array.stored for array in operands[1] if array.main)
    inner = hlo.called(instruction) if instruction.opcode == "fusion" else []
    body = program.get(inner[0], {}) if inner else {}
    read = sum(_read(place, arrays, body) for place, arrays in enumerate(operands))
    return read + sum(array.stored for array in results if array.main)


def _read(place: int, arrays: list[hlo.Array], body: hlo.Scope) -> int:
    """Bytes read of the operand at a place: of one that the fusion `body` only takes pieces of,
    these."""
    whole = sum(array.stored for array in arrays if array.main)
    inside = [
        i.name for i in body.values() if i.opcode == "parameter" and i.operands == (f"{place}",)
    ]
    users = [i for i in body.values() if inside and inside[0] in i.operands]
    if not users or any(i.opcode not in _PIECES or i.operands[0] != inside[0] for i in users):
        return whole
    return min(whole, sum(array.stored for i in users for array in hlo.arrays(i.shape)))
