"""MNIST: LeNet-5 teaches a quarter-width LeNet-5, which is then pruned to a tenth of its weights.

Paper: Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural
Networks", 2015, https://arxiv.org/abs/1506.02626 (LeNet-5: 0.80 % error, 431 K parameters, 12x
fewer at 0.77 %); here distillation comes first.
Data: MNIST by tensorflow-datasets (60,000 images of 28x28)
Cost: about 5 minutes a seed on two CPU cores
Command: python run.py run mnist_lenet5
Result: seed 0 alone (--seeds 1), test accuracy: teacher 99.27 %; student alone 98.82 %, distilled
99.10 %, distilled and pruned 99.00 % with 2,839 weights left, 14.7 kB, 117 times smaller than the
teacher. AMD EPYC, 2 cores, Python 3.13.0, jax 0.12.0.1. Other than in the paper: the teacher sees
images shifted by up to two pixels, and what is pruned is a student of a sixteenth of its size.
"""

import dataclasses

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Prune, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD, LogitTerm
from kd_jax.models.lenet import LeNet
from kd_jax.optim import Optim
from kd_jax.prune import Cubic

SGD = Optim(learning_rate=0.02, weight_decay=5e-4)
SOFT: dict[str, LogitTerm] = {"kd": KD(temperature=4.0, weight=0.9)}

CONFIG = Experiment(
    name="mnist_lenet5",
    data=Data(name="mnist"),
    teacher=LeNet(),
    student=LeNet(width=0.25),
    stages={
        "train": Train(model="teacher", epochs=10, batch=128, optim=SGD, augment=Augment(shift=2)),
        "alone": Train(epochs=10, batch=128, optim=SGD),
        "distill": Distill(
            epochs=10,
            batch=128,
            optim=dataclasses.replace(SGD, learning_rate=0.01),
            teacher="train",
            terms=SOFT,
        ),
        "prune": Prune(
            epochs=10,
            batch=128,
            optim=dataclasses.replace(SGD, learning_rate=0.005),
            start="distill",
            teacher="train",
            hard_weight=0.1,
            terms=SOFT,
            sparsity=0.9,
            allocation="global",
            schedule=Cubic(begin=0.0, end=0.5, every=100),
        ),
    },
    seeds=3,
    together=False,
)
