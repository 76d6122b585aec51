"""Exports from strangers: a network that both files agree on, or one line that says why not."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from hostile import changed, damaged, head_of, read
from hypothesis import given, settings
from tiny_experiment import fake_data, tiny

from kd_jax import jsons, pipeline
from kd_jax.errors import UsageError
from kd_jax.export import exchange
from kd_jax.export.network import Network
from kd_jax.forward import from_linen
from kd_jax.models import MLP
from kd_jax.runs import Run
from kd_jax.state import Snapshot, no_masks
from kd_jax.tree import named_leaves

FAST = settings(deadline=None, derandomize=True, database=None, max_examples=60)
HARD = settings(deadline=None, derandomize=True, database=None, max_examples=3000)
often = pytest.mark.parametrize("how", [FAST, pytest.param(HARD, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of a network that nobody trained, which is all the same here."""
    folder = tmp_path_factory.mktemp("export")
    experiment, data = tiny(teacher=MLP(widths=(5,))), fake_data("digits", 4)
    run = Run(experiment, folder, data, pipeline.models_of(experiment, 10))
    model = from_linen(MLP(widths=(5,)).build(10, "float32"))
    variables = dict(model.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32)))
    params = variables.pop("params")
    network = Network(model, Snapshot(params, variables, no_masks(params)), data.spec)
    exchange.write(folder, run, "train", 0, network)
    return folder


def test_the_export_itself_is_read(exported):
    assert exchange.load(exported).spec.classes == 10


@often
def test_a_config_makes_the_network_of_the_arrays_or_none(exported, tmp_path, how):
    folder = shutil.copytree(exported, tmp_path / "copy")
    path = folder / "config.json"
    raw = path.read_bytes()

    @how
    @given(changed(unsummed(raw)) | damaged(json.dumps(unsummed(raw)).encode()))
    def check(data):
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        found = read(exchange.load, folder)
        assert found is None or isinstance(found, Network)

    check()


def unsummed(raw):
    """What a config says, as a version wrote it that gave it no checksum."""
    return jsons.unsummed(json.loads(raw))[0]


@often
def test_a_config_with_its_checksum_says_what_was_written_or_is_refused(exported, tmp_path, how):
    folder = shutil.copytree(exported, tmp_path / "copy")
    path = folder / "config.json"
    raw, known = path.read_bytes(), exchange.load(folder)
    whole = json.loads(raw)

    @how
    @given(changed(whole) | damaged(raw))
    def check(data):
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        found = read(exchange.load, folder)
        if found is None:
            return
        said = json.loads(path.read_bytes())
        assert jsons.SUM not in said or said == whole
        assert jsons.SUM not in said or found.spec == known.spec

    check()


def numbers_of(raw):
    """Where the numbers of a config's `data` end: its mean, std, scale and so on."""
    at, end = raw.index(b'"data"'), raw.index(b'"pruned"')
    return [at + found.start() for found in re.finditer(rb"\d(?=[,\s\]])", raw[at:end])]


def test_a_number_that_differs_is_refused(exported, tmp_path):
    """It would still make a network, which puts out other numbers."""
    folder = shutil.copytree(exported, tmp_path / "copy")
    path = folder / "config.json"
    raw = path.read_bytes()
    places = numbers_of(raw)
    assert len(places) > 5
    for place in places:
        bad = bytearray(raw)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(UsageError) as error:
            exchange.load(folder)
        assert str(error.value) == (
            f"{path}: damaged or edited (its checksum is of other content): export it again"
        )


def test_a_config_without_a_checksum_is_read(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "copy")
    path = folder / "config.json"
    said = json.loads(path.read_text())
    assert list(said)[-1] == jsons.SUM
    path.write_text(json.dumps(unsummed(path.read_bytes())))
    assert exchange.load(folder).spec == exchange.load(exported).spec


@often
def test_arrays_are_those_that_were_exported_or_refused(exported, tmp_path, how):
    folder = shutil.copytree(exported, tmp_path / "copy")
    path = folder / "model.safetensors"
    raw, known = path.read_bytes(), named_leaves(exchange.load(folder).snapshot.variables)

    @how
    @given(damaged(raw, head_of(raw)))
    def check(data):
        path.write_bytes(data)
        found = read(exchange.load, folder)
        found = found and named_leaves(found.snapshot.variables)
        assert found is None or all((found[name] == x).all() for name, x in known.items())

    check()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("data", "size"), [10**30, 8]),
        (("data", "classes"), 10**15),
        (("experiment", "teacher", "widths"), [10**12]),
        (("experiment", "teacher", "widths"), [1] * 5000),
        (("stage",), "../train"),
        (("stage",), []),
        (("widths",), {"train": {}}),
        (("pruned",), 3),
        (("seed",), None),
    ],
)
def test_words_that_make_no_network(exported, tmp_path, place, value):
    said = json.loads((exported / "config.json").read_text())
    *path, last = place
    node = said
    for key in path:
        node = node[key]
    node[last] = value
    said = jsons.summed(jsons.unsummed(said)[0])
    (tmp_path / "config.json").write_text(json.dumps(said))
    (tmp_path / "model.safetensors").write_bytes((exported / "model.safetensors").read_bytes())
    if place in (("seed",), ("widths",)):  # of another seed, or of a stage that cuts nothing
        read(exchange.load, tmp_path)
        return
    with pytest.raises(UsageError, match=r"config\.json"):
        exchange.load(tmp_path)
