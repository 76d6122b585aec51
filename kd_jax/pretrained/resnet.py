"""ResNet-18 to -152: torchvision and timm have the same names."""

from kd_jax.models.resnet import ResNet
from kd_jax.pretrained.tensors import Tensor, conv, linear, norm


def torchvision(config: ResNet) -> list[Tensor]:
    """conv1, bn1, layerI.J.convK, layerI.J.bnK, layerI.0.downsample, fc."""
    tensors = [*conv("stem_conv", "conv1"), *norm("stem_norm", "bn1")]
    for i, blocks in enumerate(config.blocks, start=1):
        for j in range(blocks):
            ours, theirs = f"stage{i}_block{j}/", f"layer{i}.{j}."
            for k in range(1, 4 if config.bottleneck else 3):
                tensors += conv(f"{ours}conv{k}", f"{theirs}conv{k}")
                tensors += norm(f"{ours}norm{k}", f"{theirs}bn{k}")
            if j == 0 and (i > 1 or config.bottleneck):
                tensors += conv(f"{ours}shortcut_conv", f"{theirs}downsample.0")
                tensors += norm(f"{ours}shortcut_norm", f"{theirs}downsample.1")
    return tensors + linear("classifier", "fc", head=True)


LAYOUTS = {"torchvision": torchvision, "timm": torchvision}
