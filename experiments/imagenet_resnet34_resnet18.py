"""ImageNet: ResNet-34 teaches ResNet-18, by four methods with their published settings.

Paper: Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020,
https://arxiv.org/abs/1910.10699 (the pair and its recipe of 100 epochs); Zhao et al., "Decoupled
Knowledge Distillation", 2022, https://arxiv.org/abs/2203.08679; Huang et al., "Knowledge
Distillation from A Stronger Teacher", 2022, https://arxiv.org/abs/2205.10536; Yang et al., "From
Knowledge Distillation to Self-Knowledge Distillation", 2023, https://arxiv.org/abs/2303.13005.
Data: ImageNet (ILSVRC 2012) by tensorflow-datasets, which is streamed
Cost: a teacher and five students of 100 epochs of 1.28 million images: for accelerators
Command: python run.py reproduce imagenet_resnet34_resnet18
Result: not run to the end.

Other than in the papers, images are cut at their centre and moved by up to 28 pixels; theirs are
windows of random size and shape. The teacher may begin as torchvision's, --train.weights FILE.
"""

from typing import Any

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Train
from kd_jax.datasets import Data
from kd_jax.distill import DIST, DKD, KD, NKD, Term
from kd_jax.models import MODELS
from kd_jax.optim import Optim
from kd_jax.published import Figure

LEARN: dict[str, Any] = {
    "epochs": 100,
    "batch": 256,
    "optim": Optim(
        learning_rate=0.1, weight_decay=1e-4, schedule="step", milestones=(0.3, 0.6, 0.9)
    ),
    "augment": Augment(crop=28, flip=True),
}
METHODS: dict[str, tuple[float, Term]] = {
    "kd": (0.5, KD(temperature=1.0, weight=0.5)),
    "dkd": (1.0, DKD(alpha=0.5, beta=0.5, temperature=1.0, warmup=1.0)),
    "dist": (1.0, DIST(weight=2.0, temperature=1.0)),
    "nkd": (1.0, NKD(gamma=1.5, temperature=1.0)),
}

CONFIG = Experiment(
    name="imagenet_resnet34_resnet18",
    data=Data(name="imagenet2012", image_size=224, validation=0.01),
    teacher=MODELS["resnet34_imagenet"],
    student=MODELS["resnet18_imagenet"],
    stages={
        "train": Train(model="teacher", **LEARN),
        "alone": Train(**LEARN),
        **{
            name: Distill(
                teacher="train",
                hard_weight=hard,
                terms={name: term},
                gradient_norms=False,
                **LEARN,
            )
            for name, (hard, term) in METHODS.items()
        },
    },
    compare=("alone", "kd"),
    compute="bfloat16",
    together=False,
    seeds=1,
)

NUMBERS = {
    "train": ("teacher", 73.31, "Zhao et al. 2022 (README of mdistiller)"),
    "alone": ("student alone", 69.75, "Zhao et al. 2022 (README of mdistiller)"),
    "kd": ("student distilled, kd", 70.66, "Zhao et al. 2022 (mdistiller's README: 71.03)"),
    "dkd": ("student distilled, dkd", 71.70, "Zhao et al. 2022 (README of mdistiller)"),
    "dist": ("student distilled, dist", 72.07, "Huang et al. 2022 (README of dist_kd)"),
    "nkd": ("student distilled, nkd", 71.96, "Yang et al. 2023 (README of cls_KD)"),
}
PUBLISHED = tuple(
    Figure(what=what, stage=stage, measure="accuracy", published=number, source=source)
    for stage, (what, number, source) in NUMBERS.items()
)
REMARK = """
Each paper has a student of its own: that of NKD has 69.90 % alone.
"""
