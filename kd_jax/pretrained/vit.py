"""Vision transformers, with DeiT's distillation token or without."""

import math
from typing import Any

import jax
import numpy as np

from kd_jax.models.vit import ViT
from kd_jax.pretrained.tensors import LINEAR, Tensor, conv, layer_norm, linear

POSITIONS = "params/positions"


def torchvision(config: ViT) -> list[Tensor]:
    """conv_proj, encoder.layers.encoder_layer_I, heads.head."""
    tensors = [
        Tensor("class_token", "params/class_token"),
        *conv("patch_conv", "conv_proj", bias=True),
        Tensor("encoder.pos_embedding", POSITIONS),
    ]
    for i in range(config.depth):
        ours, theirs = f"block{i + 1}/", f"encoder.layers.encoder_layer_{i}."
        attention = f"{theirs}self_attention."
        tensors += layer_norm(f"{ours}norm1", f"{theirs}ln_1")
        tensors += _joint(config, ours, (f"{attention}in_proj_weight", f"{attention}in_proj_bias"))
        tensors += linear(f"{ours}attention/out", f"{attention}out_proj")
        tensors += layer_norm(f"{ours}norm2", f"{theirs}ln_2")
        tensors += linear(f"{ours}mlp1", f"{theirs}mlp.0")
        tensors += linear(f"{ours}mlp2", f"{theirs}mlp.3")
    tensors += layer_norm("final_norm", "encoder.ln")
    return tensors + linear("classifier", "heads.head", head=True)


def timm(config: ViT) -> list[Tensor]:
    """patch_embed.proj, blocks.I, head; with a distillation token dist_token and head_dist."""
    tensors = [
        Tensor("cls_token", "params/class_token"),
        Tensor("pos_embed", POSITIONS),
        *conv("patch_conv", "patch_embed.proj", bias=True),
    ]
    for i in range(config.depth):
        ours, theirs = f"block{i + 1}/", f"blocks.{i}."
        tensors += layer_norm(f"{ours}norm1", f"{theirs}norm1")
        tensors += _joint(config, ours, (f"{theirs}attn.qkv.weight", f"{theirs}attn.qkv.bias"))
        tensors += linear(f"{ours}attention/out", f"{theirs}attn.proj")
        tensors += layer_norm(f"{ours}norm2", f"{theirs}norm2")
        tensors += linear(f"{ours}mlp1", f"{theirs}mlp.fc1")
        tensors += linear(f"{ours}mlp2", f"{theirs}mlp.fc2")
    tensors += layer_norm("final_norm", "norm") + linear("classifier", "head", head=True)
    if config.distill_token:
        tensors += [Tensor("dist_token", "params/distill_token")]
        tensors += linear("classifier_distill", "head_dist", head=True)
    return tensors


def _joint(config: ViT, ours: str, theirs: tuple[str, str]) -> list[Tensor]:
    """Queries, keys and values, which lie in one matrix there."""
    of = lambda part: tuple(f"params/{ours}attention/{n}/{part}" for n in ("query", "key", "value"))  # noqa: E731
    bias = [Tensor(theirs[1], of("bias"))] * config.qkv_bias
    return [Tensor(theirs[0], of("kernel"), LINEAR), *bias]


def is_table(config: ViT, shape: tuple[int, ...]) -> bool:
    """Whether this is a table [1, T + N, D] of the network's tokens and a square of N patches."""
    tokens = 2 if config.distill_token else 1
    patches = shape[1] - tokens if len(shape) == 3 else 0
    square = patches > 0 and math.isqrt(patches) ** 2 == patches
    return square and (shape[0], shape[2]) == (1, config.width)


def moved(positions: np.ndarray, shape: tuple[int, ...], grid: tuple[int, int]) -> Any:
    """A position table [1, T + h·w, D] for another number of patches, [1, T + H·W, D]: the T first,
    of tokens that are no patches, as they are; the others, a square h = w, by bicubic interpolation
    with antialiasing, as in timm."""
    tokens = shape[1] - grid[0] * grid[1]
    first, rest = positions[:, :tokens], positions[0, tokens:]
    side = math.isqrt(len(rest))
    image = rest.astype(np.float32).reshape(side, side, -1)
    resized = jax.image.resize(image, (*grid, image.shape[-1]), "cubic", antialias=True)
    return np.concatenate([first, np.asarray(resized).reshape(1, -1, first.shape[-1])], axis=1)


LAYOUTS = {"torchvision": torchvision, "timm": timm}
