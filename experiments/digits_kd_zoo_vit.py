"""Handwritten digits: what one vision Transformer can learn of another, with equal budgets.

Three blocks of width 64 teach three blocks of width 24, which are shown 180 of the 900 images,
shifted by up to a pixel. Images are cut into 16 patches of 2x2.

Paper: Jiao et al., "TinyBERT", 2020, https://arxiv.org/abs/1909.10351; Wang et al., "MiniLM", 2020,
https://arxiv.org/abs/2002.10957; Touvron et al., "Training data-efficient image transformers &
distillation through attention", 2021, https://arxiv.org/abs/2012.12877.
Data: 1,797 images of 8x8 that come with scikit-learn, no download
Cost: about two minutes on two CPU cores
Command: python run.py run digits_kd_zoo_vit
Result: docs/digits_kd_zoo_vit/table.md. Test accuracy, mean ± standard deviation of seeds 0 to 2:
teacher 83.98 ± 1.01 %, student alone 36.09 ± 5.03 %, KD 47.43 ± 6.86 %, MiniLM 58.30 ± 3.73 %,
TinyBERT 66.96 ± 1.76 %. None is trained to the end: it shows who learns faster, with few steps.

TinyBERT and MiniLM stand beside hard labels here, and TinyBERT's three parts act at once; they were
published for pre-training without labels and in two steps. No weight is tuned.
"""

from typing import Any

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Train
from kd_jax.datasets import Data
from kd_jax.distill import (
    DKD,
    KD,
    DeiTHard,
    DeiTSoft,
    MiniLM,
    SoftCrossEntropy,
    Term,
    TinyBERTAttention,
    TinyBERTHidden,
)
from kd_jax.models.vit import ViT
from kd_jax.optim import Optim

LEARN: dict[str, Any] = {
    "batch": 32,
    "optim": Optim(name="adamw", learning_rate=1e-3, weight_decay=0.05, warmup=20),
    "augment": Augment(shift=1),
    "evaluate_every": 10,
}
SHAPE: dict[str, Any] = {"patch": 2, "depth": 3, "heads": 4, "mlp_ratio": 2.0}


def learn(hard_weight: float, **terms: Term) -> Distill:
    return Distill(epochs=150, fraction=0.2, hard_weight=hard_weight, terms=terms, **LEARN)


CONFIG = Experiment(
    name="digits_kd_zoo_vit",
    data=Data(name="digits"),
    teacher=ViT(width=64, **SHAPE),
    student=ViT(width=24, **SHAPE),
    stages={
        "train": Train(model="teacher", epochs=60, **LEARN),
        "alone": Train(epochs=150, fraction=0.2, **LEARN),
        "kd": learn(0.1, kd=KD(weight=0.9, temperature=4.0)),
        "dkd": learn(1.0, dkd=DKD(beta=2.0)),
        "deit_hard": learn(0.5, deit_hard=DeiTHard(weight=0.5)),
        "deit_soft": learn(0.9, deit_soft=DeiTSoft(weight=0.1, temperature=3.0)),
        "minilm": learn(1.0, minilm=MiniLM()),
        "tinybert": learn(
            1.0,
            tinybert_hidden=TinyBERTHidden(),
            tinybert_attention=TinyBERTAttention(),
            soft_cross_entropy=SoftCrossEntropy(),
        ),
        "minilm_kd": learn(0.1, minilm=MiniLM(), kd=KD(weight=0.9, temperature=4.0)),
    },
    compare=("alone", "kd"),
    seeds=3,
)
