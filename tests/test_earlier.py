"""What an earlier run has finished is not trained again in another one, where nothing differs."""

import dataclasses
import os
import shutil

import pytest
from test_pipeline import Told, assert_same_networks, networks
from tiny_experiment import run_of, tiny

from kd_jax import earlier, pipeline
from kd_jax.config import Quantize, Shrink, Train
from kd_jax.errors import UsageError
from kd_jax.loop import Silent
from kd_jax.models.mlp import MLP


def changed(experiment, stage, **fields):
    other = dataclasses.replace(experiment.stages[stage], **fields)
    return dataclasses.replace(experiment, stages={**experiment.stages, stage: other})


def trained(experiment, folder, told=None):
    told = told or Told()
    run = pipeline.prepare(experiment, folder, told)
    pipeline.claim(experiment, folder)
    pipeline.train(run, told)
    return run, [what.split()[0] for what, _, _ in told.begun], told.notes


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return run_of(tiny(), tmp_path_factory.mktemp("earlier") / "first")


def test_only_what_differs_is_trained_and_all_is_as_if_it_were_trained_here(first, tmp_path):
    other = changed(tiny(take_from=str(first.folder)), "prune", sparsity=0.25)
    run, begun, notes = trained(other, tmp_path / "other")
    assert begun == ["prune"]
    assert f"train (seed 0, 1): taken from {first.folder}" in notes
    whole, begun, _ = trained(dataclasses.replace(other, take_from=""), tmp_path / "whole")
    assert begun == ["train", "distill", "prune"]
    assert_same_networks(networks(run), networks(whole))
    for stage in ("train", "distill"):
        assert run.history(stage) == first.history(stage)
    _, begun, notes = trained(other, tmp_path / "other")  # once more: all is there
    assert not begun
    assert not any("taken" in note for note in notes)


def test_what_a_stage_needs_must_be_the_same_too(first, tmp_path):
    other = changed(tiny(take_from=str(first.folder)), "distill", hard_weight=0.3)
    assert trained(other, tmp_path)[1] == ["distill", "prune"]


@pytest.mark.slow
def test_a_network_that_takes_no_part_may_differ(first, tmp_path):
    other = tiny(take_from=str(first.folder), student=MLP(widths=(4,)))
    assert trained(other, tmp_path)[1] == ["distill", "prune"]


@pytest.mark.slow
def test_seeds_that_train_apart_may_become_more(tmp_path):
    apart = tiny(together=False)
    given = run_of(dataclasses.replace(apart, seeds=1), tmp_path / "one")
    cut = {"cut": Shrink(start="distill", amount=0.5, epochs=1, batch=32)}
    more = dataclasses.replace(apart, take_from=str(given.folder), stages={**apart.stages, **cut})
    assert trained(more, tmp_path / "two")[1] == ["train", "distill", "prune", "cut", "cut"]


@pytest.mark.slow
def test_where_all_seeds_are_cut_alike_they_must_be_the_same(tmp_path):
    stages = {
        "train": Train(epochs=1, batch=32),
        "cut": Shrink(start="train", amount=0.5, epochs=1, batch=32),
        "coarse": Quantize(start="cut", bits=4, epochs=1, batch=32),
    }
    fields = {"stages": stages, "together": False}
    given = run_of(tiny(**fields, seeds=1), tmp_path / "one")
    two = trained(tiny(**fields, take_from=str(given.folder)), tmp_path / "two")
    assert two[1] == ["train", "cut", "cut", "coarse", "coarse"]
    less = changed(tiny(**fields, seeds=1, take_from=str(given.folder)), "coarse", bits=3)
    run, begun, _ = trained(less, tmp_path / "less")
    assert begun == ["coarse"]
    assert (run.folder / "cut" / "widths.json").exists()


@pytest.mark.slow
def test_a_stage_that_is_not_finished_is_not_taken(tmp_path):
    experiment = tiny(checkpoint_seconds=1e-3)
    with pytest.raises(KeyboardInterrupt):
        trained(experiment, tmp_path / "one", Told(("distill", 3)))
    other = changed(
        dataclasses.replace(experiment, take_from=str(tmp_path / "one")), "prune", ema=0.5
    )
    run, begun, _ = trained(other, tmp_path / "other")
    assert begun == ["distill", "prune"]
    assert not list(run.folder.rglob(f"*{earlier.HALF}"))


