import json

import jax
import pytest
from calls import refused

from kd_jax import chips, cli, cli_list, cli_plan, pipeline
from kd_jax.config import smoke
from kd_jax.progress import Screen

# Verbs and help ------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_tells_every_verb(call, word):
    status, out, error = call(word)
    assert status == 0
    assert error == ""
    for text in (
        "run NAME",
        "plan NAME",
        "inspect NAME",
        "export RUN",
        "latency RUN",
        "list",
        "evaluate RUN",
        "report RUN",
        "bench",
        "--smoke",
        "--only",
        "--out",
    ):
        assert text in out


@pytest.mark.parametrize("word", ["--help", "-h"])
@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("run", ("NAME", "--smoke", "--only", "--seeds", "--out", "digits", "mnist_lenet5")),
        (
            "plan",
            ("NAME", "--topology", "--batch", "auto", "--out", "v5e", "digits", "kd-jax[tpu]"),
        ),
        ("list", ("list",)),
        ("evaluate", ("evaluate RUN", "--data.dir")),
        ("report", ("report RUN", "--out")),
        ("latency", ("latency RUN", "--stages", "--batches", "--seconds")),
        ("export", ("export RUN", "--stage", "--seed", "--format stablehlo onnx", "--out")),
        ("bench", ("bench [CASE ...]", "--against torch", "--rounds", "--steps")),
    ],
)
def test_every_verb_has_its_help(call, verb, flags, word):
    for arguments in ([verb, word], [verb, "a", word][: 2 if verb in ("run", "plan") else 3]):
        arguments = arguments if word in arguments else [verb, word]
        status, out, error = call(*arguments)
        assert status == 0
        assert error == ""
        for flag in flags:
            assert flag in out


@pytest.mark.parametrize("name", ["digits", "cifar10_resnet"])
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_of_an_experiment_lists_its_flags(call, name, word):
    for arguments in (["run", name, word], ["run", name, "--smoke", word]):
        status, out, error = call(*arguments)
        assert status == 0
        assert error == ""
        for flag in ("--prune.sparsity", "--distill.terms.kd.temperature", "--data.dir", "--seeds"):
            assert flag in out
        assert "Fraction of the prunable weights that are zero at the end" in out
        assert f"python run.py run {name}" in out
        assert len(out.splitlines()) > 100


def test_list_shows_what_a_pruning_stage_can_choose(call):
    status, out, _ = call("list", "pruning")
    assert status == 0
    for field, table in cli_list.CHOICES.items():
        for name in table:
            assert f" --prune.{field} {name} " in out
    assert "S, summed over training: S ← S − η ∂L/∂S" in out


