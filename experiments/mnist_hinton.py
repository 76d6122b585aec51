"""MNIST: a large regularised net teaches a small unregularised one at temperature 20.

Paper: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531, section 3: teacher 2 x 1200 with dropout, weight constraints and
jitter of two pixels, 67 test errors; student 2 x 800 without any of it, 146 alone and 74 distilled.
Data: MNIST by tensorflow-datasets (60,000 images of 28x28)
Cost: about 20 minutes a seed on two CPU cores (from the speed of two epochs of each stage)
Command: python run.py run mnist_hinton
Result: not run to the end yet.

The paper gives neither optimizer nor length of training; those here are ours. The student sees the
images as they are: what it learns of shifted digits, it learns from the teacher.
"""

import dataclasses

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim

SGD = Optim(learning_rate=0.1, momentum=0.9)

CONFIG = Experiment(
    name="mnist_hinton",
    data=Data(name="mnist"),
    teacher=MLP(widths=(1200, 1200), dropout=0.5, input_dropout=0.2),
    student=MLP(widths=(800, 800)),
    stages={
        "train": Train(
            model="teacher",
            epochs=100,
            optim=dataclasses.replace(SGD, max_norm=3.5),
            augment=Augment(shift=2),
        ),
        "alone": Train(epochs=60, optim=SGD),
        "distill": Distill(
            epochs=60,
            optim=SGD,
            teacher="train",
            hard_weight=0.1,
            terms={"kd": KD(temperature=20.0, weight=0.9)},
        ),
    },
    together=False,
)
