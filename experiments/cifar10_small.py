"""CIFAR-10 on two CPU cores: ResNet-20 teaches ResNet-8, by several methods.

What some hours of two cores allow: the smallest of the CIFAR ResNets, and as its teacher the next
that is worth the name. Each method has the epochs, batches, augmentation and seeds of the student
alone, and the weights that it was published with (on CIFAR-100). Nothing was tuned.

Paper: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016,
https://arxiv.org/abs/1512.03385 (ResNet-20: 91.25 % after 64,000 steps of 128 examples).
Data: CIFAR-10 by tensorflow-datasets (50,000 images of 32x32)
Cost: eight minutes of training for three seeds on one H100 that had other work; on two CPU cores
about four hours (from the speed of single steps)
Command: python run.py reproduce cifar10_small
Result: docs/cifar10_small, three seeds, trained on one H100, on images that were encoded anew as
JPEG, so that no published number compares. ResNet-20 85.42 ± 0.22 %; ResNet-8 alone 77.96 ± 0.22 %,
with KD 80.95 ± 0.32, DKD 80.15 ± 0.16, AT 78.84 ± 0.26 %. With CRD and KD 81.5 and 81.2 % of two
seeds; the third lost in its fourth epoch what it had learnt, at this rate of 0.1 (published: 0.05),
and ended at 65.1 %.
"""

from typing import Any

from experiments.cifar10_fast import fast, students
from kd_jax.augment import Augment
from kd_jax.config import Experiment, Train
from kd_jax.datasets import Data
from kd_jax.models import MODELS
from kd_jax.published import Figure

TEACHER, STUDENT = MODELS["resnet20"], MODELS["resnet8"]
LEARN: dict[str, Any] = {
    "epochs": 12,
    "batch": 128,
    "optim": fast(0.1, 400),
    "augment": Augment(crop=4, flip=True),
    "evaluate_every": 4,
}
LONGER: dict[str, Any] = LEARN | {"epochs": 20}
METHODS = ("kd", "dkd", "at", "crd+kd")


CONFIG = Experiment(
    name="cifar10_small",
    data=Data(name="cifar10"),
    teacher=TEACHER,
    student=STUDENT,
    stages={
        "train": Train(model="teacher", **LONGER),
        **students(METHODS, TEACHER, STUDENT, LEARN),
    },
    compare=("alone", "kd"),
    seeds=3,
    together=False,
)

PUBLISHED = (
    Figure(
        what="ResNet-20",
        stage="train",
        measure="accuracy",
        published=91.25,
        source="He 2016, table 6",
    ),
    *(
        Figure(what=f"ResNet-8, {name}", stage=name.replace("+", "_"), measure="accuracy")
        for name in ("alone", *METHODS)
    ),
)
REMARK = """
The paper's ResNet-20 takes 64,000 steps, this one 7,020. The paper has no ResNet-8, and the methods
were published on CIFAR-100.
"""
