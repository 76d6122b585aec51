"""A stream is coded in lanes that are read side by side, so that NumPy decodes many symbols a
call."""

import numpy as np

STEPS = 2048  # symbols of a lane


def lanes_of(count: int) -> int:
    """How many lanes so many symbols take; symbol i is in lane i mod lanes."""
    return max(1, -(-count // STEPS))


def by_lane(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(the places of all symbols, lane after lane; where each lane begins in that list)."""
    lanes = lanes_of(count)
    steps = -(-count // lanes)
    places = np.arange(steps * lanes).reshape(steps, lanes).T.ravel()
    lengths = (count - np.arange(lanes) + lanes - 1) // lanes
    return places[places < count], np.cumsum(lengths) - lengths
