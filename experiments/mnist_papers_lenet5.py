"""MNIST: LeNet-5 as small as three papers made it, and then as small as it gets.

As mnist_papers_300_100, of Caffe's LeNet-5: two convolutions and two dense layers, of which 34, 88,
92 and 81 % of the weights go; the convolutions share 256 values, the dense layers 32.

Paper: Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural
Networks", 2015, https://arxiv.org/abs/1506.02626; Han, Mao, Dally, "Deep Compression", 2016,
https://arxiv.org/abs/1510.00149; Guo, Yao, Chen, "Dynamic Network Surgery for Efficient DNNs",
2016, https://arxiv.org/abs/1608.04493.
Data: MNIST by tensorflow-datasets (60,000 images of 28x28)
Cost: an hour a seed on two CPU cores (from the speed of single steps)
Command: python run.py reproduce mnist_papers_lenet5
Result: not run to the end yet.
"""

from experiments.mnist_papers_300_100 import COMMON, JITTER, SOFT, figures
from kd_jax.config import Distill, Experiment, Prune, Quantize, Train
from kd_jax.datasets import Data
from kd_jax.models import MODELS
from kd_jax.models.lenet import LeNet
from kd_jax.optim import Optim
from kd_jax.prune import DNS, Cubic, Iterative

DENSE = Optim(learning_rate=0.02, weight_decay=5e-4)
LESS = Optim(learning_rate=0.002, weight_decay=1e-4)
SHARED = Optim(learning_rate=0.0005)
CONFIG = Experiment(
    name="mnist_papers_lenet5",
    data=Data(name="mnist"),
    teacher=LeNet(width=2.0, conv_relu=True),
    student=MODELS["lenet5"],
    stages={
        "train": Train(epochs=20, optim=DENSE, **COMMON),
        "han": Prune(
            start="train",
            amounts=("conv1=0.34", "conv2=0.88", "dense1=0.92", "classifier=0.81"),
            schedule=Iterative(rounds=5),
            epochs=25,
            optim=LESS,
            **COMMON,
        ),
        "deep": Quantize(
            start="han",
            values="codebook",
            bits=5,
            layer_bits=("conv=8",),
            epochs=6,
            optim=SHARED,
            **COMMON,
        ),
        "dns": Prune(
            start="train",
            allocation="std",
            threshold=1.0,
            schedule=DNS(),
            epochs=30,
            optim=LESS,
            **COMMON,
        ),
        "large": Train(model="teacher", epochs=20, optim=DENSE, augment=JITTER, **COMMON),
        "taught": Distill(epochs=20, optim=DENSE, augment=JITTER, **SOFT, **COMMON),
        "least": Prune(
            start="taught",
            sparsity=0.992,
            allocation="global",
            schedule=Cubic(begin=0.0, end=0.6, every=100),
            epochs=30,
            optim=Optim(learning_rate=0.01, weight_decay=1e-5),
            **SOFT,
            **COMMON,
        ),
        "least_shared": Quantize(
            start="least", values="codebook", bits=4, epochs=6, optim=SHARED, **SOFT, **COMMON
        ),
    },
    compare=("train",),
    seeds=3,
    together=False,
)

PUBLISHED = figures(0.80, (12.0, 0.77, -0.03), (39.0, 0.74), (108.0, 0.91, 0.0))
