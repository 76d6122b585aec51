"""Losses, criteria, schedules, penalties, models and experiments in files outside the package."""

import json

import pytest
from calls import refused

from kd_jax import cli, extensions, flags, pipeline, serialize

LOSS = '''
import jax.numpy as jnp

from kd_jax.distill import LogitTerm
from kd_jax.tree import traceable


@traceable
class Margins(LogitTerm):
    """mean_k |z_s - z_t|^power"""

    power: float = 2.0

    def __call__(self, student_logits, teacher_logits, targets):
        return jnp.mean(jnp.abs(student_logits - teacher_logits) ** self.power, axis=-1)


TERMS = {"margins": Margins()}
'''
OTHERS = """
import dataclasses

from kd_jax.models.mlp import MLP
from kd_jax.prune import OneShot, PruningLoss


@dataclasses.dataclass(frozen=True)
class Early(OneShot):
    pass


MODELS = {"thin": MLP(widths=(5, 4))}
SCHEDULES = {"early": Early()}
PENALTIES = {"lasso": PruningLoss(alpha=1.0)}
"""
EXPERIMENT = """
import dataclasses

from experiments.digits import CONFIG

CONFIG = dataclasses.replace(CONFIG, name="mine", seeds=2)
"""


pytestmark = pytest.mark.usefixtures("unextended")


@pytest.fixture
def file(tmp_path):
    def write(text, name="mine.py"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


@pytest.mark.usefixtures("unmeasured")
def test_someone_elses_loss_is_picked_by_a_flag(file, tmp_path, capsys):
    use, runs = ["--use", file(LOSS)], tmp_path / "runs"
    flags = "--distill.terms kd+margins --distill.terms.margins.power 1.5 --only distill"
    assert cli.main(["run", "digits", "--smoke", "--out", str(runs), *flags.split(), *use]) == 0
    (folder,) = runs.iterdir()
    epochs = (folder / "distill" / "seeds-0-1" / "history.jsonl").read_text().splitlines()
    assert all(value > 0 for value in json.loads(epochs[-1])["train"]["margins"])
    results = json.loads((folder / "results.json").read_text())
    assert results["command"].endswith(" ".join(use))
    assert cli.main(["evaluate", str(folder), *use]) == 0


def test_a_saved_run_never_loads_a_file_by_itself(call, file):
    folder = pipeline.Path(file("{}")).parent
    data = {"class": "Experiment", "name": "x", "stages": {"a": {"class": "Margins"}}}
    (folder / "config.json").write_text(json.dumps(data))
    assert refused(call, "evaluate", folder).endswith("add --use FILE.py.")


def test_models_schedules_and_penalties_too(call, file):
    flags = "--student thin --prune.schedule early --prune.schedule.at 0.5 --prune.penalty lasso"
    status, out, _ = call("run", "digits", *flags.split(), "--help", f"--use={file(OTHERS)}")
    assert status == 0
    assert "thin" in out
    assert "lasso" in out


def test_what_is_computed_depends_on_the_files_text(file):
    names = []
    for text in (LOSS, LOSS.replace("mean_k", "mean over k"), LOSS):
        extensions.use(file(text))
        experiment = flags.parse(cli.preset("digits"), ["--distill.terms", "margins"], "")
        names.append(serialize.fingerprint(experiment))
    assert names[0] == names[2] != names[1]


def test_an_experiment_in_a_file(file):
    experiment = cli.preset(file(EXPERIMENT))
    assert (experiment.name, experiment.seeds) == ("mine", 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "x = 1",
            "it has no TERMS or CRITERIA or STRUCTURES or SCHEDULES or PENALTIES or "
            "CALIBRATIONS or MODELS: add",
        ),
        ("x = 1\ny = 1 / 0", "line 2: ZeroDivisionError"),
        ("x = (\n", "line 1: SyntaxError"),
        ("TERMS = 3", "TERMS is no dict: make it one"),
        ("TERMS = {'mine': 3}", "TERMS['mine'] is no Term, but 3: make it one"),
        (LOSS.replace('"margins"', '"kd"'), "TERMS['kd']: the package has one of this name"),
        (LOSS.replace('"margins"', '"a b"'), "TERMS['a b']: a name has letters, digits and _ only"),
        (LOSS.replace("Margins", "MLP"), "the package has a class MLP: rename yours"),
    ],
)
def test_a_file_that_adds_nothing_sound(call, file, text, said):
    path = file(text)
    assert refused(call, "run", "digits", "--use", path).startswith(f"--use {path}: {said}"[:40])
    assert said in refused(call, "run", "digits", "--use", path)


def test_a_file_that_is_not_there(call, file):
    assert "there is no such Python file" in refused(call, "list", "--use", "nowhere.py")
    assert "there is no such Python file" in refused(call, "list", "--use")
    assert "it has no CONFIG" in refused(call, "run", file(LOSS))
    assert "CONFIG is no Experiment, but int" in refused(call, "run", file("CONFIG = 1"))
