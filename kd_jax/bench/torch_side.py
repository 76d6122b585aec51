# pyright: reportMissingImports=false
"""PyTorch's side of a comparison: the same nets, batches and loss, eager and channels_last.

Imports PyTorch and the standard library alone, since PyTorch may live in another environment. The
nets are read from the same configs as kd_jax's, and count the same parameters and multiply-adds.
"""

import os
import platform
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune


def conv(inputs, outputs, kernel, stride=1, groups=1, bias=False):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=bias)


def scaled(channels, width):
    return max(1, round(channels * width))


class Mean(nn.Module):
    """[B, C, H, W] -> [B, C], the mean over all places."""

    def forward(self, x):
        return x.mean((2, 3))


class BasicBlock(nn.Module):
    def __init__(self, inputs, channels, stride):
        super().__init__()
        self.conv1, self.norm1 = conv(inputs, channels, 3, stride), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = conv(channels, channels, 3), nn.BatchNorm2d(channels)
        same = inputs == channels and stride == 1
        projection = nn.Sequential(conv(inputs, channels, 1, stride), nn.BatchNorm2d(channels))
        self.shortcut = nn.Identity() if same else projection

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


def cifar_resnet(config, shape, classes):
    assert config["shortcut"] == "b", "only the shortcut with parameters is written here"
    stem, *stages = (scaled(channels, config["width"]) for channels in config["widths"])
    layers = [conv(shape[2], stem, 3), nn.BatchNorm2d(stem), nn.ReLU(inplace=True)]
    inputs = stem
    for i, channels in enumerate(stages):
        for j in range((config["depth"] - 2) // 6):
            layers.append(BasicBlock(inputs, channels, 2 if i and j == 0 else 1))
            inputs = channels
    return nn.Sequential(*layers, Mean(), nn.Linear(inputs, classes))


def vgg(config, shape, classes):
    assert config["head"] == "linear", "only the head with one linear layer is written here"
    layers, inputs = [], shape[2]
    for i, convs in enumerate(config["convs"]):
        channels = scaled(min(64 * 2**i, 512), config["width"])
        for _ in range(convs):
            layers.append(conv(inputs, channels, 3, bias=True))
            layers += [nn.BatchNorm2d(channels)] if config["batch_norm"] else []
            layers.append(nn.ReLU(inplace=True))
            inputs = channels
        layers += [nn.MaxPool2d(2)] if i < config["pools"] else []
    return nn.Sequential(*layers, Mean(), nn.Linear(inputs, classes))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, channels, expansion, stride, activation, expand):
        super().__init__()
        inner = inputs * expansion
        layers = [conv(inputs, inner, 1), nn.BatchNorm2d(inner), activation()] if expand else []
        layers += [conv(inner, inner, 3, stride, groups=inner), nn.BatchNorm2d(inner), activation()]
        self.layers = nn.Sequential(*layers, conv(inner, channels, 1), nn.BatchNorm2d(channels))
        self.adds = stride == 1 and inputs == channels

    def forward(self, x):
        return x + self.layers(x) if self.adds else self.layers(x)


