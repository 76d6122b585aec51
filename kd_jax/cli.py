"""The verbs of run.py."""

import importlib
import os
import pkgutil
import shlex
import signal
import sys
from contextlib import closing
from types import ModuleType

from rich.console import Console

import experiments
from kd_jax import extensions, hosts, stopping, values
from kd_jax.config import Experiment
from kd_jax.errors import UsageError, did_you_mean, trouble
from kd_jax.published import Figure
from kd_jax.startup import keep_programs, keep_quiet

HELP = """Make deep networks small, by knowledge distillation, pruning and quantisation.

usage: python run.py [VERB] ...

  run NAME [--flags]   run an experiment, or go on with it; `run NAME --help` lists its flags
                       --smoke shrinks any of them to a quick check that it works
                       --only STAGE ... runs just these stages and what they need
  reproduce NAME       runs it, and shows what papers report beside what came out; without NAME:
                       which experiments reproduce something
  plan NAME --topology v5e:4x4
                       what it would take on TPU chips that are not there: memory, work, time
  inspect NAME         what of its networks can be cut: channels, heads, hidden units
  explain RUN          why its networks were cut as they were: sensitivity, units, examples
  export RUN           a network as files that others can run: StableHLO, ONNX, safetensors
  latency RUN          how long its networks take: batches, XLA and onnxruntime, threads, memory
  list                 the experiments: what, on which data, at what cost;
                       list terms: the distillation terms and their papers
  encode RUN           a network of a run as the smallest file that decodes to it bit for bit
  evaluate RUN         read the networks of a run's folder and evaluate them anew;
                       evaluate FILE.kdz: the one in a file that encode wrote
  report RUN ...       tables and plots again, or across runs; --out FOLDER writes them there
  bench [CASE ...]     how fast training steps are; --against torch compares with PyTorch

Without a verb: run digits. A verb's own flags: VERB --help.
--use FILE.py, with any verb: losses, criteria, models, ... of your own.
"""


def main(arguments: list[str]) -> int:
    """Runs a verb; the exit status: 0, 2 after a user's mistake, 130 when interrupted, 143 when
    told to stop by SIGTERM."""
    keep_programs()
    keep_quiet()
    verbs = {
        "run": _run,
        "reproduce": _reproduce,
        "plan": _plan,
        "inspect": _inspect,
        "explain": _explain,
        "encode": _encode,
        "export": _export,
        "latency": _latency,
        "list": _list,
        "evaluate": _evaluate,
        "report": _report,
        "bench": _bench,
    }
    verb = ""
    try:
        values.check_encoded(arguments)
        arguments = extensions.join(hosts.join(arguments))
        console = Console(quiet=not hosts.first())
        if not arguments:
            arguments = ["run", "digits"]
        verb, *rest = arguments
        if verb in ("-h", "--help", "help"):
            print(HELP, end="")
            return 0
        if verb not in verbs:
            raise UsageError(f"unknown verb {verb!r}.{did_you_mean(verb, verbs)}")
        with stopping.listening():  # once the hosts have joined, which hears signals in its own way
            verbs[verb](rest, console)
    except UsageError as error:
        return _refused(str(error))
    except SystemExit as stop:  # after --help
        return int(stop.code or 0)
    except BrokenPipeError:  # whoever reads our output has seen enough, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, MemoryError, RuntimeError, ValueError) as error:
        return _refused(trouble(error))
    except KeyboardInterrupt:
        return _stopped(stopping.Stop(signal.SIGINT), verb)
    except stopping.Stop as stop:
        return _stopped(stop, verb)
    return 0


def _stopped(stop: stopping.Stop, verb: str) -> int:
    words = "interrupted" if stop.number == signal.SIGINT else "told to stop"
    saved = f"; {stop.saved}" if stop.saved else ""
    goes_on = "; the same command goes on from the last checkpoint"
    trains = verb in ("run", "reproduce")
    print(f"{words}{saved}{goes_on if trains else ''}", file=sys.stderr)
    return stop.status


def _command(verb: str, arguments: list[str]) -> str:
    return shlex.join(["python", "run.py", verb, *arguments, *extensions.loaded()])


def _refused(message: str) -> int:
    # A name from somebody's file may have signs in it that a terminal obeys.
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(message.split()))
    print(f"error: {shown}", file=sys.stderr)
    return 2