def test_list_shows_every_experiment_in_full(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    status, out, _ = call("list")
    assert status == 0
    words = " ".join(out.split())
    for name in cli.names():
        assert name in out.splitlines()  # by itself and not cut
        lines = cli.importlib.import_module(f"experiments.{name}").__doc__.strip().splitlines()
        facts = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        assert f"{name} {lines[0]} data: {facts['Data']} cost: {facts['Cost']}" in words
    assert "hours (from the speed of single steps)" in words  # a second line
    assert "Command" not in words


def test_a_plan_takes_the_flags_of_the_experiment(call, monkeypatch, tmp_path):
    """On devices of this machine, in place of a slice that is not there."""
    chip = chips.Chip(1e12, 1e9, 1e11, 1e10, axes=1, wraps=4)
    here = chips.Slice("here", chip, (4,), tuple(jax.devices()[:4]))
    monkeypatch.setattr(cli_plan, "tpu_slice", lambda name: here)
    flags = "--only train --topology v5e:2x2 --batch 16 --teacher.widths 8 --compute bfloat16"
    out = tmp_path / "plan.json"
    arguments = ["plan", "digits", "--smoke", *flags.split(), "--seeds", "1", "--out", out]
    status, printed, error = call(*arguments)
    assert (status, error) == (0, "")
    assert "digits in bfloat16 on here: 4 chips" in printed
    assert "nothing was timed on a TPU" in " ".join(printed.split())
    (train,) = json.loads(out.read_text(encoding="utf-8"))["stages"]
    assert train["parameters"] == 64 * 8 + 8 + 8 * 10 + 10
    assert train["batch"] == 16
    assert out.with_suffix(".md").exists()


def test_without_its_compiler_a_plan_names_the_extra(call, monkeypatch):
    monkeypatch.setattr(chips.importlib.util, "find_spec", lambda name: None)
    found = refused(call, "plan", "digits", "--topology", "v5e:2x2")
    assert 'pip install "kd-jax[tpu]"' in found


# Mistakes ------------------------------------------------------------------------------------

NAMES = f"run takes an experiment's name first: {cli.names()[0]}, "


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runn"], "unknown verb 'runn'. Did you mean 'run'?"),
        (
            [""],
            "unknown verb ''. Known: bench, encode, evaluate, explain, export, inspect, latency, "
            "list, plan, report, reproduce, run.",
        ),
        (["--smoke"], "unknown verb '--smoke'."),
        (["run"], NAMES),
        (["run", "--smoke"], NAMES),
        (["run", ""], "unknown experiment ''."),
        (["run", "digit"], "unknown experiment 'digit'. Did you mean 'digits'?"),
        (["run", "cifar10-resnet"], "unknown experiment 'cifar10-resnet'. Did you mean"),
        (["plan"], NAMES.replace("run", "plan", 1)),
        (["plan", "digit"], "unknown experiment 'digit'. Did you mean 'digits'?"),
        (["plan", "digits"], "plan needs --topology, a slice such as v5e:4x4; chips: v4, v5e, "),
        (["plan", "digits", "--topology"], "--topology takes one value, but got none"),
        (["plan", "digits", "--topology", "v5e:4"], "--topology 'v5e:4': v5e has 2 axes; write "),
        (["plan", "digits", "--topology", "a6:4x4"], "--topology 'a6:4x4': unknown chip 'a6'."),
        (["plan", "digits", "--batch", "x", "--topology=v5e:2x2"], "--batch 'x': must be a whole"),
        (["plan", "digits", "--batch", "1", "2"], "--batch takes one value, but got 1 2"),
        (["plan", "digits", "--sedes", "3"], "unknown flag --sedes. Did you mean --seeds?"),
        (["list", "x"], "list takes nothing, terms or pruning, but got x"),
        (["evaluate"], "name a run's folder. usage: python run.py evaluate RUN"),
        (["evaluate", ""], "name a run's folder. usage: python run.py evaluate RUN"),
        (["evaluate", "a", "b"], "evaluate takes one run; use report for several"),
        (["evaluate", "a", "--out", "b"], "unknown flag --out. Did you mean '--most'?"),
        (["evaluate", "a", "--data.dir"], "--data.dir takes a value, but got none"),
        (["evaluate", "/nowhere"], "/nowhere: no config.json here, so no run of kd_jax"),
        (["report"], "name a run's folder. usage: python run.py report RUN"),
        (["report", "a", "--out="], "--out takes a value, but got none"),
        (["report", "--out", "--x", "a"], "--out takes a value, but got none"),
        (["report", "/nowhere"], "/nowhere: "),
    ],
)
def test_a_wrong_verb_or_argument(call, arguments, said):
    assert refused(call, *arguments).startswith(said)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--sedes 3", "unknown flag --sedes. Did you mean --seeds?"),
        ("--distill.epochs two", "--distill.epochs 'two': it must be a whole number"),
        ("--prune.sparsity 1.0", "--prune.sparsity 1.0 must be in [0, 1)"),
        ("--prune.sparsity -0.1", "--prune.sparsity -0.1 must be in [0, 1)"),
        ("--distill.terms.kd.temperature 0", "--distill.terms.kd.temperature is 0: it must be"),
        ("--distill.optim.learning-rate nan", "--distill.optim.learning-rate nan must be above 0"),
        ("--distill.optim.learning-rate inf", "--distill.optim.learning-rate is inf: it must be"),
        ("--prune.epochs -3", "--prune.epochs -3 must be at least 1"),
        ("--distill.batch 5000", "--distill.batch 5000 is larger than the "),
        ("--prune.batch 5000", "--prune.batch 5000 is larger than the "),
        ("--prune.epochs 999999999", "--prune.epochs 999999999 make "),
        ("--data.name cifr10", "--data.name cifr10: no such data set. Did you mean 'cifar10'?"),
        ("--data.name cifar10 --data.dir /nowhere", "--data.dir /nowhere: no such directory"),
        ("--student lenet5", "--student LeNet (stage alone) can't take inputs of shape (8, 8, 1)"),
        ("--distill.teacher=", "--distill.teacher is empty, but the terms kd need one"),
        ("--distill.start prune", "--prune.start 'distill' closes a circle of stages, distill ->"),
        ("--devices 3", "--train.batch 32 does not divide over 3 devices"),
        ("--devices 9", "--devices 9: there are only 8 (cpu)"),
        ("--devices 4 --model-axis 3", "--model-axis 3 does not divide the 4 devices"),
        ("--prune.include x", "--prune.include pattern 'x' finds no parameter"),
        ("--prune.exclude [/z]{9}", "--prune.exclude pattern '[/z]{9}' finds no parameter"),
        ("--seeds", "--seeds takes one value, a whole number, but got none"),
        ("--out /proc/x", "--out /proc/x: can't write to /proc/x/digits-"),
        ("--out=", "--out is empty: name a folder"),
    ],
)
def test_a_wrong_flag_is_told_in_one_line_before_any_training(call, flags, said, tmp_path):
    out = [] if "--out" in flags else ["--out", tmp_path]
    found = refused(call, "run", "digits", "--smoke", *flags.split(), *out)
    assert found.startswith(said)
    assert list(tmp_path.iterdir()) == []


