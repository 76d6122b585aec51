"""Files of weights: read, written, and refused."""

import pickle

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from test_layouts import variables_of

from kd_jax import pretrained
from kd_jax.errors import UsageError
from kd_jax.models import MLP, VGG, MobileNetV2, ResNet, ViT
from kd_jax.pretrained.vit import moved
from kd_jax.tree import map_named, named_leaves

SHAPE = (16, 16, 3)
VGG_TINY = VGG(convs=(1, 1, 1, 1, 2), width=1 / 32, head="fc4096", places=2, pools=3)
TINY = {
    "basic": ResNet(blocks=(2, 1, 1, 1), bottleneck=False, stem="imagenet", width=1 / 16),
    "bottleneck": ResNet(blocks=(2, 1, 1, 1), stem="imagenet", width=1 / 16),
    "vgg": VGG_TINY,
    "mobilenet": MobileNetV2(width=0.1, repeats=(1, 2, 1, 1, 1, 1, 1), expansion=2, last=32),
    "vit": ViT(patch=4, width=8, depth=2, heads=2, mlp_ratio=2.0),
    "deit": ViT(patch=4, width=8, depth=1, heads=2, mlp_ratio=2.0, distill_token=True),
    "mlp": MLP(widths=(4,)),
}
CASES = [
    *[
        (name, layout)
        for name in ("basic", "vgg", "mobilenet", "vit")
        for layout in ("torchvision",)
    ],
    *[(name, "timm") for name in ("bottleneck", "vgg", "mobilenet", "vit", "deit")],
    ("mlp", "kd_jax"),
]


