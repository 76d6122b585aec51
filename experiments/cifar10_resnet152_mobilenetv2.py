"""CIFAR-10: ResNet-152 teaches MobileNet-V2 in four steps.

1. train the teacher; 2. collect what it says of each example, logits and probabilities (with
augmentation, on the very view that the student sees); 3. train the student on soft and hard
labels; 4. evaluate, and tune by the flags, for instance --distill.terms.kd.temperature.

Paper: the method is that of Hinton, Vinyals, Dean, 2015, https://arxiv.org/abs/1503.02531; nets of
He et al., 2015, https://arxiv.org/abs/1512.03385, and Sandler et al., 2018,
https://arxiv.org/abs/1801.04381. The loss as a weighted sum of cross-entropy and KL without a
temperature is --distill.terms mixture --distill.hard-weight 0.
Data: CIFAR-10 by tensorflow-datasets (50,000 images of 32x32)
Cost: for accelerators; by a roofline at least 20 minutes for three seeds on four TPU v5e chips
Command: python run.py run cifar10_resnet152_mobilenetv2
Result: not trained to the end here. Short runs on one CPU core (one seed, 320 images to train,
encoded anew as JPEG, so that nothing compares; batches of 16, jax 0.12.0.1): the training loss of
ResNet-152 falls from 5.96 to 2.57 in 60 steps (27 minutes; a guess has 2.30), that of MobileNet-V2
alone from 2.48 to 1.61 in 200 (5 minutes; 31 % of 500 validation images), and that of the distilled
one, stopped after 75 of its 100, from 0.65 to 0.52 in the first 60, of a teacher that has learned
hardly anything yet. By --seeds 1 --compute float32 --data.train-limit 320 --data.test-limit 500
--latency-batch 16 --train.epochs 3 --train.batch 16 --train.optim.warmup 10
--train.optim.learning-rate 0.01 --alone.epochs 10 --alone.batch 16 --alone.optim.warmup 10
--alone.optim.learning-rate 0.02 --distill.epochs 5 --distill.batch 16 --distill.optim.warmup 10
--distill.optim.learning-rate 0.02.
"""

from kd_jax.augment import Augment
from kd_jax.config import Distill, Experiment, Train
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.models import MODELS
from kd_jax.optim import Optim

SGD = Optim(learning_rate=0.1, nesterov=True, weight_decay=5e-4, warmup=1000)
CROP_AND_FLIP = Augment(crop=4, flip=True)

CONFIG = Experiment(
    name="cifar10_resnet152_mobilenetv2",
    data=Data(name="cifar10"),
    teacher=MODELS["resnet152"],
    student=MODELS["mobilenet_v2"],
    stages={
        "train": Train(model="teacher", epochs=200, optim=SGD, augment=CROP_AND_FLIP),
        "alone": Train(epochs=200, optim=SGD, augment=CROP_AND_FLIP),
        "distill": Distill(
            epochs=200,
            optim=SGD,
            augment=CROP_AND_FLIP,
            teacher="train",
            hard_weight=0.1,
            terms={"kd": KD(temperature=4.0, weight=0.9)},
        ),
    },
    together=False,
    compute="bfloat16",
)
