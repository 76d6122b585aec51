"""CIFAR-10: VGG-16 loses nine tenths of its weights in five rounds of pruning and retraining.

1. take a trained VGG-16; 2. choose what to prune (weights by magnitude here); 3. remove; 4. retrain
from the weights that are left; 5. evaluate; and again, --prune.schedule.rounds times.

Paper: Han, Pool, Tran, Dally, "Learning both Weights and Connections for Efficient Neural
Networks", 2015, https://arxiv.org/abs/1506.02626 (VGG-16 on ImageNet, 13x fewer weights). The
regulariser that adds the weights' sizes and the count of small ones is --prune.penalty l1_count.
Data: CIFAR-10 by tensorflow-datasets (50,000 images of 32x32)
Cost: for accelerators; by a roofline at least a minute for three seeds on four TPU v5e chips
Command: python run.py run cifar10_vgg16_prune
Result: not trained to the end here. Of a tenth of its epochs, --seeds 1 --train.epochs 16
--prune.epochs 10, on images encoded anew as JPEG, so that nothing compares (three minutes on one
H200 that had other work, jax 0.11.2): in 5,616 steps the training loss falls from 2.39
(mean of the first epoch) to 0.30, and 85.0 % of the test images are named right; 90 % of the
weights go in five rounds of 702 steps, after which it is 83.9 %.
"""

from kd_jax.augment import Augment
from kd_jax.config import Experiment, Prune, Train
from kd_jax.datasets import Data
from kd_jax.models import MODELS
from kd_jax.optim import Optim
from kd_jax.prune import Iterative

CROP_AND_FLIP = Augment(crop=4, flip=True)

CONFIG = Experiment(
    name="cifar10_vgg16_prune",
    data=Data(name="cifar10"),
    student=MODELS["vgg16"],
    stages={
        "train": Train(
            epochs=160,
            optim=Optim(learning_rate=0.05, weight_decay=5e-4),
            augment=CROP_AND_FLIP,
        ),
        "prune": Prune(
            epochs=100,
            optim=Optim(learning_rate=0.01, weight_decay=5e-4, schedule="constant"),
            augment=CROP_AND_FLIP,
            start="train",
            sparsity=0.9,
            allocation="global",
            schedule=Iterative(rounds=5, shape="geometric"),
        ),
    },
    together=False,
)
