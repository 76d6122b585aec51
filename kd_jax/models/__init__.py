"""The models by name. To add one, add a line here."""

from kd_jax.models.base import ModelConfig
from kd_jax.models.cifar_resnet import CifarResNet
from kd_jax.models.lenet import LeNet
from kd_jax.models.lstm import LSTM
from kd_jax.models.mlp import MLP
from kd_jax.models.mobilenet import MobileNetV2
from kd_jax.models.resnet import ResNet
from kd_jax.models.shufflenet import ShuffleNetV1, ShuffleNetV2
from kd_jax.models.vgg import VGG
from kd_jax.models.vit import ViT
from kd_jax.models.wide_resnet import WideResNet

FAMILIES = (
    *(MLP, LeNet, CifarResNet, ResNet, WideResNet, VGG),
    *(MobileNetV2, ShuffleNetV1, ShuffleNetV2, ViT, LSTM),
)
CONFIGS: dict[str, type[ModelConfig]] = {family.__name__: family for family in FAMILIES}
"""Every family's config class by its name, as it is written in a saved config."""

MODELS: dict[str, ModelConfig] = {
    # MNIST
    "lenet_300_100": MLP(widths=(300, 100)),
    "mlp_800": MLP(widths=(800, 800)),
    "mlp_1200": MLP(widths=(1200, 1200), dropout=0.5, input_dropout=0.2),
    "lenet5": LeNet(),
    "lstm": LSTM(),
    # 32x32 images
    "resnet8": CifarResNet(depth=8),
    "resnet14": CifarResNet(depth=14),
    "resnet20": CifarResNet(depth=20),
    "resnet32": CifarResNet(depth=32),
    "resnet44": CifarResNet(depth=44),
    "resnet56": CifarResNet(depth=56),
    "resnet110": CifarResNet(depth=110),
    "resnet8x4": CifarResNet(depth=8, widths=(32, 64, 128, 256)),
    "resnet32x4": CifarResNet(depth=32, widths=(32, 64, 128, 256)),
    # ... as in the ResNet paper and those on pruning that follow it: shortcuts without parameters
    "resnet20_a": CifarResNet(depth=20, shortcut="a"),
    "resnet56_a": CifarResNet(depth=56, shortcut="a"),
    "resnet110_a": CifarResNet(depth=110, shortcut="a"),
    "resnet18": ResNet(blocks=(2, 2, 2, 2), bottleneck=False),
    "resnet34": ResNet(blocks=(3, 4, 6, 3), bottleneck=False),
    "resnet50": ResNet(blocks=(3, 4, 6, 3)),
    "resnet101": ResNet(blocks=(3, 4, 23, 3)),
    "resnet152": ResNet(blocks=(3, 8, 36, 3)),
    "wrn_16_1": WideResNet(depth=16, widen=1),
    "wrn_16_2": WideResNet(depth=16, widen=2),
    "wrn_40_1": WideResNet(depth=40, widen=1),
    "wrn_40_2": WideResNet(depth=40, widen=2),
    "wrn_28_10": WideResNet(depth=28, widen=10),
    # VGG-8, 11 and 13 pool as in distillation benchmarks, VGG-16 and 19 as in those of pruning.
    "vgg8": VGG(convs=(1, 1, 1, 1, 1), pools=3),
    "vgg11": VGG(convs=(1, 1, 2, 2, 2), pools=3),
    "vgg13": VGG(convs=(2, 2, 2, 2, 2), pools=3),
    "vgg16": VGG(convs=(2, 2, 3, 3, 3)),
    "vgg16_fc512": VGG(convs=(2, 2, 3, 3, 3), head="fc512"),
    "vgg19": VGG(convs=(2, 2, 4, 4, 4)),
    "mobilenet_v2": MobileNetV2(),
    "mobilenet_v2_half": MobileNetV2(
        width=0.5,
        strides=(2, 1, 1, 2, 2, 1, 2, 1),
        divisor=1,
        rounding="down",
        activation="relu",
        expand_first=True,
    ),
    "shufflenet_v1": ShuffleNetV1(),
    "shufflenet_v2": ShuffleNetV2(),
    # ViT-Lite-7/4 of Hassani et al. 2021, https://arxiv.org/abs/2104.05704
    "vit_tiny": ViT(patch=4, width=256, depth=7, heads=4, mlp_ratio=2.0, qkv_bias=False),
    # ImageNet, 224x224
    "resnet18_imagenet": ResNet(blocks=(2, 2, 2, 2), bottleneck=False, stem="imagenet"),
    "resnet34_imagenet": ResNet(blocks=(3, 4, 6, 3), bottleneck=False, stem="imagenet"),
    "resnet50_imagenet": ResNet(blocks=(3, 4, 6, 3), stem="imagenet"),
    "resnet101_imagenet": ResNet(blocks=(3, 4, 23, 3), stem="imagenet"),
    "resnet152_imagenet": ResNet(blocks=(3, 8, 36, 3), stem="imagenet"),
    "vgg11_imagenet": VGG(convs=(1, 1, 2, 2, 2), head="fc4096", places=7, batch_norm=False),
    "vgg13_imagenet": VGG(convs=(2, 2, 2, 2, 2), head="fc4096", places=7, batch_norm=False),
    "vgg16_imagenet": VGG(head="fc4096", places=7, batch_norm=False),
    "vgg19_imagenet": VGG(convs=(2, 2, 4, 4, 4), head="fc4096", places=7, batch_norm=False),
    "vgg11_bn_imagenet": VGG(convs=(1, 1, 2, 2, 2), head="fc4096", places=7),
    "vgg13_bn_imagenet": VGG(convs=(2, 2, 2, 2, 2), head="fc4096", places=7),
    "vgg16_bn_imagenet": VGG(head="fc4096", places=7),
    "vgg19_bn_imagenet": VGG(convs=(2, 2, 4, 4, 4), head="fc4096", places=7),
    "mobilenet_v2_imagenet": MobileNetV2(strides=(2, 1, 2, 2, 2, 1, 2, 1), dropout=0.2),
    "shufflenet_v2_imagenet": ShuffleNetV2(stem="imagenet"),
    "vit_b_16_imagenet": ViT(patch=16, width=768, depth=12, heads=12),
    "deit_tiny": ViT(patch=16, width=192, depth=12, heads=3),
    "deit_small": ViT(patch=16, width=384, depth=12, heads=6),
    "deit_tiny_distilled": ViT(patch=16, width=192, depth=12, heads=3, distill_token=True),
}
