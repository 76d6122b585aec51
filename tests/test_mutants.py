"""What mutation testing changes, and what it leaves alone."""

import builtins

import mutants

MODULE = '''
"""About."""
LIMIT = 2

class Loss:
    weight: float = 3.0

    def __call__(self, x: int | None, scale=1):
        """The loss."""
        assert x > 0
        if x > LIMIT and scale:
            raise ValueError(f"{x + 1}")
        return near(abs(x), 2.5) if self.weight else -x
'''


def after(source):
    return [mutant.after.strip() for mutant in mutants.of(source, "a.py")]


def test_one_small_change_each():
    assert sorted(after(MODULE)) == sorted(
        [
            "LIMIT = 3",
            "def __call__(self, x: int | None, scale=2):",
            "if x >= LIMIT and scale:",
            "if x > LIMIT or scale:",
            "if not (x > LIMIT and scale):",
            "return near(x, 2.5) if self.weight else -x",
            "return near(2.5, abs(x)) if self.weight else -x",
            "return near(abs(x), 3.5) if self.weight else -x",
            "return near(abs(x), 2.5) if not self.weight else -x",
            "return near(abs(x), 2.5) if self.weight else x",
        ]
    )
    assert {m.line for m in mutants.of(MODULE, "a.py") if not m.inside} == {3, 8}


def test_axes_operands_and_calls():
    assert after("y = sum(x, axis=-1) * 2") == [
        "y = sum(x, axis=-1) / 2",
        "y = sum(x, axis=-1)",
        "y = mean(x, axis=-1) * 2",
        "y = sum(x, axis=0) * 2",
        "y = sum(x, axis=-1) * 3",
    ]
    assert after("total += jnp.maximum(*pair) and True") == [
        "total -= jnp.maximum(*pair) and True",
        "total += jnp.maximum(*pair) or True",
        "total += jnp.minimum(*pair) and True",
        "total += jnp.maximum(*pair) and False",
    ]


def test_each_is_the_code_of_what_it_says():
    for mutant in mutants.of("y = 6 - 3", "a.py"):
        found, said = {}, {}
        exec(mutant.code, found)
        exec(mutant.after, said)
        assert found["y"] == said["y"] != 3


def test_a_watched_module_tells_which_statements_it_runs(monkeypatch):
    lines = []
    monkeypatch.setattr(builtins, "__hit__", lines.append, raising=False)
    found = {"near": lambda a, b: a}
    exec(mutants.watched(MODULE, "a.py"), found)
    assert not lines
    assert found["Loss"]()(1, scale=0) == 1
    assert lines == [f"a.py:{line}" for line in (10, 11, 13)]
    assert found["Loss"].__call__.__doc__ == "The loss."
