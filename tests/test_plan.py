"""A plan for four devices of this machine's CPU, in place of a slice that is not there."""

import dataclasses
import importlib.util
import json

import jax
import pytest
from jax.errors import JaxRuntimeError
from rich.console import Console
from tiny_experiment import tiny

from kd_jax import ahead, compiled, pipeline, plan_table, sources, stages
from kd_jax import data as data_lib
from kd_jax import plan as plan_lib
from kd_jax.augment import Augment
from kd_jax.chips import Chip, Slice, tpu_slice
from kd_jax.config import Train
from kd_jax.datasets import DATASETS, Data
from kd_jax.errors import UsageError
from kd_jax.models.mlp import MLP
from kd_jax.optim import Optim
from kd_jax.plan import plan

CHIP = Chip(flops=1e12, memory=1e9, memory_speed=1e11, link_speed=1e10, axes=1, wraps=4)
TARGET = Slice("cpu:4", CHIP, (4,), tuple(jax.devices()[:4]))
EXPERIMENT = tiny(devices=0)
TRAIN = tiny(devices=0, seeds=1, only=("train",))
STREAMED = dataclasses.replace(TRAIN, data=Data(name="cifar10", memory_mb=100))


@pytest.fixture(scope="module")
def made():
    return plan(EXPERIMENT, TARGET)


@pytest.fixture
def uncompiled(monkeypatch):
    """Plans without figures, in less time; the texts of the steps that would be compiled."""
    texts = []

    def keep(lower, target):
        texts.append(lower().as_text())
        return None, "not compiled"

    monkeypatch.setattr(plan_lib, "_compile", keep)
    return texts


def test_sizes_are_those_of_the_networks(made):
    """Teacher 64-16-10, student 64-8-10, two seeds; SGD with momentum; a byte a mask."""
    large, small = 64 * 16 + 16 + 16 * 10 + 10, 64 * 8 + 8 + 8 * 10 + 10
    kernels = 64 * 8 + 8 * 10
    train, distill, prune = made.stages
    assert [s.parameters for s in made.stages] == [2 * large, 2 * small, 2 * small]
    assert train.parameter_bytes == 4 * train.parameters
    assert train.state == 2 * 8 * large + 4
    assert distill.state == 2 * 8 * small + 4
    assert prune.state == 2 * (8 * small + kernels) + 4
    assert train.data == distill.data == 96 * (64 + 4 + 4)
    assert [s.teacher for s in made.stages] == [0, 2 * 96 * 10 * 4, 0]  # logits, collected


