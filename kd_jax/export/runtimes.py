"""Runs an exported file in the runtime that it is for, in a process of its own:

    python -P runtimes.py FORMAT FILE IMAGES.npy LOGITS.npy

Nothing of kd_jax is imported, but for its own format."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np

BATCH = 256  # the last one is smaller

Run = Callable[[np.ndarray], np.ndarray]


def onnx(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: np.asarray(session.run(None, {name: images})[0])


def stablehlo(path: Path) -> Run:
    import jax
    from jax import export

    call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return lambda images: np.asarray(call(images))


def safetensors(path: Path) -> Run:
    import jax

    from kd_jax.export import load

    call = jax.jit(load(path.parent).function)
    return lambda images: np.asarray(call(images))


def litert(path: Path) -> Run:
    """One image at a time."""
    interpreter = import_module("ai_edge_litert.interpreter").Interpreter(model_path=str(path))
    run = interpreter.get_signature_runner()
    return lambda images: np.concatenate([run(images=x[None])["logits"] for x in images])


RUNTIMES = {
    "onnx": onnx,
    "onnx-int8": onnx,
    "stablehlo": stablehlo,
    "safetensors": safetensors,
    "litert": litert,
}


def main(form: str, file: str, images: str, logits: str) -> None:
    run, inputs = RUNTIMES[form](Path(file)), np.load(images, mmap_mode="r", allow_pickle=False)
    parts = [
        run(np.ascontiguousarray(inputs[begin : begin + BATCH]))
        for begin in range(0, len(inputs), BATCH)
    ]
    np.save(logits, np.concatenate(parts))


if __name__ == "__main__":
    main(*sys.argv[1:])
