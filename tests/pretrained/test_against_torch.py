"""Logits of PyTorch's networks with random weights and ours with the same, by way of a file.

Not part of the fast tests: pip install "kd-jax[torch]" and pytest -m slow.
"""

import jax
import numpy as np
import pytest
from test_layouts import variables_of
from torch_models import PAIRS, make

from kd_jax import pretrained
from kd_jax.models import ViT
from kd_jax.pretrained.vit import moved
from kd_jax.tree import map_named

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("timm")
from safetensors.torch import load_file, save_file  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of those libraries, about themselves
]


def randomised(module):
    """In evaluation, with norms, biases and tokens that are not what they begin as, so that a
    tensor in the wrong place shows."""
    torch.manual_seed(0)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(std=0.2)
                part.running_var.uniform_(0.5, 1.5)
                part.weight.uniform_(0.3, 0.7)
        for parameter in module.parameters():
            if parameter.ndim != 4:
                parameter.add_(0.05 * torch.randn(parameter.shape))
    return module.eval()


def theirs_of(module, images):
    with torch.no_grad():
        return module(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()


def size_of(pair, config):
    """Networks of convolutions take images of any size; 48 is no multiple of their strides."""
    return 224 if isinstance(config, ViT) else 96 if "16" in pair[1] else 48


@pytest.mark.parametrize("pair", PAIRS, ids=" ".join)
def test_logits_are_equal_and_the_file_is_too(pair, tmp_path):
    config, size = PAIRS[pair], size_of(pair, PAIRS[pair])
    module, shape = randomised(make(*pair)), (size, size, 3)
    file = tmp_path / "theirs.safetensors"
    save_file(module.state_dict(), file)
    shapes = variables_of(config, 1000, shape)
    flat = pretrained.load(file, config, shapes, shape)
    variables = map_named(lambda path, _: flat[path], shapes)
    images = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    ours = jax.jit(lambda v, x: config.build(1000, "float32").apply(v, x, False)[0])
    theirs = theirs_of(module, images)
    assert np.ptp(theirs) > 0.1
    np.testing.assert_allclose(ours(variables, images), theirs, atol=1e-4, rtol=1e-4)

    back = tmp_path / "ours.safetensors"
    pretrained.save(back, config, variables, pair[0])
    module.load_state_dict(load_file(back), strict=True)
    np.testing.assert_array_equal(theirs_of(module, images), theirs)


@pytest.mark.parametrize(("before", "after"), [(14, 24), (14, 7), (4, 6)])
def test_positions_are_interpolated_as_by_timm(before, after):
    from timm.layers import resample_abs_pos_embed

    table = np.random.default_rng(0).normal(size=(1, 2 + before**2, 5)).astype(np.float32)
    theirs = resample_abs_pos_embed(torch.from_numpy(table), [after, after], num_prefix_tokens=2)
    ours = moved(table, (1, 2 + after**2, 5), (after, after))
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)
