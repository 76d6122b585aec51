"""What tensorflow-datasets may not do while it opens a prepared set: speak, and run what its files
name."""

import contextlib
import io
import os
from collections.abc import Iterator

from kd_jax.errors import require, shortened

FEATURES = "tensorflow_datasets.core.features."
"""Where the classes are by which prepared sets describe their examples."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the words of tensorflow-datasets (and TensorFlow, where installed) off the screen: they
    are about preparing data, and what matters of them is said by a UsageError."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(
            io.StringIO()
        ):  # where it prints that TensorFlow is missing
            yield
    finally:
        logging.set_verbosity(before)


@contextlib.contextmanager
def running_nothing(before: str) -> Iterator[None]:
    """Refuses classes that are not tensorflow-datasets' own, which a set's features.json may name:
    it imports any module whose class is asked for. Which file it reads hangs on other files of the
    set, so each class is looked at where it is asked for, and not in the file.

    Raises:
      UsageError: there is one; it begins with `before`.
    """
    from tensorflow_datasets.core.features.feature import FeatureConnector

    original = FeatureConnector.__dict__["cls_from_name"]

    def own(cls: type[FeatureConnector], name: str) -> type[FeatureConnector]:
        require(
            name.startswith(FEATURES),
            f"{before}its features.json names the class {shortened(repr(name))}, which is none of "
            "tensorflow-datasets' features, and no other code is run: prepare the set anew",
        )
        return original.__get__(None, cls)(name)

    FeatureConnector.cls_from_name = classmethod(own)  # type: ignore[assignment]
    try:
        yield
    finally:
        FeatureConnector.cls_from_name = original
