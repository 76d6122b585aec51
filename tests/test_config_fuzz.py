"""Files of a run that were damaged or made by somebody else: refused in one line that names the
file, or read as a whole. Nothing in between, and nothing of them is ever run."""

import json
import random
from pathlib import Path

import pytest

from kd_jax import cli, jsons, reproduction, results, runs
from kd_jax.config import Experiment
from kd_jax.errors import UsageError
from kd_jax.serialize import to_data

ODD = (
    None,
    True,
    -1,
    0,
    1e300,
    float("nan"),
    10**30,
    "",
    "x",
    "../../x",
    [],
    [[]],
    {},
    {"class": 1},
)
ODD = (*ODD, {"class": "os.system"}, {"class": "Experiment"}, {"a": {"b": []}}, "x" * 10_000)


def places(node, path=()):
    """All places of a tree of dictionaries and lists."""
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in children if isinstance(node, (dict, list)) else ():
        yield (*path, key)
        if isinstance(child, (dict, list)):
            yield from places(child, (*path, key))


def changed(data, rng):
    """A copy that differs in one place: another value, none, one more, or another name."""
    data = json.loads(json.dumps(data))
    *path, last = rng.choice(list(places(data)))
    node = data
    for key in path:
        node = node[key]
    how = rng.choice(("value", "value", "gone", "more", "name"))
    if how == "value" or isinstance(node, list):
        node[last] = rng.choice(ODD)
    elif how == "gone":
        del node[last]
    elif how == "more":
        node["__class__"] = rng.choice(ODD)
    else:
        node[str(last) + "_"] = node.pop(last)
    return json.dumps(data).encode()


def harmed(raw, rng):
    """Bytes that are cut short, or of which some differ."""
    if rng.random() < 0.3:
        return raw[: rng.randrange(len(raw))]
    found = bytearray(raw)
    for _ in range(rng.randrange(1, 6)):
        found[rng.randrange(len(found))] = rng.randrange(256)
    return bytes(found)


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        "digits_shrink",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("digits_quantize", "digits_fuse")),
    ],
)
@pytest.mark.parametrize("summed", [True, False], ids=["with a checksum", "without"])
def test_a_config_is_read_whole_or_refused(tmp_path, name, summed):
    rng, path = random.Random(name), tmp_path / "config.json"
    known = cli.preset(name)
    data = jsons.summed(to_data(known)) if summed else to_data(known)
    raw, said = json.dumps(data).encode(), []
    for i in range(400):
        path.write_bytes(changed(data, rng) if i % 2 else harmed(raw, rng))
        try:
            found = runs.experiment_of(tmp_path)
        except UsageError as error:
            said.append(str(error))
        else:
            assert found == known if summed else isinstance(found, Experiment)
    assert len(said) > 200
    assert all(words.startswith(f"{path}: ") for words in said)
    assert max(map(len, said)) < 700, max(said, key=len)


def read_results(path):
    """Results, without a checksum, as earlier versions wrote them."""
    return results.from_json(path.read_bytes(), str(path))


@pytest.mark.slow
def test_results_with_a_checksum_are_what_was_written_or_refused(tmp_path):
    rng, path = random.Random(0), tmp_path / "results.json"
    known = read_results(RESULTS / "digits" / "results.json")
    text, said = results.to_json(known), []
    for i in range(300):
        path.write_bytes(changed(json.loads(text), rng) if i % 2 else harmed(text.encode(), rng))
        try:
            assert read_results(path) == known
        except UsageError as error:
            said.append(str(error))
    assert len(said) > 250
    assert max(map(len, said)) < 700, max(said, key=len)


RESULTS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("digits/results.json", read_results),
        ("mnist_papers_300_100/reproduction.json", reproduction.read),
    ],
)
def test_results_are_read_whole_or_refused(tmp_path, file, read):
    rng, path, said = random.Random(file), tmp_path / "found.json", []
    raw = (RESULTS / file).read_bytes()
    for i in range(300):
        path.write_bytes(changed(json.loads(raw), rng) if i % 2 else harmed(raw, rng))
        try:
            read(path)
        except UsageError as error:
            said.append(str(error))
    assert len(said) > 150
    assert max(map(len, said)) < 700, max(said, key=len)


@pytest.mark.parametrize("deep", [10_000, 200_000])
def test_a_config_that_is_nested_without_end_is_refused(tmp_path, deep):
    path = tmp_path / "config.json"
    path.write_text("[" * deep + "]" * deep)
    with pytest.raises(UsageError, match="damaged"):
        runs.experiment_of(tmp_path)
