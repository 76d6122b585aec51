"""MobileNetV2 of any width."""

from collections.abc import Iterator

from kd_jax.models.mobilenet import MobileNetV2
from kd_jax.pretrained.tensors import Tensor, conv, linear, norm


def torchvision(config: MobileNetV2) -> list[Tensor]:
    """features.0 is the stem, then one number a block, and the last convolution; classifier.1."""
    tensors, last = _pair("stem", "features.0.0", "features.0.1"), 1 + sum(config.repeats)
    for n, (ours, _, expands) in enumerate(_blocks(config), start=1):
        block, layer = f"features.{n}.conv.", int(expands)
        if expands:
            tensors += _pair(f"{ours}expand", f"{block}0.0", f"{block}0.1")
        tensors += _pair(f"{ours}depthwise", f"{block}{layer}.0", f"{block}{layer}.1")
        tensors += _pair(f"{ours}project", f"{block}{layer + 1}", f"{block}{layer + 2}")
    tensors += _pair("last", f"features.{last}.0", f"features.{last}.1")
    return tensors + linear("classifier", "classifier.1", head=True)


def timm(config: MobileNetV2) -> list[Tensor]:
    """conv_stem, blocks.I.J by groups, conv_head; classifier."""
    tensors = _pair("stem", "conv_stem", "bn1")
    for ours, theirs, expands in _blocks(config):
        names = ["pw", "dw", "pwl"] if expands else ["dw", "pw"]
        parts = ["expand", "depthwise", "project"] if expands else ["depthwise", "project"]
        for k, (part, name) in enumerate(zip(parts, names, strict=True), start=1):
            tensors += _pair(f"{ours}{part}", f"{theirs}conv_{name}", f"{theirs}bn{k}")
    tensors += _pair("last", "conv_head", "bn2")
    return tensors + linear("classifier", "classifier", head=True)


def _pair(ours: str, theirs_conv: str, theirs_norm: str) -> list[Tensor]:
    return [*conv(f"{ours}_conv", theirs_conv), *norm(f"{ours}_norm", theirs_norm)]


def _blocks(config: MobileNetV2) -> Iterator[tuple[str, str, bool]]:
    """(ours, timm's, whether it expands its channels) of each block."""
    for i, repeats in enumerate(config.repeats):
        for j in range(repeats):
            yield f"group{i}_block{j}/", f"blocks.{i}.{j}.", bool(i) or config.expand_first


LAYOUTS = {"torchvision": torchvision, "timm": timm}
