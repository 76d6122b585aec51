"""Handwritten digits: distilled, pruned and quantised, from a large teacher to one small file.

The teacher (two layers of 512, dropout, images shifted by up to a pixel) learns from 900 images.
The students (one layer of 32) are shown a fifth of them, 180 images, and mixtures of these: alone
with the labels, and anew with what the teacher says. The distilled one loses half of its weights
and is retrained with the teacher; what is left is put on grids of 4 bits, and retrained so. In the
end it is one file, which a fresh process reads and evaluates.

Paper: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531; mixtures after Beyer et al., "Knowledge distillation: A good
teacher is patient and consistent", 2022, https://arxiv.org/abs/2106.05237.
Data: 1,797 images of 8x8 that come with scikit-learn, no download
Cost: a minute on two CPU cores
Command: python run.py run digits
Result: in the README.

How it was chosen: each student's learning rate, weight decay, augmentation and label smoothing or
temperature by the mean accuracy of eight seeds on 300 images held out of the training images:
python docs/choose_digits.py, which writes docs/digits/choice.md. The best of the grid are here.
"""

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Prune, Quantize, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.prune import Cubic
from kd_jax.quantize import CALIBRATIONS

CONFIG = Experiment(
    name="digits",
    data=Data(name="digits"),
    teacher=MLP(widths=(512, 512), dropout=0.3),
    student=MLP(widths=(32,)),
    stages={
        "train": Train(
            model="teacher",
            epochs=100,
            batch=64,
            optim=Optim(learning_rate=0.1, weight_decay=1e-4),
            augment=Augment(shift=1),
            evaluate_every=5,
        ),
        "alone": Train(
            epochs=200,
            batch=32,
            fraction=0.2,
            optim=Optim(learning_rate=0.2, weight_decay=1e-2),
            augment=Augment(mixup=1.0),
            label_smoothing=0.1,
            evaluate_every=5,
        ),
        "distill": Distill(
            epochs=200,
            batch=32,
            fraction=0.2,
            optim=Optim(learning_rate=0.1, weight_decay=1e-4),
            augment=Augment(mixup=1.0),
            evaluate_every=5,
            teacher="train",
            hard_weight=0.1,
            terms={"kd": KD(temperature=2.0, weight=0.9)},
        ),
        "prune": Prune(
            epochs=200,
            batch=32,
            fraction=0.2,
            optim=Optim(learning_rate=0.05, weight_decay=1e-4),
            augment=Augment(mixup=1.0),
            evaluate_every=5,
            start="distill",
            teacher="train",
            hard_weight=0.1,
            terms={"kd": KD(temperature=2.0, weight=0.9)},
            sparsity=0.5,
            allocation="global",
            schedule=Cubic(begin=0.0, end=0.5, every=10),
        ),
        "quantise": Quantize(
            bits=4,
            weight_calibration=CALIBRATIONS["mse"],
            scales="learned",
            epochs=100,
            batch=32,
            fraction=0.2,
            optim=Optim(learning_rate=0.01, weight_decay=1e-4),
            augment=Augment(mixup=1.0),
            evaluate_every=5,
            start="prune",
            teacher="train",
            hard_weight=0.1,
            terms={"kd": KD(temperature=2.0, weight=0.9)},
        ),
    },
    deliver="quantise",
    seeds=5,
)
