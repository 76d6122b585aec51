"""CIFAR-10 in minutes on one accelerator: VGG-16 loses weights, or channels.

A VGG-16 learns by the recipe of cifar10_fast. Then 90, 95 and 98 % of its weights go, over the
first half of a retraining with the dense network as teacher; or its channels, until a half, a
quarter, a tenth of its multiply-adds is left, for good, and what is left retrains in the same way.

Paper: Li, Kadav, Durdanovic, Samet, Graf, "Pruning Filters for Efficient ConvNets", 2017,
https://arxiv.org/abs/1608.08710 (VGG-16 on CIFAR-10: 93.25 % dense, 93.40 % with 66 % of the
multiply-adds and 36 % of the parameters); Zhu, Gupta, "To prune, or not to prune", 2017,
https://arxiv.org/abs/1710.01878 (the schedule of the weights).
Data: CIFAR-10 by tensorflow-datasets (50,000 images of 32x32)
Cost: on one H100 about three minutes a seed (from the speed of single stages)
Command: python run.py run cifar10_fast_vgg
Result: of three stages (--only prune_90 prune_95), seeds 0 to 2, on one H100 (jax 0.11.2), and on
images that were encoded anew as JPEG of quality 75, so that no published number compares: test
accuracy dense 87.57 ± 0.12 %, of a tenth of the weights 87.58 ± 0.10 %, of a twentieth
87.58 ± 0.17 %.
Of channels there is a short run alone, on one CPU core that was shared (56 minutes, seed 0, 2,000
of these images to train, 500 to test; jax 0.12.0.1), which is not trained to the end: in 90 steps
of 128 the training loss falls from 2.29 to 1.48, and the dense network names 40 % of the test
images; with half of the multiply-adds, 7.2 of 14.7 million parameters, after 45 more 37 %, with a
quarter, 3.5 million, 39 % (one core: 51 ms an image; 20, 9.5). By --seeds 1 --compute float32
--only half quarter --data.train-limit 2000 --data.test-limit 500 --latency-batch 16
--train.epochs 6 --train.batch 128 --train.optim.warmup 20 --train.optim.learning-rate 0.02
--half.epochs 3 --half.batch 128 --half.optim.warmup 5 --half.optim.learning-rate 0.01
--quarter.epochs 3 --quarter.batch 128 --quarter.optim.warmup 5 --quarter.optim.learning-rate 0.01.
"""

from typing import Any

from experiments.cifar10_fast import fast
from kd_jax.augment import Augment
from kd_jax.config import Experiment, Prune, Shrink, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models import MODELS
from kd_jax.prune import Cubic

LEARN: dict[str, Any] = {
    "batch": 512,
    "augment": Augment(crop=4, flip=True, cutout=8),
    "evaluate_every": 5,
}
RETRAIN: dict[str, Any] = LEARN | {
    "start": "train",
    "teacher": "train",
    "epochs": 15,
    "optim": fast(0.05, 100),
    "hard_weight": 0.1,
    "terms": {"kd": KD(temperature=4.0, weight=0.9)},
    "gradient_norms": False,
}


def smaller(retrain: dict[str, Any], multiple_of: int) -> dict[str, Train]:
    """The trained network in six smaller forms.

    Args:
      retrain: how what is left learns.
      multiple_of: channels that are kept come in such numbers.
    """
    schedule = Cubic(begin=0.0, end=0.5, every=50)
    masked: dict[str, Any] = retrain | {"allocation": "global", "schedule": schedule}
    cut: dict[str, Any] = retrain | {"multiple_of": multiple_of}
    return {
        "prune_90": Prune(sparsity=0.9, **masked),
        "prune_95": Prune(sparsity=0.95, **masked),
        "prune_98": Prune(sparsity=0.98, **masked),
        "half": Shrink(macs=0.5, **cut),
        "quarter": Shrink(macs=0.25, **cut),
        "tenth": Shrink(macs=0.1, **cut),
    }


CONFIG = Experiment(
    name="cifar10_fast_vgg",
    data=Data(name="cifar10"),
    student=MODELS["vgg16"],
    stages={
        "train": Train(epochs=24, optim=fast(0.1, 440), **LEARN),
        **smaller(RETRAIN, multiple_of=8),
    },
    compare=("train",),
    compute="bfloat16",
    together=False,
)
