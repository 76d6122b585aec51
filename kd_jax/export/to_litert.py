"""Makes a LiteRT (TensorFlow Lite) file of a StableHLO program, in a process of its own:

    python -P to_litert.py PROGRAM.mlir MODEL.tflite

Needs litert-converter, and neither TensorFlow nor JAX. Nothing of kd_jax is imported."""

import sys
from importlib import import_module
from pathlib import Path


def main(program: str, file: str) -> None:
    names = ("converter_api_ext", "mlir.ir", "mlir.passmanager")
    converter, ir, passes = (import_module(f"litert_converter.{name}") for name in names)
    context = ir.Context()
    converter.prepare_mlir_context(context)
    with context:
        module = ir.Module.parse(Path(program).read_text(encoding="utf-8"))
        converter.set_signature(module.operation, "serving_default", ["images"], ["logits"])
        settings = converter.ConvertToTFLConfig()
        converter.run_convert_to_tfl_passes(module, passes.PassManager(), settings)
        converter.export_flatbuffer_to_file(module.operation, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
