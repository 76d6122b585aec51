"""Vision transformers: DeiT's sizes, and a small one for 32x32 images."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_jax.errors import require
from kd_jax.models.base import ModelConfig
from kd_jax.models.layers import (
    Features,
    checked_classes,
    dense,
    images,
    require_depth,
    require_fraction,
    require_positive,
)

Array = jax.Array

# Truncated at two standard deviations, which scales the deviation back up; 0.02 as in the papers.
small_normal = nn.initializers.truncated_normal(0.02)


@dataclasses.dataclass(frozen=True)
class ViT(ModelConfig):
    """Pre-norm transformer encoder on patches, with a class token.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", 2021, https://arxiv.org/abs/2010.11929;
    sizes of Touvron et al., "Training data-efficient image transformers & distillation through
    attention", 2021, https://arxiv.org/abs/2012.12877. The position table belongs to the image
    size the parameters were made with.
    """

    patch: int = 4
    """Height and width of a patch."""
    width: int = 192
    """Features of a token."""
    depth: int = 12
    """Blocks."""
    heads: int = 3
    """Attention heads; they share the width evenly."""
    mlp_ratio: float = 4.0
    """Hidden units of a block's MLP over the width."""
    qkv_bias: bool = True
    """A bias in the queries, keys and values."""
    dropout: float = 0.0
    """Fraction dropped after the position table, attention and both MLP layers in training."""
    distill_token: bool = False
    """A second token and head, which learn from a teacher (DeiT's distillation token)."""

    def __post_init__(self):
        require_positive(patch=self.patch, width=self.width, depth=self.depth, heads=self.heads)
        require_depth(depth=self.depth)
        require_positive(mlp_ratio=self.mlp_ratio)
        require_fraction(dropout=self.dropout)
        require(
            self.width % self.heads == 0,
            f"heads={self.heads}: they must divide the width, {self.width}",
        )

    def build(self, classes: int, dtype: Any) -> nn.Module:
        return ViTModule(self, checked_classes(classes), dtype)

    def tiny(self) -> "ViT":
        return dataclasses.replace(self, width=8, heads=2, depth=2, mlp_ratio=2.0)


class Attention(nn.Module):
    """softmax(Q Kᵀ / √d) V over [B, N, D], heads side by side; the softmax is in float32.

    Beside it come Q Kᵀ / √d [B, heads, N, N], and V [B, heads, N, d].
    """

    heads: int
    qkv_bias: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array, Array]:
        batch, tokens, width = x.shape
        query, key, value = (
            dense(width, self.dtype, name, small_normal, bias=self.qkv_bias)(x).reshape(
                batch, tokens, self.heads, -1
            )
            for name in ("query", "key", "value")
        )
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
        weights = nn.softmax(scores.astype(jnp.float32)).astype(self.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(batch, tokens, width)
        return dense(width, self.dtype, "out", small_normal)(mixed), scores, value.swapaxes(1, 2)


class EncoderBlock(nn.Module):
    """[B, N, D] -> [B, N, D]: attention and an MLP, each added to its input; beside it come the
    attention's scores and values."""

    config: ViT
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[Array, Array, Array]:
        config = self.config
        drop = nn.Dropout(config.dropout, deterministic=not train, name="drop")
        attention = Attention(config.heads, config.qkv_bias, self.dtype, name="attention")
        y, scores, values = attention(layer_norm(self.dtype, "norm1")(x))
        x = x + drop(y)
        y = layer_norm(self.dtype, "norm2")(x)
        hidden = int(config.width * config.mlp_ratio)
        y = nn.gelu(dense(hidden, self.dtype, "mlp1", small_normal)(y), approximate=False)
        x = x + drop(dense(config.width, self.dtype, "mlp2", small_normal)(drop(y)))
        return x, scores, values


def layer_norm(dtype: Any, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, dtype=dtype, name=name)


class ViTModule(nn.Module):
    """Features: stem, the tokens with their positions, and stageI, what block I puts out, all
    [B, 1 + N, D] with the class token first; attentionI_scores, before the softmax
    [B, heads, 1 + N, 1 + N], and attentionI_values [B, heads, 1 + N, D / heads]; pooled, the class
    token after the last norm [B, D].

    With a distillation token, which comes second, there is also distill_logits [B, K], what its
    head says. The logits are then those of the class token in training, and in evaluation the mean
    of the two heads' logits, as in DeiT's code (its paper adds up their softmaxes).
    """

    config: ViT
    classes: int
    dtype: Any

    @nn.compact
    def __call__(self, inputs: Array, train: bool) -> tuple[Array, Features]:
        config = self.config
        x = self.embed(images(inputs, self.dtype, "ViT"))
        x = nn.Dropout(config.dropout, deterministic=not train, name="drop")(x)
        features: Features = {"stem": x}
        for i in range(1, config.depth + 1):
            x, scores, values = EncoderBlock(config, self.dtype, name=f"block{i}")(x, train)
            features[f"stage{i}"] = x
            features |= {f"attention{i}_scores": scores, f"attention{i}_values": values}
        x = layer_norm(self.dtype, "final_norm")(x)
        features["pooled"] = x[:, 0]
        logits = dense(self.classes, self.dtype, "classifier")(x[:, 0])
        if config.distill_token:
            second = dense(self.classes, self.dtype, "classifier_distill")(x[:, 1])
            features["distill_logits"] = second
            logits = logits if train else (logits + second) / 2
        return logits, features

    @nn.nowrap  # so that it makes its layers as a part of __call__
    def embed(self, x: Array) -> Array:
        """Images [B, H, W, C] -> tokens [B, 1 + N, D], the class token first, with positions."""
        patch, width = self.config.patch, self.config.width
        require(
            x.shape[1] % patch == 0 and x.shape[2] % patch == 0,
            f"patch={patch}: it must divide the images' height and width, {x.shape[1:3]}",
        )
        x = nn.Conv(
            width,
            (patch, patch),
            strides=patch,
            padding="VALID",
            dtype=self.dtype,
            name="patch_conv",
        )(x)
        x = x.reshape(x.shape[0], -1, width)
        names = ["class_token", "distill_token"] if self.config.distill_token else ["class_token"]
        first = [self.param(name, small_normal, (1, 1, width)) for name in names]
        first = [jnp.broadcast_to(f.astype(x.dtype), (x.shape[0], 1, width)) for f in first]
        x = jnp.concatenate([*first, x], axis=1)
        return x + self.param("positions", small_normal, (1, *x.shape[1:])).astype(x.dtype)
