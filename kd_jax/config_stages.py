"""What a stage of an experiment is, as data: the fields and the questions that all kinds have."""

import dataclasses
import re
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, get_args

from kd_jax.augment import Augment
from kd_jax.errors import require, require_finite, require_path, shortened
from kd_jax.freezing import check_patterns
from kd_jax.optim import Optim

Role = Literal["teacher", "assistant", "student"]
ROLES: tuple[Role, ...] = get_args(Role)


def variants(table: dict[str, Any], or_none: bool = False) -> dict[str, Any]:
    """Metadata of a field whose value a flag picks from a table by plain name; of the table itself,
    to which entries may be added later."""
    return {"variants": ChainMap(table, {"none": None}) if or_none else table}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train a network on labels."""

    # What is asked of a kind of stage, here and by the properties and methods below: each of the
    # other kinds says where it differs.
    least_epochs: ClassVar[int] = 1
    trains: ClassVar[bool] = True  # no: its network is made of those of other stages
    reshapes: ClassVar[bool] = False  # its network's arrays are others than those it starts from
    last: ClassVar[bool] = False  # no stage after it may reshape its network
    apart: ClassVar[bool] = False  # several settings of it can't train in one program
    done: ClassVar[str] = ""  # what it made of the network it starts from, such as "pruned"

    model: Role = "student"
    """Which of the experiment's models."""
    start: str = ""
    """Stage whose network it goes on from, masks and all; empty: fresh parameters."""
    weights: str = ""
    """File of pre-trained weights that it begins with, safetensors as torchvision, timm or kd_jax
    name them; a classifier of other classes than the data's is replaced by a fresh one."""
    weights_sha256: str = ""
    """The file's SHA-256: filled in when the run begins; one that is given is checked."""
    freeze: tuple[str, ...] = ()
    """Regular expressions of parameters that are not trained, such as ^(?!classifier) for all but
    the classifier; masks of the stage's own may still make them zero."""
    freeze_statistics: bool = False
    """Batch norms that are frozen use and keep their running statistics; otherwise these go on
    being estimated."""
    epochs: int = 30
    """Passes over the training examples."""
    batch: int = 128
    """Examples a step."""
    fraction: float = 1.0
    """Share of the training examples that this stage may see."""
    labels: tuple[int, ...] = ()
    """Labels whose examples the stage sees; empty: all. The fraction is then one of these."""
    optim: Optim = dataclasses.field(default_factory=Optim)
    augment: Augment = dataclasses.field(default_factory=Augment)
    label_smoothing: float = 0.0
    """Share of the uniform distribution in the hard targets (Szegedy et al. 2016)."""
    ema: float | None = None
    """Decay of an average of the parameters, evaluated in their place; None: no average."""
    swa: float | None = None
    """Share of the epochs after which the parameters at each epoch's end are averaged, equally, and
    the learning rate stays as it is by then; the average is evaluated in their place (stochastic
    weight averaging, Izmailov et al. 2018). Often 0.75; None: no average."""
    recalibrate: int = 20
    """Batches by which batch statistics, if there are any, are estimated anew: at the end with swa;
    before retraining begins after a cut at once, by schedule one_shot or of channels."""
    evaluate_every: int = 1
    """Epochs between two readings of the validation accuracy."""

    def __post_init__(self) -> None:
        require_finite(self)
        least = {"epochs": self.least_epochs, "batch": 1, "evaluate_every": 1}
        for name, low in least.items():
            value = getattr(self, name)
            require(value >= low, f"{name.replace('_', '-')} {value} must be at least {low}")
        require(0 < self.fraction <= 1, f"fraction {self.fraction} must be in (0, 1]")
        listed = " ".join(map(str, self.labels))
        require(min(self.labels, default=0) >= 0, f"labels {listed}: none is below 0")
        require(len(set(self.labels)) == len(self.labels), f"labels {listed}: one is named twice")
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, f"label-smoothing {smoothing} must be in [0, 1)")
        require(
            self.optim.name != "dot" or bool(getattr(self, "taught", ())),
            "optim.name dot is for what a teacher says, and nothing is: set terms, or take sgd",
        )
        require(self.ema is None or 0 < self.ema < 1, f"ema {self.ema} must be in (0, 1)")
        require(self.recalibrate >= 0, f"recalibrate {self.recalibrate} must not be negative")
        self._check_swa()
        self._check_weights()
        check_patterns(self.freeze)
        require(
            bool(self.freeze) or not self.freeze_statistics,
            "freeze-statistics True, but nothing is frozen: set freeze, or leave it out",
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """The stages of whose networks its own is made; none: it is fresh."""
        return (self.start,) if self.start else ()

    @property
    def before(self) -> str:
        """The stage whose network its own is a changed form of; empty where there is none."""
        return self.start

    @property
    def ensemble(self) -> bool:
        """Whether its result holds several networks."""
        return False

    @property
    def teachers(self) -> tuple[str, ...]:
        """The stages whose networks teach."""
        return ()

    @property
    def compared(self) -> tuple[str, ...]:
        """The stages with whose networks its own is compared; none: that is no matter of kind."""
        return ()

    @property
    def at_once(self) -> bool:
        """Whether it begins with another network than it is given, whose batch statistics are to
        be estimated anew."""
        return False

    @property
    def told(self) -> str:
        """What it does beside training, as a model card tells it after a comma."""
        return ""

    def called(self, before: str, seeds: int) -> str:
        """What its network is called, in a reader's words, if that of the stage it starts from is
        called `before`; empty: by its model and who taught it."""
        del seeds
        if not self.done:
            return ""
        return f"{before}, {self.done}" if "," in before else f"{before} and {self.done}"

    def flag_of(self, name: str) -> str:
        """The field that names a stage whose network it takes."""
        del name
        return "start"

    def renaming(self, named: Callable[[str], str]) -> dict[str, Any]:
        """Its fields that name stages whose networks it takes, with other names."""
        return {"start": named(self.start) if self.start else ""}

    def small(self) -> dict[str, Any]:
        """Its fields that are others in a quick check."""
        return {
            "epochs": min(self.epochs, 2),
            "batch": min(self.batch, 8 if self.labels else 32),  # of few labels there are few
            "fraction": 1.0,
            "evaluate_every": 1,
            "weights": "",  # of a larger network
            "weights_sha256": "",
            "optim": dataclasses.replace(self.optim, warmup=min(self.optim.warmup, 1)),
        }

    def check_among(self, name: str, models: Mapping[str, str], seeds: int) -> None:
        """Raises UsageError where, called so, it can't take the networks that it names: of stages
        {name: which of the experiment's models}, of so many seeds."""

    def _check_swa(self) -> None:
        if self.swa is None:
            return
        require(0 < self.swa < 1, f"swa {self.swa} must be in (0, 1)")
        require(self.ema is None, f"swa {self.swa} and ema {self.ema}: set one of them alone")
        require(
            self.epochs > 1,
            f"swa {self.swa} averages the ends of epochs, and there is one: raise epochs",
        )

    def _check_weights(self) -> None:
        digest = self.weights_sha256
        require_path("weights", self.weights)
        file = shortened(repr(self.weights)) if self.weights else ""
        require(
            not (file and self.start),
            f"start {shortened(repr(self.start))} with weights {file}: a stage begins with one "
            "network: leave one of them out",
        )
        parted = getattr(self, "peer_models", ()) or getattr(self, "classifier", "own") != "own"
        require(
            not (file and parted),
            f"weights {file}: no file is of a network with peer-models, or with its teacher's "
            "classifier: load it in a stage before, or leave it out",
        )
        require(
            not digest or (bool(file) and bool(re.fullmatch("[0-9a-f]{64}", digest))),
            f"weights-sha256 {shortened(repr(digest))}: give the 64 hexadecimal digits of the "
            "file of weights",
        )


Stage = Train  # every stage is a training of some kind, be it one of no epochs
