"""A run's quantised network as files whose products are of int8."""

import jax
import numpy as np
import onnx
import pytest
from calls import refused
from tiny_experiment import run_of, tiny

from kd_jax import export, latency_worker
from kd_jax.config import Quantize
from kd_jax.export import network

FORMATS = ("onnx", "onnx-int8", "safetensors")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network, and its weights and inputs in 8 bits."""
    stages = {
        "train": tiny().stages["train"],
        "whole": Quantize(start="train", model="teacher", inputs=8, batch=32),
    }
    return run_of(tiny(stages=stages, seeds=1), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    files, _ = export.export(run, "whole", 0, FORMATS, folder)
    return folder, {file.form: file for file in files}


@pytest.mark.slow
def test_the_file_of_integers_says_the_same_in_fewer_bytes(exported):
    _, files = exported
    sizes = {form: file.path.stat().st_size for form, file in files.items()}
    assert sizes["onnx-int8"] < sizes["onnx"]
    assert {file.check.changed for file in files.values()} == {0}
    kinds = {node.op_type for node in onnx.load(files["onnx-int8"].path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_scalars_are_read_as_scalars(run, exported):
    """Such as the scale of what a layer is given."""
    found, before = export.load(exported[0]), network.snapshot_of(run, "whole", 0)
    jax.tree.map(np.testing.assert_array_equal, found.snapshot.collections, before.collections)
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(found.snapshot.collections)}
    assert () in shapes


def test_both_are_timed(exported, monkeypatch):
    """A file of integers beside the other is a network of its own."""
    folder, _ = exported
    asked = latency_worker.Question("onnxruntime", 1, {"whole": str(folder)}, [], "", [1], 0.01)
    calls, _ = latency_worker._by_onnxruntime(asked)(np.zeros((1, 8, 8, 1), np.uint8))
    assert list(calls) == ["whole", "whole, int8 products"]
    assert [np.shape(call()) for call in calls.values()] == [(1, 1, 10)] * 2


def test_a_network_without_integers_is_refused(call, run):
    flags = ["--stage", "train", "--format", "onnx-int8"]
    said = refused(call, "export", run.folder, *flags)
    assert "--STAGE.inputs 8" in said


def test_exports_multiply_all_bits_of_float32_on_every_device(run):
    """By default, accelerators round factors to fewer."""
    function = network.of_run(run, "train", 0).function
    program = jax.make_jaxpr(function)(np.zeros((2, 8, 8, 1), np.uint8))
    text = str(program)
    assert "dot_general" in text
    assert text.count("Precision.HIGHEST") >= text.count("dot_general")