def names() -> list[str]:
    """The experiments there are."""
    return sorted(module.name for module in pkgutil.iter_modules(experiments.__path__))


def preset(name: str) -> Experiment:
    """The CONFIG of experiments/NAME.py, or of a file of one's own."""
    if name.endswith(".py"):
        return extensions.config(name)
    return _module(name).CONFIG


def _module(name: str) -> ModuleType:
    known = names()
    if name not in known:
        raise UsageError(f"unknown experiment {name!r}.{did_you_mean(name, known)}")
    return importlib.import_module(f"experiments.{name}")


def published(name: str) -> tuple[tuple[Figure, ...], str]:
    """What papers report of an experiment, its PUBLISHED, and what is to be said of that, its
    REMARK."""
    found = extensions.use(name, ("CONFIG",)) if name.endswith(".py") else _module(name)
    return tuple(getattr(found, "PUBLISHED", ())), getattr(found, "REMARK", "")


# Each verb imports what it alone needs: to import all of them takes as long again as to refuse a
# mistaken flag.


def _run(arguments: list[str], console: Console) -> None:
    from kd_jax import cli_run

    cli_run.main(arguments, _command("run", arguments), console, names(), preset)


def _reproduce(arguments: list[str], console: Console) -> None:
    from kd_jax import cli_reproduce

    command = _command("reproduce", arguments)
    cli_reproduce.main(arguments, command, console, names(), preset, published)


def _plan(arguments: list[str], console: Console) -> None:
    from kd_jax import cli_plan

    cli_plan.main(arguments, console, names(), preset)


def _inspect(arguments: list[str], console: Console) -> None:
    from kd_jax import cli_inspect

    cli_inspect.main(arguments, console, names(), preset)


def _latency(arguments: list[str], console: Console) -> None:
    from kd_jax import cli_latency

    cli_latency.main(arguments, console)


def _list(arguments: list[str], console: Console) -> None:
    from kd_jax import cli_list

    cli_list.main(arguments, console, names())


def _options(
    arguments: list[str], usage: str, known: tuple[str, ...], needs_run: bool = True
) -> tuple[list[str], dict]:
    """(positional words, {flag: value}) of a verb with few flags."""
    if {"-h", "--help"} & set(arguments):
        print(usage)
        raise SystemExit(0)
    words, options = [], {}
    rest = iter(arguments)
    for word in rest:
        if not word.startswith("--"):
            words.append(word)
            continue
        flag, equals, value = word.partition("=")
        if flag not in known:
            raise UsageError(f"unknown flag {flag}.{did_you_mean(flag, known)}")
        options[flag] = value if equals else next(rest, "")
        if not options[flag] or (not equals and options[flag].startswith("--")):
            raise UsageError(f"{flag} takes a value, but got none")
    if needs_run and not (words and all(words)):
        raise UsageError(f"name a run's folder. {usage.splitlines()[0]}")
    return words, options


def _evaluate(arguments: list[str], console: Console) -> None:
    from kd_jax import cli_evaluate

    words, options = _options(arguments, cli_evaluate.HELP, cli_evaluate.OWN)
    cli_evaluate.main(words, options, _command("evaluate", arguments), console)


def _report(arguments: list[str], console: Console) -> None:
    from kd_jax import cli_report

    cli_report.main(*_options(arguments, cli_report.HELP, cli_report.OWN), console)


def _explain(arguments: list[str], console: Console) -> None:
    from kd_jax import cli_explain

    cli_explain.main(*_options(arguments, cli_explain.HELP, cli_explain.OWN), console)


def _encode(arguments: list[str], console: Console) -> None:
    from kd_jax import cli_encode

    cli_encode.main(*_options(arguments, cli_encode.HELP, cli_encode.OWN), console)


def _export(arguments: list[str], console: Console) -> None:
    from kd_jax import cli_export

    cli_export.main(arguments, console, _command("export", arguments))


def _bench(arguments: list[str], console: Console) -> None:
    from kd_jax.bench import command as bench
    from kd_jax.progress import Screen

    words, options = _options(arguments, bench.usage(), bench.FLAGS, needs_run=False)
    with closing(Screen(console)) as screen:
        bench.run(words, options, console, screen.note)
