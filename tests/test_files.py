"""Networks of a run as files: written by a pipeline, evaluated in a process of their own."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny as tiny_nets
from calls import refused
from marks import slow_but
from rich.console import Console
from tiny_experiment import fake_data, run_of, tiny

import kd_jax
from kd_jax import cli_encode, files, pipeline, stages, tree
from kd_jax.config import Distill, Gate, Prune, Shrink, Train
from kd_jax.data import load
from kd_jax.datasets import Data
from kd_jax.distill import KD, SimKD
from kd_jax.encode import network as network_lib
from kd_jax.encode.container import decoded, encoded
from kd_jax.errors import UsageError
from kd_jax.forward import from_linen
from kd_jax.loop import Silent
from kd_jax.models.cifar_resnet import CifarResNet
from kd_jax.models.mlp import MLP
from kd_jax.models.vgg import VGG
from kd_jax.optim import Optim
from kd_jax.state import network

COMMON = {"epochs": 1, "batch": 32, "optim": Optim(learning_rate=0.1)}
STAGES = {
    "prune": Prune(sparsity=0.8, **COMMON),
    "shrink": Shrink(start="prune", amount=0.25, **COMMON),
    "gate": Gate(start="shrink", hidden=6, **COMMON),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Pruned as it is trained; then cut and gated, but not trained again, since that takes long."""
    folder = tmp_path_factory.mktemp("files")
    given = tiny(student=MLP(widths=(16, 12)), stages=STAGES, out=str(folder), only=("prune",))
    run = run_of(given, folder / "run")
    for stage in ("shrink", "gate"):
        pipeline._decide(run, stage, Silent())
        begun = pipeline._start(run, [stage], (0, 1), Silent())
        run.store(stage, (0, 1)).finish(begun, {"seconds": 0.0})
    return run


@pytest.mark.parametrize(
    ("stage", "seed"), [("prune", 0), ("prune", 1), ("shrink", 1), ("gate", 1)]
)
def test_a_file_is_the_network_of_its_run(run, stage, seed, tmp_path):
    made = files.encoded(run, stage, seed)
    (tmp_path / "a.kdz").write_bytes(made.data)
    loaded = kd_jax.load_encoded(tmp_path / "a.kdz")
    ours = run.network(stage, (0, 1))
    for name, leaf in tree.named_leaves(loaded.snapshot.variables).items():
        before = np.asarray(tree.named_leaves(ours.variables)[name])[seed]
        assert np.asarray(leaf)[0].tobytes() == before.tobytes(), name
    found = kd_jax.evaluate(loaded.model, run.data, loaded.snapshot)
    assert (
        found["accuracy"][0] == stages.evaluate(run.model(stage), run.data, ours)["accuracy"][seed]
    )
    origin = loaded.about.origin
    assert (origin["stage"], origin["seed"], origin["run"]) == (stage, str(seed), "run")


def test_a_pruned_network_takes_fewer_bytes(run):
    made = {stage: files.encoded(run, stage, 0) for stage in ("prune", "shrink")}
    assert len(made["prune"].data) < made["prune"].dense_bytes / 2
    assert len(made["shrink"].data) < len(made["prune"].data)


