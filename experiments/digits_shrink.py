"""Handwritten digits: half of a residual network's work is cut away for good, in two ways.

ResNet-8 learns from 900 images. Then channels are cut until a half of the multiply-adds is left,
the same fraction of each group of channels that hang together, and what is left retrains, once on
labels alone and once with the uncut network as its teacher; and, taught, once with amounts found by
a scan of what each group's loss costs. Another cuts a quarter of the channels and then prunes half
of what is left, by masks. Another cuts nothing, but lets each image go through half of the channels
alone, its own half.

Paper: Li et al., "Pruning Filters for Efficient ConvNets", 2017, https://arxiv.org/abs/1608.08710
(which channels); Fang et al., "DepGraph: Towards Any Structural Pruning", 2023,
https://arxiv.org/abs/2301.12900 (which hang together).
Data: 1,797 images of 8x8 that come with scikit-learn, no download
Cost: under three minutes on two CPU cores
Command: python run.py run digits_shrink
Result: docs/digits_shrink/table.md. Test accuracy, mean ± standard deviation of seeds 0 to 2: dense
98.54 ± 0.38 %; half of the multiply-adds 97.78 ± 0.26 % on labels, 98.16 ± 0.48 % taught by the
dense network, 98.03 ± 0.52 % where a scan says what each group loses, by which the network has 27 %
of the parameters and a batch of 256 takes 0.40 of the dense time, against 52 % and 0.69; 56 % of
the multiply-adds 98.20 ± 0.26 %, pruned to a half of its weights 98.24 ± 0.22 %. Gated 97.87 ±
0.66 %: 27 % of the multiply-adds, in no less time, as picking channels takes as long; and nine of
ten gates are the same for all images.

Nothing was tuned.
"""

from typing import Any

from kd_jax.augment import Augment
from kd_jax.config import Experiment, Gate, Prune, Shrink, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models.cifar_resnet import CifarResNet
from kd_jax.optim import Optim

LEARN: dict[str, Any] = {"batch": 64, "augment": Augment(shift=1), "evaluate_every": 5}
RETRAIN: dict[str, Any] = LEARN | {"epochs": 20, "optim": Optim(learning_rate=0.02)}
SOFT: dict[str, Any] = {
    "teacher": "train",
    "hard_weight": 0.1,
    "terms": {"kd": KD(temperature=4.0, weight=0.9)},
}

CONFIG = Experiment(
    name="digits_shrink",
    data=Data(name="digits"),
    student=CifarResNet(depth=8),
    stages={
        "train": Train(epochs=40, optim=Optim(learning_rate=0.05, weight_decay=5e-4), **LEARN),
        "shrink": Shrink(start="train", macs=0.5, **RETRAIN),
        "shrink_taught": Shrink(start="train", macs=0.5, **RETRAIN, **SOFT),
        "shrink_scan": Shrink(start="train", macs=0.5, scope="sensitivity", **RETRAIN, **SOFT),
        "shrink_less": Shrink(start="train", amount=0.25, **RETRAIN, **SOFT),
        "gate": Gate(start="train", amount=0.5, **RETRAIN, **SOFT),
        "prune": Prune(start="shrink_less", sparsity=0.5, **RETRAIN, **SOFT),
    },
    compare=("train",),
    seeds=3,
    together=False,
)
