"""CIFAR-10 in minutes on one accelerator: VGG-16 loses weights, or channels.

A VGG-16 learns by the recipe of cifar10_fast. Then 90, 95 and 98 % of its weights go, over the
first half of a retraining with the dense network as teacher; or its channels, until a half, a
quarter, a tenth of its multiply-adds is left, for good, and what is left retrains in the same way.

Paper: Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", 2017,
https://arxiv.org/abs/1608.08710 (VGG-16 on CIFAR-10: 93.25 % dense, 93.40 % with 66 % of the
multiply-adds and 36 % of the parameters); Zhu, Gupta, "To prune, or not to prune", 2017,
https://arxiv.org/abs/1710.01878 (the schedule of the weights).
Data: CIFAR-10 by tensorflow-datasets (50,000 images of 32x32)
Cost: two minutes a stage for three seeds on one H200 with other work beside
Command: python run.py reproduce cifar10_fast_vgg
Result: docs/cifar10_fast_vgg, three seeds, on one H200, on images that were encoded anew as JPEG of
quality 75, so that no published number compares: test accuracy dense 87.68 ± 0.13 %; with half of
the multiply-adds 87.56 ± 0.10 %, a quarter 87.15 ± 0.05 %, a tenth 84.98 ± 0.14 %; with 2 % of the
weights 86.74 ± 0.31 %. In an earlier run on an H100 (--only prune_90 prune_95), of a dense network
with 87.57 ± 0.12 %: a tenth of the weights 87.58 ± 0.10 %, a twentieth 87.58 ± 0.17 %.
"""

from typing import Any

from experiments.cifar10_fast import fast
from kd_jax.augment import Augment
from kd_jax.config import Experiment, Prune, Shrink, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models import MODELS
from kd_jax.prune import Cubic
from kd_jax.published import Figure

LEARN: dict[str, Any] = {
    "batch": 512,
    "augment": Augment(crop=4, flip=True, cutout=8),
    "evaluate_every": 5,
}
RETRAIN: dict[str, Any] = LEARN | {
    "start": "train",
    "teacher": "train",
    "epochs": 15,
    "optim": fast(0.05, 100),
    "hard_weight": 0.1,
    "terms": {"kd": KD(temperature=4.0, weight=0.9)},
    "gradient_norms": False,
}


def smaller(retrain: dict[str, Any], multiple_of: int) -> dict[str, Train]:
    """The trained network in six smaller forms.

    Args:
      retrain: how what is left learns.
      multiple_of: channels that are kept come in such numbers.
    """
    schedule = Cubic(begin=0.0, end=0.5, every=50)
    masked: dict[str, Any] = retrain | {"allocation": "global", "schedule": schedule}
    cut: dict[str, Any] = retrain | {"multiple_of": multiple_of}
    return {
        "prune_90": Prune(sparsity=0.9, **masked),
        "prune_95": Prune(sparsity=0.95, **masked),
        "prune_98": Prune(sparsity=0.98, **masked),
        "half": Shrink(macs=0.5, **cut),
        "quarter": Shrink(macs=0.25, **cut),
        "tenth": Shrink(macs=0.1, **cut),
    }


SMALLER = {
    "prune_90": "10 % of the weights",
    "prune_95": "5 % of the weights",
    "prune_98": "2 % of the weights",
    "half": "half of the multiply-adds",
    "quarter": "a quarter of the multiply-adds",
    "tenth": "a tenth of the multiply-adds",
}
CONFIG = Experiment(
    name="cifar10_fast_vgg",
    data=Data(name="cifar10"),
    student=MODELS["vgg16"],
    stages={
        "train": Train(epochs=24, optim=fast(0.1, 440), **LEARN),
        **smaller(RETRAIN, multiple_of=8),
    },
    compare=("train",),
    compute="bfloat16",
    together=False,
)

PUBLISHED = (
    Figure(
        what="VGG-16",
        stage="train",
        measure="accuracy",
        published=93.25,
        source="Li et al. 2017, table 1",
    ),
    *(Figure(what=what, stage=stage, measure="accuracy") for stage, what in SMALLER.items()),
)
REMARK = """
The dense network takes 24 epochs here, and each smaller one 15 more. With 66 % of the
multiply-adds, 36 % of the parameters, the paper reports 93.40 %.
"""