def test_a_model_axis_halves_what_a_chip_holds_of_the_kernels():
    split = plan(dataclasses.replace(TRAIN, model_axis=2), TARGET).stages[0]
    assert split.parameter_bytes == 4 * ((64 * 16 + 16 * 10) // 2 + 16 + 10)
    assert split.figures is not None
    with pytest.raises(UsageError, match="--model-axis 3 does not divide the 4 devices of cpu:4"):
        plan(dataclasses.replace(TRAIN, model_axis=3), TARGET)


def test_steps_and_runs(made, uncompiled):
    assert [(s.batch, s.steps, s.runs, s.seeds) for s in made.stages] == 3 * [(32, 6, 1, 2)]
    (train,) = plan(dataclasses.replace(TRAIN, seeds=2, together=False), TARGET).stages
    assert (train.runs, train.seeds) == (2, 1)
    twice = dataclasses.replace(train, figures=made.stages[0].figures)
    assert twice.seconds == 2 * 6 * twice.figures.least_seconds
    assert made.seconds == sum(6 * stage.figures.least_seconds for stage in made.stages)


def test_figures_are_those_of_the_step(made):
    train = made.stages[0]
    weights, examples = 2 * (64 * 16 + 16 * 10), 32 // 4
    products = 2 * examples * (3 * weights - 2 * 64 * 16)  # no gradient for the images
    assert products < train.figures.flops < 1.5 * products + 10 * train.parameters
    reduced = {c.kind: c.bytes for c in train.figures.collectives}
    # The gradients of all weights, and three metrics of each seed.
    assert train.parameter_bytes < reduced["all-reduce"] <= train.parameter_bytes + 2 * 3 * 4
    assert train.figures.moved > train.state
    assert train.figures.peak > train.state + train.figures.temporaries


def test_the_planned_step_is_the_one_that_runs(monkeypatch, uncompiled):
    """The program that training calls has the text of the one that was planned."""
    plan(TRAIN, TARGET)
    build = compiled.build

    def spied(program, loop):
        built = build(program, False)

        def advance(settings, seeds, state, sums, teacher, data, steps):
            order = built.order(settings, seeds, state.step, data)
            given = (settings, seeds, state, sums, teacher, data, order)
            uncompiled.append(built.single.lower(*given).as_text())
            raise InterruptedError

        return dataclasses.replace(built, advance=advance)

    monkeypatch.setattr(compiled, "build", spied)
    data = data_lib.load(TRAIN.data)
    model = pipeline.planned(TRAIN).model("train")
    with pytest.raises(InterruptedError):
        stages.run(TRAIN.stages["train"], model, data, devices=4)
    planned, runs = uncompiled
    assert planned == runs


def test_no_example_is_read_and_nothing_is_placed(monkeypatch, uncompiled):
    def forbidden(*_, **__):
        raise AssertionError("this reads or computes")

    monkeypatch.setattr(data_lib, "load", forbidden)
    monkeypatch.setattr(data_lib, "digits", forbidden)
    monkeypatch.setattr(sources, "open_builder", forbidden)
    monkeypatch.setattr(jax, "device_put", forbidden)
    (train,) = plan(dataclasses.replace(TRAIN, data=Data(name="cifar10")), TARGET).stages
    assert train.data == 45_000 * (3072 + 4 + 4)
    assert train.steps == 2 * (45_000 // 32)


def test_augmentation_puts_the_teacher_into_the_step(made, uncompiled):
    stage = dataclasses.replace(EXPERIMENT.stages["distill"], augment=Augment(shift=1))
    experiment = dataclasses.replace(
        EXPERIMENT, stages={**EXPERIMENT.stages, "distill": stage}, only=("distill",)
    )
    distill = plan(experiment, TARGET).stages[1]
    assert distill.teacher == made.stages[0].parameter_bytes


def test_a_teacher_that_is_replayed_is_not_in_the_step(made, uncompiled):
    changes = {"augment": Augment(shift=1), "replay": "float16"}
    stage = dataclasses.replace(EXPERIMENT.stages["distill"], **changes)
    experiment = dataclasses.replace(
        EXPERIMENT, stages={**EXPERIMENT.stages, "distill": stage}, only=("distill",)
    )
    distill = plan(experiment, TARGET).stages[1]
    assert distill.teacher == made.stages[1].teacher == 2 * 96 * 10 * 4


def test_a_streamed_set_is_planned_by_the_batch(uncompiled):
    (train,) = plan(STREAMED, TARGET).stages
    assert train.data == 32 * (3072 + 4 + 4 + 4)
    assert "32x32x32x3xui8" in uncompiled[0]
    assert "45000x" not in uncompiled[0]


def test_the_outline_has_the_form_of_what_is_read():
    for config in (Data(), Data(validation=0.3, train_limit=500, image_size=12)):
        outlined, read = data_lib.outline(config), data_lib.load(config)
        assert outlined.spec == read.spec
        assert outlined.streamed == read.streamed
        assert outlined.ids_below == read.ids_below
        for name in ("train", "validation", "test"):
            ours, theirs = getattr(outlined, name), getattr(read, name)
            for field in ("inputs", "labels", "ids"):
                a, b = getattr(ours, field), getattr(theirs, field)
                assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert {name: spec.examples for name, spec in DATASETS.items()} == {
        "digits": (1000, 797),
        "mnist": (60_000, 10_000),
        "fashion_mnist": (60_000, 10_000),
        "cifar10": (50_000, 10_000),
        "cifar100": (50_000, 10_000),
        "imagenet2012": (1_281_167, 50_000),
    }


# Batches


def test_a_batch_for_all_stages(uncompiled):
    found = plan(EXPERIMENT, TARGET, 48)
    assert [(stage.batch, stage.steps) for stage in found.stages] == 3 * [(48, 2 * 2)]


def peaks(monkeypatch, peak):
    """Steps take peak(batch) bytes, or are refused for None. The batches that were compiled."""
    tried = []
    step_of = ahead.step_of

    def noted(*given):
        step = step_of(*given)
        tried.append(step.data.ids.size)  # streamed: a batch as it is
        return step

    def compile(lower, target):
        found = peak(tried[-1])
        if found is None:
            return None, "RESOURCE_EXHAUSTED: no room"
        seconds = {"compute": 1.0, "memory": 2.0, "network": 0.0}
        return plan_lib.Figures(0, found, 0.0, 0, [], 0.0, seconds), ""

    monkeypatch.setattr(ahead, "step_of", noted)
    monkeypatch.setattr(plan_lib, "_compile", compile)
    return tried


@pytest.mark.parametrize(
    ("peak", "largest"),
    [
        (lambda batch: 1e9 if batch <= 64 else 1e9 + 1, 64),
        (lambda batch: 0 if batch <= 4096 else None, 4096),
        (lambda batch: 0, 32_768),
        (lambda batch: None, 4),
        (lambda batch: 1 if batch <= 4 else None, 4),
    ],
)
def test_the_largest_batch_that_fits(monkeypatch, peak, largest):
    tried = peaks(monkeypatch, peak)
    (train,) = plan(STREAMED, TARGET, "auto").stages
    assert train.batch == largest
    assert len(tried) <= 4  # of 14 sizes
    assert train.fits(CHIP.memory) == (peak(largest) is not None)


def test_a_batch_may_be_too_large_for_the_stage(monkeypatch):
    """At 2,048 the warm-up of 50 steps is longer than the 42 steps of two epochs."""
    peaks(monkeypatch, lambda batch: 0)
    warm = dataclasses.replace(STREAMED.stages["train"], optim=Optim(warmup=50))
    experiment = dataclasses.replace(STREAMED, stages={"train": warm})
    (train,) = plan(experiment, TARGET, "auto").stages
    assert (train.batch, train.steps) == (1024, 2 * 43)


def test_the_memory_of_this_machine_is_no_matter(monkeypatch):
    monkeypatch.setattr(plan_lib, "_compile", lambda lower, target: (None, ""))
    wide = dataclasses.replace(TRAIN, teacher=MLP(widths=(10**6, 10**6)))
    (train,) = plan(wide, TARGET).stages
    assert train.parameter_bytes > 4e12


def test_what_does_not_fit_is_said(monkeypatch):
    peaks(monkeypatch, lambda batch: None)
    found = plan(STREAMED, TARGET)
    assert found.seconds is None
    assert plan_table.findings(found) == [
        "train does not fit at batch 32. RESOURCE_EXHAUSTED: no room"
    ]
    cells = dict(plan_table.rows(found))
    assert (cells["fits"], cells["peak memory"], cells["stage ≥"]) == ("no", "–", "–")


def test_only_a_want_of_memory_is_a_refusal():
    def refuses(message):
        def lower():
            raise JaxRuntimeError(message)

        return lower

    found = plan_lib._compile(refuses("RESOURCE_EXHAUSTED: 20G of 16G\nmore"), TARGET)
    assert found == (None, "RESOURCE_EXHAUSTED: 20G of 16G")
    with pytest.raises(JaxRuntimeError, match="INTERNAL"):
        plan_lib._compile(refuses("INTERNAL: broken"), TARGET)


@pytest.mark.parametrize(
    ("changes", "batch", "said"),
    [
        ({}, 30, "--batch 30 does not divide over the 4 devices of cpu:4: use a multiple of 4"),
        (
            {"stages": {"train": Train(model="teacher", batch=30)}},
            None,
            "--train.batch 30 does not",
        ),
        ({}, 0, "--batch 0: must be at least 1"),
        ({}, 100, "--train.batch 100 is larger than the 96 training examples"),
        ({"devices": 2}, None, "--devices 2: a plan is for all 4 devices of cpu:4"),
        ({"data": Data(train_limit=3)}, "auto", "--topology cpu:4: 4 devices for 3 training"),
        ({"data": Data(name="no_such_set")}, None, "--data.name no_such_set: no such data set."),
    ],
)
def test_what_can_not_be_planned(changes, batch, said):
    with pytest.raises(UsageError) as error:
        plan(dataclasses.replace(EXPERIMENT, **changes), TARGET, batch)
    assert str(error.value).startswith(said)


# The table


def test_the_table_as_screen_page_and_data(made, tmp_path, capsys):
    plan_table.show(made, Console(width=80))
    screen = capsys.readouterr().out
    assert "…" not in screen.replace("… in bytes", "").replace("… of HBM", "")  # nothing is cut
    plan_table.write(made, tmp_path / "deep" / "plan.json", "python run.py plan tiny")
    page = (tmp_path / "deep" / "plan.md").read_text(encoding="utf-8")
    data = json.loads((tmp_path / "deep" / "plan.json").read_text(encoding="utf-8"))
    for cells in plan_table.rows(made):
        assert f"| {' | '.join(cells)} |" in page
        assert all(cell in screen for cell in cells)
    for text in ("not there: nothing was timed on a TPU", "at least"):
        assert text in page
        assert text in " ".join(screen.split())
    assert "Made by `python run.py plan tiny`." in page
    assert data["seconds"] == made.seconds
    assert data["stages"][0]["figures"]["flops"] == made.stages[0].figures.flops
    assert data["stages"][0]["bound"] == made.stages[0].figures.bound
    with pytest.raises(UsageError, match=r"--out .*plan\.md: is for JSON"):
        plan_table.write(made, tmp_path / "plan.md", "")
    with pytest.raises(UsageError, match=r"--out .*: can't be written"):
        plan_table.write(made, tmp_path / "deep" / "plan.json" / "x.json", "")


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason='needs libtpu: pip install "kd-jax[tpu]"'
)
@pytest.mark.parametrize("name", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_a_plan_for_chips_that_are_not_there(name):
    experiment = tiny(devices=0, teacher=MLP(widths=(256,)), data=Data())
    found = plan(experiment, tpu_slice(name), 64)
    for stage in found.stages:
        assert stage.fits(found.target.chip.memory)
        assert stage.figures.flops > 0
        assert stage.figures.collectives[0].kind == "all-reduce"
        assert 0 < stage.figures.moved < 1e9
