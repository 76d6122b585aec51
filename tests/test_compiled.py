"""Which compiled programs are kept."""

import pytest
from tiny_experiment import tiny

from kd_jax import compiled, pipeline
from kd_jax.loop import Silent


@pytest.mark.slow
def test_programs_of_many_stages_are_not_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(pipeline, "KEPT", 2)
    compiled.build.cache_clear()
    kept, train_stage = [], pipeline._train_stage

    def train(*given):
        train_stage(*given)
        kept.append(compiled.build.cache_info().currsize)

    monkeypatch.setattr(pipeline, "_train_stage", train)
    run = pipeline.prepare(tiny(out=str(tmp_path)), tmp_path / "run", Silent())
    pipeline.train(run, Silent())
    assert kept == [1, 2, 1]  # forgotten after the second of three stages
