"""From a run to files that are read in processes of their own."""

import json
import shutil

import jax
import numpy as np
import onnx
import pytest
from calls import refused
from safetensors.numpy import load_file, save_file
from tiny_experiment import run_of, tiny

from kd_jax import UsageError, export, jsons
from kd_jax.config import Prune, Shrink
from kd_jax.export import check, network
from kd_jax.models import MLP
from kd_jax.optim import Optim

COMMON = {"epochs": 1, "batch": 32, "optim": Optim(learning_rate=0.1)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A student of two layers, shrunk and then pruned, whose sparsity is swept, in bfloat16."""
    stages = {
        "train": tiny().stages["train"],
        "shrink": Shrink(start="train", model="teacher", amount=0.25, **COMMON),
        "prune": Prune(start="shrink", model="teacher", sparsity=0.5, **COMMON),
    }
    given = tiny(
        teacher=MLP(widths=(16, 12)),
        stages=stages,
        sweep=("prune.sparsity=0.5,0.8",),
        compute="bfloat16",
    )
    return run_of(given, tmp_path_factory.mktemp("runs") / "run")


STAGE = "prune/sparsity=0.8"


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """(files, the accuracy in the run, their folder) of its last network, seed 1."""
    folder = tmp_path_factory.mktemp("exported")
    return *export.export(run, STAGE, 1, folder=folder, command="export it"), folder


def test_every_file_says_in_its_own_runtime_what_the_network_says(run, exported):
    """The network computes in bfloat16, its files in float32."""
    files, own, folder = exported
    snapshot = network.snapshot_of(run, STAGE, 1)
    logits, labels = network.predictions(run, run.model(STAGE), snapshot)
    assert own == pytest.approx(np.mean(logits.argmax(1) == labels))
    assert [file.form for file in files] == [*export.DEFAULT]
    for file in files:
        assert file.path.parent == folder
        assert file.check.examples == 40
        assert file.check.changed == 0
        assert file.check.difference < 1e-5
        assert file.check.accuracy == file.check.expected
        assert file.check.accuracy == pytest.approx(own, abs=0.05)


def test_the_card_tells_what_it_is(exported):
    files, _, folder = exported
    text = (folder / "README.md").read_text(encoding="utf-8")
    for part in (
        "pruned",
        "uint8 `[batch, 8, 8, 1]`, pixels as digits stores them, 0 to 16",
        "give raw pixels",
        "1. `train`",
        "2. `shrink`",
        "pruned to sparsity 0.8",
        "seed 1",
        f"{100 * files[0].check.expected:.2f} %",
        "`model.onnx`",
        "`export it`",
        "Licence",
    ):
        assert part in text


def test_onnx_takes_any_batch(exported):
    model = onnx.load(exported[2] / "model.onnx")
    given, said = model.graph.input[0], model.graph.output[0]
    sizes = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (given, said)
    ]
    assert sizes == [["batch", 8, 8, 1], ["batch", 10]]
    assert {p.key: p.value for p in model.metadata_props}["data"] == "digits"


def test_load_gives_the_network_back_with_its_masks(run, exported):
    found = export.load(exported[2])
    before = network.snapshot_of(run, STAGE, 1)
    jax.tree.map(np.testing.assert_array_equal, found.snapshot.params, before.params)
    jax.tree.map(np.testing.assert_array_equal, found.snapshot.masks, before.masks)
    assert jax.tree.structure(found.snapshot) == jax.tree.structure(before)


def test_no_file_tells_where_it_was_made(run, exported):
    text = (exported[2] / "config.json").read_text(encoding="utf-8")
    assert str(run.folder.parent) not in text


def test_no_pickle_is_read(exported, tmp_path, monkeypatch):
    """What loads executes nothing that the files hold."""
    import pickle

    monkeypatch.setattr(pickle, "loads", None)
    monkeypatch.setattr(pickle, "Unpickler", None)
    export.load(exported[2])


# Damage --------------------------------------------------------------------------------------


@pytest.fixture
def copied(exported, tmp_path):
    return shutil.copytree(exported[2], tmp_path / "copy")


def test_a_file_cut_short_is_refused(copied):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"model\.safetensors: damaged .* export it again"):
        export.load(copied)


def test_a_header_that_lies_of_its_size_is_refused(copied):
    (copied / "model.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    with pytest.raises(UsageError, match="damaged"):
        export.load(copied)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("params/classifier/bias"), "classifier/bias is none"),
        (
            lambda a: a.update(more=np.zeros(3)),
            r"more is float64\[3\], and config.json makes it none",
        ),
        (lambda a: a.update({"params/classifier/bias": np.zeros(11, np.float32)}), r"\[11\]"),
        (lambda a: a.update({"params/classifier/bias": np.zeros(10)}), "float64"),
        (lambda a: a.update({"params/classifier/bias": np.full(10, np.nan, "f")}), "not finite"),
    ],
    ids=["missing", "more", "shape", "type", "not finite"],
)
def test_arrays_that_do_not_fit_are_refused(copied, change, words):
    arrays = load_file(copied / "model.safetensors")
    change(arrays)
    save_file(arrays, copied / "model.safetensors")
    with pytest.raises(UsageError, match=words):
        export.load(copied)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(format=7), "format 7, not 1"),
        (lambda c: c.pop("experiment"), "damaged"),
        (lambda c: c.update(stage="other"), "damaged"),
        (lambda c: c["experiment"]["teacher"].update({"class": "os.system"}), "unknown class"),
        (
            lambda c: c["experiment"]["teacher"].update(widths=[10**9]),
            "the teacher would take .* of memory",
        ),
        (lambda c: c["experiment"]["teacher"].update(widths=[10**10]), "must be within"),
        (lambda c: c["widths"]["shrink"].update(groups={"x": [1, 2]}), "no such group"),
    ],
    ids=[
        "format",
        "no experiment",
        "no stage",
        "a class",
        "huge",
        "more than huge",
        "other widths",
    ],
)
def test_a_config_that_does_not_fit_is_refused(copied, change, words):
    said = json.loads((copied / "config.json").read_text(encoding="utf-8"))
    change(said)
    # As whoever wants to do harm writes it: with the checksum of what it says.
    said = jsons.summed(jsons.unsummed(said)[0])
    (copied / "config.json").write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(UsageError, match=words):
        export.load(copied)


# Checks --------------------------------------------------------------------------------------


def test_a_file_that_says_something_else_is_an_error(exported, tmp_path):
    """The file is right, and what it is compared with is not."""
    logits = np.random.default_rng(0).normal(size=(5, 10)).astype(np.float32)
    np.save(tmp_path / "images.npy", np.zeros((5, 8, 8, 1), np.uint8))
    given = (exported[2] / "model.onnx", tmp_path / "images.npy", logits, logits.argmax(1))
    with pytest.raises(UsageError, match=r"beyond rounding.*do not use it"):
        check.compare("onnx", *given)


def test_a_damaged_program_is_an_error(exported, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((5, 8, 8, 1), np.uint8))
    path = tmp_path / "model.onnx"
    path.write_bytes((exported[2] / "model.onnx").read_bytes()[:-40])
    with pytest.raises(UsageError, match=r"its runtime can't run .*model\.onnx"):
        check.ask("onnx", path, tmp_path / "images.npy")


def test_a_missing_package_is_named_with_its_extra(run, monkeypatch):
    monkeypatch.setattr(export.extras, "missing", lambda form: ["onnxruntime"])
    with pytest.raises(UsageError, match=r"needs onnxruntime: install the extra export \(pip"):
        export.export(run, STAGE, 1, ["onnx"])


def test_litert_is_an_extra(run, tmp_path):
    if not export.extras.missing("litert"):
        pytest.skip("it is installed")
    with pytest.raises(UsageError, match=r"needs litert_converter and .* extra litert"):
        export.export(run, STAGE, 1, ["litert"], tmp_path)


def test_litert_says_the_same(run, tmp_path):
    if export.extras.missing("litert"):
        pytest.skip("it is not installed")
    (file,), _ = export.export(run, STAGE, 1, ["litert"], tmp_path)
    assert file.check.changed == 0
    assert file.check.difference < 1e-5


# The verb ------------------------------------------------------------------------------------


def test_the_verb_writes_into_the_run(call, run):
    status, out, error = call("export", run.folder, "--format", "safetensors")
    assert (status, error) == (0, "")
    folder = run.folder / "export" / "prune-sparsity=0.8" / "seed-0"
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    for word in ("seed 0", "model.safetensors", "0 of 40", "files and model card:"):
        assert word in out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--format", "tflite"], "--format tflite: no such format. Did you mean 'litert'"),
        (["--format"], "--format takes one value or more, but got none"),
        (["--stage", "shrnk"], "--stage 'shrnk' is no finished stage. Did you mean"),
        (["--seed", "7"], "--seed 7: the run has 0, 1"),
        (["--sead", "1"], "unknown flag --sead. Did you mean '--seed'"),
    ],
)
def test_mistakes_are_told_in_one_line(call, run, flags, words):
    assert words in refused(call, "export", run.folder, *flags)