def mobilenet_v2(config, shape, classes):
    def rounded(channels, width):
        exact, step = channels * width, config["divisor"]
        if config["rounding"] == "down":
            return max(step, int(exact) // step * step)
        found = max(step, int(exact + step / 2) // step * step)
        return found + step if found < 0.9 * exact else found

    activation = partial({"relu6": nn.ReLU6, "relu": nn.ReLU}[config["activation"]], inplace=True)
    width, strides = config["width"], config["strides"]
    inputs = rounded(32, width)
    layers = [conv(shape[2], inputs, 3, strides[0]), nn.BatchNorm2d(inputs), activation()]
    groups = zip((16, 24, 32, 64, 96, 160, 320), config["repeats"])  # noqa: B905 (not before 3.10)
    for i, (channels, repeats) in enumerate(groups):
        for j in range(repeats):
            outputs, stride = rounded(channels, width), strides[i + 1] if j == 0 else 1
            expansion, expand = config["expansion"] if i else 1, bool(i) or config["expand_first"]
            layers.append(InvertedResidual(inputs, outputs, expansion, stride, activation, expand))
            inputs = outputs
    last = rounded(config["last"], max(1.0, width))
    layers += [conv(inputs, last, 1), nn.BatchNorm2d(last), activation(), Mean()]
    return nn.Sequential(*layers, nn.Dropout(config["dropout"]), nn.Linear(last, classes))


def mlp(config, shape, classes):
    units = [shape[0] * shape[1] * shape[2]]
    units += [scaled(width, config["width"]) for width in config["widths"]]
    layers = [nn.Flatten(), nn.Dropout(config["input_dropout"])]
    for i in range(1, len(units)):
        layers += [nn.Linear(units[i - 1], units[i]), nn.ReLU(), nn.Dropout(config["dropout"])]
    return nn.Sequential(*layers, nn.Linear(units[-1], classes))


NETS = {"CifarResNet": cifar_resnet, "VGG": vgg, "MobileNetV2": mobilenet_v2, "MLP": mlp}


def net(config, data):
    """The module of a config, in channels_last."""
    built = NETS[config["class"]](config, data["shape"], data["classes"])
    return built.to(memory_format=torch.channels_last)


def macs(module, shape):
    """Multiply-adds of one example [H, W, C], in convolutions and linear layers."""
    found = []

    def count(layer, _, output):
        # A weight of [outputs, ...] meets each of an output's places once.
        found.append(output.numel() * layer.weight.numel() // layer.weight.shape[0])

    layers = [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    trains = module.training
    with torch.no_grad():
        module.eval()(torch.zeros(1, shape[2], shape[0], shape[1]))
    module.train(trains)
    for hook in hooks:
        hook.remove()
    return sum(found)


def objective(stage, student, teacher, labels):
    """hard_weight · CE(labels) + weight · T² KL(teacher ‖ student), means over the batch."""
    hard = F.cross_entropy(student, labels)
    if teacher is None:
        return stage.get("hard_weight", 1.0) * hard
    kd = stage["terms"]["kd"]
    T = kd["temperature"]
    log_q, log_p = F.log_softmax(student / T, 1), F.log_softmax(teacher / T, 1)
    soft = T**2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    return stage["hard_weight"] * hard + kd["weight"] * soft


def batches(data, size):
    """Endless batches of resident examples, in a new order each epoch: normalised images
    [B, C, H, W] that lie in memory as [B, H, W, C], and labels."""
    scale = data["scale"]
    shape = (data["examples"], *data["shape"])
    pixels = torch.randint(0, int(scale) + 1, shape, dtype=torch.uint8)
    labels = torch.randint(0, data["classes"], (data["examples"],))
    mean, std = scale * torch.tensor(data["mean"]), scale * torch.tensor(data["std"])
    while True:
        for rows in torch.randperm(data["examples"]).split(size):
            if len(rows) == size:
                images = pixels[rows].float().sub_(mean).div_(std)
                yield images.permute(0, 3, 1, 2), labels[rows]


def mask(module, sparsity):
    """Masks of kernels, by magnitude in each layer, as torch.nn.utils.prune applies them."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            # l1_unstructured itself can't take a weight that lies in channels_last.
            sizes = layer.weight.detach().abs()
            smallest = sizes.flatten().kthvalue(max(1, round(sparsity * sizes.numel()))).values
            prune.custom_from_mask(layer, "weight", sizes > smallest)


def threads():
    """As many as XLA's CPU backend starts."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def facts(nets, data):
    """Parameters, and multiply-adds of one example, of each net; and what it runs with."""
    version = f"{torch.__version__} ({torch.get_num_threads()} threads"
    return {
        "parameters": {r: sum(p.numel() for p in net.parameters()) for r, net in nets.items()},
        "macs": {role: macs(net, data["shape"]) for role, net in nets.items()},
        "versions": {"torch": f"{version}, Python {platform.python_version()})"},
    }


def prepare(request):
    """(run, facts) of one row; run(steps) goes on from where it was, as a training does."""
    torch.manual_seed(0)
    torch.set_num_threads(threads())
    data, stage = request["data"], request["stage"]
    nets = {r: net(request[r], data) for r in ("student", "teacher") if request[r] is not None}
    student, teacher = nets["student"].train(), nets.get("teacher")
    if stage["class"] == "Prune":
        mask(student, stage["sparsity"])
    optim = stage["optim"]
    optimizer = torch.optim.SGD(
        student.parameters(),
        lr=optim["learning_rate"],
        momentum=optim["momentum"],
        weight_decay=optim["weight_decay"],
    )
    source = batches(data, stage["batch"])
    sums = {"loss": torch.zeros(()), "accuracy": torch.zeros(())}

    def run(steps):
        for _ in range(steps):
            images, labels = next(source)
            with torch.no_grad():
                soft = None if teacher is None else teacher(images)
            logits = student(images)
            loss = objective(stage, logits, soft, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums["loss"] += loss.detach()
            sums["accuracy"] += (logits.detach().argmax(1) == labels).float().mean()

    return run, lambda: facts(nets, data)
