"""scikit-learn's digits: a data set that needs no download."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from kd_jax import sources
from kd_jax.datasets import DATASETS, Data, Spec
from kd_jax.errors import require
from kd_jax.splits import permutation
from kd_jax.units import amount

Part = tuple[np.ndarray, np.ndarray]  # images uint8 [N, H, W, 1], labels int32 [N]


def digits(config: Data) -> tuple[Spec, Part, Part]:
    """(the set's form, train, test): 1,797 digits of 8x8 pixels from 0 to 16, of which 1,000 are to
    train and 797 to test.

    Alpaydin & Kaynak: Optical Recognition of Handwritten Digits, 1998,
    https://doi.org/10.24432/C50P49 (its test part). They come without a split, so this one is
    fixed here: the order of the stored training split is that of a permutation.

    Raises:
      UsageError: resized, they are more than --data.memory-mb.
    """
    side, needed = config.image_size, 1797 * config.image_size**2  # a byte a pixel
    require(
        needed <= config.memory_mb * 2**20,
        f"--data.image-size {side}: the digits then take {amount(needed, 'B')}, "
        f"more than --data.memory-mb {config.memory_mb}: lower it, or raise that",
    )
    pixels, labels = stored()
    images = pixels.reshape(-1, 8, 8, 1)
    spec = DATASETS["digits"]
    if side:
        resize = lambda x: sources.to_array(Image.fromarray(x[..., 0]), 1, side)  # noqa: E731
        images = np.stack([resize(x) for x in images])
        spec = dataclasses.replace(spec, size=(side, side))
    order = permutation(len(labels), 0)
    train, test = order[:1000], order[1000:]
    return spec, (images[train], labels[train]), (images[test], labels[test])


def stored() -> Part:
    """(pixels uint8 [1797, 64] from 0 to 16, labels int32 [1797]), in scikit-learn's order.

    The file that it brings along is read without importing it, which takes a second; where it is
    kept elsewhere than in the versions known to us, scikit-learn is asked.
    """
    spec = importlib.util.find_spec("sklearn")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "datasets", "data", "digits.csv.gz")
        if path.is_file():
            table = np.loadtxt(path, delimiter=",")
            return table[:, :-1].astype(np.uint8), table[:, -1].astype(np.int32)
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.asarray(pixels, np.uint8), np.asarray(labels, np.int32)
