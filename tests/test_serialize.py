import dataclasses
import json

import pytest
from tiny_experiment import tiny

from kd_jax import cli
from kd_jax.config import smoke
from kd_jax.datasets import Data
from kd_jax.distill import KD
from kd_jax.errors import UsageError
from kd_jax.models import MODELS
from kd_jax.models.mlp import MLP
from kd_jax.prune import Cubic, Iterative, PruningLoss, Slimming
from kd_jax.serialize import describe, difference, fingerprint, flatten, from_data, to_data, what


def through_json(value):
    return from_data(json.loads(json.dumps(to_data(value))))


@pytest.mark.parametrize("shrink", [lambda x: x, smoke])
@pytest.mark.parametrize("name", cli.names())
def test_every_experiment_survives_json(name, shrink):
    experiment = shrink(cli.preset(name))
    again = through_json(experiment)
    assert again == experiment
    assert fingerprint(again) == fingerprint(experiment)
    assert flatten(again) == flatten(experiment)


@pytest.mark.parametrize(
    "value", [*MODELS.values(), Cubic(), Iterative(), PruningLoss(), Slimming(), KD()]
)
def test_every_variant_survives_json(value):
    again = through_json(value)
    assert again == value
    assert type(again) is type(value)


def test_json_names_classes_and_keeps_every_field():
    data = to_data(tiny())
    assert data["class"] == "Experiment"
    assert data["student"] == {
        "class": "MLP",
        **dataclasses.asdict(MLP(widths=(8,))),
        "widths": [8],
    }
    assert data["stages"]["prune"]["class"] == "Prune"
    stage = tiny().stages["prune"]
    assert set(data["stages"]["prune"]) == {f.name for f in dataclasses.fields(stage)} | {"class"}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("class",), "Experimental", "config: unknown class 'Experimental'. Did you mean"),
        (("class",), ["a"], "config: unknown class"),
        (("student", "class"), "os.system", "config.student: unknown class 'os.system'"),
        (("student", "withs"), [3], "config.student: no field 'withs'. Did you mean 'widths'?"),
        (("seeds",), "3", "config.seeds: '3' is not a whole number"),
        (("seeds",), 2.5, "config.seeds: 2.5 is not a whole number"),
        (("student",), None, "config.student: None is not ModelConfig"),
        (("data",), {"class": "Augment"}, "is not Data"),
        (("seeds",), 0, "config: seeds 0 must be"),
        (("stages", "prune", "sparsity"), 1.0, "config.stages.prune: sparsity 1.0 must be"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_by_name(path, value, said):
    data = json.loads(json.dumps(to_data(tiny())))
    node = data
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    with pytest.raises(UsageError) as error:
        from_data(data)
    assert said in str(error.value)


WHERE = {
    "deliver",
    "only",
    "take_from",
    "compare",
    "out",
    "data.dir",
    "devices",
    "model_axis",
    "latency_batch",
    "checkpoint_seconds",
    "debug.nans",
}


def another(value):
    """A different value of the same kind; nothing checks it."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return (*value, "x")
    return 0.5 if value is None else f"{value}x"


def leaves(node, path=""):
    """(dotted path, dataclass, field's name) of all that is no dataclass or dictionary itself."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield from leaves(child, f"{path}{name}.")
    for field in dataclasses.fields(node) if dataclasses.is_dataclass(node) else ():
        child = getattr(node, field.name)
        if dataclasses.is_dataclass(child) or isinstance(child, dict):
            yield from leaves(child, f"{path}{field.name}.")
        else:
            yield f"{path}{field.name}", node, field.name


def test_the_fingerprint_changes_with_all_that_is_computed_and_not_with_where_it_is_written():
    base = tiny()
    experiment = from_data(to_data(base))  # nothing in it is shared
    same, seen = set(), {fingerprint(base)}
    paths = list(leaves(experiment))
    for path, node, name in paths:
        value = getattr(node, name)
        object.__setattr__(node, name, another(value))
        same |= {path} if fingerprint(experiment) == fingerprint(base) else set()
        seen.add(fingerprint(experiment))
        object.__setattr__(node, name, value)
    assert experiment == base
    assert same == WHERE
    assert len(seen) == len(paths) - len(WHERE) + 1  # no two changes give the same


def test_equal_experiments_have_equal_fingerprints():
    assert fingerprint(tiny(student=MLP(widths=(8,), dropout=0))) == fingerprint(tiny())


def test_fingerprints_are_eight_hexadecimal_digits_that_never_change():
    found = fingerprint(tiny())
    assert len(found) == 8
    assert int(found, 16) >= 0
    assert found == fingerprint(tiny(out="elsewhere"))


def test_difference_lists_exactly_what_differs():
    base = tiny()
    assert difference(base, tiny()) == []
    other = tiny(seeds=3, student=MODELS["lenet5"], data=Data(train_limit=96, test_limit=41))
    assert difference(base, other) == [
        ("data.test_limit", 40, 41),
        ("student.class", "MLP", "LeNet"),
        ("student.widths", [8], None),
        ("student.dropout", 0.0, None),
        ("student.input_dropout", 0.0, None),
        ("seeds", 2, 3),
        ("student.conv_relu", None, False),
    ]


def test_flatten_has_stages_at_the_top():
    flat = flatten(tiny())
    assert flat["prune.sparsity"] == 0.5
    assert flat["distill.terms.kd.temperature"] == 4.0
    assert flat["student.widths"] == [8]
    assert not any(name.startswith("stages") for name in flat)


def test_what_differs_from_the_preset_is_told_line_by_line():
    lines = describe(tiny(), tiny(seeds=3, student=MODELS["mlp_800"]))
    assert lines == ["student.widths: [8] -> [800, 800]", "seeds: 2 -> 3"]
    assert describe(tiny(), tiny()) == []
    moved = tiny(out="elsewhere", devices=4, only=("train",))
    assert describe(what(tiny()), what(moved)) == []
    assert describe(what(tiny()), what(tiny(seeds=3))) == ["seeds: 2 -> 3"]
