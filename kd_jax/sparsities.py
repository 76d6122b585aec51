"""Accuracy against sparsity, of stages that were swept over it."""

from collections.abc import Sequence

from kd_jax.noise import summary
from kd_jax.results import Results, Row

Curve = list[tuple[float, float, float]]  # sparsity, accuracy and its deviation over seeds


def curves(results: Results) -> dict[str, Curve]:
    """{label: points by sparsity} of stages of which there are several that differ in sparsity."""
    found: dict[str, dict[float, Row]] = {}
    for row in results.rows:
        base, _, setting = row.stage.partition("/")
        if setting and row.sparsity:
            found.setdefault(base, {})[round(summary(row.sparsity).mean, 3)] = row
    lines: dict[str, Curve] = {}
    for base, by_sparsity in found.items():
        if len(by_sparsity) > 1:
            points = [(s, summary(row.accuracy)) for s, row in sorted(by_sparsity.items())]
            lines[base] = [(s, of.mean, of.std or 0.0) for s, of in points]
    return lines


def table(results: Results) -> Sequence[Sequence[str]]:
    """Accuracy of each stage (a line) at each sparsity (a column), its head first; empty where no
    stage was swept over sparsity."""
    lines = curves(results)
    sparsities = sorted({s for line in lines.values() for s, _, _ in line})
    head = ["accuracy %, at a sparsity of", *(f"{100 * s:g} %" for s in sparsities)]
    body = []
    for name, line in lines.items():
        several = len(results.seeds) > 1
        at = {s: f"{100 * m:.2f}" + f" ± {100 * d:.2f}" * several for s, m, d in line}
        body.append([name, *(at.get(s, "–") for s in sparsities)])
    return [head, *body] if body else []
