"""A network as one file that holds the program and its weights."""

import hashlib
from pathlib import Path

import jax
from jax import export

from kd_jax.export.convert import to_onnx
from kd_jax.export.network import Network
from kd_jax.export.program import any_batch

PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(path: Path, network: Network) -> None:
    """jax.export's file, for CPU, CUDA and TPU at once, with a free batch."""
    (batch,) = export.symbolic_shape("batch")
    shape, dtype = network.spec.shape, network.dtype
    function = any_batch(network.function, shape, dtype)
    like = jax.ShapeDtypeStruct((batch, *shape), dtype)
    made = export.export(jax.jit(function), platforms=PLATFORMS)(like)
    path.write_bytes(made.serialize())


def write_onnx(path: Path, network: Network) -> None:
    """An ONNX file with a free batch."""
    import onnx

    spec = network.spec
    facts = {"data": spec.name, "classes": ", ".join(spec.names or map(str, range(spec.classes)))}
    model = to_onnx(network.function, spec.shape, network.dtype, facts=facts)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
