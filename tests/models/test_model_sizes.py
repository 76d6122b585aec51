"""Parameters and multiply-accumulates against the published ones.

A number known exactly is given as an int, one known rounded as it is printed, in the unit of its
source, and ours must round to it.
"""

import pytest
from model_shapes import count_macs, count_params, usual_inputs

from kd_jax.models import MODELS, CifarResNet, MobileNetV2, ShuffleNetV2, WideResNet

CIFAR10, CIFAR100 = (10, (1, 32, 32, 3)), (100, (1, 32, 32, 3))
HE = "He et al. 2016, https://arxiv.org/abs/1512.03385, tables 1 and 6"
LI = "Li et al. 2017, https://arxiv.org/abs/1608.08710, table 1"
GUO = "Guo et al. 2016, https://arxiv.org/abs/1608.04493, table 1"
KD = "layers of https://github.com/HobbitLong/RepDistiller, summed; papers print it rounded"
WRN = "Zagoruyko & Komodakis 2016, https://arxiv.org/abs/1605.07146, table 4"
TORCH = "https://docs.pytorch.org/vision/stable/models.html, table of weights"
DEIT = "https://github.com/huggingface/pytorch-image-models, deit_*_patch16_224"
DISTILLED = "https://github.com/huggingface/pytorch-image-models, deit_tiny_distilled_patch16_224"
LITE = "Hassani et al. 2021, https://arxiv.org/abs/2104.05704, ViT-Lite-7/4"
SLIM = "Liu et al. 2017, https://arxiv.org/abs/1708.06519, table 1"

PARAMETERS = [
    ("lenet_300_100", None, 266_610, GUO),
    ("lenet5", None, 431_080, GUO),
    ("mlp_1200", None, 784 * 1200 + 1200 + 1200 * 1200 + 1200 + 12_010, "two layers of 1200"),
    ("resnet20_a", CIFAR10, "0.27M", HE),
    ("resnet56_a", CIFAR10, "0.85M", HE),
    ("resnet110_a", CIFAR10, "1.7M", HE),
    ("resnet20", CIFAR100, 278_324, KD),
    ("resnet32", CIFAR100, 472_756, KD),
    ("resnet56", CIFAR100, 861_620, KD),
    ("resnet110", CIFAR100, "1.74M", KD),
    ("resnet8x4", CIFAR100, 1_233_540, KD),
    ("resnet32x4", CIFAR100, 7_433_860, KD),
    ("resnet50", CIFAR100, "23.71M", KD),
    ("wrn_16_2", CIFAR100, 703_284, KD),
    ("wrn_40_1", CIFAR100, 569_780, KD),
    ("wrn_40_2", CIFAR100, 2_255_156, KD),
    ("wrn_28_10", CIFAR10, "36.5M", WRN),
    ("vgg8", CIFAR100, 3_965_028, KD),
    ("vgg13", CIFAR100, 9_462_180, KD),
    ("mobilenet_v2_half", CIFAR100, 812_836, KD),
    ("shufflenet_v1", CIFAR100, 949_258, KD),
    ("shufflenet_v2", CIFAR100, 1_355_528, KD),
    ("vgg16_fc512", CIFAR10, "15.0M", LI),
    ("vgg19", CIFAR10, "20.04M", SLIM),
    ("vit_tiny", CIFAR10, "3.717M", LITE),
    ("resnet18_imagenet", None, 11_689_512, TORCH),
    ("resnet34_imagenet", None, 21_797_672, TORCH),
    ("resnet50_imagenet", None, 25_557_032, TORCH),
    ("resnet101_imagenet", None, 44_549_160, TORCH),
    ("resnet152_imagenet", None, 60_192_808, TORCH),
    ("vgg16_imagenet", None, 138_357_544, TORCH),
    ("vgg16_bn_imagenet", None, 138_365_992, TORCH),
    ("mobilenet_v2_imagenet", None, 3_504_872, TORCH),
    ("shufflenet_v2_imagenet", None, 2_278_604, TORCH),
    ("deit_tiny", None, 5_717_416, DEIT),
    ("deit_small", None, 22_050_664, DEIT),
    ("deit_tiny_distilled", None, 5_910_800, DISTILLED),
]

MACS = [
    ("lenet_300_100", None, 784 * 300 + 300 * 100 + 100 * 10, "its three matrices"),
    ("lenet5", None, 24**2 * 20 * 25 + 8**2 * 50 * 25 * 20 + 800 * 500 + 5000, "its four layers"),
    ("resnet56_a", CIFAR10, "125M", LI),
    ("resnet110_a", CIFAR10, "253M", LI),
    ("vgg16_fc512", CIFAR10, "313M", LI),
    ("resnet18_imagenet", None, "1.81G", TORCH),
    ("resnet34_imagenet", None, "3.66G", TORCH),
    ("resnet50_imagenet", None, "4.09G", TORCH),
    ("resnet152_imagenet", None, "11.51G", TORCH),
    ("vgg16_imagenet", None, "15.47G", TORCH),
    ("mobilenet_v2_imagenet", None, "0.30G", TORCH),
    ("shufflenet_v2_imagenet", None, "0.14G", TORCH),
    ("deit_tiny", None, "1.3G", "Touvron et al. 2021, https://arxiv.org/abs/2012.12877"),
    ("deit_small", None, "4.6G", "Touvron et al. 2021, https://arxiv.org/abs/2012.12877"),
]


def assert_rounds_to(count: int, published: int | str, source: str):
    if isinstance(published, int):
        assert count == published, source
        return
    number, unit = published[:-1], {"M": 1e6, "G": 1e9}[published[-1]]
    decimals = len(number.partition(".")[2])
    assert f"{count / unit:.{decimals}f}" == number, f"{count}: {source}"


@pytest.mark.parametrize(("name", "inputs", "published", "source"), PARAMETERS)
def test_parameters(name, inputs, published, source):
    count = count_params(MODELS[name], *(inputs or usual_inputs(name)))
    assert_rounds_to(count, published, source)


@pytest.mark.parametrize(("name", "inputs", "published", "source"), MACS)
def test_macs(name, inputs, published, source):
    assert_rounds_to(count_macs(MODELS[name], *(inputs or usual_inputs(name))), published, source)


@pytest.mark.parametrize(
    ("config", "classes", "published"),
    [
        (ShuffleNetV2(channels=(48, 96, 192, 1024), stem="imagenet"), 1000, 1_366_792),
        (ShuffleNetV2(channels=(176, 352, 704, 1024), stem="imagenet"), 1000, 3_503_624),
        (ShuffleNetV2(channels=(244, 488, 976, 2048), stem="imagenet"), 1000, 7_393_996),
    ],
)
def test_other_sizes_of_shufflenet_v2(config, classes, published):
    assert count_params(config, classes, (1, 224, 224, 3)) == published, TORCH


def test_wider_models_grow_as_their_channels_do():
    """Almost all weights connect two scaled layers, so twice the width is about 4 times as many."""
    for config in (CifarResNet(depth=20), WideResNet(), MobileNetV2(last=320)):
        twice = type(config)(**{**vars(config), "width": 2.0})
        ratio = count_params(twice, *CIFAR10) / count_params(config, *CIFAR10)
        assert 3.3 < ratio < 4.1, config
