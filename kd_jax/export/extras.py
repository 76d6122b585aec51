"""Packages that only some formats need."""

import importlib.util

from kd_jax.errors import UsageError

NEEDED = {
    "stablehlo": (("flatbuffers",), "export"),
    "onnx": (("onnx", "onnxruntime"), "export"),
    "onnx-int8": (("onnx", "onnxruntime"), "export"),
    "safetensors": ((), ""),
    "litert": (("litert_converter", "ai_edge_litert"), "litert"),
}


def missing(form: str) -> list[str]:
    """The packages that a format lacks."""
    return [name for name in NEEDED[form][0] if importlib.util.find_spec(name) is None]


def check(form: str) -> None:
    """Raises UsageError, which names the extra, where a package is missing."""
    lacks = missing(form)
    if lacks:
        raise UsageError(
            f"--format {form} needs {' and '.join(lacks)}: install the extra {NEEDED[form][1]} "
            f'(pip install -e ".[{NEEDED[form][1]}]"), or leave {form} out'
        )
