"""The report's formats: each reads back, and says what was measured."""

import csv
import dataclasses
import io
import json

from made_results import learnt, make, rows
from rich.console import Console

from kd_jax import report, tables
from kd_jax.latency import Latency
from kd_jax.noise import summary
from kd_jax.results import from_json, per_seed


def markdown_table(text, place=0):
    """[{header: cell}] of one of the tables of a Markdown text."""
    part = [part for part in text.split("\n\n") if part.startswith("|")][place]
    lines = part.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    head, ruler, *body = cells
    assert {len(line) for line in cells} == {len(head)}
    assert all(set(cell) <= {"-", ":"} for cell in ruler)
    return [dict(zip(head, line, strict=True)) for line in body]


def screen(results):
    console = Console(width=80, file=io.StringIO(), record=True)
    tables.show(results, console)
    return console.export_text()


def one_seed(row):
    changes = {name: getattr(row, name)[:1] for name, _ in per_seed(row) if "." not in name}
    return dataclasses.replace(row, layers={}, **changes)


def test_markdown_by_hand():
    teacher, alone, distilled, pruned = markdown_table(tables.markdown([make()]))
    assert teacher == {
        "network": "teacher",
        "accuracy %": "98.00 ± 1.00",
        "agrees with teacher %": "–",
        "parameters": "85,002",
        "non-zero (pruned)": "85,002",
        "MACs": "84.5 k",
        "size": "340 kB",
        "batch 1, ms": "0.0800",
        "batch 256, ms (each)": "2.56 (10.0 µs)",
    }
    assert alone["size"] == "4.84 kB (70×)"  # 340,008 / 4,840 = 70.2
    assert alone["batch 1, ms"] == "0.0200 (4.0×)"
    assert alone["batch 256, ms (each)"] == "0.128 (500 ns, 20×)"
    assert distilled["agrees with teacher %"] == "94.00 ± 1.00"
    assert pruned["non-zero (pruned)"] == "263 (80.0 %)"
    assert pruned["size"] == "1.20 kB (283×)"


def test_notes_say_the_noise():
    text = tables.markdown([make()])
    # Differences 2, 1.5 and 1 points.
    assert (
        "- student distilled against student alone: +1.50 ± 0.50 points, better in 3 of 3 seeds, "
        "95 % interval +0.26 to +2.74: more than the noise." in text
    )
    assert "student distilled and pruned against student alone: +0.67 ± 0.29 points" in text
    assert "-0.05 to +1.38: within the noise." in text
    assert "of which one is 0.28 points" in text  # 1 / 360
    assert "`python run.py digits` with seeds 0, 1, 2" in text
    assert "Zeros are multiplied like any number" in text


def test_where_networks_were_trained_is_told_if_it_is_not_where_they_were_measured():
    """Of runs that went on, or were evaluated, on another machine."""
    here = make().environment.device
    places = ("TPU v5e", here, "", "TPU v5e")
    moved = [dataclasses.replace(row, trained_on=x) for row, x in zip(rows(), places, strict=True)]
    run = make(rows=moved)
    assert run.elsewhere == {"TPU v5e": [moved[0].label, moved[3].label]}
    assert f"- Trained on TPU v5e: {moved[0].label}, {moved[3].label}." in tables.markdown([run])
    assert "Trained on" not in tables.markdown([make()])


def test_a_device_that_trained_some_seeds_of_a_network_is_told_once():
    places = ("H100, H200", "H200", "H100", "")
    moved = [dataclasses.replace(row, trained_on=x) for row, x in zip(rows(), places, strict=True)]
    assert list(make(rows=moved).elsewhere) == ["H100", "H200"]
    assert make(rows=moved).elsewhere["H100"] == [moved[0].label, moved[2].label]
    assert make().elsewhere == {}


def test_what_the_networks_learnt():
    text = tables.markdown([learnt()])
    teacher, alone, _, pruned = markdown_table(text, 2)  # after those of all and of comparisons
    assert teacher == {
        "network": "teacher",
        "NLL, nats": "0.110 ± 0.010",
        "ECE %": "5.0 ± 1.0",
        "teacher": "–",
        "KL from teacher, nats": "–",
        "CKA of `pooled`": "–",
    }
    assert alone["KL from teacher, nats"] == pruned["KL from teacher, nats"] == "0.220 ± 0.020"
    assert alone["CKA of `pooled`"] == "0.810 ± 0.010"
    assert alone["teacher"] == "teacher"
    assert "ECE: expected calibration error of Guo et al. 2017, 15 bins" in text
    words = " ".join(screen([learnt()]).split())
    assert "• teacher: NLL 0.110 ± 0.010 nats, ECE 5.0 ± 1.0 %. •" in words
    assert (
        "• student alone: NLL 0.310 ± 0.010 nats, ECE 5.0 ± 1.0 %, CKA of `pooled` 0.810 ± 0.010, "
        "KL 0.220 ± 0.020 nats from teacher. •" in words
    )
    assert "learnt" not in tables.markdown([make()])  # of an older version
    assert "NLL" not in screen([make()])


