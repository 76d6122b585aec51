"""Every code block of the README runs, and its table is that of the stored results."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from kd_jax import cli, results
from kd_jax.distill import methods

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LOSS, *PYTHON = [text for language, text in BLOCKS if language == "python"]
SHELL = [text for language, text in BLOCKS if language == "bash"]


def test_there_is_no_block_that_no_test_runs():
    assert {language for language, _ in BLOCKS} == {"python", "bash"}
    assert len(PYTHON) == 5  # cut channels, fuse, a Linen module, an NNX module, a plain function


# Each is a training of its own. What a Linen module does, nearly all tests do.
SLOW = ("channels", "fuse", "linen")
IDS = ["channels", "fuse", "linen", "nnx", "function"]
BLOCKS_OF_PYTHON = [
    pytest.param(block, id=name, marks=[pytest.mark.slow] * (name in SLOW))
    for block, name in zip(PYTHON, IDS, strict=True)
]


@pytest.mark.parametrize("block", BLOCKS_OF_PYTHON)
def test_python_block(block, capsys):
    assert len([line for line in block.splitlines() if line.strip()]) <= 30
    exec(compile(block, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    accuracy = float(re.search(r"'accuracy': \[([\d.]+)", printed).group(1))
    assert accuracy > 0.6, printed  # ten classes: far from chance


@pytest.mark.usefixtures("unextended")
def test_the_loss_of_ones_own(call, tmp_path):
    file = tmp_path / "my_loss.py"
    file.write_text(LOSS, encoding="utf-8")
    flags = "--distill.terms kd+mine --distill.terms.mine.power 1.5 --help"
    status, out, _ = call("run", "digits", "--use", file, *flags.split())
    assert status == 0
    assert "--distill.terms.mine.power" in out


def test_first_two_blocks_are_the_main_job_and_the_tests():
    """CI runs these two themselves."""
    assert "run.py" in SHELL[0]
    assert "pytest" not in SHELL[0]
    assert "pytest" in SHELL[1]
    assert "block 1" in (ROOT / ".ci/run").read_text()
    assert "block 2" in (ROOT / ".ci/run").read_text()


COMMANDS = [line for block in SHELL[2:] for line in block.splitlines() if line.strip()]
# Each that trains takes the better part of a minute.
TRAINING = [line for line in COMMANDS if "--smoke" in line]


def words(command):
    program, *arguments = shlex.split(command)
    assert (program, arguments[0]) == ("python", "run.py")
    return arguments + ["--devices", "1"] * ("--smoke" in arguments)


@pytest.mark.parametrize("command", TRAINING)
def test_commands_that_train_begin_to(command, call, tmp_path, monkeypatch):
    """All that may be wrong with a command is told before."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="training has begun"):
        call(*words(command)[1:])


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(line, id=line, marks=[pytest.mark.slow] * (line in TRAINING))
        for line in COMMANDS
    ],
)
def test_other_commands(command, tmp_path, monkeypatch, capsys):
    arguments = words(command)
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(arguments[1:])
    except SystemExit as stop:  # --help
        status = stop.code
    assert status == 0, capsys.readouterr().err


@pytest.fixture(scope="module")
def publish():
    spec = importlib.util.spec_from_file_location("publish", ROOT / "docs/publish.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_papers_are_those_of_the_stored_results(publish):
    found = publish.reproductions(ROOT / "docs")
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert page == publish.results_page(found)
    assert publish.with_table(README, publish.PAPERS, publish.papers_table(found)) == README
    assert "## imagenet_resnet34_resnet18: not run here" in page


def test_table_is_generated_from_the_stored_results(publish):
    found = results.read(ROOT / "docs/digits")
    assert publish.with_table(README, "digits", publish.readme_table(found)) == README
    assert found.command == "python run.py run digits"
    distilled = found.row("distill")
    assert sum(distilled.accuracy) > sum(found.row("alone").accuracy)


def test_methods_are_those_of_the_code():
    assert f"<!-- methods -->\n{methods.markdown()}\n<!-- /methods -->" in README, (
        "run: python docs/methods.py"
    )
