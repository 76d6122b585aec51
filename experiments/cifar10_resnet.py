"""CIFAR-10: ResNet-56 teaches ResNet-20, which is then pruned to a fifth of its weights.

Paper: Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020,
https://arxiv.org/abs/1910.10699: the recipe of its benchmark (there on CIFAR-100: 72.34 % and
69.06 % alone, 70.66 % with KD); gradual pruning of Zhu, Gupta, 2017,
https://arxiv.org/abs/1710.01878.
Data: CIFAR-10 by tensorflow-datasets (50,000 images of 32x32)
Cost: about 35 hours a seed on two CPU cores (from the time of single steps); for accelerators
Command: python run.py run cifar10_resnet
Result: not run to the end yet.
"""

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Prune, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD, LogitTerm
from kd_jax.models import MODELS
from kd_jax.optim import Optim
from kd_jax.prune import Cubic

SGD = Optim(learning_rate=0.05, weight_decay=5e-4, schedule="step", milestones=(0.625, 0.75, 0.875))
RETRAIN = Optim(learning_rate=0.01, weight_decay=5e-4, schedule="cosine")
CROP_AND_FLIP = Augment(crop=4, flip=True)
SOFT: dict[str, LogitTerm] = {"kd": KD(temperature=4.0, weight=0.9)}

CONFIG = Experiment(
    name="cifar10_resnet",
    data=Data(name="cifar10"),
    teacher=MODELS["resnet56"],
    student=MODELS["resnet20"],
    stages={
        "train": Train(model="teacher", epochs=240, batch=64, optim=SGD, augment=CROP_AND_FLIP),
        "alone": Train(epochs=240, batch=64, optim=SGD, augment=CROP_AND_FLIP),
        "distill": Distill(
            epochs=240, batch=64, optim=SGD, augment=CROP_AND_FLIP, teacher="train", terms=SOFT
        ),
        "prune": Prune(
            epochs=60,
            batch=64,
            optim=RETRAIN,
            augment=CROP_AND_FLIP,
            start="distill",
            teacher="train",
            hard_weight=0.1,
            terms=SOFT,
            sparsity=0.8,
            schedule=Cubic(begin=0.0, end=0.6, every=100),
        ),
    },
    together=False,
)