def test_accuracy_by_class():
    """Against student alone, and a class without test examples is never named."""
    text = tables.markdown([learnt()])
    assert (
        "- student distilled against student alone by class, points: gained most cat (+10.00 ± "
        "0.00); lost most a|b (-5.00 ± 0.00).\n" in text
    )
    assert (
        "- student distilled and pruned against student alone by class, points: gained most a|b "
        "(+5.00 ± 0.00), cat (+5.00 ± 0.00); none lost.\n" in text
    )
    (*_, last) = text.split("\n\n")
    assert last.splitlines()[2:] == [
        "| cat | 100.00 | 80.00 | 90.00 (+10.00) | 85.00 (+5.00) |",
        "| a\\|b | 90.67 | 70.67 | 65.67 (-5.00) | 75.67 (+5.00) |",
        "| eel | nan | nan | nan (+nan) | nan (+nan) |",
    ]
    both = tables.markdown([learnt(), make(experiment="old")])
    assert "Accuracy by class of digits ab12cd34, %" in both
    assert "Accuracy by class of old" not in both
    assert "- digits ab12cd34: student distilled against student alone by class" in both


def test_only_three_classes_are_named():
    results = learnt()
    accuracy = lambda values: [[*values, 0.5, 0.5]] * 3  # noqa: E731
    alone, distilled = (
        dataclasses.replace(row, class_accuracy=accuracy(values))
        for row, values in zip(
            results.rows[1:3], ([0.5] * 5, [0.6, 0.9, 0.7, 0.8, 0.4]), strict=True
        )
    )
    data = dataclasses.replace(results.data, classes=list("abcdefg"))
    text = tables.markdown([make(rows=[rows()[0], alone, distilled], data=data)])
    assert (
        "gained most b (+40.00 ± 0.00), d (+30.00 ± 0.00), c (+20.00 ± 0.00); lost most e (-10.00 "
        "± 0.00).\n" in text
    )


def test_one_seed_has_no_spread():
    results = make(seeds=[7], rows=[one_seed(row) for row in rows()])
    text = tables.markdown([results])
    assert markdown_table(text)[0]["accuracy %"] == "97.00"
    assert "+2.00 points, with one seed: how much of it is noise is unknown." in text
    assert "with seed 7;" in text
    assert "nan" not in text


def test_zeros_never_look_faster():
    """A masked network of the first row's model gets no ratio, however the clock went."""
    _, alone, distilled, pruned = rows()
    first, _, last = markdown_table(tables.markdown([make(rows=[alone, distilled, pruned])]))
    assert first["batch 1, ms"] == "0.0200"
    assert last["batch 1, ms"] == "0.0190"
    assert last["batch 256, ms (each)"] == "0.126 (492 ns)"
    assert last["size"] == "1.20 kB (4.0×)"


def test_networks_of_one_model_are_equally_fast():
    """0.020, 0.020 and 0.019 ms: one program, and the ratio of its median 0.080 / 0.020."""
    _, *students = markdown_table(tables.markdown([make()]))
    assert [s["batch 1, ms"] for s in students] == [
        "0.0200 (4.0×)",
        "0.0200 (4.0×)",
        "0.0190 (4.0×)",
    ]


def test_a_latency_whose_timings_spread_is_marked_and_gives_no_ratio():
    first, alone, *others = rows()
    busy = Latency(median_ms=0.02, low_ms=0.005, high_ms=0.011, runs=20)
    alone = dataclasses.replace(alone, latency={**alone.latency, "1": busy})
    text = tables.markdown([make(rows=[first, alone, *others])])
    teacher, *students = markdown_table(text)
    assert [s["batch 1, ms"] for s in students] == ["~0.0200", "0.0200", "0.0190"]
    assert teacher["batch 1, ms"] == "0.0800"
    assert students[0]["batch 256, ms (each)"] == "0.128 (500 ns, 20×)"
    assert "~: unsteady, the 90th percentile" in text


