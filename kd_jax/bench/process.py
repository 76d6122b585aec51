"""The processes that a benchmark starts, and whether the machine is free for them."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from kd_jax.errors import UsageError, require

FOLDER = Path(__file__).resolve().parent
SIDES = {"kd_jax": "jax_side.py", "torch": "torch_side.py"}
INSTALL = 'pip install -e ".[torch]"'


class Worker:
    """A process that computes one row, and only when told to (see worker.py)."""

    def __init__(self, framework: str, torch_python: str = "") -> None:
        other = torch_python if framework == "torch" else ""
        side = FOLDER / SIDES[framework]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (until close)
        self._process = subprocess.Popen(
            [other or sys.executable, str(FOLDER / "worker.py"), str(side)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=_environment(foreign=bool(other)),
        )

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """The reply. Raises UsageError, with the last thing it said, if the worker has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if reply:
            return json.loads(reply)
        status = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        raise UsageError(
            f"a worker of the benchmark ended with status {status}: {said[-1] if said else ''}"
        )

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def _environment(foreign: bool) -> dict[str, str]:
    """A worker sees this code, and compiles anew: compile time is one of the results."""
    variables = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    path = variables.pop("PYTHONPATH", "")
    if not foreign:
        root = str(FOLDER.parent.parent)
        variables["PYTHONPATH"] = os.pathsep.join(part for part in (root, path) if part)
    return variables


def require_torch(python: str) -> None:
    """Raises UsageError unless the interpreter (empty: this one) has PyTorch."""
    code = "import importlib.util as u; raise SystemExit(u.find_spec('torch') is None)"
    try:
        found = subprocess.run([python or sys.executable, "-c", code], capture_output=True)
    except OSError as error:
        raise UsageError(
            f"--torch-python {python}: can't be run ({error.strerror}): name a Python interpreter"
        ) from error
    where = f"--torch-python {python}" if python else f"this Python ({sys.executable})"
    require(
        found.returncode == 0,
        f"--against torch: {where} has no PyTorch: install the extra torch ({INSTALL}), or name "
        "an interpreter that has it by --torch-python PATH",
    )


def busy(seconds: float = 0.5) -> float | None:
    """The share of all cores that is at work, from 0 to 1; None where Linux is not there to say."""

    def read() -> tuple[int, int]:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
        _, user, nice, system, idle, wait, *rest = first.split()
        waiting = int(idle) + int(wait)
        return waiting, waiting + sum(map(int, (user, nice, system, *rest[:3])))

    try:
        (waiting, total), _, (waited, at) = read(), time.sleep(seconds), read()
    except (OSError, ValueError):
        return None
    return 1 - (waited - waiting) / max(at - total, 1)
