"""MNIST: LeNet-5 sparse from the start, at 95 to 99 %, as LeNet-300-100 in mnist_sparse_300_100.

Paper: those of mnist_sparse_300_100.
Data: MNIST by tensorflow-datasets (60,000 images of 28x28)
Cost: some hours for three seeds on two CPU cores (from the speed of single steps)
Command: python run.py run mnist_sparse_lenet5
Result: not run to the end yet.
"""

from typing import Any

from experiments.mnist_sparse_300_100 import stages, swept
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
