"""Runs that earlier versions have written, and later ones: opened, or refused in one line that
names the version, and never thrown away."""

import json
import shutil
import zipfile
from pathlib import Path

import chex
import golden_run
import jax
import numpy as np
import pytest
from calls import refused
from test_checkpoint import MASKS, PARAMS, carry
from test_pipeline import Told

from kd_jax import encode, jsons, pipeline, versions, waypoints
from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError
from kd_jax.loop import Silent
from kd_jax.stages import evaluate
from kd_jax.state import Snapshot

GOLDEN = Path(__file__).resolve().parent / "golden"
# Each was packed by golden_run.py when that was how a run was written, and never again.
WRITTEN = {
    "no_checksums": "before arrays had checksums",
    "unnumbered": "before the format had a number",
    "format_1": "with it",
}


@pytest.fixture
def golden(tmp_path):
    """Unpacks one."""

    def unpacked(name):
        with zipfile.ZipFile(GOLDEN / f"{name}.zip") as file:
            file.extractall(tmp_path / name)
        return tmp_path / name

    return unpacked


@pytest.mark.parametrize("name", WRITTEN)
def test_finished_networks_of_earlier_versions_are_read_and_know_what_they_knew(golden, name):
    folder = golden(name)
    run = pipeline.open_run(folder, Silent())
    assert run.experiment == golden_run.experiment()
    assert run.done == ("train", "prune")
    for stage, known in json.loads((folder / "golden.json").read_text()).items():
        found = evaluate(run.model(stage), run.data, run.network(stage, (0,)))
        assert found["accuracy"] == known["accuracy"]
        np.testing.assert_allclose(found["cross_entropy"], known["cross_entropy"], rtol=1e-5)
    network = run.network("prune", (0,))
    assert not all(mask.all() for mask in jax.tree.leaves(network.masks))
    read = encode.load(folder / "prune.kdz")
    chex.assert_trees_all_equal(read.snapshot.params, network.params)


@pytest.mark.parametrize("name", ["unnumbered", "format_1"])
def test_a_run_that_an_earlier_version_has_begun_goes_on(golden, name):
    run, told = pipeline.open_run(golden(name), Silent()), Told()
    pipeline.train(run, told)
    assert told.begun == [("distill (seed 0)", 6, 2)]
    assert not [note for note in told.notes if "damaged" in note]
    done = json.loads((run.store("distill", (0,)).folder / "done.json").read_text())
    assert done["steps"] == 6
    assert {name: done[name] for name in ("format", "versions")} == versions.note()


def kept(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_checkpoints_that_this_version_can_not_go_on_from_are_not_deleted(golden):
    run, told = pipeline.open_run(golden("no_checksums"), Silent()), Told()
    shutil.rmtree(run.store("train", (0,)).folder)  # it would be trained first
    steps = run.store("distill", (0,)).folder / "steps"
    before = kept(steps)
    with pytest.raises(UsageError) as error:
        pipeline.train(run, told)
    assert told.begun == []
    assert str(error.value) == (
        f"{steps}/2: kd_jax {versions.VERSION} can't go on from this checkpoint, which a kd_jax "
        f"that did not tell its version wrote: go on with that version, or delete {steps}, and "
        "this stage is trained anew"
    )
    assert kept(steps) == before
    shutil.rmtree(steps)
    pipeline.train(run, told)
    assert told.begun == [("train (seed 0)", 6, 0), ("distill (seed 0)", 6, 0)]


# Later ones ----------------------------------------------------------------------------------

NEWER = {"format": versions.FORMAT + 1, "versions": {"kd_jax": "99.1.0"}}
SAID = f"format {NEWER['format']}, written by kd_jax 99.1.0; this is kd_jax {versions.VERSION}, "
SAID += f"which reads format {versions.FORMAT}: "


def rewritten(path, **changes):
    """As a version writes it of which this is true: with the checksum of that, where it has one."""
    data = json.loads(path.read_text())
    changed = data | changes
    if jsons.SUM in data:
        changed = jsons.summed(jsons.unsummed(changed)[0])
    path.write_text(json.dumps(changed))


def test_a_run_of_a_newer_format_is_neither_opened_nor_gone_on_with(call, golden, tmp_path):
    folder = golden("format_1")
    rewritten(folder / "versions.json", **NEWER)
    before = kept(folder)
    for verb in ("evaluate", "export", "encode", "latency", "explain"):
        assert refused(call, verb, folder).startswith(f"{folder}: {SAID}take that version")
    with pytest.raises(UsageError, match=f": {SAID}take that version"):
        pipeline.claim(golden_run.experiment(), folder)
    assert kept(folder) == before
    assert json.loads((folder / "versions.json").read_text())["format"] == NEWER["format"]


def test_the_command_run_ends_before_it_trains_in_a_newer_run(call, tmp_path):
    words = ("run", "digits", "--smoke", "--only", "train", "--out", tmp_path / "runs")
    with pytest.raises(AssertionError, match="training has begun"):
        call(*words)
    (folder,) = (tmp_path / "runs").iterdir()
    rewritten(folder / "versions.json", **NEWER)
    assert refused(call, *words).startswith(f"{folder}: {SAID}")


@pytest.mark.parametrize("said", [0, -1, True, 1.0, "1", None, [], "x" * 1000])
def test_a_format_that_there_is_not_is_refused(said):
    with pytest.raises(
        UsageError, match=r"^here: format .*, written by a kd_jax that did not tell"
    ):
        versions.check(Path("here"), {"format": said})


FLIPPED = json.dumps(jsons.summed({"format": 1}) | {"format": 3}).encode()


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b"3", b"\xff", FLIPPED])
def test_a_damaged_note_is_told_of(golden, said):
    folder = golden("format_1")
    (folder / "versions.json").write_bytes(said)
    with pytest.raises(UsageError, match=rf"^{folder}/versions\.json: damaged \(.*\): delete it"):
        pipeline.open_run(folder, Silent())


