"""Times networks in a process of its own, since threads can be chosen at a process's start alone:

python -m kd_jax.latency_worker QUESTION.json ANSWER.json
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax import sparse
from kd_jax.augment import normalise
from kd_jax.export import FILES, load
from kd_jax.forward import Model
from kd_jax.latency import interleaved
from kd_jax.quantize import integer, integers
from kd_jax.quantize.network import INPUTS, grids
from kd_jax.tree import size_bytes

Calls = dict[str, Callable[[], Any]]
ZEROS = "zeros left out"  # of a network with matrices in compressed rows
INT8 = "int8 products"  # of a quantised network


@dataclasses.dataclass(frozen=True)
class Question:
    """What is to be timed.

    Attributes:
      runtime: XLA or onnxruntime.
      threads: 1, or 0 for as many as there are cores.
      networks: {name: its export's folder}.
      pruned: names of those that have zeros to leave out.
      images: a file of stored images, as many as the largest batch.
    """

    runtime: str
    threads: int
    networks: dict[str, str]
    pruned: list[str]
    images: str
    batches: list[int]
    seconds: float


def main(question: str, answer: str) -> None:
    asked = Question(**json.loads(Path(question).read_text(encoding="utf-8")))
    if asked.threads == 1 and hasattr(os, "sched_setaffinity"):  # before XLA starts its threads
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    images = np.load(asked.images, allow_pickle=False)
    calls_of = {"XLA": _by_xla, "onnxruntime": _by_onnxruntime}[asked.runtime](asked)
    rows = []
    for batch in asked.batches:
        calls, facts = calls_of(images[:batch])
        for name, found in interleaved(calls, asked.seconds).items():
            own = {"network": name, "batch": batch, "latency": dataclasses.asdict(found)}
            rows.append({**own, **facts.get(name, {})})
    Path(answer).write_text(json.dumps(rows), encoding="utf-8")


def _by_xla(asked: Question) -> Callable[[np.ndarray], tuple[Calls, dict[str, dict]]]:
    networks = {name: load(folder) for name, folder in asked.networks.items()}

    def calls(images: np.ndarray) -> tuple[Calls, dict[str, dict]]:
        x = jax.device_put(images)
        found: Calls = {}
        facts: dict[str, dict] = {}
        for name, network in networks.items():
            model, variables = _of_pixels(network.model, network.spec), network.snapshot.variables
            found[name], facts[name] = _compiled(model, variables, x)
            if network.model.beneath is not None and grids(variables)[INPUTS]:
                whole, own = _of_pixels(integer(network.model), network.spec), f"{name}, {INT8}"
                found[own], facts[own] = _compiled(whole, integers(variables), x)
            if name in asked.pruned:
                seen = normalise(x, network.spec)
                timed = sparse.measure(network.model, variables, {len(x): seen}, 0.1)
                layers = timed[str(len(x))].layers if timed else []
                if layers:
                    less = sparse.compress(variables, layers)
                    model = _of_pixels(sparse.sparse(network.model), network.spec)
                    own = f"{name}, {ZEROS}"
                    found[own], facts[own] = _compiled(model, less, x)
        return found, facts

    return calls


def _of_pixels(model: Model, spec: Any) -> Model:
    def forward(variables, inputs, train=False, key=None):
        return model.forward(variables, normalise(inputs, spec), train, key)

    return Model(model.init, forward)


def _compiled(model: Model, variables: Any, x: jax.Array) -> tuple[Callable[[], Any], dict]:
    """(a call, the bytes that it takes). Parameters are arguments, as in every report."""
    run = jax.jit(lambda v, x: model.forward(v, x, train=False)[0].logits)
    program = run.lower(variables, x).compile()
    memory = program.memory_analysis()
    temporary = None if memory is None else int(memory.temp_size_in_bytes)
    facts = {"temporary_bytes": temporary, "parameter_bytes": size_bytes(variables)}
    return lambda: program(variables, x), facts


def _by_onnxruntime(asked: Question) -> Callable[[np.ndarray], tuple[Calls, dict[str, dict]]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = asked.threads
    files = {name: Path(folder) / FILES["onnx"] for name, folder in asked.networks.items()}
    whole = {n: file.with_name(FILES["onnx-int8"]) for n, file in files.items()}
    files |= {f"{name}, {INT8}": file for name, file in whole.items() if file.exists()}
    sessions = {
        name: onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for name, file in files.items()
    }

    def calls(images: np.ndarray) -> tuple[Calls, dict[str, dict]]:
        given = {"images": images}
        run = lambda session: lambda: session.run(None, given)  # noqa: E731
        return {name: run(session) for name, session in sessions.items()}, {}

    return calls


if __name__ == "__main__":
    main(*sys.argv[1:])
