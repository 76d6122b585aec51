"""What went wrong where a number is not finite any more: the last steps are made once more, one by
one, from the last good checkpoint. All of a run is a function of its seed, so it happens again."""

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax import step as step_lib
from kd_jax.checkpoint import Store
from kd_jax.errors import UsageError
from kd_jax.faults import Faults, numbers
from kd_jax.pieces import Job, Runner

MOST = 3  # parameters that are named


def check(
    job: Job, store: Store | None, carry: Any, steps: tuple[int, int], lost: list[int]
) -> str:
    """What there is to say of the steps from the first to the second, which are done: "" where all
    numbers are finite, or it was said before.

    A run that is lost is no reason to end those of other settings, but seeds of one setting belong
    together.

    Args:
      lost: the runs of which it was said; those of which it is said now are added.

    Raises:
      UsageError: no setting is left of which all seeds learn; names step, part of the loss and
        parameter.
    """
    sound = np.asarray(job.compiled.sound(job.settings, job.seeds, *carry))
    new = [run for run in np.flatnonzero(~sound).tolist() if run not in lost]
    if not new:
        return ""
    lost += new
    variants = job.settings.variants
    where = explained(job, store, carry, steps, new)
    if len({run % variants for run in lost}) == variants:
        rate = float(np.max(job.settings.optim.learning_rate))
        raise UsageError(
            f"optim.learning-rate {rate:g}: {where}; lower it, or set optim.warmup or "
            "optim.clip-norm"
        )
    return f"warning: {where}; the other settings go on"


def explained(
    job: Job, store: Store | None, carry: Any, steps: tuple[int, int], runs: Sequence[int]
) -> str:
    """Where one of these runs first has a number that is not finite, in words."""
    before, after = steps
    if job.begin is None:
        return f"a number is not finite any more between the steps {before} and {after}"
    zeros = jax.tree.map(np.zeros_like, carry[1])
    again = (job.begin(), zeros)
    found = store.restore(again) if store is not None else None
    step, again = found if found is not None else (0, again)
    kept = f"; the checkpoint of step {step} is kept" if step else ""
    runner = Runner(job, step, stops=(before,))
    while step < after:
        again = runner.changed(step, again)
        if step < before:
            step, again = runner.piece(step, again)
            continue
        state = again[0]
        words = _named(runner.faults(step, state), runs)
        if words:
            operation = _operation(job, runner.alone(step, state, runs[0])) if job.nans else ""
            return f"{words} {_when(job, step, runs)}{operation}{kept}"
        again, step = runner.one(step, again), step + 1
    found = numbers(again[0])
    finite = {n: np.isfinite(np.asarray(x)[list(runs)]).all() for n, x in found.items()}
    names = _listed([name for name, fine in finite.items() if not fine]) or "the loss so far"
    return f"{names} is not finite any more after step {after} of {job.program.steps}{kept}"


def _when(job: Job, step: int, runs: Sequence[int]) -> str:
    """In which step, and of which seed and setting."""
    variants, epoch = job.settings.variants, step // job.program.steps_per_epoch + 1
    setting = f", setting {runs[0] % variants + 1}" if variants > 1 else ""
    seed = int(job.seeds[runs[0] // variants])
    return f"at step {step + 1} of {job.program.steps} (epoch {epoch}, seed {seed}{setting})"


def _named(found: Faults, runs: Sequence[int]) -> str:
    """Which part of the loss, or its gradient by which parameters, is not finite."""
    values, gradients = jax.tree.map(lambda x: bool(np.asarray(x)[list(runs)].all()), found)
    parts = [part for part, fine in values.items() if not fine]
    if parts:
        return f"the loss is not finite any more, by {' and '.join(parts)},"
    for part, by_name in gradients.items():
        names = [name for name, fine in by_name.items() if not fine]
        if names:
            return f"the gradient of {part} by {_listed(names)} is not finite any more,"
    return ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more


def _operation(job: Job, given: tuple) -> str:
    """Which operation of a run's step makes such a number first, and where in the code it stands.

    Args:
      given: what train_step takes of one run.
    """
    with jax.disable_jit(), jax.debug_nans(True), jax.debug_infs(True):
        try:
            step_lib.train_step(job.program, *given)
        except FloatingPointError as error:
            words = str(error).partition("\n")[0].rstrip(". ")
            own = [f for f in traceback.extract_tb(error.__traceback__) if _ours(f.filename)]
            place = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
            return f": {words}{place}"
    return ": no single operation makes it"


def _ours(file: str) -> bool:
    """Whether a file is no library's."""
    return "site-packages" not in Path(file).parts
