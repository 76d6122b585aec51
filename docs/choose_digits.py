"""How the settings of the digits experiment were chosen: `python docs/choose_digits.py`.

Each student's grid, by the mean accuracy of eight seeds on 300 images held out of the training
images; the test images are not read. Writes docs/digits/choice.md. About ten minutes on two cores.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np

import kd_jax
from experiments.digits import CONFIG
from kd_jax import KD, Augment

SEEDS = tuple(range(8))
DATA = kd_jax.load_data(dataclasses.replace(CONFIG.data, validation=0.3))
FEW, ALL = 180.5 / 700, 1.0  # shares of the 700 images that are left; 180 as in the experiment
AUGMENTATIONS = {
    "none": Augment(),
    "mixup": Augment(mixup=1.0),
    "shift": Augment(shift=1),
    "both": Augment(shift=1, mixup=1.0),
}
RATES = {"alone": (0.05, 0.2, 0.5), "distill": (0.05, 0.1, 0.2)}
DECAYS = {"alone": (1e-3, 1e-2, 3e-2), "distill": (1e-4, 1e-3, 1e-2)}
THIRD = {"alone": ("label smoothing", (0.0, 0.1)), "distill": ("temperature", (2.0, 4.0))}


def model(config: Any) -> kd_jax.Model:
    return kd_jax.from_linen(config.build(DATA.spec.classes, "float32"))


def stage_of(name: str, fraction: float, rate: float, decay: float, third: float, augment: Augment):
    """The experiment's stage with other settings."""
    stage = CONFIG.stages[name]
    optim = dataclasses.replace(stage.optim, learning_rate=rate, weight_decay=decay)
    stage = dataclasses.replace(stage, optim=optim, augment=augment, fraction=fraction)
    if name == "alone":
        return dataclasses.replace(stage, label_smoothing=third)
    return dataclasses.replace(stage, terms={"kd": KD(temperature=third, weight=0.9)})


def grid(name: str, fraction: float, teacher: Any) -> list[tuple[float, float, tuple]]:
    """(mean, std, settings) of each point, best first; accuracies in per cent."""
    student = model(CONFIG.student)
    points = itertools.product(RATES[name], DECAYS[name], THIRD[name][1], AUGMENTATIONS)
    results = []
    for rate, decay, third, augment in points:
        stage = stage_of(name, fraction, rate, decay, third, AUGMENTATIONS[augment])
        given = {"teacher": teacher} if name == "distill" else {}
        network = kd_jax.fit(stage, student, DATA, seeds=SEEDS, devices=1, **given)
        found = np.array(kd_jax.evaluate(student, DATA, network, "validation")["accuracy"])
        results.append((100 * found.mean(), 100 * found.std(ddof=1), (rate, decay, third, augment)))
        print(name, fraction, *results[-1], flush=True)
    return sorted(results, key=lambda result: -result[0])


def table(name: str, results: list) -> str:
    """The best point of each augmentation, and the worst of all."""
    best = {augment: next(r for r in results if r[2][3] == augment) for augment in AUGMENTATIONS}
    rows = sorted(best.values(), key=lambda result: -result[0]) + [results[-1]]
    head = f"| augmentation | learning rate | weight decay | {THIRD[name][0]} | accuracy % |"
    lines = [head, "| --- | ---: | ---: | ---: | ---: |"]
    for mean, std, (rate, decay, third, augment) in rows:
        lines.append(f"| {augment} | {rate} | {decay} | {third} | {mean:.2f} ± {std:.2f} |")
    return "\n".join(lines)


def main() -> None:
    big = model(CONFIG.teacher)
    teacher = (big, kd_jax.fit(CONFIG.stages["train"], big, DATA, seeds=SEEDS, devices=1))
    parts = [
        "# How the settings of the digits run were chosen",
        "By the mean accuracy on 300 images held out of the training images, seeds 0 to 7, "
        "± standard deviation. Each grid has 72 points; shown are the best of each augmentation "
        "and, last, the worst of all. The test images were not read. Made by "
        "`python docs/choose_digits.py`.",
    ]
    for fraction, images in ((FEW, "180 images"), (ALL, "all 700 images that are left")):
        for name, title in (("alone", "Student alone"), ("distill", "Student distilled")):
            parts += [f"## {title}, {images}", table(name, grid(name, fraction, teacher))]
    Path(__file__).parent.joinpath("digits/choice.md").write_text(
        "\n\n".join(parts) + "\n", "utf-8"
    )


if __name__ == "__main__":
    main()
