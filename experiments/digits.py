"""Handwritten digits: teacher, student alone, student distilled, student distilled and pruned.

Data: 1,797 handwritten digits of scikit-learn, no download
Cost: under two minutes on two CPU cores
"""

from kd_jax.config import Distill, Experiment, Prune, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim

CONFIG = Experiment(
    name="digits",
    data=Data(name="digits"),
    teacher=MLP(widths=(256, 256)),
    student=MLP(widths=(16,)),
    stages={
        "train": Train(model="teacher", epochs=40, batch=64, optim=Optim(learning_rate=0.1)),
        "alone": Train(epochs=40, batch=64, optim=Optim(learning_rate=0.1)),
        "distill": Distill(
            epochs=40,
            batch=64,
            optim=Optim(learning_rate=0.1),
            teacher="train",
            terms={"kd": KD(temperature=4.0, weight=0.9)},
        ),
        "prune": Prune(
            epochs=40,
            batch=64,
            optim=Optim(learning_rate=0.05),
            start="distill",
            teacher="train",
            hard_weight=0.1,
            terms={"kd": KD(temperature=4.0, weight=0.9)},
            sparsity=0.5,
        ),
    },
)
