"""What verbs of run.py have in common that take an experiment by name: `VERB NAME [--flags]`."""

from collections.abc import Callable, Sequence

from kd_jax import flags
from kd_jax.config import Experiment, smoke
from kd_jax.errors import UsageError, require

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


def _own_flags(arguments: list[str], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """(the verb's own flags with their values, the other arguments)."""
    own: dict[str, str] = {}
    rest: list[str] = []
    for flag, words in flags.split([word for word in arguments if word not in ("-h", "--help")]):
        if flag not in names:
            rest += [flag, *words]
            continue
        said = " ".join(words)
        require(len(words) == 1 and bool(said), f"{flag} takes one value, but got {said or 'none'}")
        own[flag] = said
    return own, rest + [word for word in arguments if word in ("-h", "--help")]
