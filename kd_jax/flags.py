"""Flags to an Experiment: every field is a flag, a variant is picked by its plain name."""

import copy
import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import tyro

from kd_jax import values
from kd_jax.config import Distill, Experiment
from kd_jax.distill.presets import PRESETS, find
from kd_jax.distill.presets import preset as published
from kd_jax.errors import UsageError, did_you_mean

Table = Mapping[str, Any]  # the variants of a field by plain name
Given = tuple[str, list[str]]  # a flag as it was written, and the words after it


def parse(preset: Experiment, arguments: list[str], program: str) -> Experiment:
    """The preset with the flags applied. Their order doesn't matter, except that of one flag given
    twice the last counts.

    Raises:
      UsageError: a flag or value that is not understood, or that a check refuses.
      SystemExit: after --help.
    """
    asks_help = bool({"-h", "--help"} & set(arguments))
    given = split([word for word in arguments if word not in ("-h", "--help")])
    # Published settings depend on who teaches whom, and what they bring may be changed by flags.
    late = [one for one in given if _is_of_learning(preset, _field(one[0]))]
    chosen = _applied(preset, [one for one in given if one not in late])
    presets = {_field(flag): (flag, words) for flag, words in late}
    for stage in sorted(presets.keys() & known(chosen).keys() & chosen.stages.keys()):
        chosen = _as_published(chosen, stage, *presets[stage])
    chosen = _applied(chosen, late)
    if asks_help:
        _help(chosen, program)
    check(chosen)
    return chosen


def _is_of_learning(experiment: Experiment, name: str) -> bool:
    """Whether a flag is one of a stage's that does not say which network learns from which."""
    stage, _, field = name.partition(".")
    return stage in experiment.stages and field not in ("model", "teacher", "start")


def _applied(experiment: Experiment, given: list[Given]) -> Experiment:
    """With these flags; variants first, for their own fields become flags."""
    tables = {name: kind for name, kind in known(experiment).items() if isinstance(kind, Mapping)}
    chosen = experiment
    for flag, words in given:
        name = _field(flag)
        if name in tables and name not in experiment.stages:
            pick = _picked(flag, words, tables[name])
            chosen = updated(chosen, name.split("."), pick)
    kinds = known(chosen)
    for flag, words in given:
        name = _field(flag)
        if name not in kinds:
            raise UsageError(f"unknown flag {flag}.{_hint(name, kinds)}")
        if name not in tables:
            value = values.read(kinds[name], words, flag)
            chosen = updated(chosen, name.split("."), lambda _, value=value: value)
    return chosen


def _as_published(experiment: Experiment, name: str, flag: str, words: list[str]) -> Experiment:
    """With a stage's objective as a method was published for its teacher and its student."""
    if len(words) != 1:
        got = values.said(words)
        raise UsageError(f"{flag} takes one of {', '.join(PRESETS)}, but got {got}")
    find(words[0], flag)
    stage = experiment.stages[name]
    assert isinstance(stage, Distill), "no other is known by its own name"
    roles = {experiment.stages[t].model for t in stage.teachers if t in experiment.stages}
    teacher = getattr(experiment, roles.pop()) if len(roles) == 1 else None
    student = getattr(experiment, stage.model)
    for field, value in published(words[0], teacher, student, stage.augment).items():
        experiment = updated(experiment, [name, field], lambda _, value=value: value)
    return experiment


def split(arguments: list[str]) -> list[Given]:
    """Flags with the words that follow them; `--flag=value` is a flag with one word so far.

    What begins with two dashes is a flag, so that -0.1 is a value.
    """
    given: list[Given] = []
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            given.append((flag, [value] if equals else []))
        elif given:
            given[-1][1].append(argument)
        else:
            raise UsageError(f"{argument!r} is no flag: flags begin with two dashes. See --help.")
    return given


# Of few classes, and asked for each field of each stage.
_hints = functools.cache(get_type_hints)


def known(node: Any, prefix: str = "") -> dict[str, Any]:
    """{dotted name: its type, or the table of its variants} of all that flags can set. The stages
    stand at the top."""
    if isinstance(node, dict):
        named = {k: v for name in node for k, v in known(node[name], f"{prefix}{name}.").items()}
        return named | {name: PRESETS for name in node if isinstance(node[name], Distill)}
    found: dict[str, Any] = {}
    kinds = _hints(type(node))
    for field in dataclasses.fields(node):
        child, here = getattr(node, field.name), f"{prefix}{field.name}"
        table = field.metadata.get("variants")
        if table is not None:
            found[here] = table
        if isinstance(node, Experiment) and field.name in ("name", "stages"):
            found |= known(child) if field.name == "stages" else {}
        elif dataclasses.is_dataclass(child) or isinstance(child, dict):
            found |= known(child, f"{here}.")
        elif table is None:
            found[here] = kinds[field.name]
    return found


