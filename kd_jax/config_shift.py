"""The stage that shifts biases of a classifier, as data."""

import dataclasses
from typing import ClassVar

from kd_jax.config_stages import Train
from kd_jax.errors import require, require_patterns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift(Train):
    """Add one number to the classifier's biases of some classes. A network that was shown other
    examples of a class than it will meet, or none, takes too few for it, or too many (Hinton et al.
    2015, section 3). With epochs it is trained on from there, on labels."""

    least_epochs: ClassVar[int] = 0
    apart: ClassVar[bool] = True  # each begins with biases of its own
    done: ClassVar[str] = "biases shifted"

    epochs: int = 0
    """Passes over the training examples; 0: nothing is trained."""
    classes: tuple[int, ...] = ()
    """Labels whose biases are shifted, all by the same."""
    by: float | None = None
    """By how much; None: by what makes the most validation examples right, found for each seed."""
    bias: str = "classifier/bias$"
    """Regular expression of the parameter."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.start), "start is empty: name the stage whose network is to be shifted")
        listed = " ".join(map(str, self.classes))
        require(bool(self.classes), "classes is empty: name those whose biases are to be shifted")
        require(min(self.classes) >= 0, f"classes {listed}: none is below 0")
        require(
            len(set(self.classes)) == len(self.classes), f"classes {listed}: one is named twice"
        )
        require_patterns("bias", (self.bias,))

    @property
    def compared(self) -> tuple[str, ...]:
        return (self.start,)

    @property
    def told(self) -> str:
        return f"biases of the classes {' '.join(map(str, self.classes))} shifted"

    def called(self, before: str, seeds: int) -> str:
        return f"{before}, {self.done}"