def filled(config, classes=10, shape=SHAPE):
    """Variables with different numbers everywhere."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
        variables_of(config, classes, shape),
    )


def written(tmp_path, name="basic", layout="torchvision", classes=10):
    file, config = tmp_path / "weights.safetensors", TINY[name]
    variables = filled(config, classes)
    pretrained.save(file, config, variables, layout)
    return file, config, variables


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_what_is_written_is_read_bit_for_bit(name, layout, tmp_path):
    file, config, variables = written(tmp_path, name, layout)
    found = pretrained.look(file, config, variables)
    # One and the same for ResNets, and then the first is said.
    assert found.layout == ("torchvision" if name == "bottleneck" else layout)
    assert (found.fresh, found.classes) == ((), 10)
    taken = pretrained.read(found, config, variables, SHAPE)
    ours = named_leaves(variables)
    assert taken.keys() == ours.keys()
    for path, array in taken.items():
        np.testing.assert_array_equal(array, ours[path], err_msg=path)


def test_numbers_lie_where_pytorch_has_them(tmp_path):
    file, _, variables = written(tmp_path, "vit")
    theirs, block = load_file(file), variables["params"]["block2"]["attention"]
    joint = theirs["encoder.layers.encoder_layer_1.self_attention.in_proj_weight"]
    np.testing.assert_array_equal(joint[8:16], block["key"]["kernel"].T)
    np.testing.assert_array_equal(joint[16:], block["value"]["kernel"].T)
    np.testing.assert_array_equal(
        theirs["heads.head.bias"], variables["params"]["classifier"]["bias"]
    )
    patch = variables["params"]["patch_conv"]["kernel"]
    assert theirs["conv_proj.weight"][5, 2, 1, 3] == patch[1, 3, 2, 5]


def test_norms_have_the_count_that_pytorch_asks_for(tmp_path):
    file, _, variables = written(tmp_path, "bottleneck")
    theirs = load_file(file)
    assert theirs["layer1.0.bn3.num_batches_tracked"].dtype == np.int64
    var = variables["batch_stats"]["stage1_block0"]["norm3"]["var"]
    np.testing.assert_array_equal(theirs["layer1.0.bn3.running_var"], var)


@pytest.mark.parametrize(
    ("name", "layout"),
    [("basic", "torchvision"), ("vgg", "timm"), ("mobilenet", "timm"), ("vit", "kd_jax")],
)
def test_a_head_of_other_classes_is_left_out(name, layout, tmp_path):
    file, config, _ = written(tmp_path, name, layout, classes=7)
    found = pretrained.look(file, config, variables_of(config, 10, SHAPE))
    assert set(found.fresh) == {"params/classifier/kernel", "params/classifier/bias"}
    assert found.classes == 7
    taken = pretrained.read(found, config, variables_of(config, 10, SHAPE), SHAPE)
    assert not taken.keys() & set(found.fresh)


def test_a_file_without_a_head_gives_the_rest(tmp_path):
    file, config, variables = written(tmp_path)
    theirs = {name: x for name, x in load_file(file).items() if not name.startswith("fc.")}
    save_file(theirs, file)
    found = pretrained.look(file, config, variables)
    assert (len(found.fresh), found.classes) == (2, 0)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_short_numbers_become_float32(kind, tmp_path):
    file, config, variables = written(tmp_path)
    floats = {name: x for name, x in load_file(file).items() if x.dtype == np.float32}
    save_file({name: x.astype(kind) for name, x in floats.items()}, file)
    taken = pretrained.load(file, config, variables, SHAPE)
    kernel = variables["params"]["classifier"]["kernel"].astype(kind).astype(np.float32)
    assert taken["params/classifier/kernel"].dtype == np.float32
    np.testing.assert_array_equal(taken["params/classifier/kernel"], kernel)


def test_names_of_old_torchvision_are_known(tmp_path):
    file, config, variables = written(tmp_path, "vit")
    old = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): array
        for name, array in load_file(file).items()
    }
    save_file(old, file)
    taken = pretrained.load(file, config, variables, SHAPE)
    kernel = variables["params"]["block1"]["mlp2"]["kernel"]
    np.testing.assert_array_equal(taken["params/block1/mlp2/kernel"], kernel)


def changed(change):
    def spoil(file):
        theirs = load_file(file)
        change(theirs)
        save_file(theirs, file)

    return spoil


def put(name, *shape):
    return changed(lambda theirs: theirs.update({name: np.zeros(shape, np.float32)}))


TROUBLES = [
    (lambda file: file.unlink(), r"no such file: name a file of safetensors"),
    (lambda file: (file.unlink(), file.mkdir()), r"a folder: name a file of safetensors"),
    (
        lambda file: file.write_bytes(pickle.dumps({"a": 1})),
        r"no file of safetensors .*never loaded",
    ),
    (lambda file: file.write_bytes(file.read_bytes()[:-9]), r"no file of safetensors"),
    (lambda file: save_file({}, file), r"it holds nothing, and no tensor of this ResNet"),
    (
        lambda file: save_file({"encoder.weight": np.zeros(3)}, file),
        r"it holds encoder.weight, and no tensor of this ResNet as torchvision or timm or kd_jax",
    ),
    (
        changed(lambda theirs: theirs.pop("layer1.1.conv2.weight")),
        r"layout of torchvision, but lacks layer1.1.conv2.weight, which this model has",
    ),
    (
        changed(lambda theirs: [theirs.pop(f"layer4.0.bn2.{n}") for n in ("weight", "bias")]),
        r"lacks layer4.0.bn2.weight and 1 more",
    ),
    (
        put("layer1.2.conv1.weight", 4, 4, 3, 3),
        r"holds layer1.2.conv1.weight, which this model has not",
    ),
    (
        put("conv1.weight", 4, 1, 7, 7),
        r"conv1.weight is \[4, 1, 7, 7\], and this model's is \[4, 3, 7, 7\]",
    ),
    (put("fc.weight", 10, 33), r"fc.weight is \[10, 33\], and this model's is \[10, 32\]"),
]


@pytest.mark.parametrize(("spoil", "message"), TROUBLES)
def test_a_wrong_file_is_refused_in_a_line_that_names_the_tensor(spoil, message, tmp_path):
    file, config, variables = written(tmp_path)
    spoil(file)
    with pytest.raises(UsageError, match=message) as refused:
        pretrained.look(file, config, variables)
    assert str(refused.value).startswith(f"weights {file}: ")
    assert "\n" not in str(refused.value)


def test_what_another_library_has_no_layout_for_is_not_written_so(tmp_path):
    for config in (MLP(widths=(4,)), VGG(convs=(1, 1, 1, 1, 1), width=1 / 32, pools=3)):
        with pytest.raises(UsageError, match="has none of it"):
            pretrained.save(tmp_path / "x", config, filled(config), "torchvision")
    no_bias = ViT(patch=4, width=8, depth=1, heads=2, qkv_bias=False)
    pretrained.save(tmp_path / "x", no_bias, filled(no_bias), "timm")
    assert "blocks.0.attn.qkv.bias" not in load_file(tmp_path / "x")


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("a pickle was loaded",))

    file = tmp_path / "resnet.pth"
    file.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UsageError, match="pickles, which are programs, and never loaded"):
        pretrained.look(file, TINY["basic"], filled(TINY["basic"]))


# Position tables -----------------------------------------------------------------------------


def test_positions_of_another_size_are_interpolated_and_those_of_tokens_kept(tmp_path):
    file, config, variables = written(tmp_path, "deit", "timm")  # 4x4 patches of 16x16 images
    larger = variables_of(config, 10, (24, 32, 3))
    taken = pretrained.load(file, config, larger, (24, 32, 3))
    before, after = variables["params"]["positions"], taken["params/positions"]
    assert after.shape == (1, 2 + 6 * 8, 8) == larger["params"]["positions"].shape
    np.testing.assert_array_equal(after[:, :2], before[:, :2])


def test_interpolation_by_hand():
    """A table that is constant stays so; one that rises evenly along the rows does in the middle,
    where no edge is near."""
    table = np.zeros((1, 1 + 64, 2), np.float32)
    table[0, 1:, 0] = 3.0
    table[0, 1:, 1] = np.repeat(np.arange(8.0), 8)
    grid = moved(table, (1, 1 + 256, 2), (16, 16))[0, 1:].reshape(16, 16, 2)
    np.testing.assert_allclose(grid[..., 0], 3.0, rtol=1e-6)
    np.testing.assert_allclose(grid[5:11, 4, 1], (np.arange(5, 11) + 0.5) / 2 - 0.5, rtol=1e-5)


def test_positions_that_are_no_square_or_of_another_width_are_refused(tmp_path):
    file, config, _ = written(tmp_path, "vit", "timm")
    larger = variables_of(config, 10, (24, 24, 3))
    for shape in ((1, 18, 8), (1, 17, 9)):
        put("pos_embed", *shape)(file)
        with pytest.raises(UsageError, match="its pos_embed is"):
            pretrained.look(file, config, larger)


def test_digests_are_those_of_the_bytes(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert pretrained.digest(file).startswith("ba7816bf8f01cfea414140de5dae2223")
    with pytest.raises(UsageError, match=r"weights .*none: can.t be read"):
        pretrained.digest(tmp_path / "none")


def test_all_of_a_tiny_network_is_float32(tmp_path):
    file, config, variables = written(tmp_path)
    taken = pretrained.load(file, config, variables, SHAPE)
    assert {x.dtype for x in taken.values()} == {np.dtype("float32")}
    assert map_named(lambda path, x: taken[path].shape == x.shape, variables)
