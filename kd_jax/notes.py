"""The notes under the report's table: how sure the numbers are, where they come from, and what
they mean."""

import math
from collections.abc import Sequence

from kd_jax.noise import Gain, Summary, class_gains, comparisons, spread
from kd_jax.results import Results, Row
from kd_jax.units import duration, ratio, significant

READING = (
    "×: how many times smaller or faster than the run's first row (in latency, the median of all "
    "networks that run the same program; none where one of them is unsteady). ~: unsteady, the "
    "90th percentile of its timings is more than twice the 10th: the machine had other work. "
    "Pruned: share of the prunable parameters. Each: the time of one example of a batch."
)

VERSUS = (
    "Accuracy compared seed by seed (mean ± standard deviation of the differences; two-sided p of "
    "Student's t, for each comparison by itself), and what a step of training takes:"
)

NAMED = 3  # classes, of those that gained most and of those that lost most
MANY = 5  # comparisons, from which on chance is worth a word
FEW = 12  # networks or comparisons of which each gets a sentence; of more, only what stands out


def changes(results: Sequence[Results]) -> list[str]:
    """How each run differs from its experiment as it is written, if that is known; of several, also
    which does not."""
    lines = []
    for run in results:
        if run.changes or (run.changes is not None and len(results) > 1):
            lines.append(f"{_prefix(results, run)}Changed: {', '.join(run.changes) or 'nothing'}.")
    return lines


def findings(results: Sequence[Results]) -> list[str]:
    """How each network's accuracy compares, and whether by more than noise; a sentence each."""
    lines, count = [], 0
    for run in results:
        found = comparisons(run)
        sentences = [_sentence(row.label, other.label, gain) for row, other, gain in found]
        sentences = sentences if len(found) <= FEW else _outstanding(found)
        lines += [_prefix(results, run) + sentence for sentence in sentences]
        count += len(found)
    if count >= MANY and any("interval" in line for line in lines):
        lines.append(
            f"These are {count} comparisons: of twenty without any difference, about one lies "
            "beyond a 95 % interval by chance."
        )
    return lines


def delivered(results: Sequence[Results]) -> list[str]:
    """What each run's file is worth."""
    return [_prefix(results, run) + _of_file(run) for run in results if run.delivered]


def _of_file(run: Results) -> str:
    file, first = run.delivered, run.rows[0]
    assert file is not None
    row = run.row(file.stage)
    words = (
        f"One file, {file.file} ({row.label}, seed {file.seed}): {file.bytes:,} bytes, "
        f"{ratio(first.bytes_dense / file.bytes)} fewer than {first.label} has; "
        f"{100 * file.accuracy:.2f} % of {file.examples:,} test examples right, as a fresh process "
        "reads it"
    )
    one, other = (of.latency.get("1") for of in (first, row))
    if one is None or other is None:
        return f"{words}."
    steady = not (one.unsteady or other.unsteady)
    times = f", {ratio(one.median_ms / other.median_ms)} as fast as {first.label}" * steady
    return f"{words}; {significant(other.median_ms)} ms for one example{times}."


def _outstanding(found: Sequence[tuple[Row, Row, Gain]]) -> list[str]:
    """Of many comparisons those beyond the noise, the best and the worst first."""
    lines = []
    for other in dict.fromkeys(other.label for _, other, _ in found):
        gains = [(gain, row.label) for row, of, gain in found if of.label == other]
        beyond = [pair for pair in gains if pair[0].beyond_noise]
        beyond.sort(key=lambda pair: -pair[0].difference.mean)
        said = [f"{label} ({100 * gain.difference.mean:+.2f})" for gain, label in beyond]
        better = sum(gain.difference.mean > 0 for gain, _ in beyond)
        lines.append(
            f"Of {len(gains)} compared with {other}, by a 95 % interval, points: better: "
            f"{', '.join(said[:better]) or 'none'}; worse: {', '.join(said[better:]) or 'none'}."
        )
    return lines


def classes(results: Sequence[Results]) -> list[str]:
    """On which classes each network gained and lost most; a sentence each, where they are few."""
    return [
        f"{_prefix(results, run)}{row.label} against {other.label} by class, points: "
        f"{_extremes(run.data.classes, gains)}."
        for run in results
        for row, other, gains in class_gains(run)
        if len(run.rows) <= FEW
    ]


