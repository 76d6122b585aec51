"""What is particular to one family, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_shapes import drawn, evaluate, trace

from kd_jax.models import (
    LSTM,
    MLP,
    VGG,
    CifarResNet,
    LeNet,
    MobileNetV2,
    ShuffleNetV2,
    ViT,
    WideResNet,
)
from kd_jax.models.cifar_resnet import subsampled
from kd_jax.models.layers import avg_pool, channel_shuffle, conv, max_pool, norm
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


def test_batch_norm_by_hand():
    """In training by the batch's mean 4 and biased variance 9; a tenth of them is remembered."""
    x = jnp.array([[1.0], [7.0]])
    variables = {
        "params": {"scale": jnp.ones(1), "bias": jnp.zeros(1)},
        "batch_stats": {"mean": jnp.zeros(1), "var": jnp.ones(1)},
    }
    layer = norm(True, jnp.float32, "n")
    y, updated = layer.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(y, np.array([[-3.0], [3.0]]) / np.sqrt(9 + 1e-5), rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [0.4], rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], [0.9 + 0.9], rtol=1e-6)
    np.testing.assert_allclose(
        norm(False, jnp.float32, "n").apply(variables, x), x / np.sqrt(1 + 1e-5), rtol=1e-6
    )


def test_initial_weights_are_of_the_size_that_he_gives():
    kernel = conv(64, 3, jnp.float32, "c").init(jax.random.key(0), jnp.zeros((1, 4, 4, 32)))
    deviation = np.std(kernel["params"]["kernel"])
    np.testing.assert_allclose(deviation, np.sqrt(2 / (9 * 64)), rtol=0.03)


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
    config = WideResNet(depth=10, width=0.25)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    variables = drawn(trace(config, 4, x.shape)[1])
    _, features = evaluate(config.build(4, jnp.float32), variables, x)
    mean = jnp.mean(jax.nn.relu(features["stage3_pre"]), axis=(1, 2))
    np.testing.assert_allclose(mean, features["pooled"], rtol=1e-5)
    path = {1: ("stage2_block0", "norm1"), 2: ("stage3_block0", "norm1"), 3: ("final_norm",)}
    for i, keys in path.items():
        scale_bias, mean_var = variables["params"], variables["batch_stats"]
        for key in keys:
            scale_bias, mean_var = scale_bias[key], mean_var[key]
        expected = normed(features[f"stage{i}"], **scale_bias, **mean_var)
        np.testing.assert_allclose(features[f"stage{i}_pre"], expected, rtol=1e-4, atol=1e-5)


def normed(x, scale, bias, mean, var):
    """Batch norm in evaluation, over the last axis."""
    x, scale, bias, mean, var = (np.asarray(a) for a in (x, scale, bias, mean, var))
    return scale * (x - mean) / np.sqrt(var + 1e-5) + bias


def test_lenet_has_its_relu_between_the_dense_layers_only():
    x = jax.random.normal(jax.random.key(0), (2, 28, 28, 1))
    for conv_relu in (False, True):
        module = LeNet(width=0.2, conv_relu=conv_relu).build(10, jnp.float32)
        variables = drawn(trace(LeNet(width=0.2), 10, x.shape)[1])
        _, features = evaluate(module, variables, x)
        assert (features["stage1"] < 0).any() == (not conv_relu)
        assert (features["stage2"] < 0).any() == (not conv_relu)
        assert (features["stage3"] >= 0).all()


def test_attention_against_jax_with_its_scores_and_values():
    module = Attention(heads=2, qkv_bias=True, dtype=jnp.float32)
    x = jax.random.normal(jax.random.key(0), (3, 5, 8))
    variables = module.init(jax.random.key(1), x)
    # Larger weights than the initial ones, so that attention is far from uniform.
    params = jax.tree.map(lambda w: 30 * w, variables["params"])
    project = lambda name: (x @ params[name]["kernel"]).reshape(3, 5, 2, 4)  # noqa: E731
    mixed = jax.nn.dot_product_attention(project("query"), project("key"), project("value"))
    expected = mixed.reshape(3, 5, 8) @ params["out"]["kernel"]
    found, scores, values = module.apply({"params": params}, x)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-5)
    again = jnp.einsum("bhqk,bhkd->bqhd", jax.nn.softmax(scores), values).reshape(3, 5, 8)
    np.testing.assert_allclose(again @ params["out"]["kernel"], expected, rtol=2e-4, atol=1e-5)


