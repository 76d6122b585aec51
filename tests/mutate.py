"""Mutation testing: what the tests don't notice when a module says something else.

    python tests/mutate.py kd_jax/distill/logits.py --tests tests/distill --out build/mutants

Each mutant is a module with one small change: another comparison, operator, constant, condition or
function, swapped arguments, a call left out (`stop_gradient`, `abs`, ...), one operand alone. It is
made in memory, no file is written, and is tried in a fork of a process that has imported JAX: first
the tests of the module's own file, then the others that reach the changed statement, the quickest
first. Which tests reach what is measured once. Those that no test notices are printed; each is a
gap in the tests, or says the same as the module.

OUT/mutants.jsonl has a line for each mutant as it is decided, and what stands there is not tried
again, so that it goes on where it was stopped; --again tries those anew that survived. Not mutated:
defaults of fields, annotations, texts, what is raised or asserted. Processes that tests start see
the module as it is, and a test that finds a program compiled by an earlier one doesn't reach it.
"""

import argparse
import contextlib
import hashlib
import importlib.machinery
import json
import os
import random
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import CodeType

import mutants  # beside this file
import pytest

ROOT = Path(__file__).resolve().parent.parent
QUIET = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]


class Other(importlib.machinery.SourceFileLoader):
    """Loads other code than the file holds."""

    code: CodeType

    def get_code(self, fullname):  # pyright: ignore
        return self.code


class Finder:
    """Finds modules, some with other code than their files hold."""

    def __init__(self, codes: dict[str, CodeType]):
        self.codes = {path[:-3].replace("/", "."): code for path, code in codes.items()}

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.codes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = Other(fullname, spec.origin)
        spec.loader.code = self.codes[fullname]
        return spec


class Chosen:
    """A plugin that keeps these tests, in this order, and tells how long each took."""

    def __init__(self, order: list[str] | None = None):
        self.order, self.took, self.now = order, Counter(), ""

    def pytest_collection_modifyitems(self, items):
        if self.order is not None:
            place = {name: i for i, name in enumerate(self.order)}
            kept = [item for item in items if item.nodeid in place]
            items[:] = sorted(kept, key=lambda item: place[item.nodeid])

    def pytest_runtest_logstart(self, nodeid):
        self.now = nodeid

    def pytest_runtest_logreport(self, report):
        self.took[report.nodeid] += report.duration


def tested(codes: dict[str, CodeType], files: list[str], plugin: Chosen) -> int:
    """pytest's status, of the files where these modules have these codes."""
    sys.meta_path.insert(0, Finder(codes))
    return int(pytest.main([*QUIET, *files], plugins=[plugin]))


def forked(work: Callable[[], int], seconds: float) -> int | None:
    """What `work` returns in a fork of this process; None where it takes longer."""
    child = os.fork()
    if not child:
        status = 99
        with contextlib.suppress(BaseException):
            os.setpgid(0, 0)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            status = work()
        os._exit(status)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def reach(modules: list[str], test: Path, folder: Path) -> dict:
    """{"lines": {"MODULE:LINE": [tests that run it]}, "took": {test: seconds}} of a test file."""
    told = hashlib.sha256(b"".join(Path(p).read_bytes() for p in [*modules, test])).hexdigest()
    file = folder / f"{test.stem}.{told[:16]}.json"

    def watch() -> int:
        import builtins

        plugin, lines = Chosen(), {}
        hit = lambda line: lines.setdefault(line, {}).setdefault(plugin.now)  # noqa: E731
        builtins.__hit__ = hit  # pyright: ignore
        codes = {m: mutants.watched(Path(m).read_text(), m) for m in modules}
        status = tested(codes, [str(test)], plugin)
        if status in (0, 5):  # all pass, or there are none but slow ones
            reached = {line: [t for t in by if t] for line, by in lines.items()}
            file.write_text(json.dumps({"lines": reached, "took": plugin.took}))
        return status

    if not file.exists() and (status := forked(watch, 3600)) not in (0, 5):
        sys.exit(f"{test}: pytest ends with {status} before anything is changed")
    return json.loads(file.read_text())