def test_a_stage_that_a_newer_version_has_finished_is_told_before_anything_is_trained(golden):
    run, told = pipeline.open_run(golden("format_1"), Silent()), Told()
    shutil.rmtree(run.store("train", (0,)).folder)  # it would be trained first
    path = run.store("prune", (0,)).folder / "done.json"
    rewritten(path, **NEWER)
    with pytest.raises(UsageError, match=rf"^{path}: {SAID}take that version .*, or delete it, "):
        pipeline.train(run, told)
    assert told.begun == []
    with pytest.raises(UsageError, match=f"^{path}: {SAID}"):
        run.network("prune", (0,))


def test_a_checkpoint_of_a_newer_version_is_told_before_anything_is_trained(golden):
    run, told = pipeline.open_run(golden("format_1"), Silent()), Told()
    shutil.rmtree(run.store("train", (0,)).folder)
    step = run.store("distill", (0,)).folder / "steps" / "2"
    rewritten(step.parent.parent / "steps.json", **{"2": NEWER})
    with pytest.raises(UsageError, match=f"^{step}: {SAID}go on with that version, or delete"):
        pipeline.train(run, told, alone=True)
    assert told.begun == []
    assert step.is_dir()


def test_a_config_of_other_fields_is_told_with_its_version(golden):
    folder = golden("format_1")
    rewritten(folder / "config.json", novelty=1)
    rewritten(folder / "versions.json", versions={"kd_jax": "99.1.0", "jax": "0.0.1"})
    with pytest.raises(UsageError, match=r"no field 'novelty'.*\(written with kd_jax 99\.1\.0, "):
        pipeline.open_run(folder, Silent())


# Checkpoints of other versions that can't be read ----------------------------------------------


def test_a_state_of_another_form_is_refused_and_kept(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.save(1, carry())
    store.close()
    named = waypoints._form
    other = {"state": carry(), "more": np.zeros(1)}
    assert named(carry()) == named(carry(2.0)) != named(other)
    with pytest.raises(UsageError, match=rf"^{tmp_path}/steps/1: .* which kd_jax .* wrote: go on"):
        Store(tmp_path).restore(other)
    # Two leaves of one shape that have changed places.
    monkeypatch.setattr(waypoints, "_form", lambda tree: named(tree) + "another order")
    with pytest.raises(UsageError, match=rf"^{tmp_path}/steps/1: "):
        Store(tmp_path).restore(carry())
    assert (tmp_path / "steps" / "1").is_dir()


def harm(step):
    for path in step.rglob("d/*"):
        path.write_bytes(b"")


def saved_by(folder, monkeypatch, **by_step):
    """Checkpoints, each written by another version of jax."""
    ours = versions.note()
    store = Store(folder)
    for step, jax_version in by_step.items():
        note = ours | {"versions": ours["versions"] | {"jax": jax_version}}
        with monkeypatch.context() as patch:
            patch.setattr(versions, "note", lambda note=note: note)
            store.save(int(step[1:]), carry(float(step[1:])))
            store.manager.wait_until_finished()
    store.close()
    return Store(folder)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_another_version_wrote_counts_as_damaged_only_if_more_of_it_can_be_read(
    tmp_path, monkeypatch
):
    alike = saved_by(tmp_path / "alike", monkeypatch, s1="0.0.1", s2="0.0.1")
    harm(tmp_path / "alike" / "steps" / "2")
    found = alike.restore(carry())
    assert found is not None
    assert (found[0], alike.damaged) == (1, [2])
    assert not (tmp_path / "alike" / "steps" / "2").exists()

    later = saved_by(tmp_path / "later", monkeypatch, s1="0.0.1", s2="0.0.2")
    harm(tmp_path / "later" / "steps" / "2")
    with pytest.raises(UsageError, match="/later/steps/2: "):
        later.restore(carry())

    only = saved_by(tmp_path / "only", monkeypatch, s1="0.0.1")
    harm(tmp_path / "only" / "steps" / "1")
    with pytest.raises(UsageError, match="/only/steps/1: "):
        only.restore(carry())
    assert only.damaged == later.damaged == []
    assert (tmp_path / "only" / "steps" / "1").is_dir()
    assert (tmp_path / "later" / "steps" / "2").is_dir()


def test_a_network_that_can_not_be_read_is_told_with_the_versions_that_differ(tmp_path):
    store = Store(tmp_path)
    store.finish(Snapshot(PARAMS, {}, MASKS), {})
    note = versions.note()["versions"]
    rewritten(tmp_path / "done.json", versions=note | {"orbax": "0.0.1"})
    assert store.load().params.keys() == PARAMS.keys()  # a version that differs is no fault
    shutil.rmtree(tmp_path / "final" / "d")
    with pytest.raises(UsageError, match=r"other versions: orbax 0\.0\.1, here .*\): delete "):
        store.load()