def test_columns_without_content_are_left_out():
    teacher = dataclasses.replace(rows()[0], latency={}, agreement=[1.0] * 3, agrees_with="train")
    (cells,) = markdown_table(tables.markdown([make(rows=[teacher])]))
    assert list(cells) == ["network", "accuracy %", "parameters", "non-zero", "MACs", "size"]


def test_several_runs_in_one_table():
    other = make(experiment="mnist", fingerprint="99999999", rows=rows()[:2])
    text = tables.markdown([make(), other])
    cells = markdown_table(text)
    assert [(c["experiment"], c["fingerprint"]) for c in cells] == [("digits", "ab12cd34")] * 4 + [
        ("mnist", "99999999")
    ] * 2
    assert "- digits ab12cd34: student distilled against student alone" in text
    assert text.count("MACs: multiply-accumulates") == 1


def test_runs_say_how_they_differ():
    plain, other = make(changes=[]), make(changes=["--smoke", "seeds: 5 -> 2"], fingerprint="99")
    assert "Changed" not in tables.markdown([plain]) + tables.markdown([make()])
    assert "• Changed: --smoke, seeds: 5 -> 2.\n" in screen([other])
    text = tables.markdown([plain, other, make(fingerprint="00")])
    notes = [line for line in text.splitlines() if line.startswith("- ")]
    assert notes[:2] == [
        "- digits ab12cd34: Changed: nothing.",
        "- digits 99: Changed: --smoke, seeds: 5 -> 2.",
    ]
    assert "digits 00: Changed" not in text  # unknown: it was written by an older version


def test_a_bar_in_a_label_does_not_break_the_table():
    odd = dataclasses.replace(rows()[0], label="a|b")
    text = tables.markdown([make(rows=[odd])])
    assert "| a\\|b | 98.00" in text


def test_screen_fits_80_columns_and_cuts_nothing():
    runs = [make(), make(experiment="mnist", fingerprint="99999999")]
    narrow, wide = (table_lines(runs, width) for width in (80, 200))
    assert narrow == wide
    assert all(len(line) <= 80 for line in narrow)
    words = " ".join(narrow).split()
    assert table_lines([learnt()], 80) == table_lines([learnt()], 200)
    assert {"teacher", "85,002", "±", "0.0200", "70×", "80.0", "99999999"} <= set(words)


def table_lines(results, width):
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(tables.table(results))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_screen_takes_labels_as_they_are():
    odd = dataclasses.replace(rows()[0], label="[red]x[/]")
    assert "[red]x[/]" in screen([make(rows=[odd])])


def test_csv_reads_back_in_full():
    results = make()
    records = list(csv.DictReader(io.StringIO(report.csv_text([results]))))
    assert [record["stage"] for record in records] == ["train", "alone", "distill", "prune"]
    for record, row in zip(records, results.rows, strict=True):
        of = summary(row.accuracy)
        assert float(record["accuracy_mean"]) == of.mean
        assert float(record["accuracy_std"]) == of.std
        seeds = tuple(float(record[f"accuracy_seed_{seed}"]) for seed in results.seeds)
        assert seeds == row.accuracy
        assert float(record["latency_batch_256_median_ms"]) == row.latency["256"].median_ms
        assert int(record["macs"]) == row.macs
    assert records[0]["agreement_mean"] == ""
    assert float(records[3]["sparsity_seed_0"]) == 948 / 1184


def test_csv_has_what_the_networks_learnt():
    records = list(csv.DictReader(io.StringIO(report.csv_text([learnt()]))))
    teacher, _, distilled, _ = records
    assert float(distilled["calibration_error_seed_2"]) == 0.06
    assert float(distilled["kl_divergence_mean"]) == summary([0.2, 0.22, 0.24]).mean
    assert float(distilled["class_accuracy_cat_mean"]) == summary([0.9] * 3).mean
    assert abs(float(distilled["class_gain_a|b_mean"]) + 0.05) < 1e-12
    assert float(distilled["cka_pooled_mean"]) == summary([0.8, 0.81, 0.82]).mean
    assert "cka_stage2_mean" not in teacher  # of no layer of the same name
    assert teacher["cka_pooled_mean"] == teacher["class_gain_cat_mean"] == ""


def test_csv_of_runs_with_other_seeds():
    other = make(seeds=[7], rows=[one_seed(rows()[0])], experiment="other")
    *_, last = csv.DictReader(io.StringIO(report.csv_text([make(), other])))
    assert last["accuracy_seed_7"] == "0.97"
    assert last["accuracy_seed_0"] == last["accuracy_std"] == ""


def test_json_is_the_runs_own():
    (data,) = json.loads(report.json_text([make()]))
    assert from_json(json.dumps(data)) == make()
