"""The thirteen pairs of teacher and student that distillation is compared on, with their recipe and
what was published: Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020,
https://arxiv.org/abs/1910.10699, and https://github.com/HobbitLong/RepDistiller.
"""

from kd_jax import zoo
from kd_jax.augment import Augment
from kd_jax.config import Experiment, Train
from kd_jax.datasets import Data
from kd_jax.errors import require
from kd_jax.models import MODELS
from kd_jax.optim import Optim
from kd_jax.published import Figure

PAIRS = (
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
    ("resnet56", "resnet20"),
    ("resnet110", "resnet20"),
    ("resnet110", "resnet32"),
    ("resnet32x4", "resnet8x4"),
    ("vgg13", "vgg8"),
    ("vgg13", "mobilenet_v2_half"),
    ("resnet50", "mobilenet_v2_half"),
    ("resnet50", "vgg8"),
    ("resnet32x4", "shufflenet_v1"),
    ("resnet32x4", "shufflenet_v2"),
    ("wrn_40_2", "shufflenet_v1"),
)
# Top-1 accuracy on CIFAR-100 in per cent, a column a pair in their order.
TABLE = """
train  75.61 75.61 72.34 74.31 74.31 79.42 74.64 74.64 79.34 79.34 79.42 79.42 75.61
alone  73.26 71.98 69.06 69.06 71.14 72.50 70.36 64.60 64.60 70.36 70.50 71.82 70.50
kd     74.92 73.54 70.66 70.67 73.08 73.33 72.98 67.37 67.35 73.81 74.07 74.45 74.83
fitnet 73.58 72.24 69.21 68.99 71.06 73.50 71.02 64.14 63.16 70.69 73.59 73.54 73.73
at     74.08 72.77 70.55 70.22 72.31 73.44 71.43 59.40 58.58 71.84 71.73 72.73 73.32
sp     73.83 72.43 69.67 70.04 72.69 72.94 72.68 66.30 68.08 73.34 73.48 74.56 74.52
cc     73.56 72.21 69.63 69.48 71.48 72.97 70.71 64.86 65.43 70.25 71.14 71.29 71.38
vid    74.11 73.30 70.38 70.16 72.61 73.09 71.23 65.56 67.57 70.30 73.38 73.40 73.61
rkd    73.35 72.22 69.61 69.25 71.82 71.90 71.48 64.52 64.43 71.50 72.28 73.21 72.21
pkt    74.54 73.45 70.34 70.25 72.61 73.64 72.88 67.13 66.52 73.01 74.10 74.69 73.89
ab     72.50 72.38 69.47 69.53 70.98 73.17 70.94 66.06 67.20 70.65 73.55 74.31 73.34
ft     73.25 71.59 69.84 70.22 72.37 72.86 70.58 61.78 60.99 70.29 71.75 72.50 72.03
fsp    72.91 -     69.95 70.11 71.89 72.62 70.23 -     -     -     -     -     -
nst    73.68 72.24 69.60 69.53 71.96 73.30 71.53 58.16 64.96 71.28 74.12 74.68 74.89
crd    75.48 74.14 71.16 71.46 73.48 75.51 73.94 69.73 69.11 74.30 75.11 75.65 76.05
"""
SOURCE = "Tian et al. 2020 (README of RepDistiller)"
REMARK = """
Published is the accuracy after the last epoch, a mean of five runs, or of three where the two
architectures differ. Here a tenth of the training images is held out.
"""
SMALL_STEPS = ("mobilenet", "shufflenet")  # students that begin with a rate of 0.01


def published() -> dict[tuple[str, str], dict[str, float]]:
    """{(teacher, student): {stage: accuracy in per cent}}."""
    found: dict[tuple[str, str], dict[str, float]] = {names: {} for names in PAIRS}
    for line in TABLE.strip().splitlines():
        stage, *numbers = line.split()
        for names, number in zip(PAIRS, numbers, strict=True):
            if number != "-":
                found[names][stage] = float(number)
    return found


def pair(teacher: str, student: str) -> tuple[Experiment, tuple[Figure, ...]]:
    """(the experiment of a pair, by names of models; what was published of it).

    Raises:
      UsageError: it is none of the thirteen.
    """
    known = published()
    listed = ", ".join("/".join(names) for names in known)
    require((teacher, student) in known, f"{teacher}/{student}: the pairs are {listed}")
    numbers = known[teacher, student]
    rate = 0.01 if student.startswith(SMALL_STEPS) else 0.05
    of = {"teacher": 0.05, "student": rate}
    stages = {
        role: Train(
            model=role,  # type: ignore[arg-type]
            epochs=240,
            batch=64,
            optim=Optim(learning_rate=of[role], weight_decay=5e-4, schedule="step"),
            augment=Augment(crop=4, flip=True),
        )
        for role in of
    }
    models = MODELS[teacher], MODELS[student]
    every = zoo.distillation(stages["teacher"], stages["student"], models)
    wanted = {*numbers, *(f"{name}_before" for name in numbers)}
    experiment = Experiment(
        name=f"cifar100_{teacher}_{student}",
        data=Data(name="cifar100"),
        teacher=models[0],
        student=models[1],
        stages={name: stage for name, stage in every.items() if name in wanted},
        compare=("alone", "kd"),
        together=False,
    )
    words = {"train": "teacher", "alone": "student alone"}
    figures = [
        Figure(
            what=words.get(stage, f"student distilled, {stage}"),
            stage=stage,
            measure="accuracy",
            published=number,
            source=SOURCE,
        )
        for stage, number in numbers.items()
    ]
    return experiment, tuple(figures)
