"""The distillation terms for readers: what each one learns, and who published it. Read from the
classes themselves."""

import dataclasses
import re
import sys

from kd_jax.distill import TERMS, Term

PAPER = re.compile(r'([A-Z][^."]*(?:et al\.)?), "([^"]+)",\s(\d{4})(?:[^"]*?(https://\S+[\w/]))?')
ELSEWHERE = re.compile(r"[Ss]ee `(\w+)`")


@dataclasses.dataclass(frozen=True)
class Method:
    """A distillation term.

    Attributes:
      name: by which flags pick it.
      about: what the student learns, in a few words.
      reads: "logits", "features", or "labels" where no teacher is needed.
      authors, title, year, link: of the publication; empty where it has none.
    """

    name: str
    about: str
    reads: str
    authors: str = ""
    title: str = ""
    year: str = ""
    link: str = ""

    @property
    def paper(self) -> str:
        """In Markdown: authors, year, linked title."""
        return f"{self.authors}, [{self.title}]({self.link}), {self.year}" if self.title else "–"


def methods() -> list[Method]:
    """All of TERMS, in its order."""
    return [_method(name, term) for name, term in TERMS.items()]


def _method(name: str, term: Term) -> Method:
    reads = "logits" if term.logits_alone else "features"
    reads = reads if term.taught else "labels"
    found = _paper(type(term))
    return Method(name, term.about, reads, *(found or ()))


def _paper(cls: type) -> tuple[str, str, str, str] | None:
    """(authors, title, year, link) as its docstring has it, or that of the class it refers to."""
    text = " ".join((cls.__doc__ or "").split())
    found = PAPER.search(text)
    if found is not None:
        return found[1], found[2], found[3], found[4] or ""
    other = ELSEWHERE.search(text)
    classes = {type(term).__name__: type(term) for term in TERMS.values()}
    known = {**vars(sys.modules[cls.__module__]), **classes}
    return _paper(known[other[1]]) if other and other[1] in known else None


def markdown() -> str:
    """A table of them, in GitHub's Markdown."""
    lines = [
        "| name | what the student learns | from | published by |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| `{m.name}` | {m.about} | {m.reads} | {m.paper} |" for m in methods()]
    return "\n".join(lines)
