"""Mistaken flags of the verbs that are not of experiments: exit status 2, one line of complaint
that names the flag, before anything is written."""

import pytest
from calls import refused
from tiny_experiment import run_of, tiny

WHOLE = ("", "x", "-1", "1.5", "1e3", "9" * 50, "nan")  # none is a whole number at hand
NAMES = ("", "nothing", "a" * 5000, "train+")
OF_A_RUN = {
    "encode": {
        "--stage": NAMES,
        "--seed": (*WHOLE, "7"),
        "--coders": ("", "nothing", "huffman,", "huffman,nothing"),
    },
    "export": {"--stage": NAMES, "--seed": (*WHOLE, "7"), "--format": ("", "nothing", "onnx,")},
    "explain": {"--stage": (*NAMES, "train"), "--batches": (*WHOLE, "0")},
    "evaluate": {"--json": ("x.json",), "--most": (*WHOLE, "3")},
    "latency": {
        "--stages": NAMES,
        "--batches": (*WHOLE, "0", "99999999"),
        "--seconds": ("", "x", "-1", "0", "nan", "inf", "1e300"),
    },
}
OTHERS = {
    ("inspect", "digits"): {"--model": NAMES},
    ("plan", "digits"): {
        "--topology": ("", "v5e", "v5e:", "v5e:0x2", "v5e:2x", "v9:2x2", "v5e:2x2x2x2", "2x2"),
        "--batch": ("", "x", "-4", "0", "1.5", "9" * 50),
    },
    ("bench",): {
        "--against": ("", "nothing"),
        "--batch": (*WHOLE, "99999999999"),
        "--rounds": (*WHOLE, "0"),
        "--steps": (*WHOLE, str(2**40)),
    },
}
GIVEN = {("plan", "--batch"): ("--topology", "v5e:2x2")}  # without which plan is told of that


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run's folder, and what lies in it."""
    folder = tmp_path_factory.mktemp("run")
    run_of(tiny(seeds=1), folder)
    return folder, listed(folder)


def listed(folder):
    """All that lies in it but its lock, which stays."""
    return sorted(path for path in folder.rglob("*") if path.name != "lock")


@pytest.mark.parametrize("verb", OF_A_RUN)
def test_of_a_run(call, run, verb):
    folder, before = run
    for flag, wrong in OF_A_RUN[verb].items():
        for value in wrong:
            said = refused(call, verb, folder, flag, value)
            assert flag in said, (flag, value, said)
            assert len(said) < 2000, (flag, value)
    assert listed(folder) == before


@pytest.mark.parametrize("verb", OTHERS, ids=lambda words: words[0])
def test_of_an_experiment_or_of_none(call, verb):
    for flag, wrong in OTHERS[verb].items():
        for value in wrong:
            said = refused(call, *verb, *GIVEN.get((verb[0], flag), ()), flag, value)
            assert flag in said, (flag, value, said)
            assert len(said) < 2000, (flag, value)


@pytest.mark.parametrize("verb", [*OF_A_RUN, "bench", "inspect", "plan"])
def test_flags_that_are_unknown_given_twice_or_without_a_value(call, run, verb):
    words = {"bench": (), "inspect": ("digits",), "plan": ("digits",)}.get(verb, (run[0],))
    flags = OF_A_RUN.get(verb) or OTHERS[(verb, *words)]
    known = next(iter(flags))
    assert "--sead" in refused(call, verb, *words, "--sead", "1")
    assert known in refused(call, verb, *words, known)
    if known not in ("--stages",):
        assert known in refused(call, verb, *words, known, "a", known, "b")
