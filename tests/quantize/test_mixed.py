"""Bits found for a size."""

import pytest

from kd_jax.errors import UsageError
from kd_jax.quantize.mixed import mixed

SIZE = {"large": {8: 800, 4: 400, 2: 200}, "small": {8: 80, 4: 40, 2: 20}}
LOSS = {"large": {8: 1.0, 4: 1.1, 2: 9.0}, "small": {8: 1.0, 4: 1.5, 2: 1.6}}


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (880, {"large": 8, "small": 8}),
        (879, {"large": 4, "small": 8}),  # 0.1/400 a byte against 0.5/40
        (450, {"large": 4, "small": 4}),
        (430, {"large": 4, "small": 2}),
        (420, {"large": 4, "small": 2}),
        (220, {"large": 2, "small": 2}),
    ],
)
def test_by_hand(room, expected):
    assert mixed(LOSS, SIZE, room) == expected


def test_too_little_room_says_the_nearest():
    with pytest.raises(UsageError, match=r"size leaves 219 bytes.*take 220"):
        mixed(LOSS, SIZE, 219)
