"""A second, strongly augmented view of each example: what terms are told of it, and what of a stage
does not depend on it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_runs
from calls import refused
from tiny_experiment import tiny as experiment

from kd_jax import cli, jobs, pipeline, results, stages, step
from kd_jax.augment import Augment, augment
from kd_jax.batch import Batch
from kd_jax.checkpoint import Store
from kd_jax.distill import KD, MLKD, TERMS, Lesson, Own, View, cross_entropy
from kd_jax.distill.presets import preset
from kd_jax.errors import UsageError
from kd_jax.forward import Outputs
from kd_jax.program import Teacher
from kd_jax.taught import teacher_of

STRONG = MLKD(temperatures=(2.0, 5.0), weight=0.7, strong=True)
VIEW = Augment(shift=1)  # strong enough: operations take long to compile
STAGE = dataclasses.replace(
    tiny_runs.DISTILL,
    epochs=2,
    terms={"mlkd": STRONG},
    hard_weight=0.3,
    second_view=VIEW,
    second_hard_weight=0.2,
    gradient_norms=False,  # but where they are read: they are a program as large as a step's
)


def logits(phase):
    return 3 * jnp.sin(0.7 * jnp.arange(24.0).reshape(4, 6) + phase)


def test_mlkd_adds_the_instances_of_the_second_view_without_a_mask():
    labels = jnp.arange(4)
    lesson = Lesson(
        student=Outputs(logits(0.3)),
        teacher=Outputs(logits(1.1)),
        targets=jnp.eye(6)[labels],
        labels=labels,
        ids=labels,
        epoch=jnp.float32(0),
        key=jax.random.key(0),
    )
    second = View(Outputs(logits(2.0)), Outputs(logits(0.7)), lesson.targets)
    found, _ = STRONG.evaluate(Own(), dataclasses.replace(lesson, second=second))
    one = dataclasses.replace(STRONG, strong=False)
    expected = one(logits(0.3), logits(1.1), lesson.targets)
    for T in STRONG.temperatures:
        expected += jnp.mean(KD(temperature=T)(logits(2.0), logits(0.7), lesson.targets))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(one.evaluate(Own(), lesson)[0], one(logits(0.3), logits(1.1), None))
    assert (STRONG.views, one.views) == (2, 1)


def one_step(**changes):
    """(program, settings, state, teacher's variables, a stored batch) of a stage's first step."""
    stage, data = dataclasses.replace(STAGE, **changes), tiny.digits()
    prepared = jobs.prepare([stage], tiny.perceptron(), data, tiny_runs.taught(1), (0,), 1)
    state = prepared.begin(None)
    first = lambda tree: jax.tree.map(lambda x: x[0], tree)  # noqa: E731
    state = dataclasses.replace(first(dataclasses.replace(state, step=None)), step=state.step)
    settings = dataclasses.replace(prepared.settings, seed=prepared.seeds[0])
    rows = np.arange(16)
    train = data.train
    arrays = (jnp.asarray(x[rows]) for x in (train.ids, train.inputs, train.labels))
    batch = Batch(*arrays, weights=jnp.ones(16))
    return prepared.program, settings, state, first(tiny_runs.taught(1)[1].variables), batch


def test_a_step_by_hand():
    """The parts of its loss, and statistics that move with the first view and then the second."""
    program, settings, state, taught, batch = one_step()
    parts_of = step.loss_parts(program, settings, state, taught, batch)
    model = tiny.perceptron()

    def by_hand(params):
        views = [
            augment(how, 0, 0, batch, program.spec, name)
            for how, name in ((program.augment, "augment"), (VIEW, "second view"))
        ]
        expected, collection, said = {}, state.collections, []
        for view in views:
            variables = {"params": params, **collection}
            outputs, collection = model.forward(variables, view.inputs, train=True)
            said.append((outputs.logits, model.forward(taught, view.inputs)[0].logits))
        targets = views[0].targets
        expected["hard"] = 0.3 * jnp.mean(cross_entropy(said[0][0], targets))
        expected["hard_second"] = 0.2 * jnp.mean(cross_entropy(said[1][0], targets))
        one = dataclasses.replace(STRONG, strong=False)
        again = [jnp.mean(KD(temperature=T)(*said[1], targets)) for T in STRONG.temperatures]
        expected["mlkd"] = 0.7 * (one(*said[0], targets) + sum(again))
        return views, collection, expected

    both = jax.jit(lambda params: (parts_of(params, {}, {}), by_hand(params)))
    (parts, (collections, metrics, _)), (views, collection, expected) = both(state.params)
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-4, err_msg=name)
    assert metrics.keys() == {*expected, "loss", "accuracy"}
    for a, b in zip(jax.tree.leaves(collections), jax.tree.leaves(collection), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert (views[0].inputs != views[1].inputs).any()


def test_nobody_asks_and_there_is_none():
    program, *_ = one_step(terms={"kd": KD()}, second_hard_weight=0.0)
    assert program.second is None
    assert not program.asks
    stage = dataclasses.replace(tiny_runs.DISTILL, gradient_norms=False)
    plain, diary = tiny_runs.fit(stage)
    other, _ = tiny_runs.fit(dataclasses.replace(stage, second_view=VIEW))
    assert not tiny.differences(plain, other)
    assert "hard_second" not in diary.records[0]["train"]


@pytest.mark.slow
def test_its_metrics_and_norms_are_told():
    _, diary = tiny_runs.fit(dataclasses.replace(STAGE, gradient_norms=True))
    assert diary.records[-1]["train"]["hard_second"][0] > 0
    assert diary.records[-1]["gradients"].keys() == {"hard", "hard_second", "mlkd"}


def test_it_needs_the_teacher_where_its_logits_were_collected(tmp_path):
    """Without augmentation of the first view they are, but they are of that view alone."""
    stored, _ = tiny_runs.fit(STAGE, store=Store(tmp_path))
    plain, _ = tiny_runs.fit(STAGE)
    assert not tiny.differences(stored, plain)
    data, taught = tiny.digits(), tiny_runs.taught(2)
    prepared = jobs.prepare([STAGE], tiny.perceptron(), data, taught, (0, 1), 1)
    brings = teacher_of(prepared, taught, np.zeros((2, 64, 10)), None)
    assert isinstance(brings, Teacher)
    assert brings.logits is None


@pytest.mark.slow
def test_seeds_and_settings_together_and_apart():
    other = dataclasses.replace(STAGE, second_hard_weight=0.9)
    given = {"seeds": (0, 1), "devices": 1, "teacher": tiny_runs.taught(2)}
    both = stages.run([STAGE, other], tiny.perceptron(), tiny.digits(), **given)
    for i, stage in enumerate((STAGE, other)):
        alone = stages.run(stage, tiny.perceptron(), tiny.digits(), **given)
        for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i::2], b, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_one_device_and_four():
    ends = [tiny_runs.fit(STAGE, devices=count)[0] for count in (1, 4)]
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_it_goes_on_where_it_was_stopped(tmp_path):
    whole, _ = tiny_runs.fit(STAGE)
    state, _, _ = tiny_runs.stop_and_go_on(tmp_path, 6, "quit", STAGE)
    assert not tiny.differences(state, whole)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"taught_by": "average", "ema": 0.9}, {"augment": VIEW}])
def test_other_teachers_and_first_views(changes):
    _, diary = tiny_runs.fit(dataclasses.replace(STAGE, **changes))
    assert np.all(np.isfinite(diary.records[-1]["train"]["mlkd"]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"replay": "float16"},
            "replay float16 keeps what is said of one view, and the terms mlkd",
        ),
        ({"taught_by": "peers"}, "terms mlkd can't be learned from several on a second view"),
        ({"teacher": "a+b", "combine": "losses"}, "terms mlkd can't be learned from several on a"),
        ({"second_hard_weight": -1.0}, "second-hard-weight -1.0 must not be negative"),
        ({"terms": {"kd": KD()}}, "second-hard-weight 0.2, but no term reads a second view"),
        (
            {"terms": {"mlkd": STRONG, "mixture": TERMS["mixture"]}, "hard_weight": 0.0},
            "second-hard-weight 0.2 with the term mixture, which holds",
        ),
    ],
)
def test_what_does_not_fit_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(STAGE, **fields)


def test_flags(call):
    flags = "--distill mlkd --distill.second-view.crop 9"
    said = refused(call, "run", "digits", *flags.split())
    assert said.startswith("--distill.second-view.crop 9 moves images of 8 pixels out of sight")
    said = refused(call, "run", "digits", "--distill.second-view.magnitude", "30")
    assert said.startswith("--distill.second-view.magnitude is 30: it must be at least 0 and at")


@pytest.mark.slow
def test_from_the_experiment_to_the_table(tmp_path):
    base = experiment()
    fields = preset("mlkd", base.teacher, base.student, base.stages["distill"].augment)
    assert fields["second_view"].operations
    distill = dataclasses.replace(base.stages["distill"], **fields, gradient_norms=False)
    small = dataclasses.replace(base, stages={"train": base.stages["train"], "distill": distill})
    run = pipeline.prepare(small, tmp_path, stages.Silent())
    pipeline.train(run, stages.Silent())
    assert run.history("distill")[-1]["train"].keys() >= {"hard_second", "mlkd"}


@pytest.mark.slow
def test_from_run_py(tmp_path):
    flags = "--distill mlkd --only distill --seeds 1 --smoke --devices 1"
    assert cli.main(["run", "digits", *flags.split(), "--out", str(tmp_path)]) == 0
    (folder,) = tmp_path.iterdir()
    assert results.read(folder).row("distill").accuracy