def outcome(mutant: mutants.Mutant, reached: list[dict], budget: float) -> str:
    took = {}
    for of in reached:
        for line, tests in of["lines"].items():
            path, number = line.split(":")
            # What is run at import may matter to whatever runs any of the module.
            if path == mutant.path and (int(number) == mutant.line or not mutant.inside):
                took |= {t: of["took"][t] for t in tests}
    names = sorted(took, key=lambda t: took[t])
    own = [t for t in names if f"/test_{Path(mutant.path).stem}.py" in t]
    others = []
    for t in (t for t in names if t not in own):
        budget -= took[t]
        others += [t] if budget > 0 else []
    for tests in filter(None, (own, others)):
        status = forked(
            lambda order=tests: tested(
                {mutant.path: mutant.code}, sorted({t.split("::")[0] for t in order}), Chosen(order)
            ),
            600 + 10 * sum(took[t] for t in tests),  # the machine may have other work
        )
        if status is None:
            return "timeout"
        if status in (4, 5, 99):
            raise RuntimeError(f"{mutant}: pytest ends with {status}")
        if status:
            return "killed"
    return "survived"


def ready() -> None:
    """All that forks need and share is imported; of the package nothing is, XLA has not begun."""
    import conftest  # noqa: F401
    import hypothesis
    from jax._src import xla_bridge

    import kd_jax.cli
    import kd_jax.pipeline  # noqa: F401

    assert not xla_bridge.backends_are_initialized(), "its threads would be missing in the forks"
    for module in [m for m in sys.modules if m.split(".")[0] == "kd_jax"]:
        del sys.modules[module]
    warnings.filterwarnings("ignore", message=".*fork")
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True, phases=phases)
    hypothesis.settings.load_profile("mutants")


def main() -> None:
    flags = argparse.ArgumentParser(description="Mutation testing, see the top of this file.")
    flags.add_argument("modules", nargs="+", help="files, from the root of the repository")
    flags.add_argument("--tests", nargs="+", required=True, help="files or folders of tests")
    flags.add_argument("--sample", type=int, default=20, help="mutants of a module; 0: all")
    flags.add_argument("--seed", type=int, default=0, help="of the sample")
    flags.add_argument("--budget", type=float, default=60, help="seconds of others' tests, at most")
    flags.add_argument("--out", type=Path, required=True, help="folder of the results")
    flags.add_argument("--again", action="store_true", help="try the survivors anew")
    args = flags.parse_args()
    os.chdir(ROOT)
    (args.out / "reach").mkdir(parents=True, exist_ok=True)
    ready()
    files = [f for t in map(Path, args.tests) for f in sorted(t.rglob("test_*.py")) or [t]]
    reached = [reach(args.modules, file, args.out / "reach") for file in files]
    ledger = args.out / "mutants.jsonl"
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    decided = {tuple(key): result for *key, result in map(json.loads, lines)}
    for path in args.modules:
        every = list(mutants.of(Path(path).read_text(), path))
        # A larger sample holds a smaller one.
        some = random.Random(f"{args.seed} {path}").sample(every, len(every))[: args.sample or None]
        counts = Counter()
        for mutant in sorted(some, key=lambda m: m.line):
            key = (path, mutant.line, mutant.before, mutant.after)
            result = decided.get(key)
            if result is None or (args.again and result == "survived"):
                result = outcome(mutant, reached, args.budget)
                with ledger.open("a") as f:
                    f.write(json.dumps([*key, result]) + "\n")
            counts[result] += 1
            if result == "survived":
                print(f"{path}:{mutant.line}: {mutant.before}  →  {mutant.after}", flush=True)
        print(f"{path}: of {len(every)} mutants {dict(counts)}", flush=True)


if __name__ == "__main__":
    main()
