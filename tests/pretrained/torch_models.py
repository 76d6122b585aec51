"""Which of PyTorch's models is which of ours, and the names and shapes of its tensors.

python tests/pretrained/torch_models.py writes layouts.txt anew; it needs torchvision and timm.
"""

import hashlib
import importlib
from pathlib import Path

from kd_jax.models import MODELS, MobileNetV2

FILE = Path(__file__).with_name("layouts.txt")
STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)

# (library, its name, its arguments): ours
PAIRS = {
    **{("torchvision", f"resnet{n}", ""): MODELS[f"resnet{n}_imagenet"] for n in (18, 34, 50)},
    **{("torchvision", f"resnet{n}", ""): MODELS[f"resnet{n}_imagenet"] for n in (101, 152)},
    **{("torchvision", f"vgg{n}", ""): MODELS[f"vgg{n}_imagenet"] for n in (11, 13, 16, 19)},
    **{("torchvision", f"vgg{n}_bn", ""): MODELS[f"vgg{n}_bn_imagenet"] for n in (11, 13, 16, 19)},
    ("torchvision", "mobilenet_v2", ""): MODELS["mobilenet_v2_imagenet"],
    ("torchvision", "mobilenet_v2", "width_mult=1.4"): MobileNetV2(width=1.4, strides=STRIDES),
    ("torchvision", "vit_b_16", ""): MODELS["vit_b_16_imagenet"],
    ("timm", "resnet18", ""): MODELS["resnet18_imagenet"],
    ("timm", "resnet50", ""): MODELS["resnet50_imagenet"],
    ("timm", "vgg11_bn", ""): MODELS["vgg11_bn_imagenet"],
    ("timm", "vgg16", ""): MODELS["vgg16_imagenet"],
    ("timm", "mobilenetv2_100", ""): MODELS["mobilenet_v2_imagenet"],
    ("timm", "mobilenetv2_050", ""): MobileNetV2(width=0.5, strides=STRIDES),
    ("timm", "vit_tiny_patch16_224", ""): MODELS["deit_tiny"],
    ("timm", "vit_base_patch16_224", ""): MODELS["vit_b_16_imagenet"],
    ("timm", "deit_tiny_distilled_patch16_224", ""): MODELS["deit_tiny_distilled"],
}
# Of these each tensor is listed; of the others there is a hash.
LISTED = ("resnet18", "vgg11_bn", "mobilenet_v2", "mobilenetv2_100", "vit_b_16")
LISTED += ("deit_tiny_distilled_patch16_224",)


def make(library, name, arguments=""):
    """The torch module, with random weights."""
    given = {key: float(value) for key, value in [arguments.split("=")] if key} if arguments else {}
    if library == "timm":
        return importlib.import_module("timm").create_model(name, pretrained=False, **given)
    return getattr(importlib.import_module("torchvision.models"), name)(weights=None, **given)


def lines(shapes):
    """{name: shape} as sorted lines, `conv1.weight 64x3x7x7`; counts of batches are left out."""
    told = {k: "x".join(map(str, s)) for k, s in shapes.items() if "num_batches" not in k}
    return [f"{name} {told[name]}" for name in sorted(told)]


def digest(listed):
    """Sixteen hexadecimal digits that stand for lines."""
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()[:16]


def stored():
    """{(library, name, arguments): (how many tensors, hash of the lines, lines or [])}."""
    found = {}
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            library, name, arguments, count, code = line[2:].split("; ")
            listed = []
            found[library, name, arguments] = int(count), code, listed
        else:
            listed.append(line)
    return found


def write():
    """Writes the file from the real models."""
    text = []
    for key in PAIRS:
        listed = lines({k: tuple(v.shape) for k, v in make(*key).state_dict().items()})
        text.append(f"# {'; '.join(key)}; {len(listed)}; {digest(listed)}")
        text += (
            listed if key[1] in LISTED and not (key[2] or key[:2] == ("timm", "resnet18")) else []
        )
    FILE.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
