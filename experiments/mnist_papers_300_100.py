"""MNIST: LeNet-300-100 as small as three papers made it, and then as small as it gets.

1. Han et al. 2015: 92, 91 and 74 % of the three layers' weights go in rounds of pruning and
retraining. 2. Han et al. 2016: those left share 32 values a layer (the paper: 64), which are
trained; as a file with entropy coding. 3. Guo et al. 2016: dynamic network surgery. 4. Beyond: a
network of wider layers teaches it by shifted digits, it loses weights in all layers together while
it is taught, and what is left shares few values, trained with the teacher at hand.

Paper: Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural
Networks", 2015, https://arxiv.org/abs/1506.02626; Han, Mao, Dally, "Deep Compression", 2016,
https://arxiv.org/abs/1510.00149; Guo, Yao, Chen, "Dynamic Network Surgery for Efficient DNNs",
2016, https://arxiv.org/abs/1608.04493.
Data: MNIST by tensorflow-datasets (60,000 images of 28x28)
Cost: 1 h 16 min for three seeds on two CPU cores that had other work
Command: python run.py reproduce mnist_papers_300_100
Result: docs/results.md. The dense network makes 1.57 ± 0.02 % errors. 12 times fewer parameters:
1.48 ± 0.05 %; as a file 40.7 times smaller: 1.48 ± 0.05 %; both fewer than the dense one, as in the
papers. By surgery 57.6 ± 0.6 times fewer at 1.76 ± 0.12 %, where the paper has 56 times at 1.99 %,
from a dense network of 2.28 %: so theirs gained, and ours lost 0.19 ± 0.11 %. Longer surgery did
not help: 150 epochs by --dns.threshold 7 --dns.thresholds dense2=3.5 classifier=1 lost 0.22 ± 0.14
% at 59 times, 300 epochs made no more validation examples right, nor did less weight decay with
masked weights that come back later (--dns.schedule.high 1.3, 1.5 or 2; three seeds each). What is
left of it gains when it learns on from shifted digits: mnist_surgery_300_100. All together: a file
153 times smaller at 1.51 ± 0.11 %, no more than the dense network.
"""

from typing import Any

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Prune, Quantize, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models import MODELS
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.prune import DNS, Cubic, Iterative
from kd_jax.published import Figure

COMMON: dict[str, Any] = {"batch": 128, "evaluate_every": 5}
DENSE = Optim(learning_rate=0.05, weight_decay=5e-4)
LESS = Optim(learning_rate=0.1, weight_decay=1e-3)
SHARED = Optim(learning_rate=0.002)
JITTER = Augment(shift=2)
SOFT: dict[str, Any] = {
    "teacher": "large",
    "hard_weight": 0.1,
    "terms": {"kd": KD(temperature=4.0, weight=0.9)},
    "gradient_norms": False,
}

CONFIG = Experiment(
    name="mnist_papers_300_100",
    data=Data(name="mnist", validation=0.05),
    teacher=MLP(widths=(1200, 1200), dropout=0.25),
    student=MODELS["lenet_300_100"],
    stages={
        "train": Train(epochs=30, optim=DENSE, **COMMON),
        "han": Prune(
            start="train",
            amounts=("dense1=0.92", "dense2=0.91", "classifier=0.74"),
            schedule=Iterative(rounds=5),
            epochs=60,
            optim=LESS,
            **COMMON,
        ),
        "deep": Quantize(start="han", values="codebook", bits=5, epochs=10, optim=SHARED, **COMMON),
        "dns": Prune(
            start="train",
            allocation="std",
            threshold=7.5,
            thresholds=("dense2=3", "classifier=1"),
            schedule=DNS(),
            epochs=46,
            optim=Optim(learning_rate=0.03, weight_decay=1e-3),
            **COMMON,
        ),
        "large": Train(
            model="teacher",
            epochs=40,
            optim=Optim(learning_rate=0.03, max_norm=3.5),
            augment=JITTER,
            **COMMON,
        ),
        "taught": Distill(epochs=40, optim=DENSE, augment=JITTER, **SOFT, **COMMON),
        "least": Prune(
            start="taught",
            sparsity=0.986,
            allocation="global",
            schedule=Cubic(begin=0.0, end=0.6, every=100),
            epochs=60,
            optim=Optim(learning_rate=0.02, weight_decay=1e-5),
            **SOFT,
            **COMMON,
        ),
        "least_shared": Quantize(
            start="least", values="codebook", bits=4, epochs=10, optim=SHARED, **SOFT, **COMMON
        ),
    },
    compare=("train",),
    seeds=3,
)

GUO = "Guo 2016, table 1"
Numbers = tuple[float, ...]


def cut(what: str, stage: str, numbers: Numbers, source: str) -> tuple[Figure, ...]:
    """What a paper reports of a pruned network: times fewer parameters, error in per cent, and by
    how much that is over the dense one's, which is to be no more than it."""
    of: dict[str, Any] = {"stage": stage, "source": source}
    fewer, error, over = numbers
    return (
        Figure(what=what, measure="fewer", published=fewer, **of),
        Figure(what=what, measure="error", published=error, **of),
        Figure(
            what=f"{what}, over dense",
            measure="error",
            published=over,
            against="train",
            bar=(None, 0.0),
            **of,
        ),
    )


def figures(dense: float, han: Numbers, deep: Numbers, surgery: Numbers) -> tuple[Figure, ...]:
    """What the three papers report of a network: the dense one's error; those of the pruned one;
    (times smaller, error); and those of surgery. Errors in per cent. And ours of all together."""
    of_han, of_deep = "Han 2015, table 1", "Han 2016, table 1"
    smaller: dict[str, Any] = {"what": "deep compression", "stage": "deep", "source": of_deep}
    ours: dict[str, Any] = {"what": "all together", "stage": "least_shared"}
    return (
        Figure(what="dense", stage="train", measure="error", published=dense, source=of_han),
        *cut("pruned", "han", han, of_han),
        Figure(measure="smaller", published=deep[0], **smaller),
        Figure(measure="error", published=deep[1], **smaller),
        *cut("surgery", "dns", surgery, GUO),
        Figure(measure="smaller", **ours),
        Figure(measure="fewer", **ours),
        Figure(measure="error", **ours),
        Figure(
            what="all together, over dense",
            stage="least_shared",
            measure="error",
            against="train",
        ),
    )


PUBLISHED = figures(1.64, (12.0, 1.59, -0.05), (40.0, 1.58), (56.0, 1.99, -0.29))
REMARK = """
Rates, weight decay, the factors of surgery and the last sparsity were chosen by the validation
accuracy of one seed, from a handful each. Of the training images a twentieth is held out. Surgery
leaves biases alone, of which the paper prunes some; the network that its authors gave away has 53.5
times fewer parameters, where the paper says 56. The machine had other work while it trained.
"""