def check(node: Any, path: str = "") -> None:
    """Runs the checks of nested dataclasses again, from the inside out.

    Raises:
      UsageError: naming the whole flag.
    """
    inner = f"{path}." if path else ""
    if isinstance(node, dict):
        for name, child in node.items():
            check(child, inner + name)
    if not dataclasses.is_dataclass(node):
        return
    for field in dataclasses.fields(node):
        is_stages = isinstance(node, Experiment) and field.name == "stages"
        check(getattr(node, field.name), path if is_stages else inner + field.name)
    try:
        getattr(node, "__post_init__", lambda: None)()
    except UsageError as error:
        raise UsageError(_with_flag(node, path, str(error))) from None


def _with_flag(node: Any, path: str, message: str) -> str:
    """The message of a failed check, which begins with a field's name, with the whole flag there:
    `KD.temperature is 0: ...` becomes `--distill.terms.kd.temperature is 0: ...`."""
    found = re.match(r"(?:--)?((?:\w+\.)*[\w-]+)", message)
    fields = {field.name for field in dataclasses.fields(node)}
    fields |= {*node.stages} if isinstance(node, Experiment) else set()
    names = found[1].replace("-", "_").split(".") if found is not None else [""]
    if found is None or not {names[0], names[-1]} & fields:
        return f"--{_dashed(path)}: {message}" if path else message
    # From the node on; but a check may put its class or group first, which the path has already.
    inner = names if names[0] in fields else names[-1:]
    return f"--{_dashed('.'.join([path, *inner] if path else inner))}{message[found.end() :]}"


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _field(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _hint(name: str, kinds: dict[str, Any]) -> str:
    """The flag that may be meant; or those of the same group."""
    flags = {f"--{_dashed(known)}" for known in kinds} | {"--smoke", "--help"}
    flag = f"--{_dashed(name)}"
    if flag in flags:  # --smoke=True
        return " It takes no value."
    hint = did_you_mean(flag, flags)
    if "Did you mean" not in hint:
        group = {other for other in flags if other.split(".")[0] == flag.split(".")[0]}
        hint = did_you_mean(flag, group) if group and "." in flag else " See --help."
    return hint.replace("'", "")


def updated(node: Any, path: list[str], change: Callable[[Any], Any]) -> Any:
    """A copy in which the field at a path is changed; not checked, as more may be to change."""
    name, *rest = path
    if isinstance(node, Experiment) and name in node.stages:
        name, rest = "stages", path
    child = node[name] if isinstance(node, dict) else getattr(node, name)
    changed = updated(child, rest, change) if rest else change(child)
    if isinstance(node, dict):
        return {**node, name: changed}
    new = copy.copy(node)
    object.__setattr__(new, name, changed)
    return new


def _picked(flag: str, words: list[str], table: Table) -> Callable[[Any], Any]:
    """What a flag that picks a variant makes of the current value: one entry of the table; for a
    field that holds several, those whose names are joined by +."""

    def pick(current: Any) -> Any:
        several = isinstance(current, dict)
        joined = ", or several joined by +" if several else ""
        if len(words) != 1:
            got = values.said(words)
            raise UsageError(f"{flag} takes one of {', '.join(table)}{joined}, but got {got}")
        word = "none" if words[0] == "None" else words[0]
        if several and word == "none":
            return {}
        names = word.split("+") if several else [word]
        if "" in names[1:] or not all(names[:-1]):
            raise UsageError(
                f"{flag} {word!r} has no name beside a +: put one there, or drop the +"
            )
        for name in names:
            if name not in table:
                raise UsageError(f"{flag} {name!r} is unknown.{did_you_mean(name, table)}")
        if several:
            return {name: current.get(name, table[name]) for name in names}
        return table[word]

    return pick


def _help(experiment: Experiment, program: str) -> None:
    """Prints what the fields' docstrings say, by tyro, and raises SystemExit(0)."""
    tyro.cli(
        Experiment,
        default=experiment,
        args=["--help"],
        prog=program,
        description=_description(experiment),
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
    )


def _description(experiment: Experiment) -> str:
    """Help text: the stages, and which flags pick variants by plain name."""
    slots: dict[tuple[str, ...], list[str]] = {}
    for name, kind in known(experiment).items():
        if isinstance(kind, Mapping):
            slots.setdefault(tuple(kind), []).append(f"--{_dashed(name)}")
    lines = [f"Stages: {', '.join(experiment.stages)}."]
    lines += ["--smoke, anywhere: a quick check that it works; see run.py run --help."]
    lines += ["", "Picked by plain name:"]
    lines += [f"  {', '.join(places)}:\n    {', '.join(names)}" for names, places in slots.items()]
    lines.append("  Names of distillation terms may be joined by +. A stage's own name takes what")
    lines.append("  a method was published with: hard weight, terms, weights, temperatures.")
    return "\n".join(lines)
