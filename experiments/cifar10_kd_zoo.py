"""CIFAR-10: every distillation method on ResNet-56 -> ResNet-20, with equal budgets and seeds.

Paper: Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020,
https://arxiv.org/abs/1910.10699: the recipe of its benchmark (there on CIFAR-100); that of each
method is in the README's table.
Data: CIFAR-10 by tensorflow-datasets (50,000 images of 32x32)
Cost: about 40 students of 240 epochs, three seeds each: for accelerators
Command: python run.py run cifar10_kd_zoo
Result: not run to the end.

Each method has what it was published with for this pair (on CIFAR-100), or else for another.
"""

from typing import Any

from kd_jax import zoo
from kd_jax.augment import Augment
from kd_jax.config import Experiment, Train
from kd_jax.datasets import Data
from kd_jax.models import MODELS
from kd_jax.optim import Optim

SGD = Optim(learning_rate=0.05, weight_decay=5e-4, schedule="step", milestones=(0.625, 0.75, 0.875))
LEARN: dict[str, Any] = {
    "epochs": 240,
    "batch": 64,
    "optim": SGD,
    "augment": Augment(crop=4, flip=True),
}
TEACHER, STUDENT = MODELS["resnet56"], MODELS["resnet20"]

CONFIG = Experiment(
    name="cifar10_kd_zoo",
    data=Data(name="cifar10"),
    teacher=TEACHER,
    student=STUDENT,
    stages=zoo.distillation(Train(model="teacher", **LEARN), Train(**LEARN), (TEACHER, STUDENT)),
    compare=("alone", "kd"),
    together=False,
)
