"""The only Python loop over steps: it cuts a stage into pieces, changes masks between them,
reads the validation accuracy, saves, and tells how it goes."""

import time
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import breakdown, hosts, stopping
from kd_jax.checkpoint import Store
from kd_jax.devices import replicated
from kd_jax.objective import no_metrics
from kd_jax.pieces import Job, Runner
from kd_jax.soundness import check_finite, seeds_of

CHANCE = 1.2  # times the accuracy of a guess, up to which a network counts as no better


def only_guesses(accuracy: Any, classes: int, guess: float) -> Any:
    """Whether an accuracy, or each of an array's, is no better than one class named at random, or
    always the most frequent one, whose share is `guess`."""
    return np.asarray(accuracy) <= max(CHANCE / classes, guess)


class Reporter(Protocol):
    """Is told how a stage goes. All arguments are host numbers."""

    def begin(self, stage: str, steps: int, done: int) -> None: ...
    def advance(self, step: int, examples_per_second: float) -> None: ...
    def epoch(self, record: dict[str, Any]) -> None: ...
    def end(self, stage: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


class Silent:
    """A reporter that says nothing."""

    def begin(self, stage: str, steps: int, done: int) -> None: ...
    def advance(self, step: int, examples_per_second: float) -> None: ...
    def epoch(self, record: dict[str, Any]) -> None: ...
    def end(self, stage: str, seconds: float) -> None: ...
    def note(self, text: str) -> None: ...


def fit(
    job: Job,
    state: Any,
    store: Store | None = None,
    report: Reporter | None = None,
    save_seconds: float = 30.0,
    name: str = "",
) -> Any:
    """The state after all steps of the stage, from `state` at step 0 or the latest checkpoint.
    With a store, who has saved it calls `ended`.

    Raises:
      UsageError: numbers are not finite any more; names step, part of the loss and parameter.
      Stop: the process was told to stop, and all that was trained is saved.
    """
    report = report or Silent()
    zeros = hosts.place(no_metrics(job.settings, len(job.seeds)), replicated(job.program.sharding))
    carry = (state, zeros)
    found = store.restore(carry) if store is not None else None
    step, carry = found if found is not None else (0, carry)
    if store is not None:
        for damaged in store.damaged:
            aside = store.aside.get(damaged)
            now = f"lies in {aside} until the stage is done" if aside else "was deleted"
            report.note(f"warning: the checkpoint of step {damaged} is damaged, and {now}")
        for file in sorted(store.ignored):
            report.note(f"warning: {file} is damaged: what the stage took before is not counted")
        said = store.rewind(step, step // job.program.steps_per_epoch)
        if said:
            report.note(said)
    report.begin(name, job.program.steps, step)
    runner = Runner(job, step)
    saved, lost = time.monotonic(), []
    if not job.program.steps:  # a stage that trains nothing
        carry = runner.changed(step, carry)
        _look_at(job, carry[0], report)
    while step < job.program.steps:
        # A checkpoint is of the state before the events of its step: a resumed run comes by here.
        carry = runner.changed(step, carry)
        last = step
        step, carry = runner.piece(step, carry)
        said = breakdown.check(job, store, carry, (last, step), lost)
        if said:
            report.note(said)
        if step == job.program.steps:
            carry = runner.changed(step, carry)
        report.advance(step, runner.speed)
        if step % job.program.steps_per_epoch == 0 or step == job.program.steps:
            record = _record(job, step, carry) | runner.norms(carry[0])
            carry = (carry[0], jax.tree.map(jnp.zeros_like, carry[1]))
            report.epoch(record)
            if step == job.program.steps:
                _warn_of_chance(job, record, report)
            if store is not None:
                store.log(record)
        if store is None:
            continue
        due, told = runner.agreed(time.monotonic() - saved > save_seconds)
        if due or told:
            store.save(step, carry)
            saved = time.monotonic()
        if told:
            store.close()
            raise stopping.Stop(told, f"{name}: saved at step {step} of {job.program.steps}")
    return carry[0]


def ended(saved: str) -> None:
    """A stage's network is saved, which `saved` tells in words. Raises Stop where one of the hosts
    was told to stop since the stage had something to save: the next one doesn't begin."""
    told = int(hosts.told([stopping.settled()]).max())
    if told:
        raise stopping.Stop(told, saved)


def _look_at(job: Job, state: Any, report: Reporter) -> None:
    """What is said of a network that is trained on the way, of one that is not."""
    check_finite("start", job.compiled.rest(job.settings, job.seeds, state), job.seeds)
    said = job.validate(state) if job.validate is not None else []
    _warn_of_chance(job, {"validation_accuracy": said, "train": {}}, report)


def _warn_of_chance(job: Job, record: dict[str, Any], report: Reporter) -> None:
    """Without validation examples a network is what it said while it learned."""
    said = record.get("validation_accuracy") or record["train"].get("accuracy", [])
    tell_of_guesses(said, job.seeds, job.program.spec.classes, job.guess, report)


def tell_of_guesses(
    accuracy: Any, seeds: Any, classes: int, guess: float, report: Reporter
) -> None:
    """A network that has died, or never learned, is no better than a guess; `accuracy` has each
    run's, seed by seed."""
    lost = np.flatnonzero(only_guesses(accuracy, classes, guess))
    if lost.size:
        report.note(
            f"warning: no better than a guess at one of {classes} classes, the most frequent of "
            f"which is {100 * guess:.2f} % of all: seed {seeds_of(lost, seeds, len(accuracy))}"
        )


def _record(job: Job, step: int, carry: Any) -> dict[str, Any]:
    """What is kept of an epoch: lists have an entry a run."""
    state, sums = carry
    program = job.program
    epoch = -(-step // program.steps_per_epoch)
    steps = step - (epoch - 1) * program.steps_per_epoch
    means = {name: (np.asarray(x, np.float64) / steps).tolist() for name, x in sums.items()}
    record = {"step": step, "epoch": epoch, "train": means}
    if job.sparsity is not None:
        record["sparsity"] = job.sparsity(state)
    due = epoch % job.validate_every == 0 or step == program.steps
    if job.validate is not None and due:
        record["validation_accuracy"] = job.validate(state)
    return record
