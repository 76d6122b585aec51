"""Handwritten digits: a teacher assistant between teacher and student, and born-again students.

The student (one layer of 12) learns from 180 images in four ways: alone from their labels;
from the teacher (two layers of 512); from an assistant (one layer of 48) that has learned from the
teacher; and as the first two generations of its own kind, each taught by the one before it. An
assistant's stage is one like any other: longer chains are further stages that name one another.

Paper: Mirzadeh et al., "Improved Knowledge Distillation via Teacher Assistant", 2020,
https://arxiv.org/abs/1902.03393; Furlanello et al., "Born-Again Neural Networks", 2018,
https://arxiv.org/abs/1805.04770.
Data: 1,797 images of 8x8 that come with scikit-learn, no download
Cost: about a minute on two CPU cores
Command: python run.py run digits_assistant
Result: test accuracy, mean ± standard deviation of seeds 0 to 4: teacher 98.24 ± 0.23 %, assistant
95.11 ± 1.06 %; student alone 89.11 ± 1.99 %, distilled 92.57 ± 0.62 %, distilled by the assistant
92.72 ± 0.67 %; generations 1 and 2 89.18 ± 1.95 % and 89.08 ± 1.97 %. A larger teacher helps; here
neither the assistant nor the generations add anything beyond the noise. AMD EPYC, 2 cores, Python
3.13.0, jax 0.12.0.1.

Temperature and weights are those of the digits experiment; generations have T = 1, labels and
teacher alike. Learning rate and weight decay were tried at four points on images held out of the
training images. Other than in the papers, all students of a seed begin with the same values, so
that they differ in nothing but their teachers.
"""

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim

FEW = {
    "epochs": 200,
    "batch": 32,
    "fraction": 0.2,
    "optim": Optim(learning_rate=0.05, weight_decay=1e-3),
    "augment": Augment(mixup=1.0),
    "evaluate_every": 5,
}
SOFT = {"hard_weight": 0.1, "terms": {"kd": KD(temperature=2.0, weight=0.9)}}
BORN_AGAIN = {"hard_weight": 1.0, "terms": {"kd": KD(temperature=1.0, weight=1.0)}}

CONFIG = Experiment(
    name="digits_assistant",
    data=Data(name="digits"),
    teacher=MLP(widths=(512, 512), dropout=0.3),
    assistant=MLP(widths=(48,)),
    student=MLP(widths=(12,)),
    stages={
        "train": Train(
            model="teacher",
            epochs=100,
            batch=64,
            optim=Optim(learning_rate=0.1, weight_decay=1e-4),
            augment=Augment(shift=1),
            evaluate_every=5,
        ),
        "alone": Train(**FEW),
        "direct": Distill(teacher="train", **FEW, **SOFT),
        "assist": Distill(model="assistant", teacher="train", **FEW, **SOFT),
        "distill": Distill(teacher="assist", **FEW, **SOFT),
        "again": Distill(teacher="alone", **FEW, **BORN_AGAIN),
        "and_again": Distill(teacher="again", **FEW, **BORN_AGAIN),
    },
    seeds=5,
)
