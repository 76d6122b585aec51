"""CIFAR-100: ResNet-32x4 teaches ShuffleNet-V2, by the methods and settings of a benchmark.

Paper: Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020,
https://arxiv.org/abs/1910.10699, and for each method the one in the README's table.
Data: CIFAR-100 by tensorflow-datasets (50,000 images of 32x32)
Cost: a teacher and up to fourteen students of 240 epochs, three seeds: for accelerators
Command: python run.py reproduce cifar100_resnet32x4_shufflenet_v2
Result: not run to the end.
"""

from kd_jax import benchmark

CONFIG, PUBLISHED = benchmark.pair("resnet32x4", "shufflenet_v2")
REMARK = benchmark.REMARK
