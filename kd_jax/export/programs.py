"""A network as one file that holds the program and its weights."""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
from jax import export

from kd_jax.errors import UsageError
from kd_jax.export.convert import to_onnx
from kd_jax.export.network import Network
from kd_jax.export.program import any_batch

PLATFORMS = ("cpu", "cuda", "tpu")
SCRIPT = Path(__file__).with_name("to_litert.py")


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


def write_litert(path: Path, network: Network) -> None:
    """A LiteRT (TensorFlow Lite) file for one image at a time.

    Raises:
      UsageError: an operation has no form there, such as a loop.
    """
    like = jax.ShapeDtypeStruct((1, *network.spec.shape), network.dtype)
    function = any_batch(network.function, network.spec.shape, network.dtype)
    made = export.export(jax.jit(function), platforms=("cpu",))(like)
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.mlir"
        program.write_text(made.mlir_module(), encoding="utf-8")
        command = [sys.executable, "-P", SCRIPT, program, path.absolute()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise UsageError(
            f"--format litert: its converter can't take this network ({said[-1].strip()}): leave "
            "litert out, --format stablehlo takes every network"
        )


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
