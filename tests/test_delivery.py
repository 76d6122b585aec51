"""The one file that an experiment ends in."""

import dataclasses

import pytest
from tiny_experiment import run_of, tiny

from kd_jax import delivery, encode, notes, pipeline, results, summary, tables
from kd_jax.config import Quantize, Train
from kd_jax.errors import UsageError
from kd_jax.export import exchange, load, network
from kd_jax.loop import Silent
from kd_jax.optim import Optim
from kd_jax.sweep import expand

COMMON = {"batch": 32, "optim": Optim(learning_rate=0.1)}
STAGES = {
    "train": Train(model="teacher", epochs=2, **COMMON),
    "alone": Train(epochs=2, **COMMON),
    "small": Quantize(start="alone", bits=4, **COMMON),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("delivery")
    return run_of(tiny(stages=STAGES, deliver="small", out=str(folder)), folder / "run")


@pytest.fixture(scope="module")
def found(run):
    said = summary.summarise(run, "python run.py run tiny", Silent())
    return delivery.delivered(run, said, Silent())


@pytest.mark.slow
def test_it_is_read_by_a_process_of_its_own_and_told_of(run, found):
    file = found.delivered
    path = run.folder / file.file
    assert path.stat().st_size == file.bytes
    assert encode.load(path).snapshot.params.keys() == run.network("small", (0, 1)).params.keys()
    assert file.accuracy == pytest.approx(found.row("small").accuracy[0])
    assert file.examples == 40
    (said,) = notes.delivered([found])
    assert f"{file.bytes:,} bytes" in said
    assert said in tables.markdown([found])


def test_results_keep_it(found):
    again = results.from_json(results.to_json(found))
    assert again.delivered == found.delivered
    assert results.from_json(results.to_json(dataclasses.replace(found, delivered=None)))


def test_nothing_is_written_where_none_was_asked_for_or_it_is_not_finished(run, found):
    for name in ("", "later"):
        stages = {**STAGES, "later": Quantize(start="alone", bits=2, **COMMON)}
        asked = dataclasses.replace(run.experiment, stages=stages, deliver=name)
        plain = dataclasses.replace(found, delivered=None)
        other = dataclasses.replace(run, experiment=asked)
        assert delivery.delivered(other, plain, Silent()).delivered is None


def test_of_a_sweep_the_usual_setting_is_delivered():
    given = tiny(stages=STAGES, deliver="small", sweep=("alone.optim.learning_rate=0.2,0.1",))
    expanded, variants = expand(given)
    assert expanded.deliver in variants
    assert variants[expanded.deliver].usual
    other, variants = expand(dataclasses.replace(given, sweep=("alone.ema=0.5,0.6",)))
    assert other.deliver == next(name for name in other.stages if name.startswith("small"))


def test_another_stage_is_exported_without_it(run, tmp_path):
    given = network.of_run(run, "train", 0)
    exchange.write(tmp_path, run, "train", 0, given)
    again = load(tmp_path)
    assert again.snapshot.params.keys() == given.snapshot.params.keys()


def test_an_unknown_stage_is_refused():
    with pytest.raises(UsageError, match=r"deliver 'smal' is no stage. Did you mean 'small'"):
        tiny(stages=STAGES, deliver="smal")


def test_a_damaged_file_says_so(run, found, tmp_path):
    data = bytearray((run.folder / found.delivered.file).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.kdz").write_bytes(data)
    with pytest.raises(UsageError, match=r"bad\.kdz"):
        encode.load(tmp_path / "bad.kdz")
    assert pipeline.open_run(run.folder, Silent()).done == run.done
