"""A config field that comes later, with a default, makes no earlier run foreign."""

import dataclasses
import json
import shutil

import pytest
from test_extensions import LOSS, file  # noqa: F401  a fixture
from test_pipeline import Told
from tiny_experiment import tiny

from kd_jax import cli, extensions, flags, pipeline, versions
from kd_jax.loop import Silent
from kd_jax.runs import folder_of
from kd_jax.serialize import sources, to_data


def without(data, *names):
    """As a version wrote it that had no such fields."""
    if isinstance(data, dict):
        return {name: without(x, *names) for name, x in data.items() if name not in names}
    return [without(x, *names) for x in data] if isinstance(data, list) else data


def begun(out, data, name="tiny-01234567"):
    """A run's folder, named by what was computed then."""
    folder = out / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(data))
    return folder


def test_fields_that_a_run_did_not_know_have_their_defaults(tmp_path):
    experiment = tiny(out=str(tmp_path))
    named = folder_of(experiment)
    assert named.parent == tmp_path
    folder = begun(tmp_path, without(to_data(experiment), "label_smoothing", "shift", "compute"))
    assert folder_of(experiment) == folder
    assert pipeline.open_run(folder, Silent()).experiment == experiment
    elsewhere = dataclasses.replace(experiment, devices=4, only=("train",))
    assert folder_of(elsewhere) == folder  # where and when it runs does not matter
    changed = dataclasses.replace(experiment.stages["train"], label_smoothing=0.1)
    stages = {**experiment.stages, "train": changed}
    assert folder_of(dataclasses.replace(experiment, stages=stages)) != folder
    named.mkdir()
    assert folder_of(experiment) == named  # its own comes first


def test_the_run_goes_on_there(tmp_path):
    experiment = tiny(out=str(tmp_path), only=("train",))
    folder = begun(tmp_path, without(to_data(experiment), "label_smoothing"))
    run = pipeline.prepare(experiment, folder_of(experiment), Silent())
    pipeline.train(run, Silent())
    pipeline.claim(experiment, folder)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    run, told = pipeline.prepare(experiment, folder_of(experiment), Silent()), Told()
    assert run.folder == folder
    pipeline.train(run, told)
    assert told.notes == ["train (seed 0 to 1): done before"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"class": "Experiment"}', b'{"class": "Novelty"}', None]
)
def test_folders_that_hold_no_such_run_are_passed_over(tmp_path, content):
    experiment = tiny(out=str(tmp_path))
    folder = begun(tmp_path, {})
    if content is None:
        shutil.rmtree(folder)
    else:
        (folder / "config.json").write_bytes(content)
    assert folder_of(experiment) not in (folder, None)


@pytest.mark.parametrize(
    "name", ["tiny-0123456", "tiny-012345678", "tin-01234567", "tiny-0123456g"]
)
def test_folders_of_other_names_are_passed_over(tmp_path, name):
    experiment = tiny(out=str(tmp_path))
    folder = begun(tmp_path, to_data(experiment), name)
    assert folder_of(experiment) != folder


def test_a_run_of_a_newer_format_is_passed_over(tmp_path):
    experiment = tiny(out=str(tmp_path))
    folder = begun(tmp_path, to_data(experiment))
    (folder / "versions.json").write_text(json.dumps({"format": versions.FORMAT + 1}))
    assert folder_of(experiment) != folder


@pytest.mark.usefixtures("unextended")
def test_a_file_of_somebodys_own_must_be_the_same(tmp_path, file):  # noqa: F811
    def experiment(text):
        extensions.use(file(text))
        words = ["--distill.terms", "margins", "--out", str(tmp_path)]
        return flags.parse(cli.preset("digits"), words, "")

    first = experiment(LOSS)
    assert list(sources(first)) == ["Margins"]
    folder = begun(tmp_path, to_data(first), "digits-01234567")
    assert folder_of(first) != folder  # by which text it was made is not known
    pipeline.claim(first, folder)
    assert folder_of(first) == folder
    assert folder_of(experiment(LOSS.replace("mean_k", "mean over k"))) != folder
