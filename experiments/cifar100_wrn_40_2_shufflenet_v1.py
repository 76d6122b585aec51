"""CIFAR-100: WRN-40-2 teaches ShuffleNet-V1, by the methods and settings of a benchmark.

Paper: Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2020,
https://arxiv.org/abs/1910.10699, and for each method the one in the README's table.
Data: CIFAR-100 by tensorflow-datasets (50,000 images of 32x32)
Cost: a teacher and up to fourteen students of 240 epochs, three seeds: for accelerators
Command: python run.py reproduce cifar100_wrn_40_2_shufflenet_v1
Result: not run to the end.
"""

from kd_jax import benchmark

CONFIG, PUBLISHED = benchmark.pair("wrn_40_2", "shufflenet_v1")
REMARK = benchmark.REMARK
