"""What is measured: the cases, and what each of their rows computes. To add one, add a line."""

import dataclasses
import math
from typing import Any, Literal

from kd_jax.augment import Augment
from kd_jax.config import Distill, Prune, Stage, Train
from kd_jax.datasets import DATASETS
from kd_jax.distill import KD
from kd_jax.models import MODELS
from kd_jax.models.base import ModelConfig
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.serialize import to_data

EXAMPLES = {"digits": 900, "mnist": 54_000, "cifar10": 45_000, "cifar100": 45_000}
"""Training examples, a tenth held out: drawing a batch may depend on how many there are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """One row: a stage's training step, of one framework.

    Attributes:
      label: names the row within its case.
      data: whose shapes and number of classes the synthetic examples have.
      collected: the teacher's logits are there already, so that it does not run.
      seeds: how many, in one program.
    """

    label: str
    stage: Stage
    student: ModelConfig
    teacher: ModelConfig | None = None
    data: str
    collected: bool = False
    seeds: int = 1
    framework: Literal["kd_jax", "torch"] = "kd_jax"


@dataclasses.dataclass(frozen=True)
class Ratio:
    """`of` over `to`, two rows' labels: in examples a second, or in `time` a step."""

    label: str
    of: str
    to: str
    time: bool = False


@dataclasses.dataclass(frozen=True)
class Case:
    """Rows that are measured in turns, and how they are compared.

    Attributes:
      batches: the batch sizes; empty: those of the stages.
    """

    about: str
    works: tuple[Work, ...]
    ratios: tuple[Ratio, ...]
    batches: tuple[int, ...] = ()


SGD = Optim(learning_rate=0.01, momentum=0.9, weight_decay=5e-4, schedule="constant")
SOFT = Distill(optim=SGD, hard_weight=0.1, terms={"kd": KD(temperature=4.0, weight=0.9)})
HARD = Train(optim=SGD)
PRUNED = Prune(optim=SGD, sparsity=0.9)

OURS, THEIRS = "kd_jax", "PyTorch"


def _both(suffix: str = "", **work: Any) -> tuple[Work, Work]:
    """The same work of PyTorch and of kd_jax."""
    theirs = Work(label=f"{THEIRS}{suffix}", framework="torch", **work)
    return theirs, Work(label=f"{OURS}{suffix}", **work)


def _distillation(about: str, teacher: str, student: str, data: str, *batches: int) -> Case:
    """With the teacher online, and with its logits collected beforehand."""
    work = {"teacher": MODELS[teacher], "student": MODELS[student], "stage": SOFT, "data": data}
    theirs, online = _both(", teacher online", **work)
    collected = Work(label=f"{OURS}, teacher's logits collected", collected=True, **work)
    ratios = (
        Ratio(f"{OURS} / {THEIRS}, teacher online", online.label, theirs.label),
        Ratio(
            f"{OURS} with collected logits / {THEIRS}, teacher online",
            collected.label,
            theirs.label,
        ),
    )
    return Case(about, (theirs, online, collected), ratios, batches)


def _training(about: str, student: str, data: str, *batches: int) -> Case:
    theirs, ours = _both(student=MODELS[student], stage=HARD, data=data)
    ratio = Ratio(f"{OURS} / {THEIRS}", ours.label, theirs.label)
    return Case(about, (theirs, ours), (ratio,), batches)


def _masked(about: str, student: str, data: str, *batches: int) -> Case:
    """A step with masks on nine tenths of the weights, and the same without masks."""
    pairs = [
        _both(suffix, student=MODELS[student], stage=stage, data=data)
        for suffix, stage in ((", masked", PRUNED), (", unmasked", HARD))
    ]
    works = tuple(work for pair in pairs for work in pair)
    (their_masked, masked), (their_unmasked, unmasked) = pairs
    ratios = (
        Ratio(f"{OURS} / {THEIRS}, masked", masked.label, their_masked.label),
        Ratio(f"{OURS} / {THEIRS}, unmasked", unmasked.label, their_unmasked.label),
        Ratio(f"cost of masks, {OURS}", masked.label, unmasked.label, time=True),
        Ratio(f"cost of masks, {THEIRS}", their_masked.label, their_unmasked.label, time=True),
    )
    return Case(about, works, ratios, batches)


def _seeds(about: str, many: int) -> Case:
    """Two stages of the experiment `digits`, with one seed and with many in one program."""
    large, small = MLP(widths=(512, 512), dropout=0.3), MLP(widths=(32,))
    soft = dataclasses.replace(SOFT, batch=32, fraction=0.2, augment=Augment(mixup=1.0))
    hard = dataclasses.replace(HARD, batch=64, augment=Augment(shift=1))
    stages = {
        "teacher": {"stage": hard, "student": large},
        "student distilled": {"stage": soft, "student": small, "teacher": large},
    }
    works, ratios = [], []
    for name, work in stages.items():
        one, more = f"{OURS}, {name}, 1 seed", f"{OURS}, {name}, {many} seeds"
        works += [Work(label=one, data="digits", **work)]
        works += [Work(label=more, data="digits", seeds=many, **work)]
        ratios += [Ratio(f"{many} seeds / 1 seed, {name}", more, one, time=True)]
    return Case(about, tuple(works), tuple(ratios))


CASES: dict[str, Case] = {
    "r56_r20": _distillation(
        "ResNet-56 teaches ResNet-20, CIFAR-10", "resnet56", "resnet20", "cifar10", 64, 128
    ),
    "r32x4_r8x4": _distillation(
        "ResNet-32x4 teaches ResNet-8x4, CIFAR-100", "resnet32x4", "resnet8x4", "cifar100", 64, 128
    ),
    "vgg16_masked": _masked("VGG-16, masked and unmasked, CIFAR-10", "vgg16", "cifar10", 128),
    "mobilenetv2": _training("MobileNet-V2, CIFAR-10", "mobilenet_v2", "cifar10", 64),
    "lenet_300_100": _training("LeNet-300-100, MNIST", "lenet_300_100", "mnist", 128),
    "mnist_mlp": _distillation(
        "784-1200-1200-10 teaches 784-800-800-10, MNIST", "mlp_1200", "mlp_800", "mnist", 128
    ),
    "digits": _seeds("1 and 8 seeds of the experiment digits in one program", 8),
}


def at_batch(work: Work, batch: int) -> Work:
    """The same with another batch size; 0: the stage's own."""
    if not batch:
        return work
    return dataclasses.replace(work, stage=dataclasses.replace(work.stage, batch=batch))


def request(work: Work) -> dict[str, Any]:
    """What a worker is told: all of the work, as JSON can hold it."""
    spec = DATASETS[work.data]
    facts = {name: getattr(spec, name) for name in ("name", "shape", "classes", "mean", "std")}
    examples = max(EXAMPLES[work.data], math.ceil(work.stage.batch / work.stage.fraction))
    return {
        "data": {**facts, "scale": spec.scale, "examples": examples},
        "student": to_data(work.student),
        "teacher": to_data(work.teacher),
        "stage": to_data(work.stage),
        "collected": work.collected,
        "seeds": work.seeds,
    }
