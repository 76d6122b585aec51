"""Files from anywhere: nothing in them is ever run, and no name in them leads out of a run's
folder."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest

from kd_jax import cache, cli, runs
from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError
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
