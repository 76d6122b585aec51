"""By which names a network's tensors go in a file."""

from collections.abc import Callable
from typing import Any

from kd_jax.models.base import ModelConfig
from kd_jax.models.mobilenet import MobileNetV2
from kd_jax.models.resnet import ResNet
from kd_jax.models.vgg import VGG
from kd_jax.models.vit import ViT
from kd_jax.pretrained import mobilenet, resnet, vgg, vit
from kd_jax.pretrained.tensors import Tensor
from kd_jax.tree import named_leaves

Layout = Callable[[Any], list[Tensor]]

LAYOUTS: dict[type[ModelConfig], dict[str, Layout]] = {
    ResNet: resnet.LAYOUTS,
    VGG: vgg.LAYOUTS,
    MobileNetV2: mobilenet.LAYOUTS,
    ViT: vit.LAYOUTS,
}
"""The layouts of each family that torchvision or timm has. Every family has the layout kd_jax too,
whose names are our own paths."""


def layouts(config: ModelConfig, variables: Any) -> dict[str, list[Tensor]]:
    """{layout: its tensors} of the layouts in which this network can be written: they name all of
    its variables, and nothing else."""
    paths = named_leaves(variables)
    own = [Tensor(path, path, head=path.startswith("params/classifier")) for path in paths]
    known = {name: make(config) for name, make in LAYOUTS.get(type(config), {}).items()}
    covers = lambda tensors: {p for t in tensors for p in t.paths} == paths.keys()  # noqa: E731
    return {name: tensors for name, tensors in known.items() if covers(tensors)} | {"kd_jax": own}
