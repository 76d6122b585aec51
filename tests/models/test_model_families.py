"""What is particular to one family, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_shapes import trace

from kd_jax.errors import UsageError
from kd_jax.models import (
    LSTM,
    MLP,
    VGG,
    CifarResNet,
    LeNet,
    MobileNetV2,
    ResNet,
    ShuffleNetV1,
    ShuffleNetV2,
    ViT,
    WideResNet,
)
from kd_jax.models.cifar_resnet import subsampled
from kd_jax.models.layers import avg_pool, channel_shuffle, conv, max_pool
from kd_jax.models.vit import Attention
from kd_jax.tree import named_leaves

CIFAR = (2, 32, 32, 3)


def feature_shapes(config, shape=CIFAR):
    return {name: x.shape[1:] for name, x in trace(config, 10, shape)[0][1].items()}


def test_strided_convolution_reads_the_places_that_pytorch_reads():
    """With padding 1 on each side, a 3x3 window of stride 2 has its centres at 0, 2, 4, ..."""
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    centre = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    y = conv(1, 3, jnp.float32, "c", stride=2).apply({"params": {"kernel": centre}}, x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[0, 2], [8, 10]])


def test_pooling_of_a_padded_corner():
    x = jnp.full((1, 4, 4, 1), -9.0)
    np.testing.assert_allclose(avg_pool(x, 3, 2, padding=1)[0, 0, 0, 0], -9 * 4 / 9)
    np.testing.assert_allclose(max_pool(x, 3, 2, padding=1)[0, 0, 0, 0], -9)


def test_channel_shuffle():
    x = jnp.arange(6.0).reshape(1, 1, 1, 6)
    np.testing.assert_array_equal(channel_shuffle(x, 2).ravel(), [0, 3, 1, 4, 2, 5])
    np.testing.assert_array_equal(channel_shuffle(x, 3).ravel(), [0, 2, 4, 1, 3, 5])


def test_shortcut_a_subsamples_and_pads_channels():
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    y = subsampled(x, 2, 4)
    assert y.shape == (1, 2, 2, 4)
    np.testing.assert_array_equal(y[0, :, :, 1], [[1, 3], [7, 9]])
    np.testing.assert_array_equal(y.sum(-1), y[..., 1])


def test_mlp_by_hand():
    module = MLP(widths=(2,)).build(1, jnp.float32)
    params = {
        "dense1": {"kernel": jnp.array([[1.0, -1], [2, 0]]), "bias": jnp.array([0.5, 0.25])},
        "classifier": {"kernel": jnp.array([[3.0], [100]]), "bias": jnp.array([-1.0])},
    }
    logits, features = module.apply({"params": params}, jnp.array([[1.0, 1]]), False)
    np.testing.assert_allclose(features["stage1_pre"], [[3.5, -0.75]])
    np.testing.assert_allclose(features["pooled"], [[3.5, 0]])
    np.testing.assert_allclose(logits, [[9.5]])


def test_dropout_of_units_and_of_inputs():
    """With identity weights, what survives is doubled and about half does."""
    x = jnp.ones((1, 1000))
    params = {"classifier": {"kernel": jnp.eye(1000), "bias": jnp.zeros(1000)}}
    module = MLP(widths=(), input_dropout=0.5).build(1000, jnp.float32)
    draw = lambda s: module.apply({"params": params}, x, True, rngs={"dropout": jax.random.key(s)})  # noqa: E731
    first, again, other = draw(0)[0], draw(0)[0], draw(1)[0]
    assert set(np.unique(first)) == {0.0, 2.0}
    assert 400 < np.count_nonzero(first) < 600
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(module.apply({"params": params}, x, False)[0], x)


def test_parameter_names_are_paths():
    params = trace(CifarResNet(depth=8), 10, CIFAR)[1]["params"]
    block = [f"{kind}{i}/{w}" for i in (1, 2) for kind, ws in NAMES.items() for w in ws]
    expected = {f"stage{i}_block0/{name}" for i in (1, 2, 3) for name in block}
    expected |= {f"stage{i}_block0/shortcut_conv/kernel" for i in (2, 3)}
    expected |= {f"stage{i}_block0/shortcut_norm/{w}" for i in (2, 3) for w in NAMES["norm"]}
    expected |= {"stem_conv/kernel", "stem_norm/scale", "stem_norm/bias"}
    expected |= {"classifier/kernel", "classifier/bias"}
    assert set(named_leaves(params)) == expected


NAMES = {"conv": ("kernel",), "norm": ("scale", "bias")}


def test_feature_shapes_of_the_benchmarks():
    """The taps [stem, stage1, ..., pooled] of https://github.com/HobbitLong/RepDistiller."""
    pre = lambda shapes: {n: s for n, s in shapes.items() if not n.endswith("_pre")}  # noqa: E731
    assert pre(feature_shapes(CifarResNet(depth=8, widths=(32, 64, 128, 256)))) == {
        "stem": (32, 32, 32),
        "stage1": (32, 32, 64),
        "stage2": (16, 16, 128),
        "stage3": (8, 8, 256),
        "pooled": (256,),
    }
    assert pre(feature_shapes(VGG(convs=(1, 1, 1, 1, 1), pools=3))) == {
        "stem": (32, 32, 64),
        "stage1": (16, 16, 128),
        "stage2": (8, 8, 256),
        "stage3": (4, 4, 512),
        "stage4": (4, 4, 512),
        "pooled": (512,),
    }
    half = MobileNetV2(width=0.5, strides=(2, 1, 1, 2, 2, 1, 2, 1), divisor=1, rounding="down")
    assert feature_shapes(half) == {
        "stem": (16, 16, 16),
        "stage1": (16, 16, 12),
        "stage2": (8, 8, 16),
        "stage3": (4, 4, 48),
        "stage4": (2, 2, 160),
        "pooled": (1280,),
    }
    shuffle = feature_shapes(ShuffleNetV2())
    assert [shuffle[f"stage{i}"] for i in (1, 2, 3)] == [(16, 16, 116), (8, 8, 232), (4, 4, 464)]


