"""What was cut of a network, as data in a stage's folder."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np

from kd_jax import arrays, hosts, jsons
from kd_jax.errors import UsageError, require, shortened
from kd_jax.forward import Model
from kd_jax.prune import Widths, rebuild, shrink
from kd_jax.prune.shrink import cut
from kd_jax.shrinking import Kept, traced
from kd_jax.state import Snapshot
from kd_jax.tree import row
from kd_jax.writing import write_json

T = TypeVar("T")
WIDTHS, UNITS = "widths.json", "units.safetensors"


@dataclasses.dataclass(frozen=True)
class Cut:
    """What was decided, in a stage's folder."""

    folder: Path

    @property
    def known(self) -> bool:
        return (self.folder / WIDTHS).exists()

    def write(self, model: Model, shape: tuple[int, ...], network: Snapshot, kept: Kept) -> None:
        """Keeps it. The widths come last: with them it is known."""
        variables, first = row((network.variables, kept), 0)
        widths = shrink(model, variables, traced(model, shape), first)[2]
        if hosts.first():
            self.folder.mkdir(parents=True, exist_ok=True)
            units = {name: np.asarray(k, np.int32) for name, k in kept.items()}
            arrays.write(self.folder / UNITS, units)
        write_json(self.folder / WIDTHS, jsons.summed(jsons.parsed(widths.to_json())))
        hosts.wait(f"{self.folder}: {WIDTHS}")

    def units(self) -> Kept:
        """Those that are kept, of all seeds."""
        return dict(arrays.read(self.folder / UNITS, self._fix))

    @property
    def _fix(self) -> str:
        return f"delete {self.folder}, and the same command cuts anew"

    def widths(self) -> Widths:
        """Of the smaller network."""
        return self._read(Widths.from_json)

    def model(self, full: Model, shape: tuple[int, ...]) -> Model:
        """The smaller network, for examples of this shape."""
        return self._read(lambda text: _rebuilt(full, text, shape))

    def text(self) -> str:
        """The widths as JSON."""
        return self.widths().to_json()

    def _read(self, take: Callable[[str], T]) -> T:
        """What is taken of the widths' text. Raises UsageError where they are damaged."""
        path = self.folder / WIDTHS
        try:
            text = path.read_text(encoding="utf-8")
            said = jsons.parsed(text)
            fits = not isinstance(said, dict) or jsons.unsummed(said)[1]
            require(fits, f"damaged or edited (its {jsons.SUM} is of other content)")
            return take(text)
        except (OSError, ValueError) as error:  # a UsageError is a ValueError
            raise UsageError(f"{path}: {shortened(str(error), 300)}: {self._fix}") from error

    def network(
        self, full: Model, shape: tuple[int, ...], network: Snapshot, rows: slice
    ) -> Snapshot:
        """What is left of the networks of these of all seeds."""
        kept = {name: k[rows] for name, k in self.units().items()}
        indices = traced(full, shape).indices(kept)
        of_each = jax.vmap(cut)
        variables = dict(of_each(network.variables, indices))
        masks = of_each({"params": network.masks}, indices)["params"]
        return Snapshot(variables.pop("params"), variables, masks)


@functools.lru_cache(maxsize=32)
def _rebuilt(full: Model, text: str, shape: tuple[int, ...]) -> Model:
    return rebuilt(full, Widths.from_json(text), shape)


def rebuilt(full: Model, widths: Widths, shape: tuple[int, ...]) -> Model:
    """The smaller network, for examples of this shape. Raises UsageError where the widths are for
    others."""
    require(
        widths.suits(shape),
        f"widths for inputs of shape {list(widths.input_shape)}, and examples are {list(shape)}",
    )
    return rebuild(full, widths)
