"""MNIST: which temperature teaches a wide student best, and which a narrow one.

Paper: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
https://arxiv.org/abs/1503.02531, section 3: with 300 units or more in each of the two layers all
temperatures above 8 give fairly similar results; with 30 units those from 2.5 to 4 work
significantly better than higher or lower ones.
Data: MNIST by tensorflow-datasets (60,000 images of 28x28)
Cost: two and a half minutes for three seeds on one H200 that had other work; 28 minutes a seed on
one core of an EPYC, 22 of them the teacher's
Command: python run.py reproduce mnist_hinton_widths
Result: docs/mnist_hinton_widths, three seeds, on one H200, and as in the paper: 300 units learn
nearly alike from all temperatures of 8 and more (98 to 116 errors; 149 at 1), 30 units best from
2.5 and 4 (245 and 244; 287 at 1, 257 to 273 from 8 on).

The narrow student has the place of the assistant, which learns from the same teacher as the wide
one. All temperatures and seeds of a student train in one program.
"""

import dataclasses

from experiments.mnist_hinton import CONFIG as HINTON
from experiments.mnist_hinton import DISTILL
from kd_jax.models.mlp import MLP
from kd_jax.published import Figure

TEMPERATURES = ("1", "2.5", "4", "8", "12", "20")
WIDTHS = {"wide": 300, "narrow": 30}

CONFIG = dataclasses.replace(
    HINTON,
    name="mnist_hinton_widths",
    student=MLP(widths=(300, 300)),
    assistant=MLP(widths=(30, 30)),
    stages={
        "train": HINTON.stages["train"],
        "wide": dataclasses.replace(DISTILL, epochs=20),
        # Weighted with T^2, its steps are too large otherwise: at 12 and 20 all units died.
        "narrow": dataclasses.replace(
            DISTILL,
            epochs=20,
            model="assistant",
            optim=dataclasses.replace(DISTILL.optim, clip_norm=1.0),
        ),
    },
    sweep=tuple(f"{name}.temperature={','.join(TEMPERATURES)}" for name in WIDTHS),
    seeds=3,
    together=True,
)

PUBLISHED = tuple(
    Figure(
        what=f"{width} units a layer, T = {t}", stage=f"{name}/temperature={t}", measure="errors"
    )
    for name, width in WIDTHS.items()
    for t in TEMPERATURES
)
REMARK = """
The paper gives no numbers here: with 300 units or more all temperatures above 8 are similar, with
30 units 2.5 to 4 are best.
"""
