"""Handwritten digits: every distillation method on one pair, with equal budgets and the same seeds.

A residual network of 20 layers teaches one of 8 layers and half the width, which is shown 180 of
the 900 images, shifted by up to a pixel.

Paper: that of each method is in the README's table.
Data: 1,797 images of 8x8 that come with scikit-learn, no download
Cost: about twenty minutes on two CPU cores
Command: python run.py run digits_kd_zoo
Result: docs/digits_kd_zoo/table.md. Test accuracy, mean ± standard deviation of seeds 0 to 2:
teacher 98.49 ± 0.33 %, student alone 94.02 ± 0.36 %, KD 94.94 ± 1.51 %, ReviewKD 96.45 ± 0.40 %,
MLKD 96.70 ± 0.89 %, which alone sees a second, stronger view of each image. With three seeds
seven of 55 are better than the student alone by more than the noise, and nine are worse, CAT-KD
(8.66 %) and AT (72.15 %) by far: their published weights are for maps of other sizes.

Weights, temperatures and warm-ups are those that each method was published with, mostly for
CIFAR-100 (kd_jax/distill/presets_*.py), not tuned to this task; CRD's negatives are 256, as there
are few examples. AB and FSP learn from features in an eighth of the epochs and from labels in the
rest. What is of Transformers alone is in digits_kd_zoo_vit. Peers (dml) are two rows, one a peer.
"""

import dataclasses
from typing import Any

from kd_jax import zoo
from kd_jax.augment import Augment
from kd_jax.config import Experiment, Train
from kd_jax.datasets import Data
from kd_jax.models.cifar_resnet import CifarResNet
from kd_jax.optim import Optim

TEACHER = CifarResNet(depth=20)
STUDENT = CifarResNet(depth=8, width=0.5)
LEARN: dict[str, Any] = {
    "batch": 32,
    "optim": Optim(learning_rate=0.05, weight_decay=5e-4),
    "augment": Augment(shift=1),
    "evaluate_every": 10,
}
STAGES = zoo.distillation(
    Train(model="teacher", epochs=30, **LEARN),
    Train(epochs=100, fraction=0.2, **LEARN),
    (TEACHER, STUDENT),
)


def few_negatives(stage):
    terms = getattr(stage, "terms", {})
    if "crd" not in terms:
        return stage
    crd = dataclasses.replace(terms["crd"], negatives=256)
    return dataclasses.replace(stage, terms={**terms, "crd": crd})


CONFIG = Experiment(
    name="digits_kd_zoo",
    data=Data(name="digits"),
    teacher=TEACHER,
    student=STUDENT,
    stages={name: few_negatives(stage) for name, stage in STAGES.items()},
    compare=("alone", "kd"),
    seeds=3,
    together=False,
)
