"""Pre-trained weights: files of safetensors as torchvision and timm name their tensors, read and
written. Nothing here ever loads a pickle.

Each family's file holds its layouts as lists of pairs (their name, our path), see tensors.py.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kd_jax.errors import UsageError, did_you_mean, require
from kd_jax.models.base import ModelConfig
from kd_jax.models.vit import ViT
from kd_jax.pretrained.layouts import layouts
from kd_jax.pretrained.tensors import Tensor
from kd_jax.pretrained.vit import POSITIONS, is_table, moved
from kd_jax.tree import named_leaves

Shape = tuple[int, ...]
COUNTS = ".num_batches_tracked"  # of PyTorch's norms, which don't need it to be evaluated
KINDS = ("F16", "BF16", "F32", "F64")  # as safetensors names them
FIX = "take another file"
# As torchvision named them before version 0.13, and still does in files of that time.
RENAMED = {"mlp.linear_1.": "mlp.0.", "mlp.linear_2.": "mlp.3."}


@dataclasses.dataclass(frozen=True)
class Found:
    """What a file holds of a network.

    Attributes:
      file: the file.
      layout: by whose names.
      names: {our name of theirs: its name in the file}.
      tensors: those that are taken.
      fresh: paths of ours that are not: a classifier of other classes than the data's.
      classes: of the file's classifier; 0 where it has none.
    """

    file: Path
    layout: str
    names: dict[str, str]
    tensors: tuple[Tensor, ...]
    fresh: tuple[str, ...]
    classes: int


def digest(file: str | Path) -> str:
    """The file's SHA-256, in hexadecimal digits. Raises UsageError where it can't be read."""
    path = Path(file)
    require(
        not path.exists() or path.is_file(),
        f"weights {file}: can't be read (it is no file): name a file of safetensors",
    )
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(
            f"weights {file}: can't be read ({error.strerror}): name a file of safetensors"
        ) from error


def look(file: str | Path, config: ModelConfig, variables: Any) -> Found:
    """What a file holds of a network, by its header alone.

    Args:
      config: the network's architecture.
      variables: of one network, as shapes.

    Raises:
      UsageError: it is no such file, or its tensors are not this network's; it names the first.
    """
    header = _header(Path(file))
    names = {_renamed(name): name for name in header if not name.endswith(COUNTS)}
    known = layouts(config, variables)
    held = lambda layout: sum(tensor.theirs in names for tensor in known[layout])  # noqa: E731
    layout = max(known, key=held)
    who = f"weights {file}: it"
    require(
        held(layout) > 0,
        f"{who} holds {', '.join([*names][:3]) or 'nothing'}, and no tensor of this "
        f"{type(config).__name__} as {' or '.join(known)} would name it: take another file, or "
        "change the model",
    )
    tensors = known[layout]
    heads = [tensor for tensor in tensors if tensor.head]
    body = [tensor for tensor in tensors if not tensor.head]
    who = f"{who} has the layout of {layout}, but"
    _require_names(who, names, tensors, body)
    shapes = {tensor.theirs: _shape(tensor, variables) for tensor in tensors}
    there = {tensor.theirs: header.get(names.get(tensor.theirs, ""), ()) for tensor in tensors}
    keeps = all(there[tensor.theirs] == shapes[tensor.theirs] for tensor in heads)
    for tensor in tensors:
        found, needed = there[tensor.theirs], shapes[tensor.theirs]
        movable = isinstance(config, ViT) and tensor.ours == POSITIONS and is_table(config, found)
        spare = tensor.head and (not found or tensor.fits(found, needed))
        require(
            found == needed or movable or spare,
            f"{who} its {tensor.theirs} is {[*found]}, and this model's is {[*needed]}",
        )
    return Found(
        file=Path(file),
        layout=layout,
        names=names,
        tensors=tuple(tensors if keeps else body),
        fresh=() if keeps else tuple(path for tensor in heads for path in tensor.paths),
        classes=next((t.classes(there[t.theirs]) for t in heads if there[t.theirs]), 0),
    )


def read(found: Found, config: ModelConfig, variables: Any, shape: Shape) -> dict[str, np.ndarray]:
    """{path: float32 array} of what is taken from a file; `shape` is that of an input [H, W, C].

    Position tables of another image size are interpolated, see `vit.moved`.
    """
    ours = {path: leaf.shape for path, leaf in named_leaves(variables).items()}
    taken: dict[str, np.ndarray] = {}
    # Not "numpy", which knows no bfloat16.
    with safe_open(found.file, "flax") as file:
        for tensor in found.tensors:
            who = f"weights {found.file}: its {tensor.theirs}"
            with np.errstate(over="ignore"):  # of float64, seen below
                array = np.asarray(file.get_tensor(found.names[tensor.theirs]), np.float32)
            require(bool(np.isfinite(array).all()), f"{who} has entries that are not finite: {FIX}")
            if tensor.ours == POSITIONS and array.shape != ours[POSITIONS]:
                assert isinstance(config, ViT)
                grid = shape[0] // config.patch, shape[1] // config.patch
                array = moved(array, ours[POSITIONS], grid)
            for path, part in zip(tensor.paths, np.split(array, len(tensor.paths)), strict=True):
                taken[path] = tensor.imported(part, ours[path])
    return taken


def load(
    file: str | Path, config: ModelConfig, variables: Any, shape: Shape
) -> dict[str, np.ndarray]:
    """{path: float32 array} of the network in a file, without a classifier of other classes.

    `look` and `read` in one; see there.
    """
    return read(look(file, config, variables), config, variables, shape)


def save(
    file: str | Path, config: ModelConfig, variables: Any, layout: str = "torchvision"
) -> None:
    """Writes one network, {"params": ..., "batch_stats": ...}, as torchvision, timm or kd_jax
    names its tensors: in PyTorch, `module.load_state_dict(safetensors.torch.load_file(file))`.

    Of a Snapshot, seed i's: `jax.tree.map(lambda x: x[i], snapshot.variables)`.

    Raises:
      UsageError: the architecture can't be written so.
    """
    known = layouts(config, variables)
    require(
        layout in known,
        f"layout {layout!r}: this {type(config).__name__} has none of it."
        f"{did_you_mean(layout, known)}",
    )
    ours = named_leaves(variables)
    arrays: dict[str, np.ndarray] = {}
    for tensor in known[layout]:
        parts = [tensor.exported(np.asarray(ours[path])) for path in tensor.paths]
        arrays[tensor.theirs] = np.ascontiguousarray(np.concatenate(parts))
        if tensor.theirs.endswith(".running_var"):
            arrays[tensor.theirs.removesuffix(".running_var") + COUNTS] = np.zeros((), np.int64)
    save_file(arrays, file, {"format": "pt"})


def _header(file: Path) -> dict[str, Shape]:
    """{name: shape} of a file's tensors."""
    try:
        with safe_open(file, "flax") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            kinds = {name: slice.get_dtype() for name, slice in slices.items()}
            shapes = {name: tuple(slice.get_shape()) for name, slice in slices.items()}
    except OSError as error:
        reason = "a folder" if file.is_dir() else "no such file" if not file.exists() else error
        raise UsageError(f"weights {file}: {reason}: name a file of safetensors") from error
    except SafetensorError as error:
        raise UsageError(
            f"weights {file}: no file of safetensors ({error}); PyTorch's own .pth, .pt and .bin "
            "are pickles, which are programs, and never loaded: write the state_dict anew by "
            "safetensors.torch.save_file"
        ) from error

    for name, kind in kinds.items():
        require(
            kind in KINDS or name.endswith(COUNTS),
            f"weights {file}: its {name} is of {kind}, and not of {', '.join(KINDS)}: {FIX}",
        )
    return shapes


def _renamed(name: str) -> str:
    for before, now in RENAMED.items():
        name = name.replace(before, now)
    return name


def _require_names(
    who: str, names: dict[str, str], tensors: Sequence[Tensor], body: Sequence[Tensor]
) -> None:
    """Of a file's tensors none may be missing but a head's, and none may be left over."""
    fix = "take another file, or change the model's fields"
    missing = [tensor.theirs for tensor in body if tensor.theirs not in names]
    require(not missing, f"{who} lacks {_listed(missing)}, which this model has: {fix}")
    extra = [name for name in names if name not in {tensor.theirs for tensor in tensors}]
    require(not extra, f"{who} holds {_listed(extra)}, which this model has not: {fix}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{''.join(names[:1])}{more}"


def _shape(tensor: Tensor, variables: Any) -> Shape:
    """Of theirs."""
    ours = named_leaves(variables)
    first, *others = (jax.eval_shape(tensor.exported, ours[path]).shape for path in tensor.paths)
    return (first[0] * (1 + len(others)), *first[1:]) if others else first