def test_smoke_may_stand_anywhere(call):
    for words in ("--smoke digits", "digits --smoke", "digits --seeds 2 --smoke"):
        found = refused(call, "run", *words.split(), "--distill.batch", "200")
        assert found.startswith("--distill.batch 200 is larger than the 128 training examples")


def test_a_set_that_is_not_there_tells_how_to_get_it(call, tmp_path):
    found = refused(call, "run", "cifar10_resnet", "--data.dir", tmp_path)
    assert found.startswith("--data.name cifar10: not prepared")
    assert "download_and_prepare" in found


def test_a_file_in_the_way_of_the_folder(call, tmp_path):
    (tmp_path / "file").write_text("")
    found = refused(call, "run", "digits", "--out", tmp_path / "file")
    assert found.startswith(f"--out {tmp_path / 'file'}: can't write to ")


def test_an_error_of_several_lines_is_told_in_one(call, monkeypatch):
    def load(*_):
        raise cli.UsageError("first\n  second")

    monkeypatch.setattr(pipeline, "load", load)
    assert refused(call, "run", "digits") == "first second"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"class": "MLP"}'])
def test_a_damaged_run_is_refused(call, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    found = refused(call, "evaluate", tmp_path)
    assert found.startswith(f"{tmp_path / 'config.json'}: damaged (")


def test_a_run_that_is_not_finished_can_not_be_evaluated(call, tmp_path):
    experiment = smoke(cli.preset("digits"))
    pipeline.claim(experiment, tmp_path)
    found = refused(call, "evaluate", tmp_path)
    assert found.startswith(f"{tmp_path}: stage 'train' is not finished: go on with it by ")


def test_an_interrupt_gives_the_terminal_back_and_says_how_to_go_on(call, monkeypatch, tmp_path):
    closed = []

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "train", interrupted)
    monkeypatch.setattr(Screen, "close", lambda self: closed.append(self))
    status, out, error = call("run", "digits", "--smoke", "--out", tmp_path, "--seeds", "1")
    assert status == 130
    assert error == "interrupted; the same command goes on from the last checkpoint\n"
    assert len(closed) == 1
    assert f"digits -> {tmp_path}/digits-" in out
    assert "  seeds: 2 -> 1" in out.splitlines()  # what differs from what was asked for


def test_without_a_verb_the_digits_run(call, monkeypatch):
    monkeypatch.setattr(cli, "_run", lambda arguments, console: called.append(arguments))
    called = []
    assert call()[0] == 0
    assert called == [["digits"]]


# Everything ----------------------------------------------------------------------------------


def accuracies(folder):
    results = json.loads((folder / "results.json").read_text())
    return {row["stage"]: row["accuracy"] for row in results["rows"]}


def test_an_experiment_from_its_command_to_its_report(capsys, tmp_path, monkeypatch):
    """Run, run again, evaluate from the folder, report: the numbers are the same throughout."""
    monkeypatch.setenv("COLUMNS", "100")
    command = ["run", "digits", "--smoke", "--out", str(tmp_path), "--devices", "1"]
    command += ["--seeds", "1", "--only", "prune", "--prune.exclude", "classifier"]
    # What takes long to compile, and is no matter of commands.
    command += ["--teacher.widths", "16", "--teacher.dropout", "0", "--train.augment.shift", "0"]
    command += ["--distill.augment.mixup", "None", "--prune.augment.mixup", "None"]
    command += ["--distill.gradient-norms", "False", "--prune.gradient-norms", "False"]
    assert cli.main(command) == 0
    first = capsys.readouterr()
    assert first.err == ""
    assert "  prune.exclude: [] -> ['classifier']" in first.out.splitlines()
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("digits-")
    assert f"table, plots and networks: {folder}" in first.out.splitlines()
    found = accuracies(folder)
    assert list(found) == ["train", "distill", "prune"]
    assert all(len(values) == 1 for values in found.values())
    results = json.loads((folder / "results.json").read_text())
    assert results["command"] == "python run.py " + " ".join(command)

    assert cli.main(command) == 0
    again = capsys.readouterr()
    assert again.out.count("done before") == 3
    assert "compiling" not in again.out
    assert list(tmp_path.iterdir()) == [folder]
    assert accuracies(folder) == found

    assert cli.main(["evaluate", str(folder)]) == 0
    assert accuracies(folder) == found
    made = json.loads((folder / "results.json").read_text())
    for name in ("command", "changes", "seconds"):
        assert made[name] == results[name]
    assert "--smoke" in results["changes"]
    assert cli.main(["report", str(folder), "--out", str(tmp_path / "report")]) == 0
    assert (tmp_path / "report" / "table.md").exists()
    assert capsys.readouterr().err == ""
