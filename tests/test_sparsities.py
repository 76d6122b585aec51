"""Accuracy against sparsity, and what is shown of many networks."""

import dataclasses
import io

import made_results
from rich.console import Console

from experiments import digits_pruning_zoo
from kd_jax import plots, sparsities, sweep, tables
from kd_jax.config import Prune
from kd_jax.prune import CRITERIA, SCHEDULES


def swept(count=3):
    """A stage at several sparsities, and one that was not swept."""
    teacher, alone, distilled, pruned = made_results.rows()
    rows = [
        dataclasses.replace(
            pruned,
            stage=f"small/sparsity={0.2 * i:g}",
            label=f"student and pruned, sparsity {0.2 * i:g}",
            sparsity=[0.2 * i] * 3,
            accuracy=[0.9 - 0.1 * i, 0.92 - 0.1 * i, 0.94 - 0.1 * i],
            compared_with=["alone"],
        )
        for i in range(1, 1 + count)
    ]
    return made_results.make(rows=[teacher, alone, distilled, *rows, pruned])


def test_the_table_by_hand():
    assert sparsities.table(swept()) == [
        ["accuracy %, at a sparsity of", "20 %", "40 %", "60 %"],
        ["small", "82.00 ± 2.00", "72.00 ± 2.00", "62.00 ± 2.00"],
    ]
    assert sparsities.table(made_results.make()) == []


def test_it_is_in_markdown_and_on_the_screen():
    assert "| small | 82.00 ± 2.00 | 72.00 ± 2.00 | 62.00 ± 2.00 |" in tables.markdown([swept()])
    console = Console(width=80, record=True, file=io.StringIO())
    tables.show([swept()], console)
    shown = console.export_text()
    assert "72.00 ± 2.00" in shown
    assert "student alone" in shown


def test_of_many_networks_other_plots_are_drawn(tmp_path):
    few = {path.name for path in plots.save_all(tmp_path, swept(), {})}
    assert few == {"sizes.png", "layers.png", "sparsities.png"}
    rows = swept().rows
    more = [
        dataclasses.replace(rows[0], stage=f"s{i}", label=f"method {i}", compared_with=["train"])
        for i in range(12)
    ]
    many = made_results.make(rows=[*rows, *more])
    files = plots.save_all(tmp_path, many, {})
    assert {path.name for path in files} == {"sparsities.png", "ranking.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
    assert plots.save_all(tmp_path, many, {})[0].read_bytes() == files[0].read_bytes()


def test_the_zoo_has_every_criterion_and_schedule():
    expanded, variants = sweep.expand(digits_pruning_zoo.CONFIG)
    stages = [stage for stage in expanded.stages.values() if isinstance(stage, Prune)]
    assert {stage.criterion for stage in stages} == set(CRITERIA.values())
    left_out = {"one_shot", "dns", "ste"}  # the first is there; the third is sr_ste without decay
    assert {type(stage.schedule) for stage in stages} >= {
        type(schedule) for name, schedule in SCHEDULES.items() if name not in left_out
    }
    for base in {variant.base for variant in variants.values()}:
        of = [expanded.stages[name].sparsity for name, v in variants.items() if v.base == base]
        assert of == [0.5, 0.8, 0.9, 0.95, 0.98]
    assert len(variants) == len(stages)
