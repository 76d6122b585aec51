"""CIFAR-10 on two CPU cores: a VGG-16 of a quarter of the width loses weights, or channels.

The network learns; then 90, 95 and 98 % of its weights go, over the first half of a retraining with
the dense network as teacher; or its channels, until a half, a quarter, a tenth of its multiply-adds
is left, for good, and what is left retrains in the same way. With cifar10_small it makes one plot
of accuracy against parameters, work and time: run.py report RUN RUN.

Paper: Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", 2017,
https://arxiv.org/abs/1608.08710 (VGG-16 of full width: 93.25 % dense, 93.40 % with 66 % of the
multiply-adds and 36 % of the parameters); Zhu, Gupta, "To prune, or not to prune", 2017,
https://arxiv.org/abs/1710.01878 (the schedule of the weights).
Data: CIFAR-10 by tensorflow-datasets (50,000 images of 32x32)
Cost: for three seeds on one H200 that had other work, 74 to 81 s a smaller network and 1 min 51 s
the dense one; on one core of an EPYC without AVX-512 2 h 45 min a seed for what is pruned to 90 and
95 % (37 and 41 minutes) and shrunk (55, 17 and 15)
Command: python run.py reproduce cifar10_small_vgg
Result: docs/cifar10_small_vgg, three seeds, trained on one H100 and one H200, on images encoded
anew as JPEG, so that no figure compares with a published one: 82.87 ± 0.10 % dense; 82.19 ± 0.24,
81.50 ± 0.31 and 79.04 ± 0.09 % with 10, 5 and 2 % of the weights; 81.49 ± 0.08, 78.98 ± 0.19 and
70.77 ± 0.69 % with a half, a quarter and a tenth of the multiply-adds. Of weights that are left out
nothing becomes faster; of channels the quarter is 2.8 times as fast at batch 1, on one core.
"""

from typing import Any

from experiments.cifar10_fast import fast
from experiments.cifar10_fast_vgg import SMALLER, smaller
from kd_jax.augment import Augment
from kd_jax.config import Experiment, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models.vgg import VGG
from kd_jax.published import Figure

LEARN: dict[str, Any] = {
    "batch": 128,
    "augment": Augment(crop=4, flip=True),
    "evaluate_every": 4,
}
RETRAIN: dict[str, Any] = LEARN | {
    "start": "train",
    "teacher": "train",
    "epochs": 8,
    "optim": fast(0.02, 100),
    "hard_weight": 0.1,
    "terms": {"kd": KD(temperature=4.0, weight=0.9)},
    "gradient_norms": False,
}


CONFIG = Experiment(
    name="cifar10_small_vgg",
    data=Data(name="cifar10"),
    student=VGG(convs=(2, 2, 3, 3, 3), width=0.25),
    stages={
        "train": Train(epochs=15, optim=fast(0.05, 400), **LEARN),
        **smaller(RETRAIN, multiple_of=4),
    },
    compare=("train",),
    seeds=3,
    together=False,
)

PUBLISHED = tuple(
    Figure(what=what, stage=stage, measure="accuracy")
    for stage, what in {"train": "VGG-16 of a quarter of the width", **SMALLER}.items()
)
REMARK = """
The papers have no network of this width. Of full width Li et al. 2017 report 93.25 % dense, and
93.40 % with 66 % of the multiply-adds (their table 1).
"""
