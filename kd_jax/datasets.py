"""Which data sets there are, and the flags that choose among them. Reads nothing."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kd_jax.errors import require, require_path


@dataclass(frozen=True)
class Spec:
    """What a program must know of a data set before it sees any of it. Hashable, so static.

    Attributes:
      name: the set's name, as in `--data.name`.
      classes: number of classes K.
      mean, std: of each channel, of pixels divided by `scale`.
      scale: the largest value a stored pixel can take.
      note: where the set comes from.
      size: (height, width) of every image; None where it varies until images are resized.
      examples: how many are stored to (train, test) with; zeros where that is to be read.
      names: of the classes, once the set is opened; () where they are numbers. No program depends
        on them.
    """

    name: str
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = 255.0
    note: str = ""
    size: tuple[int, int] | None = None
    examples: tuple[int, int] = (0, 0)
    names: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one image."""
        require(
            self.size is not None,
            f"--data.name {self.name}: images vary in size; give them one by --data.image-size",
        )
        height, width = self.size  # type: ignore[misc]
        return height, width, len(self.mean)


def spec_of(said: Mapping[str, Any]) -> Spec:
    """The Spec that somebody's file tells of. Raises UsageError where it is none."""
    fields: dict[str, Any] = {
        name: tuple(x) if isinstance(x, list) else x for name, x in said.items()
    }
    require(fields.keys() <= {f.name for f in dataclasses.fields(Spec)}, "data: unknown fields")
    spec = Spec(**fields)
    whole = lambda numbers: all(type(x) is int and 0 < x < 2**31 for x in numbers)  # noqa: E731
    real = lambda numbers: all(type(x) in (int, float) and abs(x) < 1e30 for x in numbers)  # noqa: E731
    words = (spec.name, spec.note, *spec.names)
    require(
        isinstance(spec.size, tuple)
        and len(spec.size) == 2
        and whole((spec.classes, *spec.size))
        and 0 < len(spec.mean) == len(spec.std)
        and real((*spec.mean, *spec.std, spec.scale))
        and all(x > 0 for x in (*spec.std, spec.scale))
        and all(isinstance(word, str) and word.isprintable() for word in words),
        "data: no description of a data set",
    )
    return spec


DATASETS: dict[str, Spec] = {
    "digits": Spec(
        name="digits",
        classes=10,
        mean=(0.3053,),
        std=(0.3760,),
        scale=16.0,
        note="1,797 handwritten digits that come with scikit-learn: no download",
        size=(8, 8),
        examples=(1_000, 797),
    ),
    "mnist": Spec(
        name="mnist",
        classes=10,
        mean=(0.1307,),
        std=(0.3081,),
        note="LeCun, Cortes, Burges: The MNIST Database of Handwritten Digits, 1998",
        size=(28, 28),
        examples=(60_000, 10_000),
    ),
    "fashion_mnist": Spec(
        name="fashion_mnist",
        classes=10,
        mean=(0.2860,),
        std=(0.3530,),
        note="Xiao, Rasul, Vollgraf: Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747",
        size=(28, 28),
        examples=(60_000, 10_000),
    ),
    "cifar10": Spec(
        name="cifar10",
        classes=10,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        note="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
        size=(32, 32),
        examples=(50_000, 10_000),
    ),
    "cifar100": Spec(
        name="cifar100",
        classes=100,
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        note="Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
        size=(32, 32),
        examples=(50_000, 10_000),
    ),
    "imagenet2012": Spec(
        name="imagenet2012",
        classes=1000,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        note="Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge, 2015",
        examples=(1_281_167, 50_000),
    ),
}
"""The sets whose numbers are written down here. Any other image classification set of
tensorflow-datasets works by its name: its Spec is made from what is stored."""


LARGEST_IMAGE = 4096  # pixels a side


@dataclass(frozen=True)
class Data:
    """Which examples are learned from, and how many."""

    name: str = "digits"
    """A name in kd_jax.datasets.DATASETS, or any image classification set of
    tensorflow-datasets, `name/config` and `name:version` included."""
    dir: str = dataclasses.field(default="", metadata={"where": True})
    """Where tensorflow-datasets keeps its sets. Empty: its own default, ~/tensorflow_datasets
    or $TFDS_DATA_DIR."""
    synthetic: bool = False
    """Made-up images in the form of the set, instead of it: to try things where it is not
    prepared. Their accuracies mean nothing."""
    validation: float = 0.1
    """The fraction of the training examples held out to choose by. Test is read at the end."""
    train_limit: int = 0
    """Train on at most so many examples, a random subset (0: all). Validation stays the same."""
    test_limit: int = 0
    """Evaluate on at most so many examples, a random subset of test and one of validation
    (0: all)."""
    image_size: int = 0
    """Resize the short side to so many pixels and crop the centre square (0: as stored).
    Needed where stored images vary in size."""
    memory_mb: int = 2048
    """A set whose decoded images take more megabytes than this is streamed from disk (the digits,
    which can't be, are refused)."""
    split_seed: int = 0
    """Chooses which examples are held out, and those that the limits keep."""

    def __post_init__(self):
        require(
            bool(self.name), f"--data.name is empty: name a data set, such as {', '.join(DATASETS)}"
        )
        require_path("--data.dir", self.dir)
        require(
            0.0 <= self.validation < 1.0,
            f"--data.validation {self.validation}: must be a fraction of train, at least 0 and "
            "below 1",
        )
        for field in ("train_limit", "test_limit", "image_size", "memory_mb"):
            value, flag = getattr(self, field), field.replace("_", "-")
            require(value >= 0, f"--data.{flag} {value}: must be 0 or more")
        require(
            self.image_size <= LARGEST_IMAGE,
            f"--data.image-size {self.image_size}: must be at most {LARGEST_IMAGE} pixels",
        )
        require(
            0 <= self.split_seed < 2**32,
            f"--data.split-seed {self.split_seed}: must be at least 0 and below 2**32",
        )