def test_the_verbs(run, call, tmp_path):
    """encode writes a file, a fresh process evaluates it, and so can everybody else."""
    status, out, error = call("encode", run.folder, "--stage", "shrink", "--seed", "1")
    assert (status, error) == (0, "")
    assert "the same arrays, bit for bit" in out
    assert "40 test examples, as before" in out
    assert "dense2/kernel" in out
    file = run.folder / "encoded/shrink-seed-1.kdz"
    size = file.stat().st_size
    assert f"all of it: {size:,} bytes" in out
    uncut = 4 * (64 * 16 + 16 + 16 * 12 + 12 + 12 * 10 + 10)
    teacher = 4 * (64 * 16 + 16 + 16 * 10 + 10)
    assert f"the student with nothing cut in dense float32: {uncut / 1000:.2f} kB" in out
    assert f"the teacher in dense float32: {teacher / 1000:.2f} kB" in out
    rows = [line.split() for line in out.splitlines()]
    layer = next(row for row in rows if row[:1] == ["dense2/kernel"])
    assert layer[1] == "108"  # 12 x 9
    begin = out.index("layer")
    rows = [line.split() for line in out[begin : out.index("kept: not zero")].splitlines()]
    shares = [float(row[-1]) for row in rows if row and row[-1][0].isdigit()]
    assert len(shares) == 5  # three kernels, all biases, the header
    assert abs(sum(shares) - 100) < 0.5
    text = (run.folder / "encoded/shrink-seed-1.kdz.md").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if line.startswith("| dense2/kernel |")]
    assert kept == [f"| {' | '.join([*layer[:3], ' '.join(layer[3:-4]), *layer[-4:]])} |"]
    assert "the same arrays, bit for bit" in text

    status, out, error = call("evaluate", file, "--json", tmp_path / "reading.json")
    assert (status, error) == (0, "")
    assert f"{size:,} bytes (experiment tiny, run run, stage shrink, seed 1)" in out
    reading = json.loads((tmp_path / "reading.json").read_text())
    network = run.network("shrink", (0, 1))
    expected = stages.evaluate(run.model("shrink"), run.data, network)["accuracy"][1]
    assert (reading["accuracy"], reading["examples"]) == (expected, 40)


def test_no_number_of_the_table_is_cut(run):
    made = files.encoded(run, "shrink", 0)
    console = Console(width=80, file=io.StringIO())
    cli_encode.show(made, console)
    shown = console.file.getvalue().split()
    assert {cell for row in cli_encode.rows(made) for cell in row[4:]} <= {*shown, ""}


def test_mistakes(run, call, tmp_path):
    folder = run.folder
    damaged = tmp_path / "b.kdz"
    damaged.write_bytes(b"nothing of the kind")
    for arguments, message in (
        (("encode",), "name a run's folder"),
        (("encode", tmp_path), "no config.json here"),
        (
            ("encode", folder, "--stage", "prun"),
            "--stage 'prun' is no finished stage. Did you mean",
        ),
        (("encode", folder, "--seed", "2"), "--seed 2: the run has 0, 1"),
        (("encode", folder, "--seed", "-1"), "--seed -1: the run has 0, 1"),
        (("encode", folder, "--coders", "zip"), "--coders 'zip': no such coder"),
        (("encode", folder, folder), "encode takes one run"),
        (("evaluate", damaged), "b.kdz: it is no file of a network by kd_jax (.kdz)"),
        (("evaluate", tmp_path / "c.kdz"), "c.kdz: it can't be read"),
        (("evaluate", folder, "--json", "x"), "--json is for a file"),
    ):
        assert message in refused(call, *arguments), message


def test_a_fresh_process_that_fails_is_heard(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAIN", "import sys; sys.exit('error: out of luck')")
    with pytest.raises(UsageError, match=r"a fresh process can't evaluate it: error: out of luck"):
        files.read_afresh(tmp_path / "d.kdz", "")


def test_encode_has_its_help(call):
    status, out, _ = call("encode", "--help")
    assert status == 0
    assert all(flag in out for flag in ("--stage", "--seed", "--coders", "--out", "FILE.kdz"))


# How a network is made -----------------------------------------------------------------------


def forms(model, shape):
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), example)
    return {name: leaf.shape for name, leaf in tree.named_leaves(variables).items()}


