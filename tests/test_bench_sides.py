"""The two sides of the benchmark: ours runs the project's programs, and PyTorch's builds the same
nets and computes the same loss (where PyTorch is; $KD_JAX_TORCH_PYTHON names its interpreter)."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import slow_but

from kd_jax.batch import Batch
from kd_jax.bench import CASES, Work, jax_side, process
from kd_jax.bench.cases import PRUNED, SOFT, at_batch, request
from kd_jax.distill import Lesson
from kd_jax.errors import UsageError
from kd_jax.forward import Outputs, from_linen
from kd_jax.models.mlp import MLP
from kd_jax.objective import objective, total
from kd_jax.stage_settings import settings_of

SMALL = {"data": "digits", "student": MLP(widths=(4,))}
TAUGHT = {**SMALL, "teacher": MLP(widths=(8,)), "stage": dataclasses.replace(SOFT, batch=4)}
WORKS = [
    Work(label="online", **TAUGHT),
    Work(label="collected", collected=True, seeds=2, **TAUGHT),
    Work(label="masked", stage=dataclasses.replace(PRUNED, batch=4), **SMALL),
]


@pytest.mark.parametrize("work", slow_but(WORKS[1:2], WORKS), ids=lambda work: work.label)
def test_a_row_compiles_with_its_first_step_alone(work, caplog):
    run, facts = jax_side.prepare(json.loads(json.dumps(request(work))))
    assert facts()["parameters"]["student"] == 64 * 4 + 4 + 4 * 10 + 10
    assert facts()["macs"]["student"] == 64 * 4 + 4 * 10
    run(1)
    with jax.log_compiles():
        run(1)
        run(3)
    assert not [r for r in caplog.records if "compilation" in r.getMessage()]


def test_examples_are_the_same_each_time_and_fill_the_range_of_pixels():
    about = request(Work(label="", stage=SOFT, **SMALL))["data"]
    one, other = jax_side.synthetic(about), jax_side.synthetic(about)
    assert np.array_equal(one.train.inputs, other.train.inputs)
    assert one.train.inputs.shape == (900, 8, 8, 1)
    assert (one.train.inputs.min(), one.train.inputs.max()) == (0, 16)
    assert set(one.train.labels) == set(range(10))


def test_a_made_up_teacher_says_something_finite_and_the_same_to_each_seed():
    data = jax_side.synthetic(request(Work(label="", stage=SOFT, **SMALL))["data"])
    model = from_linen(MLP(widths=(8,)).build(10, np.float32))
    _, snapshot = jax_side.taught(model, data, 2)
    first, second = (jax.tree.map(lambda x, i=i: x[i], snapshot.variables) for i in (0, 1))
    images = data.train.inputs[:5].astype(np.float32) / 16
    logits = [np.asarray(model.forward(v, images)[0].logits) for v in (first, second)]
    assert np.array_equal(*logits)
    assert np.isfinite(logits[0]).all()
    assert logits[0].std() > 0.1


# PyTorch -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch_python():
    python = os.environ.get("KD_JAX_TORCH_PYTHON", "")
    try:
        process.require_torch(python)
    except UsageError as error:
        pytest.skip(str(error))
    return python


def theirs_and_ours(child, work):
    """What both sides say of a row's nets."""
    asked = request(work)
    child.ask({"prepare": asked})
    theirs = child.ask({"facts": None})
    data = jax_side.synthetic({**asked["data"], "examples": 1})
    configs = {"student": work.student, "teacher": work.teacher}
    models = {
        role: from_linen(config.build(data.spec.classes, np.float32))
        for role, config in configs.items()
        if config is not None
    }
    return {name: theirs[name] for name in ("parameters", "macs")}, jax_side.facts(models, data)


def test_pytorch_builds_nets_of_the_same_size(torch_python):
    """Parameters, and multiply-adds of an example: those differ with any stride or pooling."""
    works = [w for case in CASES.values() for w in case.works if w.framework == "torch"]
    child = process.Worker("torch", torch_python)
    for work in {(w.student, w.teacher): w for w in works}.values():
        theirs, ours = theirs_and_ours(child, work)
        assert theirs == ours
    child.close()


@pytest.mark.parametrize("name", [name for name in CASES if name != "digits"])
def test_pytorch_trains_each_case_in_small(torch_python, name):
    child = process.Worker("torch", torch_python)
    for work in CASES[name].works:
        if work.framework == "torch":
            teacher = work.teacher and work.teacher.tiny()
            small = dataclasses.replace(work, student=work.student.tiny(), teacher=teacher)
            theirs, ours = theirs_and_ours(child, at_batch(small, 4))
            assert theirs == ours
            child.ask({"run": 2})
    child.close()


LOSS = """
import json, runpy, sys, torch
side, given = runpy.run_path(sys.argv[1]), json.loads(sys.argv[2])
student, teacher = torch.tensor(given["student"]), torch.tensor(given["teacher"])
labels = torch.tensor(given["labels"])
print(side["objective"](given["stage"], student, teacher, labels).item())
"""


def test_pytorch_computes_the_same_loss(torch_python):
    random = np.random.default_rng(0)
    student, teacher = 3 * random.standard_normal((2, 6, 10)).astype(np.float32)
    labels = random.integers(0, 10, 6)
    stage = request(Work(label="", stage=SOFT, **SMALL))["stage"]
    given = {"student": student, "teacher": teacher, "labels": labels}
    given = {"stage": stage, **{name: x.tolist() for name, x in given.items()}}
    path = str(process.FOLDER / "torch_side.py")
    command = [torch_python or sys.executable, "-c", LOSS, path, json.dumps(given)]
    theirs = float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    batch = Batch(
        ids=np.arange(6), inputs=student, labels=labels, weights=np.ones(6, np.float32),
        targets=np.eye(10, dtype=np.float32)[labels],
    )  # fmt: skip
    assert batch.targets is not None
    lesson = Lesson(
        student=Outputs(student), teacher=Outputs(teacher), targets=batch.targets, labels=labels,
        ids=batch.ids, epoch=jnp.float32(0), key=jax.random.key(0),
    )  # fmt: skip
    parts, _ = objective(settings_of(SOFT), lesson, {}, batch.weights, {}, {})
    assert float(total(parts)) == pytest.approx(theirs, rel=1e-5)