@pytest.mark.slow
def test_a_beginning_gives_way(first, tmp_path):
    experiment = changed(tiny(checkpoint_seconds=1e-3), "prune", ema=0.5)
    with pytest.raises(KeyboardInterrupt):
        trained(experiment, tmp_path, Told(("distill", 3)))
    experiment = dataclasses.replace(experiment, take_from=str(first.folder))
    assert trained(experiment, tmp_path)[1] == ["prune"]


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """A run whose last stage decides widths, for all seeds."""
    stages = {
        "train": Train(epochs=1, batch=32),
        "cut": Shrink(start="train", amount=0.5, epochs=1, batch=32),
    }
    return run_of(tiny(stages=stages), tmp_path_factory.mktemp("cut") / "one")


def files_of(folder):
    found = [path for path in folder.iterdir() if path.is_file()]
    assert folder / "widths.json" in found
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


@pytest.mark.parametrize("half", [False, True])
def test_what_was_killed_amid_copying_is_copied_once_more(cut, tmp_path, monkeypatch, half):
    """No network is here without what was decided for it, and no file by half."""
    other = dataclasses.replace(cut.experiment, take_from=str(cut.folder))
    run = pipeline.prepare(other, tmp_path, Silent())
    pipeline.claim(other, tmp_path)

    def killed(source, target, **_):
        if half:
            target.write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(earlier.shutil, "copy2", killed)
        with pytest.raises(KeyboardInterrupt):
            pipeline.train(run, Silent())
    _, begun, _ = trained(other, tmp_path)
    assert not begun
    # With their times: nothing was decided anew.
    assert files_of(tmp_path / "cut") == files_of(cut.folder / "cut")


LINKS = ("train", "train/x", "train/seeds-0-1", "train/seeds-0-1/x")
PIPES = ("train/x", "train/seeds-0-1/x")


@pytest.mark.parametrize(
    ("place", "pipe"), [*((x, False) for x in LINKS), *((x, True) for x in PIPES)]
)
def test_nothing_is_copied_but_files_and_folders(first, tmp_path, place, pipe):
    """A stranger's run may link to what is ours, or to what has no end."""
    shutil.copytree(first.folder, tmp_path / "given")
    path, aside = tmp_path / "given" / place, tmp_path / "secret"
    if path.exists():
        path.rename(aside)
    else:
        aside.write_text("secret")
    if pipe:
        os.mkfifo(path)
    else:
        path.symlink_to(aside)
    other = changed(tiny(take_from=str(tmp_path / "given")), "prune", ema=0.5)
    run = pipeline.prepare(other, tmp_path / "other", Silent())
    pipeline.claim(other, run.folder)
    with pytest.raises(UsageError) as caught:
        pipeline.train(run, Silent())
    assert str(caught.value) == (
        f"--take-from {tmp_path / 'given'}: {path}: a link, or no regular file: put what is meant "
        "in its place, or delete it"
    )
    assert not list(run.folder.rglob("x"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 7}, "none of its stages is the same"),
        ({"compute": "bfloat16"}, "none of its stages is the same"),
        ({"data": dataclasses.replace(tiny().data, train_limit=64)}, "none of its stages"),
        ({"together": False}, "none of its stages is the same"),
    ],
)
def test_nothing_in_common_is_said(first, tmp_path, changes, said):
    run = pipeline.prepare(tiny(**changes, take_from=str(first.folder)), tmp_path, Silent())
    with pytest.raises(UsageError, match=f"--take-from {first.folder}: {said}"):
        pipeline.train(run, Silent())


def test_a_folder_that_holds_no_run_is_named(first, tmp_path):
    run = pipeline.prepare(tiny(take_from=str(tmp_path)), tmp_path / "x", Silent())
    with pytest.raises(UsageError, match=r"--take-from .*no config.json here"):
        pipeline.train(run, Silent())
    run = pipeline.prepare(tiny(take_from=str(first.folder)), first.folder, Silent())
    with pytest.raises(UsageError, match="this is the run itself"):
        pipeline.train(run, Silent())
