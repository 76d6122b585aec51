"""What verbs of run.py have in common that take an experiment by name: `VERB NAME [--flags]`."""

from collections.abc import Callable, Sequence

from kd_jax import flags
from kd_jax.config import Experiment, smoke
from kd_jax.errors import UsageError, did_you_mean, require

Preset = Callable[[str], Experiment]


def read(
    verb: str, arguments: list[str], own: Sequence[str], names: Sequence[str], preset: Preset
) -> tuple[str, Experiment, dict[str, str]]:
    """(name, the experiment with its flags applied, the verb's own flags with their values).

    Raises:
      UsageError: no name comes first, or a flag can't be.
    """
    if not arguments or arguments[0].startswith("-"):
        raise UsageError(f"{verb} takes an experiment's name first: {', '.join(names)}")
    name, *rest = arguments
    base = preset(name)
    said, rest = _own_flags(rest, own)
    if "--smoke" in rest:
        rest = [word for word in rest if word != "--smoke"]
        base = smoke(base)
    return name, flags.parse(base, rest, f"python run.py {verb} {name}"), said


def options(
    verb: str,
    arguments: Sequence[str],
    usage: str,
    single: Sequence[str],
    several: Sequence[str] = (),
) -> tuple[list[str], dict[str, list[str]]]:
    """(words before the first flag, {flag: its words}) of a verb that takes a run's folder.

    Args:
      single: flags that take one word.
      several: flags that take one or more.

    Raises:
      UsageError: a flag that there is not, or that lacks its value.
      SystemExit: after --help.
    """
    if {"-h", "--help"} & set(arguments):
        print(usage, end="")
        raise SystemExit(0)
    first = next((i for i, w in enumerate(arguments) if w.startswith("--")), len(arguments))
    said: dict[str, list[str]] = {}
    for flag, words in flags.split(list(arguments[first:])):
        require(flag in (*single, *several), f"unknown flag {flag}.{_hint(flag, single, several)}")
        words = [word for word in words if word]
        many = "one value" if flag in single else "one value or more"
        fits = len(words) == 1 or (flag in several and len(words) > 1)
        require(fits, f"{flag} takes {many}, but got {' '.join(words) or 'none'}")
        said[flag] = words
    words = list(arguments[:first])
    require(bool(words), f"{verb} takes a run's folder first. {usage.splitlines()[0]}")
    return words, said


def _hint(flag: str, *known: Sequence[str]) -> str:
    return did_you_mean(flag, [name for names in known for name in names])


def _own_flags(arguments: list[str], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """(the verb's own flags with their values, the other arguments)."""
    own: dict[str, str] = {}
    rest: list[str] = []
    for flag, words in flags.split([word for word in arguments if word not in ("-h", "--help")]):
        if flag not in names:
            # Joined as it may have been: a value that begins with dashes is no flag.
            rest += [f"{flag}={words[0]}", *words[1:]] if words else [flag]
            continue
        said = " ".join(words)
        require(len(words) == 1 and bool(said), f"{flag} takes one value, but got {said or 'none'}")
        own[flag] = said
    return own, rest + [word for word in arguments if word in ("-h", "--help")]
