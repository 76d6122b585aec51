"""CIFAR-100: VGG-13 teaches VGG-8, by the methods and settings of a benchmark.

Paper: Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020,
https://arxiv.org/abs/1910.10699, and for each method the one in the README's table.
Data: CIFAR-100 by tensorflow-datasets (50,000 images of 32x32)
Cost: a teacher and up to fourteen students of 240 epochs, three seeds: for accelerators
Command: python run.py reproduce cifar100_vgg13_vgg8
Result: not run to the end.
"""

from kd_jax import benchmark

CONFIG, PUBLISHED = benchmark.pair("vgg13", "vgg8")
REMARK = benchmark.REMARK