def test_vit_reads_patches_in_any_order_but_for_their_positions():
    """Without the position table, exchanging two patches exchanges two tokens."""
    module = ViT().tiny().build(3, jnp.float32)
    x = jax.random.normal(jax.random.key(0), (1, 8, 4, 3))
    swapped = jnp.concatenate([x[:, 4:], x[:, :4]], axis=1)
    variables = drawn(trace(ViT().tiny(), 3, x.shape)[1])
    one, two = (evaluate(module, variables, i)[0] for i in (x, swapped))
    assert np.abs(one - two).max() > 1e-3
    variables["params"]["positions"] = jnp.zeros_like(variables["params"]["positions"])
    (one, tokens), (two, moved) = (evaluate(module, variables, i) for i in (x, swapped))
    np.testing.assert_allclose(one, two, atol=1e-5)
    expected = tokens["stage2"][:, jnp.array([0, 2, 1])]
    np.testing.assert_allclose(expected, moved["stage2"], atol=1e-5)


def test_what_attention_shows_costs_nothing():
    """It is on the way to the logits: no matrices are multiplied for it, even where it is read."""
    config = ViT().tiny()
    shapes = feature_shapes(config, (1, 8, 8, 3))
    assert shapes["attention2_scores"] == (2, 5, 5)
    assert shapes["attention2_values"] == (2, 5, 4)
    variables = trace(config, 10, (1, 8, 8, 3))[1]
    x = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    module = config.build(10, jnp.float32)
    shown = jax.jit(lambda v, x: module.apply(v, x, False)).lower(variables, x).compile()
    alone = jax.jit(lambda v, x: module.apply(v, x, False)[0]).lower(variables, x).compile()
    dots = [program.as_text().count(" dot(") for program in (alone, shown)]
    assert dots[0] == dots[1] >= 2 * (4 + 2 + 2)


def test_two_heads_of_deit():
    """Each reads its own token; training hears the first alone, evaluation their mean."""
    config = ViT(distill_token=True).tiny()
    module, x = config.build(3, jnp.float32), jax.random.normal(jax.random.key(0), (2, 8, 4, 3))
    variables = drawn(trace(config, 3, x.shape)[1])
    params = variables["params"]
    assert params["positions"].shape == (1, 4, 8)  # class, distillation, two patches
    first, features = module.apply(variables, x, True)
    second = features["distill_logits"]
    assert features["stage2"].shape == (2, 4, 8)
    for head, token, said in (("classifier", 0, first), ("classifier_distill", 1, second)):
        tokens = np.asarray(features["stage2"][:, token])
        mean, variance = tokens.mean(-1, keepdims=True), tokens.var(-1, keepdims=True)
        scale, bias = (params["final_norm"][name][None] for name in ("scale", "bias"))
        normed = scale * (tokens - mean) / np.sqrt(variance + 1e-6) + bias
        expected = normed @ params[head]["kernel"] + params[head]["bias"][None]
        np.testing.assert_allclose(said, expected, rtol=1e-4, atol=1e-5)
    evaluated, same = module.apply(variables, x, False)
    np.testing.assert_allclose(evaluated, (first + second) / 2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(same["distill_logits"], second, rtol=1e-4, atol=1e-5)
    # Exchanging the two tokens, with their positions, and the heads exchanges what they say.
    params["class_token"], params["distill_token"] = params["distill_token"], params["class_token"]
    params["positions"] = params["positions"][:, jnp.array([1, 0, 2, 3])]
    heads = params["classifier"], params["classifier_distill"]
    params["classifier_distill"], params["classifier"] = heads
    exchanged, features = module.apply(variables, x, True)
    np.testing.assert_allclose(exchanged, second, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features["distill_logits"], first, rtol=1e-4, atol=1e-5)


def test_lstm_reads_images_row_by_row():
    module = LSTM(units=6).build(3, jnp.float32)
    images = jax.random.normal(jax.random.key(0), (2, 4, 5, 3))
    variables = drawn(trace(LSTM(units=6), 3, images.shape)[1])
    logits, features = evaluate(module, variables, images)
    assert features["stem"].shape == (2, 4, 15)
    assert features["stage1"].shape == (2, 4, 6)
    rows, _ = evaluate(module, variables, images.reshape(2, 4, 15))
    np.testing.assert_array_equal(rows, logits)
    # A causal reader: the outputs so far do not depend on rows to come.
    _, other = evaluate(module, variables, images.at[:, 2:].set(0.0))
    np.testing.assert_allclose(other["stage1"][:, :2], features["stage1"][:, :2], atol=1e-6)
    assert (other["stage1"][:, 2:] != features["stage1"][:, 2:]).any()


@pytest.mark.slow
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
