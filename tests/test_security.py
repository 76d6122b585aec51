"""Files from anywhere: nothing in them is ever run, and no name in them leads out of a run's
folder."""

import ast
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_tfds
from tensorflow_datasets.core.features.feature import FeatureConnector

from kd_jax import cache, cli, pipeline, runs
from kd_jax.checkpoint import Store
from kd_jax.data import load
from kd_jax.datasets import Data
from kd_jax.errors import UsageError
from kd_jax.loop import Silent
from kd_jax.serialize import to_data

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [ROOT / "run.py", *sorted((ROOT / "kd_jax").rglob("*.py"))]
# What runs code that it reads; --use FILE.py, which is asked for by the user, goes by importlib.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node


def imported(node):
    """The modules that a statement imports, or imports from."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_reads_code_from_a_file(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        assert not MODULES & {name.split(".")[0] for name in imported(node)}
    for call in calls(tree):
        if isinstance(call.func, ast.Name):
            assert call.func.id not in CALLS, ast.unparse(call)
        options = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert options.get("shell", "False") == "False", ast.unparse(call)
        assert options.get("allow_pickle", "False") == "False", ast.unparse(call)
        name = ast.unparse(call.func)
        if name.endswith("np.load"):
            assert options.get("allow_pickle") == "False", ast.unparse(call)
        if name.endswith("torch.load"):
            assert options.get("weights_only") == "True", ast.unparse(call)


# What opens connections; hosts of one run find each other by JAX, and whose lock it is tells the
# name of its host.
NETWORK = {"urllib", "http", "ftplib", "smtplib", "requests", "httpx", "aiohttp", "huggingface_hub"}
NETWORK |= {"socketserver", "ssl", "telnetlib", "poplib", "imaplib", "webbrowser", "xmlrpc"}
REMOTE = {
    "download_and_prepare",
    "urlopen",
    "urlretrieve",
    "create_connection",
    "snapshot_download",
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_opens_a_connection(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = imported(node)
        assert not NETWORK & {name.split(".")[0] for name in names}
        assert "socket" not in names or path.name == "locks.py"
        if isinstance(node, ast.Attribute):
            assert node.attr not in REMOTE
            of_socket = isinstance(node.value, ast.Name) and node.value.id == "socket"
            assert not of_socket or node.attr == "gethostname"
    for call in calls(tree):  # nor does another program
        said = ast.unparse(call)
        assert not (ast.unparse(call.func).startswith("subprocess.") and "curl" in said)
        assert "try_gcs" not in said


class Bomb:
    """Would leave a file, were it unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_cache_with_a_pickle_in_it_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache.save("name", {"inputs": np.arange(3)})
    bomb = np.empty(1, object)
    bomb[0] = Bomb(tmp_path / "gone off")
    np.save(tmp_path / "kd_jax" / "name.inputs.npy", bomb, allow_pickle=True)
    assert cache.load("name", ["inputs"]) is None
    assert not (tmp_path / "gone off").exists()


@pytest.mark.parametrize("name", ["gone_off.Feature", "tensorflow_datasets.gone_off.X", "X", ""])
@pytest.mark.parametrize("where", ["of all", "of the images", "as earlier versions wrote"])
def test_no_module_that_a_prepared_set_names_is_imported(tmp_path, monkeypatch, name, where):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "gone_off.py").write_text("raise SystemExit('run')")
    tiny_tfds.three_classes(tmp_path)
    path = tmp_path / "tiny" / "1.0.0" / "features.json"
    described = json.loads(path.read_text())
    if where == "of all":
        described["pythonClassName"] = name
    elif where == "of the images":
        described["featuresDict"]["features"]["image"]["pythonClassName"] = name
    else:
        described = {"type": name, "content": {}}
    path.write_text(json.dumps(described))
    with pytest.raises(UsageError) as error:
        load(Data(name="tiny", dir=str(tmp_path)))
    said = f"--data.name tiny: its features.json names the class {name!r}, which is none of "
    assert str(error.value).startswith(said)
    assert "gone_off" not in sys.modules


def test_what_a_set_may_name_is_tensorflow_datasets_own_again_afterwards(tmp_path):
    before = FeatureConnector.__dict__["cls_from_name"]
    tiny_tfds.three_classes(tmp_path)
    load(Data(name="tiny", dir=str(tmp_path)))
    assert FeatureConnector.__dict__["cls_from_name"] is before


@pytest.mark.parametrize("where", ["gs://bucket", "s3://bucket/sets", "https://x.org", "gs:/x"])
def test_no_run_of_somebody_else_has_its_data_fetched(tmp_path, monkeypatch, where):
    monkeypatch.setattr("tensorflow_datasets.builder", None)
    experiment = cli.preset("cifar10_resnet")
    data = to_data(dataclasses.replace(experiment, data=Data(name="cifar10", dir=where)))
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=rf"^--data\.dir {where}: (an address|no such directory)"):
        pipeline.open_run(tmp_path, Silent())


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/b", "..", "", ".", "a\\b", "a\0b"])
def test_no_stage_of_a_foreign_config_has_a_name_that_leads_elsewhere(tmp_path, name):
    data = to_data(cli.preset("digits"))
    data["stages"] = {name: data["stages"]["train"]}
    data |= {"deliver": "", "compare": [], "only": []}
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"config\.json: "):
        runs.experiment_of(tmp_path)


def test_a_history_of_another_kind_is_no_history(tmp_path):
    (tmp_path / "history.jsonl").write_text('{"step": 1}\n__import__("os")\n{"step": 2}\n')
    assert Store(tmp_path).history() == [{"step": 1}, {"step": 2}]
