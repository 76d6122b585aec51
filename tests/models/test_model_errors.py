"""Impossible fields and inputs end in one line that names them."""

import jax
import jax.numpy as jnp
import pytest

from kd_jax.errors import UsageError
from kd_jax.models import (
    LSTM,
    MLP,
    MODELS,
    VGG,
    CifarResNet,
    LeNet,
    MobileNetV2,
    ModelConfig,
    ResNet,
    ShuffleNetV1,
    ShuffleNetV2,
    ViT,
    WideResNet,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP(widths=(300, 0)), "widths"),
        (lambda: MLP(dropout=1.0), "dropout=1.0"),
        (lambda: MLP(widths=(1,) * 1501), "widths=1501: use 1500 or fewer"),
        (lambda: ResNet(blocks=(1500, 1, 1, 1)), "use 1500 or fewer"),
        (lambda: ViT(depth=10**9), "depth=1000000000: use 1500"),
        (lambda: LeNet(width=0.0), "width=0.0"),
        (lambda: CifarResNet(depth=21), "depth=21"),
        (lambda: CifarResNet(widths=(64, 16, 16, 16), shortcut="a"), "shortcut=a"),
        (lambda: ResNet(blocks=(1, 0, 1, 1)), "blocks"),
        (lambda: WideResNet(depth=20), "depth=20"),
        (lambda: VGG(pools=6), "pools=6"),
        (lambda: MobileNetV2(strides=(3, 1, 1, 1, 1, 1, 1, 1)), "strides"),
        (lambda: ShuffleNetV1(channels=(240, 240, 480)), "channels"),
        (lambda: ShuffleNetV1(width=float("inf")), "width is inf"),
        (lambda: ShuffleNetV1(groups=10**30), "groups is 10000"),
        (lambda: ShuffleNetV2(width=-1.0), "width=-1.0"),
        (lambda: ViT(width=190), "heads=3"),
        (lambda: LSTM(vocabulary=-1), "vocabulary=-1"),
    ],
)
def test_impossible_fields_are_named(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        (LeNet(), jnp.zeros((1, 15, 15, 1)), "at least 16"),
        (VGG().tiny(), jnp.zeros((1, 16, 32, 3)), "at least 32"),
        (ResNet().tiny(), jnp.zeros((1, 32, 32)), "takes images"),
        (ViT().tiny(), jnp.zeros((1, 32, 30, 3)), "patch=4"),
        (LSTM(), jnp.zeros((1, 5)), "set vocabulary"),
        (LSTM(vocabulary=9), jnp.zeros((1, 5)), "integer tokens"),
    ],
)
def test_inputs_that_do_not_fit_are_named(config, inputs, message):
    module = config.build(10, jnp.float32)
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(lambda: module.init(jax.random.key(0), inputs, False))


@pytest.mark.parametrize("config", {type(c): c for c in MODELS.values()}.values(), ids=repr)
def test_impossible_inputs_are_named(config: ModelConfig):
    with pytest.raises(UsageError, match="classes=0"):
        config.build(0, jnp.float32)
    module = config.build(10, jnp.float32)
    pixels = jnp.zeros((2, 32, 32, 3), jnp.uint8)
    with pytest.raises(UsageError, match="uint8"):
        jax.eval_shape(lambda: module.init(jax.random.key(0), pixels, False))
