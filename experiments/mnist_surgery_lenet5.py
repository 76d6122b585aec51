"""MNIST: dynamic network surgery of LeNet-5 while a wider network teaches it.

By labels alone (mnist_papers_lenet5) surgery leaves LeNet-5 a little worse than the dense network.
Here the outputs of a network of twice the width, which was shown shifted digits, stand beside the
labels, and the factors leave each layer about what pruning all layers together leaves it: more of
the convolutions and of the last layer, less of the first dense one. Surgery needs much weight
decay, which keeps what is masked from coming back; what is left then learns on with little.

Paper: Guo, Yao, Chen, "Dynamic Network Surgery for Efficient DNNs", 2016,
https://arxiv.org/abs/1608.04493; taught as by Hinton, Vinyals, Dean, "Distilling the Knowledge in a
Neural Network", 2015, https://arxiv.org/abs/1503.02531.
Data: MNIST by tensorflow-datasets (60,000 images of 28x28)
Cost: 2 h 16 min for three seeds on one CPU core that had other work
Command: python run.py reproduce mnist_surgery_lenet5
Result: docs/results.md. The dense network makes 0.77 ± 0.02 % errors; with 111 ± 2 times fewer
parameters, where the paper has 108, 0.62 ± 0.03 %: 0.15 ± 0.01 less, each seed with fewer. Before
it learns on, 98.93 to 99.10 % of the validation examples are right, as of the dense network (98.93
to 99.13); after, 99.03 to 99.23 %. Learning on by labels alone, after surgery by labels alone, it
got worse (98.97 to 98.83 %, one seed).
"""

import dataclasses

from experiments.mnist_papers_300_100 import COMMON, GUO, SOFT, cut
from experiments.mnist_papers_lenet5 import CONFIG as PAPERS
from kd_jax.config import Distill, Experiment, Prune
from kd_jax.optim import Optim
from kd_jax.prune import DNS
from kd_jax.published import Figure

CONFIG = Experiment(
    name="mnist_surgery_lenet5",
    data=PAPERS.data,
    teacher=PAPERS.teacher,
    student=PAPERS.student,
    stages={
        "train": PAPERS.stages["train"],
        "large": dataclasses.replace(PAPERS.stages["large"], epochs=12),
        "dns": Prune(
            start="train",
            allocation="std",
            threshold=6.5,
            thresholds=("conv1=0.5", "conv2=3.25", "classifier=0.5"),
            schedule=DNS(),
            epochs=50,
            optim=Optim(learning_rate=0.01, weight_decay=0.006, warmup=400),
            **SOFT,
            **COMMON,
        ),
        "tuned": Distill(
            start="dns",
            epochs=10,
            optim=Optim(learning_rate=0.01, weight_decay=1e-5),
            **SOFT,
            **COMMON,
        ),
    },
    compare=("train",),
    seeds=3,
    together=False,
)

PUBLISHED = (
    Figure(what="dense", stage="train", measure="error", published=0.91, source=GUO),
    *cut("surgery, taught", "tuned", (108.0, 0.91, 0.0), GUO),
)
REMARK = """
The paper's surgery has no teacher: mnist_papers_lenet5 has that. Biases are left alone, of which
the paper prunes some. Of the training images a twentieth is held out, by whose accuracy factors,
rates, weight decay and epochs were chosen, from a handful. The machine had other work
while it trained.
"""
