"""Bits of each layer, found for a size."""

from collections.abc import Mapping
from typing import Any

from kd_jax.errors import require

CHOICES = (8, 4, 2)
OF_CODEBOOKS = (8, 7, 6, 5, 4, 3, 2, 1)
Table = Mapping[str, Mapping[int, Any]]  # {layer: {bits: value}}


def mixed(loss: Table, size: Table, room: float) -> dict[str, int]:
    """{layer: bits}, of a total size of `room` at most: all layers begin at the most bits, and step
    by step that one takes the next fewer which adds the least loss for each byte it saves.

    Args:
      loss: where this layer alone has so many bits; layers are taken to add up.
      size: bytes of a layer at so many bits.

    Raises:
      UsageError: it begins with `size`; that is too little for any.
    """
    bits = {name: max(of) for name, of in size.items()}
    total = lambda: sum(size[name][b] for name, b in bits.items())  # noqa: E731
    while total() > room:
        steps = []
        for name, now in bits.items():
            fewer = max((b for b in size[name] if b < now), default=None)
            if fewer is None:
                continue
            saved = size[name][now] - size[name][fewer]
            added = loss[name][fewer] - loss[name][now]
            steps.append((added / max(saved, 1e-9), name, fewer))
        require(
            bool(steps),
            f"size leaves {room:,.0f} bytes to the layers that are quantised, and with the fewest "
            f"bits they take {total():,.0f}: raise it, or include more layers",
        )
        _, name, fewer = min(steps)
        bits[name] = fewer
    return bits