def test_mobilenet_rounds_channels_to_eight_but_never_below_nine_tenths():
    assert MobileNetV2().channels(32, 0.35) == 16  # 11.2: 8 would lose more than a tenth
    assert MobileNetV2().channels(32, 1.4) == 48  # 44.8
    assert MobileNetV2().channels(24, 0.25) == 8
    assert MobileNetV2(divisor=1, rounding="down").channels(25, 0.5) == 12


def test_wide_resnet_pre_is_what_the_next_relu_sees():
    module = WideResNet().tiny().build(4, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    (_, features), _ = module.init_with_output(jax.random.key(1), x, False)
    mean = jnp.mean(jax.nn.relu(features["stage3_pre"]), axis=(1, 2))
    np.testing.assert_allclose(mean, features["pooled"], rtol=1e-5)
    # Fresh batch norm in evaluation only divides by √(1 + ε).
    for i in (1, 2, 3):
        expected = features[f"stage{i}"] / np.sqrt(1 + 1e-5)
        np.testing.assert_allclose(features[f"stage{i}_pre"], expected, rtol=1e-5, atol=1e-6)


def test_lenet_has_its_relu_between_the_dense_layers_only():
    x = jax.random.normal(jax.random.key(0), (2, 28, 28, 1))
    for conv_relu in (False, True):
        module = LeNet(width=0.2, conv_relu=conv_relu).build(10, jnp.float32)
        (_, features), _ = module.init_with_output(jax.random.key(1), x, False)
        assert (features["stage1"] < 0).any() == (not conv_relu)
        assert (features["stage2"] < 0).any() == (not conv_relu)
        assert (features["stage3"] >= 0).all()


def test_attention_against_jax():
    module = Attention(heads=2, qkv_bias=True, dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (3, 5, 8))
    y, variables = module.init_with_output(jax.random.key(1), x)
    # Larger weights than the initial ones, so that attention is far from uniform.
    params = jax.tree.map(lambda w: 30 * w, variables["params"])
    project = lambda name: (x @ params[name]["kernel"]).reshape(3, 5, 2, 4)  # noqa: E731
    mixed = jax.nn.dot_product_attention(project("query"), project("key"), project("value"))
    expected = mixed.reshape(3, 5, 8) @ params["out"]["kernel"]
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, rtol=2e-4, atol=1e-5)


