"""What is said of the distillation terms."""

import pytest

from kd_jax.distill import KD, TERMS
from kd_jax.distill.methods import methods

UNPUBLISHED = ("mixture",)


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_each_says_what_it_is_and_who_published_it(method):
    assert 10 < len(method.about) < 90
    assert method.about[-1] != "."
    if method.name in UNPUBLISHED:
        assert method.paper == "–"
        return
    assert method.link.startswith("https://")
    assert 1990 < int(method.year) < 2030
    assert method.authors[0].isupper()
    assert f"[{method.title}]({method.link})" in method.paper


def test_by_name():
    found = {method.name: method for method in methods()}
    assert list(found) == list(TERMS)
    assert found["kd"].title == "Distilling the Knowledge in a Neural Network"
    assert found["deit_soft"].authors == "Touvron et al."  # of the class that it refers to
    assert found["tinybert_hidden"].year == "2020"
    assert [found[name].reads for name in ("kd", "ctkd", "at", "byot", "mixture")] == [
        *("logits", "logits", "features", "labels", "logits")
    ]
    assert KD().about == found["kd"].about