def _extremes(names: Sequence[str], gains: Sequence[Summary]) -> str:
    known = [(of, name) for name, of in zip(names, gains, strict=True) if math.isfinite(of.mean)]
    known.sort(key=lambda pair: -pair[0].mean)
    most = [_class(*pair) for pair in known if pair[0].mean > 0][:NAMED]
    least = [_class(*pair) for pair in reversed(known) if pair[0].mean < 0][:NAMED]
    gained = f"gained most {', '.join(most)}" if most else "none gained"
    return f"{gained}; " + (f"lost most {', '.join(least)}" if least else "none lost")


def _class(of: Summary, name: str) -> str:
    return f"{name} ({100 * of.mean:+.2f}{'' if of.std is None else f' ± {100 * of.std:.2f}'})"


def learnt(results: Sequence[Results]) -> list[str]:
    """How sure of what the networks are, and how near to their teachers; a sentence each, where
    they are few."""
    return [
        f"{_prefix(results, run)}{row.label}: {', '.join(_learnt(run, row))}."
        for run in results
        for row in run.rows
        if row.calibration_error and len(run.rows) <= FEW
    ]


def _learnt(run: Results, row: Row) -> list[str]:
    parts = [f"NLL {spread(row.cross_entropy)} nats"]
    if row.calibration_error:
        parts.append(f"ECE {spread(row.calibration_error, 100)} %")
    if row.pooled_cka:
        parts.append(f"CKA of `pooled` {spread(row.pooled_cka)}")
    if row.kl_divergence and row.has_teacher:  # last, as the teacher's name may have commas
        parts.append(f"KL {spread(row.kl_divergence)} nats from {run.row(row.agrees_with).label}")
    return parts


def origins(results: Sequence[Results]) -> list[str]:
    """What was run, on which data, by which command, where."""
    return [_prefix(results, run) + line for run in results for line in _origin(run)]


def conventions(results: Sequence[Results]) -> list[str]:
    """How the numbers are counted."""
    return [READING, *dict.fromkeys(line for run in results for line in run.convention)]


def _prefix(results: Sequence[Results], run: Results) -> str:
    return f"{run.experiment} {run.fingerprint}: " if len(results) > 1 else ""


def _sentence(label: str, other: str, gain: Gain) -> str:
    text = f"{label} against {other}: {100 * gain.difference.mean:+.2f}"
    if gain.difference.std is None or gain.low is None or gain.high is None:
        return f"{text} points, with one seed: how much of it is noise is unknown."
    verdict = "more than the noise" if gain.beyond_noise else "within the noise"
    return (
        f"{text} ± {100 * gain.difference.std:.2f} points, better in {gain.better} of "
        f"{gain.difference.n} seeds, 95 % interval {100 * gain.low:+.2f} to "
        f"{100 * gain.high:+.2f}: {verdict}."
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= FEW else f"{len(names)} networks"


def _origin(run: Results) -> list[str]:
    data, machine = run.data, run.environment
    models: dict[str, list[str]] = {}
    for row in run.rows:
        models.setdefault(row.model, []).append(row.label)
    named = [f"{model}: {_listed(labels)}" for model, labels in models.items()]
    note = f" ({data.note})" if data.note else ""
    device = ", ".join(dict.fromkeys((machine.platform, machine.device)))
    began: dict[str, list[str]] = {}
    for row in run.rows:
        began.setdefault(row.weights, []).append(row.label)
    began.pop("", None)
    weights = [f"Pre-trained: {_listed(labels)} by {file}." for file, labels in began.items()]
    seeds = "seed" if len(run.seeds) == 1 else "seeds"
    return [
        f"Networks: {'; '.join(named)}.",
        *weights,
        f"Data: {data.name}{note}: {data.train:,} examples to train, {data.validation:,} to "
        f"validate, {data.test:,} to test, of which one is {significant(100 / data.test, 2)} "
        "points.",
        f"Made in {duration(run.seconds)} by `{run.command}` with {seeds} "
        f"{', '.join(map(str, run.seeds))}; jax {machine.jax}, flax {machine.flax}, Python "
        f"{machine.python}; {device}; {machine.cpu}, "
        f"{machine.threads} of {machine.cores} cores.",
        *(f"Trained on {place}: {_listed(labels)}." for place, labels in run.elsewhere.items()),
    ]
