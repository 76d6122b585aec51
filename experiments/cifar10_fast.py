"""CIFAR-10 in minutes on one accelerator: ResNet-18 teaches ResNet-20, by several methods.

A recipe for short training: large batches, Nesterov momentum, a warm-up and one cosine, bfloat16.
Each method has the epochs, batches, augmentation and seeds of the student alone, and the weights
that it was published with (on CIFAR-100). Nothing was tuned.

Paper: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016,
https://arxiv.org/abs/1512.03385 (ResNet-20: 91.25 % after 64,000 steps of 128 examples).
Data: CIFAR-10 by tensorflow-datasets (50,000 images of 32x32)
Cost: three and a half minutes a seed on one H200 that had other work, the students side by side
Command: python run.py run cifar10_fast
Result: on images that were encoded anew as JPEG of quality 75, so that no published number compares
(jax 0.11.2). Test accuracy of seed 0, on one H200: the teacher 89.1 %, the student alone 86.7 %,
with KD 87.9 %, with DKD 87.7 %, with CRD and KD 87.8 %. Of two stages (--only train alone), seeds 0
to 2, on one H100: the teacher 89.20 ± 0.14 %, the student alone 86.62 ± 0.24 %.
"""

from collections.abc import Sequence
from typing import Any

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Train
from kd_jax.datasets import Data
from kd_jax.distill.presets import preset
from kd_jax.models import MODELS
from kd_jax.models.base import ModelConfig
from kd_jax.optim import Optim

TEACHER, STUDENT = MODELS["resnet18"], MODELS["resnet20"]


def fast(learning_rate: float, steps_of_warmup: int) -> Optim:
    """One rise and one fall of the rate, by Nesterov's momentum."""
    return Optim(
        learning_rate=learning_rate,
        warmup=steps_of_warmup,
        nesterov=True,
        weight_decay=5e-4,
        decay_all=False,
    )


LEARN: dict[str, Any] = {
    "epochs": 40,
    "batch": 256,
    "optim": fast(0.2, 880),
    "augment": Augment(crop=4, flip=True),
    "evaluate_every": 10,
}
METHODS = ("kd", "dkd", "crd+kd")


def students(
    methods: Sequence[str], teacher: ModelConfig, student: ModelConfig, learn: dict[str, Any]
) -> dict[str, Train]:
    """The student alone, and one by the published setting of each method, all trained alike."""
    soft: dict[str, Any] = learn | {"teacher": "train", "gradient_norms": False}
    by_method = {name: Distill(**soft, **preset(name, teacher, student)) for name in methods}
    named = {name.replace("+", "_"): stage for name, stage in by_method.items()}
    return {"alone": Train(**learn), **named}


CONFIG = Experiment(
    name="cifar10_fast",
    data=Data(name="cifar10"),
    teacher=TEACHER,
    student=STUDENT,
    stages={
        "train": Train(
            model="teacher",
            epochs=24,
            batch=512,
            optim=fast(0.3, 440),
            augment=Augment(crop=4, flip=True, cutout=8),
            evaluate_every=10,
        ),
        **students(METHODS, TEACHER, STUDENT, LEARN),
    },
    compare=("alone", "kd"),
    compute="bfloat16",
    together=False,
)
