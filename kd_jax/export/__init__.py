"""Finished networks as files that others can run, each checked in its own runtime.

`export(run, stage, seed, formats, folder, report, command)` writes and checks them; `load(folder)`
reads what the format safetensors holds; `to_onnx(function, shape, dtype)` converts any JAX function
of a batch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from kd_jax.errors import UsageError, did_you_mean, require
from kd_jax.export import card as card_lib
from kd_jax.export import check as check_lib
from kd_jax.export import exchange, extras, network
from kd_jax.export.card import File
from kd_jax.export.convert import to_onnx
from kd_jax.export.exchange import load
from kd_jax.export.network import Network, of_run
from kd_jax.export.programs import write_litert, write_onnx, write_stablehlo
from kd_jax.metrics import accuracy
from kd_jax.runs import Run
from kd_jax.writing import write_text

__all__ = ["DEFAULT", "FILES", "File", "Network", "export", "load", "of_run"]
__all__ += ["to_onnx"]

FILES = {
    "stablehlo": "model.stablehlo",
    "onnx": "model.onnx",
    "onnx-int8": "model.int8.onnx",
    "safetensors": exchange.ARRAYS,
    "litert": "model.tflite",
}
WRITERS = {
    "stablehlo": write_stablehlo,
    "onnx": write_onnx,
    "onnx-int8": lambda path, given: write_onnx(path, network.in_integers(given)),
    "litert": write_litert,
}
DEFAULT = ("stablehlo", "onnx", "safetensors")


def export(
    run: Run,
    stage: str,
    seed: int,
    formats: Sequence[str] = DEFAULT,
    folder: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
    command: str = "",
) -> tuple[list[File], float]:
    """Writes one seed's network of a finished stage in each format, with a model card, and checks
    each file in a fresh process.

    Returns:
      (the files, the accuracy of the run's own network, in the type that it was trained in).

    Raises:
      UsageError: a format that there is not, or whose packages are missing; a network that has no
        form in it; a file that does not say what the network says.
    """
    require(bool(formats), f"--format is empty: name some of {', '.join(FILES)}")
    for form in formats:
        require(form in FILES, f"--format {form}: no such format.{did_you_mean(form, FILES)}")
        extras.check(form)
    folder = folder or run.folder / "export" / stage.replace("/", "-") / f"seed-{seed}"
    given = of_run(run, stage, seed)
    logits, labels = network.predictions(run, given.model, given.snapshot)
    own = logits
    if run.experiment.compute != "float32":
        own, _ = network.predictions(run, run.model(stage), given.snapshot)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {folder}: can't be made ({error.strerror})") from error
    files = []
    with check_lib.stored(run.data.test) as images:
        for form in dict.fromkeys(formats):
            note(f"{stage}: writing {FILES[form]}, and running it in a process of its own")
            path = folder / FILES[form]
            _write(form, path, run, stage, seed, given)
            files.append(File(form, path, check_lib.compare(form, path, images, logits, labels)))
    text = card_lib.card(run, stage, seed, given, files, command)
    write_text(folder / "README.md", text)
    return files, float(accuracy(own, labels))


def _write(form: str, path: Path, run: Run, stage: str, seed: int, given: Network) -> None:
    if form == "safetensors":
        exchange.write(path.parent, run, stage, seed, given)
    else:
        WRITERS[form](path, given)
