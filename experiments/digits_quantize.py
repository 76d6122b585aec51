"""Handwritten digits: a residual network in 8, 4 and 2 bits, and by codebooks.

ResNet-8 learns from 900 images. It is then quantised as it is: weights in 8, 4 and 2 bits; weights
and inputs of layers in 8, and in 4 with five calibrations. The 2-bit weights, and the 4-bit weights
with inputs, are then trained to be so, with the float network as teacher, with scales as calibrated
and with scales that learn. Another finds which layers have 8, 4 or 2 bits for an eighth of the
bytes. And one is pruned to a fifth of its weights, which then share 32 values a layer, trained too.

Paper: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", 2018, https://arxiv.org/abs/1712.05877; Esser et al., "Learned
Step Size Quantization", 2020, https://arxiv.org/abs/1902.08153; Han et al., "Deep Compression",
2016, https://arxiv.org/abs/1510.00149 (codebooks).
Data: 1,797 images of 8x8 that come with scikit-learn, no download
Cost: six minutes on two CPU cores
Command: python run.py run digits_quantize
Result: docs/digits_quantize/table.md. Test accuracy, mean ± standard deviation of seeds 0 to 2:
float 98.54 ± 0.38 %; as it is, 8-bit weights 98.37 ± 0.50, 4-bit 98.24 ± 0.43, 2-bit 85.91 ± 2.96;
weights and inputs in 8 bits 98.41 ± 0.51, in 4 bits 96.99 to 97.95 by calibration. Trained to be
so: 2-bit 97.91 ± 0.72, with learned scales 97.78 ± 0.59; 4-bit with inputs 98.24 ± 0.57. Mixed bits
for an eighth of the bytes 98.24 ± 0.43. Pruned to a fifth 96.28 ± 0.52, with 32 values a layer
96.19 ± 0.58, these trained 96.65 ± 0.44, at a twelfth of the bytes.

Nothing was tuned.
"""

from typing import Any

from kd_jax.augment import Augment
from kd_jax.config import Experiment, Prune, Quantize, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models.cifar_resnet import CifarResNet
from kd_jax.optim import Optim
from kd_jax.prune import Cubic
from kd_jax.quantize import CALIBRATIONS

LEARN: dict[str, Any] = {"batch": 64, "augment": Augment(shift=1), "evaluate_every": 5}
RETRAIN: dict[str, Any] = LEARN | {"epochs": 20, "optim": Optim(learning_rate=0.01)}
SOFT: dict[str, Any] = {
    "teacher": "train",
    "hard_weight": 0.1,
    "terms": {"kd": KD(temperature=4.0, weight=0.9)},
}
AS_IS: dict[str, Any] = {"start": "train", **LEARN}
MSE: dict[str, Any] = {"weight_calibration": CALIBRATIONS["mse"]}
TAUGHT: dict[str, Any] = {"start": "train", **RETRAIN, **SOFT}

CONFIG = Experiment(
    name="digits_quantize",
    data=Data(name="digits"),
    student=CifarResNet(depth=8),
    stages={
        "train": Train(epochs=40, optim=Optim(learning_rate=0.05, weight_decay=5e-4), **LEARN),
        "w8": Quantize(**AS_IS),
        "w4": Quantize(bits=4, **AS_IS),
        "w4_mse": Quantize(bits=4, **MSE, **AS_IS),
        "w2_mse": Quantize(bits=2, **MSE, **AS_IS),
        "w8a8": Quantize(inputs=8, **AS_IS),
        **{
            f"w4a4_{name}": Quantize(bits=4, inputs=4, calibration=rule, **MSE, **AS_IS)
            for name, rule in CALIBRATIONS.items()
            if name != "lsq"
        },
        "mixed": Quantize(size=0.125, **MSE, **AS_IS),
        "w2_qat": Quantize(bits=2, **MSE, **TAUGHT),
        "w2_lsq": Quantize(bits=2, scales="learned", **MSE, **TAUGHT),
        "w4a4_lsq": Quantize(
            bits=4, inputs=4, scales="learned", calibration=CALIBRATIONS["mse"], **MSE, **TAUGHT
        ),
        "prune": Prune(sparsity=0.8, schedule=Cubic(begin=0.0, end=0.5, every=10), **TAUGHT),
        "shared": Quantize(values="codebook", bits=5, start="prune", **LEARN),
        "shared_trained": Quantize(
            values="codebook", bits=5, centroids="mean", start="prune", **RETRAIN, **SOFT
        ),
    },
    compare=("train",),
    seeds=3,
    together=False,
)
