"""MNIST: LeNet-5 sparse from the start, at 95 to 99 %, as LeNet-300-100 in mnist_sparse_300_100.

Paper: those of mnist_sparse_300_100.
Data: MNIST by tensorflow-datasets (60,000 images of 28x28)
Cost: six minutes of training for three seeds on one H100 that had other work
Command: python run.py reproduce mnist_sparse_lenet5
Result: docs/mnist_sparse_lenet5, three seeds, trained on one H100. At 99 % the lottery ticket has
98.65 ± 0.06 % of the dense network's 99.12, SynFlow 98.23 ± 0.08, GraSP, RigL and SNIP 96.8 to
97.0, and random masks 88.4 ± 2.1 % with an Erdos-Renyi share in each layer, else no more than a
guess.
"""

from typing import Any

from experiments.mnist_sparse_300_100 import figures, stages, swept
from kd_jax.config import Experiment
from kd_jax.datasets import Data
from kd_jax.models import MODELS
from kd_jax.optim import Optim

LEARN: dict[str, Any] = {
    "epochs": 5,
    "batch": 128,
    "evaluate_every": 5,
    "optim": Optim(learning_rate=0.02, weight_decay=5e-4),
}
STAGES = stages(LEARN, LEARN | {"optim": Optim(learning_rate=0.01, weight_decay=5e-4)})

CONFIG = Experiment(
    name="mnist_sparse_lenet5",
    data=Data(name="mnist", validation=0.05),
    student=MODELS["lenet5"],
    stages={**STAGES},
    sweep=swept(STAGES),
    compare=("train",),
    seeds=3,
    together=False,
)

PUBLISHED = figures(0.9, {"0.98": 0.8, "0.99": 1.1})
REMARK = """
Of the methods here only SNIP's paper has figures of this network, means of 20 runs. It trains with
a learning rate of 0.1, a tenth of that every 25,000 steps, in batches of 100; here all methods
train for 5 epochs at 0.02, and nothing is tuned for any of them.
"""
