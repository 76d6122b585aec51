"""Handwritten digits: small networks are fused into one, in every way there is, and distilled back.

A teacher of two layers teaches students of one layer on a fifth of the images, 180; one of them is
wider, one is pruned to half of its weights, and one learned alone. Ensembles of these four mean
their logits, or their probabilities with equal shares and with shares fitted on 100 validation
images, or vote. The pruned network retrains in three ways, and the three make a soup, uniform and
greedy, which has its masks and its size. One student averages its own last epochs (SWA), and one
ensemble is of the three seeds of a student. Two students then learn from an ensemble, as the others
did from the teacher: what of it goes back into one network.

Paper: Wortsman et al., "Model soups", 2022, https://arxiv.org/abs/2203.05482; Zimmer et al.,
"Sparse Model Soups", 2023, https://arxiv.org/abs/2306.16788; Izmailov et al., "Averaging Weights
Leads to Wider Optima and Better Generalization", 2018, https://arxiv.org/abs/1803.05407
Data: 1,797 images of 8x8 that come with scikit-learn, no download
Cost: three minutes on two CPU cores that had other work too
Command: python run.py run digits_fuse
Result: docs/digits_fuse/table.md. Test accuracy, mean ± standard deviation of seeds 0 to 2:
distilled student 95.40 ± 0.57 %; ensembles of four, by logits 95.32 ± 0.19, by probabilities 95.52
± 0.19, with fitted shares 95.82 ± 0.07, by votes 95.57 ± 0.38; of three seeds 95.48; both soups
95.32 ± 0.52 (the greedy one takes in all three networks); SWA 95.40 ± 0.57. All this is within the
noise. What an ensemble gains is likelihood: 0.127 ± 0.005 nats of the student become 0.117 ± 0.008
with fitted shares, and 0.107 of three seeds. By equal shares of probabilities it loses, 0.173 ±
0.006, as the student that learned alone is far too unsure, and by votes, 0.220 ± 0.024. A student
of the ensemble of three seeds comes to 95.36 ± 0.33 %, one of the ensemble of four to 94.23 ± 0.50
%: no better than one of the teacher itself.

Nothing was tuned: the settings are those of `digits`. The wider student took the place of one of
two layers after a first run, in which that had not learned with one of the seeds.
"""

from typing import Any

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Fuse, Prune, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim

FEW: dict[str, Any] = {
    "epochs": 200,
    "batch": 32,
    "fraction": 0.2,
    "augment": Augment(mixup=1.0),
    "evaluate_every": 10,
}
FOUR: dict[str, Any] = {"of": ("alone", "distill", "other", "prune")}
THREE: dict[str, Any] = {"of": ("retrain_slow", "retrain_fast", "retrain_soft")}


def optim(rate: float) -> Optim:
    return Optim(learning_rate=rate, weight_decay=1e-4)


def taught(rate: float = 0.1, temperature: float = 2.0, by: str = "train") -> dict[str, Any]:
    """What all students have in common that a teacher teaches."""
    soft = {"hard_weight": 0.1, "terms": {"kd": KD(temperature=temperature, weight=0.9)}}
    return {"teacher": by, "optim": optim(rate), **soft, **FEW}


CONFIG = Experiment(
    name="digits_fuse",
    data=Data(name="digits"),
    teacher=MLP(widths=(512, 512), dropout=0.3),
    assistant=MLP(widths=(48,)),
    student=MLP(widths=(32,)),
    stages={
        "train": Train(
            model="teacher",
            epochs=100,
            batch=64,
            optim=optim(0.1),
            augment=Augment(shift=1),
            evaluate_every=10,
        ),
        "alone": Train(
            optim=Optim(learning_rate=0.2, weight_decay=1e-2), label_smoothing=0.1, **FEW
        ),
        "distill": Distill(**taught()),
        "averaged": Distill(swa=0.75, **taught()),
        "other": Distill(model="assistant", **taught()),
        "prune": Prune(start="distill", sparsity=0.5, **taught(rate=0.05)),
        "retrain_slow": Distill(start="prune", **taught(rate=0.02)),
        "retrain_fast": Distill(start="prune", **taught()),
        "retrain_soft": Distill(start="prune", **taught(temperature=4.0)),
        "logits": Fuse(how="logits", **FOUR),
        "probabilities": Fuse(how="probabilities", **FOUR),
        "fitted": Fuse(how="probabilities", fit_shares=True, **FOUR),
        "vote": Fuse(how="vote", **FOUR),
        "every_seed": Fuse(of=("distill",), across="seeds"),
        "soup": Fuse(how="soup", **THREE),
        "greedy": Fuse(how="greedy_soup", **THREE),
        "back": Distill(**taught(by="probabilities")),
        "back_every": Distill(**taught(by="every_seed")),
    },
    compare=("distill",),
    seeds=3,
)
