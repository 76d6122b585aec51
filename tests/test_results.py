"""Results: what they take, and that they survive the way through JSON."""

import dataclasses
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from made_results import learnt, make, rows

from kd_jax import results as results_lib
from kd_jax.cka import Similarity
from kd_jax.environment import environment
from kd_jax.errors import UsageError
from kd_jax.results import Layer, from_json, to_json


def test_round_trip():
    results = make()
    assert from_json(to_json(results)) == results


def test_round_trip_on_disk(tmp_path):
    results_lib.write(tmp_path, make())
    assert results_lib.read(tmp_path) == make()
    assert json.loads((tmp_path / "results.json").read_text())["format"] == results_lib.FORMAT


def test_not_finite_is_strict_json_and_comes_back():
    teacher, *rest = rows()
    teacher = dataclasses.replace(teacher, cross_entropy=[0.1, math.inf, math.nan])
    text = to_json(make(rows=[teacher, *rest]))

    def refuse(constant):
        raise AssertionError(constant)

    json.loads(text, parse_constant=refuse)
    back = from_json(text).rows[0].cross_entropy
    assert back[:2] == (0.1, math.inf)
    assert math.isnan(back[2])


def test_takes_numpy_and_jax_numbers_and_keeps_pythons():
    layer = Layer(size=np.int64(4), pruned=[np.int32(2), jnp.asarray(1)])  # type: ignore[arg-type]
    assert layer == Layer(size=4, pruned=(2, 1))
    assert [type(x) for x in (layer.size, *layer.pruned)] == [int, int, int]
    row = dataclasses.replace(rows()[0], accuracy=np.array([0.5, 0.25, 1.0], np.float32))
    assert row.accuracy == (0.5, 0.25, 1.0)
    json.dumps(row.accuracy)


def test_a_list_of_other_length_than_the_seeds():
    teacher, *rest = rows()
    short = dataclasses.replace(teacher, accuracy=[0.9])
    with pytest.raises(UsageError, match=r"train\.accuracy has 1 entries for 3 seeds"):
        make(rows=[short, *rest])
    layers = {"Dense_0/kernel": Layer(size=4, pruned=[1])}
    with pytest.raises(UsageError, match=r"layers\.Dense_0/kernel\.pruned has 1"):
        make(rows=[dataclasses.replace(teacher, layers=layers), *rest])


def test_what_was_learnt_comes_back():
    text = to_json(learnt())
    assert to_json(from_json(text)) == text
    distilled = from_json(text).row("distill")
    assert distilled.class_accuracy[0][:2] == (0.9, 0.65)
    assert math.isnan(distilled.class_accuracy[0][2])
    assert distilled.similarity == learnt().row("distill").similarity
    assert distilled.similarity.namesakes == {
        "stage1": [0.9] * 3,
        "pooled": pytest.approx([0.8, 0.81, 0.82]),
    }
    assert distilled.pooled_cka == distilled.similarity.namesakes["pooled"]


def test_what_was_learnt_fits_classes_layers_and_seeds():
    with pytest.raises(UsageError, match=r"train\.class_accuracy is not of the 0 data\.classes"):
        make(rows=[dataclasses.replace(rows()[0], class_accuracy=[[1.0]] * 3)])
    with pytest.raises(UsageError, match=r"Similarity\.cka is not of 2 by 1 layers"):
        Similarity(layers=["a", "b"], others=["c"], cka=[[[1.0]]])
    alike = Similarity(layers=["a"], others=["c"], cka=[[[1.0]]])
    assert alike.namesakes == {}
    with pytest.raises(UsageError, match=r"train\.similarity\.cka has 1 entries for 3 seeds"):
        make(rows=[dataclasses.replace(rows()[0], similarity=alike)])


def test_rows_are_needed_and_named_once():
    with pytest.raises(UsageError, match="empty"):
        make(rows=[])
    with pytest.raises(UsageError, match="twice"):
        make(rows=rows()[:1] * 2)


def test_wrong_type_names_the_field():
    with pytest.raises(UsageError, match=r"Layer\.size can't be 1\.5"):
        Layer(size=1.5, pruned=[0])  # type: ignore[arg-type]


def test_folders_without_results(tmp_path):
    with pytest.raises(UsageError, match=r"no results\.json: run it first"):
        results_lib.read(tmp_path)
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        results_lib.read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-10], "is no JSON"),
        (lambda text: text.replace('"format": 1', '"format": 99'), "format 99, not 1"),
        (lambda text: text.replace('"command"', '"comand"'), "Did you mean 'command'"),
        (
            lambda text: text.replace(' "fingerprint": "ab12cd34",\n', ""),
            "'fingerprint' is missing",
        ),
        (lambda text: text.replace('"seconds": 75.0', '"seconds": "long"'), r"seconds can't be"),
        (lambda text: "[]", "format None"),
    ],
)
def test_damaged_files_say_what_is_wrong(tmp_path, change, message):
    (tmp_path / "results.json").write_text(change(to_json(make())))
    with pytest.raises(UsageError, match=message) as caught:
        results_lib.read(tmp_path)
    assert "results.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_row_by_stage():
    assert make().row("alone").label == "student alone"
    with pytest.raises(UsageError, match="Did you mean 'distill'"):
        make().row("distil")


def test_environment_of_this_process():
    here = environment()
    assert here.platform == "cpu"
    assert here.cores >= here.threads >= 1
    assert here.cpu
    assert here.jax.count(".") >= 2
