"""What holds for every model of the table."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_but
from model_shapes import FAST_COMPILE, count_params, drawn, evaluate, trace, traced, usual_inputs

from kd_jax import tree
from kd_jax.models import CONFIGS, MODELS, ModelConfig, ViT

TINY = {config.tiny(): name for name, config in reversed(MODELS.items())}


# Tracing takes as long as they are deep: a shallower one of the same blocks is in the fast tests.
DEEP = ("resnet101", "resnet110", "resnet152")
each_traced = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * n.startswith(DEEP)) for n in MODELS]
)


@each_traced
def test_logits_features_and_parameters(name):
    classes, _ = usual_inputs(name)
    (logits, features), variables = traced(name)
    assert logits.shape == (1, classes)
    assert logits.dtype == jnp.float32
    assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    stages = [f"stage{i}" for i in range(1, 100) if f"stage{i}" in features]
    allowed = {"stem", "pooled", *stages, *(f"{stage}_pre" for stage in stages)}
    if isinstance(MODELS[name], ViT):
        blocks = [f"attention{i + 1}" for i in range(len(stages))]
        allowed |= {f"{block}_{what}" for block in blocks for what in ("scores", "values")}
        allowed |= {"distill_logits"}
    assert stages
    assert "pooled" in features
    assert features.keys() <= allowed
    for stage in stages:
        assert features.get(f"{stage}_pre", features[stage]).shape == features[stage].shape
    # The classifier reads the pooled feature.
    assert features["pooled"].shape == (1, variables["params"]["classifier"]["kernel"].shape[0])


@pytest.mark.parametrize("name", MODELS)
def test_config_is_data(name):
    config = MODELS[name]
    assert dataclasses.is_dataclass(config)
    assert hash(config) == hash(dataclasses.replace(config))
    assert CONFIGS[type(config).__name__](**vars(config)) == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, next(iter(vars(config))), 0)


@each_traced
def test_names_do_not_depend_on_size(name):
    """tiny() is a small member of the same family, with the same kinds of features."""
    config, (classes, shape) = MODELS[name], usual_inputs(name)
    tiny = config.tiny()
    assert type(tiny) is type(config)
    assert count_params(tiny, classes, shape) < 0.2 * tree.count(traced(name)[1]["params"])
    (_, features), _ = trace(tiny, classes, shape)
    assert features.keys() <= traced(name)[0][1].keys()
    assert [features[n].ndim for n in features] == [traced(name)[0][1][n].ndim for n in features]


@pytest.mark.parametrize("config", TINY, ids=TINY.get)
def test_bfloat16_is_for_computing_only(config: ModelConfig):
    (logits, features), variables = trace(config, 7, (3, 32, 32, 3), jnp.bfloat16, train=True)
    assert logits.shape == (3, 7)
    assert {x.dtype for x in (logits, *features.values())} == {jnp.dtype("bfloat16")}
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


FAMILIES = [
    *("mlp_1200", "lenet5", "resnet20_a", "resnet50", "resnet18_imagenet", "wrn_16_2"),
    *("vgg8", "vgg16_fc512", "vgg16_imagenet", "mobilenet_v2"),
    *("shufflenet_v1", "shufflenet_v2", "vit_tiny", "deit_tiny_distilled", "lstm"),
]


# The others are of the same blocks and layers.
FAST = ("mlp_1200", "lenet5", "resnet20_a", "vgg8", "vit_tiny", "lstm")


@pytest.mark.parametrize("name", slow_but(FAST, FAMILIES))
def test_forward(name):
    """Training and evaluation of the tiny model, compiled once."""
    module = MODELS[name].tiny().build(5, jnp.float32)
    inputs = jnp.asarray(np.random.default_rng(1).normal(size=(3, 32, 32, 3)), jnp.float32)
    variables = drawn(trace(MODELS[name].tiny(), 5, inputs.shape)[1])

    @functools.partial(jax.jit, compiler_options=FAST_COMPILE)
    def run(variables, inputs):
        train, updated = module.apply(
            variables, inputs, True, rngs={"dropout": jax.random.key(2)}, mutable=["batch_stats"]
        )
        return module.apply(variables, inputs, False), train[0], updated

    (logits, features), train_logits, updated = run(variables, inputs)
    assert np.isfinite(logits).all()
    assert np.isfinite(train_logits).all()
    assert np.abs(logits).max() > 0
    # Evaluation looks at each example alone. Training differs by batch norm, dropout and heads.
    (backward, _), *_ = run(variables, inputs[::-1])
    np.testing.assert_allclose(backward[::-1], logits, rtol=1e-4, atol=1e-5)
    assert np.allclose(train_logits, logits) == (name in ("lenet5", "lstm", "vit_tiny"))
    assert jax.tree.structure(updated) == jax.tree.structure(
        {"batch_stats": variables["batch_stats"]} if "batch_stats" in variables else {}
    )
    for old, new in zip(
        jax.tree.leaves(variables.get("batch_stats")), jax.tree.leaves(updated), strict=True
    ):
        assert (old != new).any()
    # A pre-activation becomes its stage by ReLU (WRN's by batch norm before it).
    for stage in [] if name.startswith("wrn") else [n[:-4] for n in features if n.endswith("_pre")]:
        np.testing.assert_array_equal(jax.nn.relu(features[f"{stage}_pre"]), features[stage])


@pytest.mark.parametrize(
    "name", ["resnet20", *(pytest.param(n, marks=pytest.mark.slow) for n in ("vit_tiny", "lstm"))]
)
def test_bfloat16_is_close_to_float32(name):
    config = MODELS[name].tiny()
    inputs = jnp.asarray(np.random.default_rng(1).normal(size=(2, 32, 32, 3)), jnp.float32)
    variables = drawn(trace(config, 5, inputs.shape)[1])
    full, half = (
        evaluate(config.build(5, dtype), variables, inputs)[0].astype(jnp.float32)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert 0 < np.abs(full - half).max() < 0.05 * max(1.0, np.abs(full).max())


def test_jit_equals_eager():
    module = MODELS["resnet20"].tiny().build(5, jnp.float32)
    inputs = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = drawn(trace(MODELS["resnet20"].tiny(), 5, inputs.shape)[1])
    eager = module.apply(variables, inputs, False)
    compiled = jax.jit(module.apply, static_argnums=2)(variables, inputs, False)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), eager, compiled)
