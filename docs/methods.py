"""Writes the README's table of distillation terms, from the code: `python docs/methods.py`."""

from publish import ROOT, with_table

from kd_jax.distill.methods import markdown

if __name__ == "__main__":
    path = ROOT / "README.md"
    text = with_table(path.read_text(encoding="utf-8"), "methods", markdown())
    path.write_text(text, encoding="utf-8")
