"""CIFAR-10: a ResNet-50 that knows ImageNet learns it, and teaches a MobileNet-V2 that is pruned.

1. probe: the classifier alone is trained, a fresh one of ten classes, on the pre-trained network
with its batch statistics; 2. tune: all of it; 3. distill: the student learns from it; 4. prune: it
loses four fifths of its weights, with the same teacher.

The weights are yours to download: resnet50.safetensors in this folder, or --probe.weights FILE, in
torchvision's or timm's layout, such as model.safetensors of timm/resnet50.tv_in1k on Hugging Face.
The student may have pre-trained ones too: --distill.weights FILE, of torchvision's mobilenet_v2 or
timm's mobilenetv2_100.

Paper: Yosinski, Clune, Bengio, Lipson, "How transferable are features in deep neural networks?",
2014, https://arxiv.org/abs/1411.1792 (the probe, and that tuning all of it is better); the teaching
is that of Hinton, Vinyals, Dean, 2015, https://arxiv.org/abs/1503.02531.
Data: CIFAR-10 by tensorflow-datasets (50,000 images of 32x32), resized to 96x96
Cost: for accelerators; not measured yet
Command: python run.py run cifar10_transfer
Result: not run yet.
"""

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Prune, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models import MODELS
from kd_jax.optim import Optim

CROP_AND_FLIP = Augment(crop=12, flip=True)
TEACHING = {"teacher": "tune", "terms": {"kd": KD(temperature=4.0, weight=0.9)}}

CONFIG = Experiment(
    name="cifar10_transfer",
    data=Data(name="cifar10", image_size=96),
    teacher=MODELS["resnet50_imagenet"],
    student=MODELS["mobilenet_v2_imagenet"],
    stages={
        "probe": Train(
            model="teacher",
            weights="resnet50.safetensors",
            epochs=5,
            freeze=("^(?!classifier)",),
            freeze_statistics=True,
            optim=Optim(learning_rate=0.1),
            augment=CROP_AND_FLIP,
        ),
        "tune": Train(
            model="teacher",
            start="probe",
            epochs=20,
            optim=Optim(learning_rate=0.01, weight_decay=1e-4),
            augment=CROP_AND_FLIP,
        ),
        "distill": Distill(
            epochs=100,
            optim=Optim(learning_rate=0.05, nesterov=True, weight_decay=5e-4, warmup=500),
            augment=CROP_AND_FLIP,
            hard_weight=0.1,
            **TEACHING,
        ),
        "prune": Prune(
            start="distill",
            epochs=30,
            optim=Optim(learning_rate=0.01, weight_decay=5e-4),
            augment=CROP_AND_FLIP,
            sparsity=0.8,
            allocation="global",
            hard_weight=0.1,
            **TEACHING,
        ),
    },
    together=False,
    compute="bfloat16",
)
