"""CIFAR-10: a wide residual network, WRN-16-8, as far as some minutes of one accelerator take it.

The recipe of cifar10_resnet18 for wider layers, which an accelerator uses better, and less than
half of its epochs.

Paper: Zagoruyko, Komodakis, "Wide Residual Networks", 2016, https://arxiv.org/abs/1605.07146
(table 5: 95.73 % after 200 epochs with crops and flips).
Data: CIFAR-10 by tensorflow-datasets (50,000 images of 32x32)
Cost: four minutes a seed on one H200 that had other work
Command: python run.py reproduce cifar10_wrn
Result: docs/cifar10_wrn, seed 0, on one H200, on images that were encoded anew as JPEG, so that no
published number compares: 93.4 % of the test images.
"""

import dataclasses

from experiments import cifar10_resnet18
from kd_jax.models.wide_resnet import WideResNet
from kd_jax.published import Figure

ALIKE = cifar10_resnet18.CONFIG
CONFIG = dataclasses.replace(
    ALIKE,
    name="cifar10_wrn",
    student=WideResNet(depth=16, widen=8),
    stages={"train": dataclasses.replace(ALIKE.stages["train"], epochs=90)},
)

PUBLISHED = (
    Figure(
        what="WRN-16-8",
        stage="train",
        measure="accuracy",
        published=95.73,
        source="Zagoruyko 2016, table 5",
    ),
)
REMARK = """
Of 90 epochs rather than 200, with RandAugment, a hole, smoothed labels and an average of the
parameters; of the training images a fiftieth is held out.
"""