@pytest.mark.parametrize("reduction", slow_but([None], [None, 4]))
def test_a_student_with_its_teachers_classifier(reduction, tmp_path):
    term = {} if reduction is None else {"s": SimKD(reduction=reduction)}
    reusing = Distill(classifier="teacher", teacher="teach", terms=term or {"kd": KD()}, **COMMON)
    given = tiny(
        teacher=CifarResNet(depth=8, widths=(4, 4, 8, 16)),
        student=CifarResNet(depth=8, widths=(4, 4, 4, 8)),
        stages={
            "teach": Train(model="teacher", **COMMON),
            "reuse": reusing,
            "cut": Prune(start="reuse", **COMMON),
        },
        out=str(tmp_path),
    )
    run = pipeline.prepare(given, tmp_path / "run", Silent())
    made = json.loads(json.dumps(files.made_of(run, "cut")))
    built = network_lib.build(made, "float32", run.data.spec)
    assert forms(built, (8, 8, 1)) == forms(run.model("cut"), (8, 8, 1))


def written(path, config, variables, **changes):
    """A file of a network that no run has made."""
    data = Data(train_limit=64, test_limit=24)
    given = {
        "made": network_lib.plain(config),
        "compute": "float32",
        "data": data,
        "spec": load(data).spec,
        "origin": {"stage": "none"},
    }
    about = network_lib.About(**given).to_json()
    path.write_bytes(encoded(variables, about={**about, **changes}).data)
    return path


def test_batch_statistics_are_kept(tmp_path):
    config, data = CifarResNet(depth=8, widths=(4, 4, 4, 8)), load(Data(test_limit=24))
    model, draw = from_linen(config.build(10, jnp.float32)), np.random.default_rng(0)
    example = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), example)
    made = jax.tree.map(lambda x: draw.uniform(0.5, 1, x.shape).astype(np.float32), shapes)
    loaded = kd_jax.load_encoded(written(tmp_path / "a.kdz", config, made))
    before = network(made["params"], {"batch_stats": made["batch_stats"]})
    assert tiny_nets.differences(before.variables, loaded.snapshot.variables) == []
    assert kd_jax.evaluate(loaded.model, data, loaded.snapshot).keys() >= {"accuracy"}


def test_files_whose_network_is_another(tmp_path):
    config, path = MLP(widths=(4,)), tmp_path / "a.kdz"
    model = from_linen(config.build(10, jnp.float32))
    variables = dict(model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1))))
    kd_jax.load_encoded(written(path, config, variables)).check(load(Data(test_limit=24)))

    def message(**changes):
        chosen = changes.pop("config", config)
        with pytest.raises(UsageError) as error:
            kd_jax.load_encoded(written(path, chosen, variables, **changes))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "/kernel does not fit into its network" in message(config=MLP(widths=(5,)))
    assert "VGG pools them to nothing" in message(config=VGG().tiny())
    plain = network_lib.plain(config)
    assert "says nothing of its network" in message(spec=None)
    assert "says nothing of its network" in message(origin=5)
    assert "data: they are none" in message(data=3)
    assert "made as 'grown'" in message(made={"made": "grown", "of": plain})
    assert "can't be made" in message(made={"made": "plain"})
    assert "unknown class 'Mine'" in message(made={"made": "plain", "config": {"class": "Mine"}})
    assert "is no network" in message(made={"made": "plain", "config": {"class": "Data"}})
    assert "can't be made" in message(compute="float99")
    assert "widths name a group" in message(
        made={
            "made": "shrunk",
            "of": plain,
            "shape": [2, 8, 8, 1],
            "dtype": "float32",
            "groups": {"params/other": [1, 2]},
        }
    )
    path.write_bytes(encoded({"params": {}}).data)
    with pytest.raises(UsageError, match=r"says nothing of its network: read it by kd_jax.decoded"):
        kd_jax.load_encoded(path)
    assert decoded(path.read_bytes()) == ({}, None)


def test_other_data_than_its_own(tmp_path):
    config = MLP(widths=(4,))
    model = from_linen(config.build(10, jnp.float32))
    variables = dict(model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1))))
    loaded = kd_jax.load_encoded(written(tmp_path / "a.kdz", config, variables))
    with pytest.raises(UsageError, match=r"for digits \[8, 8, 1\] of 10 classes, and the data are"):
        loaded.check(fake_data("cifar10"))