def test_vit_reads_patches_in_any_order_but_for_their_positions():
    """Without the position table, exchanging two patches exchanges two tokens."""
    module = ViT().tiny().build(3, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 8, 4, 3))
    variables = module.init(jax.random.key(1), x, False)
    swapped = jnp.concatenate([x[:, 4:], x[:, :4]], axis=1)
    assert (
        module.apply(variables, x, False)[0] != module.apply(variables, swapped, False)[0]
    ).any()
    zero = jnp.zeros_like(variables["params"]["positions"])
    variables = {"params": variables["params"] | {"positions": zero}}
    (one, tokens), (two, moved) = (module.apply(variables, i, False) for i in (x, swapped))
    np.testing.assert_allclose(one, two, atol=1e-6)
    np.testing.assert_allclose(
        tokens["stage2"][:, jnp.array([0, 2, 1])], moved["stage2"], atol=1e-6
    )


def test_lstm_reads_images_row_by_row():
    module = LSTM(units=6).build(3, jnp.float32)
    images = jax.random.normal(jax.random.key(0), (2, 4, 5, 3))
    (logits, features), variables = module.init_with_output(jax.random.key(1), images, False)
    assert features["stem"].shape == (2, 4, 15)
    assert features["stage1"].shape == (2, 4, 6)
    rows, _ = module.apply(variables, images.reshape(2, 4, 15), False)
    np.testing.assert_array_equal(rows, logits)
    # A causal reader: the outputs so far do not depend on rows to come.
    _, other = module.apply(variables, images.at[:, 2:].set(0.0), False)
    np.testing.assert_allclose(other["stage1"][:, :2], features["stage1"][:, :2], atol=1e-6)
    assert (other["stage1"][:, 2:] != features["stage1"][:, 2:]).any()


def test_lstm_reads_tokens():
    module = LSTM(units=6, embedding=4, vocabulary=10, layers=2).build(3, jnp.float32)
    tokens = jnp.array([[1, 2, 3], [1, 2, 4]])
    (logits, features), variables = module.init_with_output(jax.random.key(1), tokens, False)
    table = variables["params"]["embedding"]["embedding"]
    assert table.shape == (10, 4)
    np.testing.assert_array_equal(features["stem"], table[tokens])
    assert features.keys() == {"stem", "stage1", "stage2", "pooled"}
    np.testing.assert_array_equal(features["pooled"], features["stage2"][:, -1])
    assert (logits[0] != logits[1]).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP(widths=(300, 0)), "widths"),
        (lambda: MLP(dropout=1.0), "dropout=1.0"),
        (lambda: LeNet(width=0.0), "width=0.0"),
        (lambda: CifarResNet(depth=21), "depth=21"),
        (lambda: CifarResNet(widths=(64, 16, 16, 16), shortcut="a"), "shortcut=a"),
        (lambda: ResNet(blocks=(1, 0, 1, 1)), "blocks"),
        (lambda: WideResNet(depth=20), "depth=20"),
        (lambda: VGG(pools=6), "pools=6"),
        (lambda: MobileNetV2(strides=(3, 1, 1, 1, 1, 1, 1, 1)), "strides"),
        (lambda: ShuffleNetV1(channels=(240, 240, 480)), "channels"),
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
