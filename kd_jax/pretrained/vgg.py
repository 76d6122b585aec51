"""VGG-11 to -19, with and without batch norm; their head is the one called fc4096 here."""

from kd_jax.models.layers import scaled
from kd_jax.models.vgg import VGG
from kd_jax.pretrained.tensors import Tensor, conv, linear, norm, on_map


def torchvision(config: VGG) -> list[Tensor]:
    """features.N, N counting ReLUs and pools too; classifier.0, .3, .6."""
    hidden = _hidden(config, ("classifier.0", "classifier.3"), flat=True)
    return [*_features(config), *hidden, *linear("classifier", "classifier.6", head=True)]


def timm(config: VGG) -> list[Tensor]:
    """The same features; the hidden layers are convolutions, pre_logits.fc1 and .fc2."""
    hidden = _hidden(config, ("pre_logits.fc1", "pre_logits.fc2"), flat=False)
    return [*_features(config), *hidden, *linear("classifier", "head.fc", head=True)]


def _features(config: VGG) -> list[Tensor]:
    tensors, n = [], 0
    for i, convs in enumerate(config.convs):
        stage = f"stage{i}" if i else "stem"
        for j in range(convs):
            tensors += conv(f"{stage}_conv{j}", f"features.{n}", bias=True)
            if config.batch_norm:
                tensors += norm(f"{stage}_norm{j}", f"features.{n + 1}")
            n += 3 if config.batch_norm else 2
        n += 1
    return tensors


def _hidden(config: VGG, names: tuple[str, str], flat: bool) -> list[Tensor]:
    first = on_map("dense1", names[0], scaled(512, config.width), flat)
    return [*first, *on_map("dense2", names[1], scaled(4096, config.width), flat)]


LAYOUTS = {"torchvision": torchvision, "timm": timm}
