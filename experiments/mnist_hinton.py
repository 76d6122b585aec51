"""MNIST: a large regularised net teaches a small unregularised one at temperature 20.

Paper: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531, section 3: teacher 2 x 1200 with dropout, weight constraints and
jitter of two pixels, 67 test errors; student 2 x 800 without any of it, 146 alone and 74 distilled.
Distilled without any 3, 206 errors, 133 of them on the 1,010 threes; once the bias of the 3 is
raised by 3.5, 109, 14 of them on threes. Distilled on 7s and 8s alone, 47.3 % errors; once the
biases of both are lowered by 7.6, 13.2 %.
Data: MNIST by tensorflow-datasets (60,000 images of 28x28)
Cost: 4 h 26 min for five seeds on one CPU core of a machine that had other work
Command: python run.py reproduce mnist_hinton
Result: docs/results.md. The teacher makes 73 ± 3 errors, the student alone 146 ± 10, distilled
84 ± 2: of the errors that a teacher can spare it, 85 %, where the paper has 91 %. Without any 3 it
makes 138 ± 8 errors, 62 of them on threes, and 110 ± 7 once the bias is raised; of 7s and 8s alone
it learns to make 24 ± 2 %, and 7.6 ± 0.9 % once their biases are lowered.

The paper gives neither optimizer, nor length of training, nor the share that dropout drops; those
here are ours. A half, as was usual then, needs many times the epochs to come as far: after twenty
of them a quarter gave 98.9 % of the validation examples, a half 98.1 %. The student sees the
images as they are: what it learns of shifted digits, it learns from the teacher. Labels weigh as
much as the teacher where all digits are there: by the validation examples of two seeds 99.0 %, with
a tenth of the weight 98.8 %, with three tenths 99.0, with four fifths 98.9; Adam, clipped gradients
with a higher rate, and averaged weights made none of them better (98.7 to 98.9). The paper chose by
how much biases are shifted on the test set; here it is what makes the most validation examples
right, among which every digit has its share.
"""

import dataclasses
from typing import Any

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Shift, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.published import Figure

# At a temperature of 20 the gradient is that of squared errors of logits: steps must be smaller.
SOFT = Optim(learning_rate=0.05, momentum=0.9, warmup=400)
SOFTER = dataclasses.replace(SOFT, learning_rate=0.02)  # two digits alone diverge above it
# Labels weigh little where digits are left out: they say that those never come.
DISTILL = Distill(
    epochs=40,
    evaluate_every=10,
    optim=SOFT,
    teacher="train",
    hard_weight=0.1,
    terms={"kd": KD(temperature=20.0, weight=0.9)},
    gradient_norms=False,
)

CONFIG = Experiment(
    name="mnist_hinton",
    data=Data(name="mnist", validation=0.05),
    teacher=MLP(widths=(1200, 1200), dropout=0.25),
    student=MLP(widths=(800, 800)),
    stages={
        "train": Train(
            model="teacher",
            epochs=80,
            evaluate_every=10,
            optim=Optim(learning_rate=0.03, momentum=0.9, max_norm=3.5),
            augment=Augment(shift=2),
        ),
        "alone": Train(epochs=30, evaluate_every=10, optim=Optim(learning_rate=0.1, momentum=0.9)),
        "distill": dataclasses.replace(
            DISTILL, hard_weight=0.5, terms={"kd": KD(temperature=20.0, weight=0.5)}
        ),
        "without_3": dataclasses.replace(DISTILL, labels=(0, 1, 2, 4, 5, 6, 7, 8, 9)),
        "without_3_shifted": Shift(start="without_3", classes=(3,)),
        "only_7_8": dataclasses.replace(DISTILL, labels=(7, 8), optim=SOFTER),
        "only_7_8_shifted": Shift(start="only_7_8", classes=(7, 8)),
    },
    seeds=5,
    together=False,
)

ON_3S: dict[str, Any] = {"measure": "class_errors", "classes": (3,)}
FIGURES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("teacher", "train", {"measure": "errors", "published": 67, "bar": (None, 80)}),
    ("student alone", "alone", {"measure": "errors", "published": 146, "bar": (120, 170)}),
    ("student distilled", "distill", {"measure": "errors", "published": 74, "bar": (None, 85)}),
    ("distilled without 3s", "without_3", {"measure": "errors", "published": 206}),
    ("distilled without 3s, on 3s", "without_3", ON_3S | {"published": 133}),
    ("..., its bias raised", "without_3_shifted", {"measure": "errors", "published": 109}),
    ("..., its bias raised, on 3s", "without_3_shifted", ON_3S | {"published": 14}),
    ("distilled on 7s and 8s alone", "only_7_8", {"measure": "error", "published": 47.3}),
    ("..., their biases lowered", "only_7_8_shifted", {"measure": "error", "published": 13.2}),
)
PUBLISHED = tuple(
    Figure(what=what, stage=stage, source="Hinton et al. 2015, section 3", **fields)
    for what, stage, fields in FIGURES
)
REMARK = """
The paper gives neither optimizer nor length of training, and chose the shift of biases on the test
set; here it is chosen on validation examples, which are held out of the training images. The
machine had other work while it trained.
"""
