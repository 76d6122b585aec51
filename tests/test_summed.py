"""Checksums in JSON: a file that says something else than was written is refused, however well it
is formed, and one of earlier versions, without a checksum, is read."""

import json
import random
import re

import jax.numpy as jnp
import numpy as np
import pytest
from made_results import make
from test_checkpoint import MASKS, PARAMS
from tiny_experiment import tiny

from kd_jax import jsons, pipeline, results, runs, versions
from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError
from kd_jax.serialize import to_data
from kd_jax.state import Snapshot

ODD = {
    "a": [1, 1.0, -0.0, 0.1 + 0.2, 1e-30, float("nan"), float("inf"), 2**70, True, None, "é\ud800"]
}


def test_what_was_written_fits_however_it_is_set():
    data = {**ODD, "b": {"c": {}}, "d": (1, 2), "e": np.arange(3), "f": jnp.float32(0.5)}
    found = jsons.summed(data)
    assert list(found) == [*data, jsons.SUM]
    for text in (json.dumps(found), json.dumps(found, indent=7, sort_keys=True)):
        rest, fits = jsons.unsummed(json.loads(text))
        assert fits
        assert jsons.SUM not in rest
        assert rest["e"] == [0, 1, 2]
    assert jsons.unsummed({"a": 1}) == ({"a": 1}, True)  # by an earlier version


@pytest.mark.parametrize("said", [None, 0, "", True, [], "00000000", 1.5])
def test_a_checksum_of_another_kind_does_not_fit(said):
    assert not jsons.unsummed({"a": 1, jsons.SUM: said})[1]


@pytest.mark.parametrize("other", [{"a": 2}, {"a": 1.0}, {"a": True}, {"b": 1}, {}, {"a": [1]}])
def test_other_content_does_not_fit(other):
    assert not jsons.unsummed({**jsons.summed({"a": 1}), "a": None, **other})[1]
    assert not jsons.unsummed({**other, jsons.SUM: jsons.summed({"a": 1})[jsons.SUM]})[1]


def with_bits(raw, rng, count):
    """`raw`, each time with another bit changed."""
    for place in rng.sample(range(len(raw)), min(count, len(raw))):
        found = bytearray(raw)
        found[place] ^= 1 << rng.randrange(8)
        yield bytes(found)


def refused(read, *given):
    try:
        return None, read(*given)
    except UsageError as error:
        said = str(error)
    assert "\n" not in said
    return said, None


# A run's files -------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    experiment = tiny(out=str(tmp_path))
    pipeline.claim(experiment, tmp_path)
    return tmp_path / "config.json"


def test_a_config_of_which_a_bit_differs_is_refused_or_the_same(config):
    raw, known = config.read_bytes(), runs.experiment_of(config.parent)
    said = []
    for bad in with_bits(raw, random.Random(0), 300):
        config.write_bytes(bad)
        error, found = refused(runs.experiment_of, config.parent)
        assert error or found == known, bad
        said.append(error)
    assert sum("checksum" in (error or "") for error in said) > 5


def test_a_config_that_was_edited_is_refused_with_what_to_do(config, call):
    data = json.loads(config.read_text())
    assert list(data)[-1] == jsons.SUM
    data["stages"]["train"]["epochs"] = 9
    config.write_text(json.dumps(data))
    status, _, error = call("evaluate", config.parent)
    assert status == 2
    assert error == (
        f"error: {config}: damaged or edited (its checksum is of other content): the same run "
        "command writes it anew; what is to be changed is given to run as flags\n"
    )


def test_the_same_command_writes_a_config_anew(config):
    experiment, raw = runs.experiment_of(config.parent), config.read_bytes()
    config.write_bytes(raw.replace(b'"seeds": 2', b'"seeds": 3'))
    assert config.read_bytes() != raw
    pipeline.claim(experiment, config.parent)
    assert config.read_bytes() == raw


def test_a_config_without_a_checksum_is_read(config):
    known = runs.experiment_of(config.parent)
    config.write_text(json.dumps(to_data(known)))
    assert runs.experiment_of(config.parent) == known


def test_results_of_which_a_bit_differs_are_refused_or_the_same(tmp_path):
    results.write(tmp_path, make())
    path, known, said = tmp_path / results.FILE, results.read(tmp_path), []
    raw = path.read_bytes()
    for bad in with_bits(raw, random.Random(0), 100):
        path.write_bytes(bad)
        error, found = refused(results.read, tmp_path)
        assert error or found == known, bad
        said.append(error)
    assert sum("checksum" in (error or "") for error in said) > 5


def test_results_with_another_number_are_refused_in_a_line(tmp_path, call):
    results.write(tmp_path, make())
    path = tmp_path / results.FILE
    text = path.read_text()
    other = re.sub(r'("accuracy": \[\s*0\.)9', r"\g<1>1", text, count=1)
    assert other != text
    path.write_text(other)
    status, _, error = call("report", tmp_path)
    assert status == 2
    assert error == (
        f"error: {path}: damaged or edited (its checksum is of other content): write it anew by "
        "python run.py evaluate RUN\n"
    )


def test_results_gain_one_field_and_are_read_without_it():
    data = json.loads(results.to_json(make()))
    assert data.pop(jsons.SUM)
    assert jsons.SUM not in json.dumps(data)
    assert results.from_json(json.dumps(data)) == make()


# What is known of a finished stage -----------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path)
    found.finish(Snapshot(PARAMS, {}, MASKS), {"steps": 6, "seeds": [0, 1], "seconds": 2.5})
    return found


def change_of(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("checksums"),
        lambda data: data.pop(jsons.SUM),
        lambda data: data.update(steps="x"),
        lambda data: data.update(seeds=[7]),
        lambda data: data.update(seconds=3.5),
        lambda data: data.update(format=1),
        lambda data: data.update(more=1),
        lambda data: data.pop("format"),
    ],
    ids=["checksums", "own", "steps", "seeds", "seconds", "format", "more", "no format"],
)
def test_what_is_known_of_a_stage_and_was_changed_is_refused(store, tmp_path, change):
    path = tmp_path / "done.json"
    change_of(path, change)
    for ask in (store.facts, store.load, store.check):
        with pytest.raises(UsageError, match=rf"^{path}: damaged \(.*checksum.*\): delete it, and"):
            ask()


def test_a_bit_that_differs_in_what_is_known_of_a_stage(store, tmp_path):
    path, known = tmp_path / "done.json", store.facts()
    raw = path.read_bytes()
    for bad in with_bits(raw, random.Random(0), len(raw)):
        path.write_bytes(bad)
        error, found = refused(store.facts)
        assert error or found == known, bad


def test_what_the_first_format_told_of_a_stage_is_read(store, tmp_path):
    known = store.facts()
    path = tmp_path / "done.json"
    change_of(path, lambda data: (data.pop(jsons.SUM), data.update(format=1)))
    assert store.facts() == known
    change_of(path, lambda data: data.update(format=versions.SUMMED))
    with pytest.raises(UsageError, match=r"damaged \(no checksum\)"):
        store.facts()
