"""Flags to an Experiment: every field is a flag, a variant is picked by its plain name."""

import contextlib
import copy
import dataclasses
import io
import re
from typing import Any

import tyro

from kd_jax.config import Experiment
from kd_jax.errors import UsageError, did_you_mean
from kd_jax.serialize import flatten


def parse(preset: Experiment, arguments: list[str], program: str) -> Experiment:
    """The preset with the flags applied.

    Raises:
      UsageError: a flag or value that is not understood.
      SystemExit: after --help.
    """
    chosen, rest = _pick_variants(preset, _split(arguments))
    if not {"-h", "--help"} & set(rest):
        _check_names(chosen, rest)
    message = io.StringIO()
    markers = (tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff)
    try:
        with contextlib.redirect_stderr(message):
            return tyro.cli(
                Experiment,
                default=chosen,
                args=rest,
                prog=program,
                description=_description(preset),
                config=markers,
            )
    except SystemExit as stop:
        if stop.code:
            raise UsageError(_one_line(message.getvalue())) from None
        raise


def _split(arguments: list[str]) -> list[str]:
    """`--flag=value` as two words."""
    words: list[str] = []
    for word in arguments:
        words += word.split("=", 1) if word.startswith("--") and "=" in word else [word]
    return words


def _field(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")


def _pick_variants(experiment: Experiment, words: list[str]) -> tuple[Experiment, list[str]]:
    """Applies the flags that pick a variant, `--student resnet20` or `--distill.terms kd+logits`,
    so that the variant's own fields become flags; returns the others."""
    rest = []
    i = 0
    while i < len(words):
        path = _field(words[i]).split(".") if words[i].startswith("--") else []
        variants = _variants_at(experiment, path) if path else None
        if variants is None:
            rest.append(words[i])
            i += 1
            continue
        if i + 1 == len(words) or words[i + 1].startswith("--"):
            raise UsageError(f"{words[i]} takes one of: {', '.join(variants)}")
        experiment = _replace(experiment, path, words[i + 1], variants, words[i])
        i += 2
    return experiment, rest


def _variants_at(node: Any, path: list[str]) -> dict[str, Any] | None:
    """The table of variants of the field at a path, if it has one."""
    for name in path[:-1]:
        node = _child(node, name)
    if not dataclasses.is_dataclass(node):
        return None
    fields = {f.name: f for f in dataclasses.fields(node)}
    return fields[path[-1]].metadata.get("variants") if path[-1] in fields else None


def _child(node: Any, name: str) -> Any:
    if isinstance(node, Experiment) and name in node.stages:
        return node.stages[name]
    return node.get(name) if isinstance(node, dict) else getattr(node, name, None)


def _replace(node: Any, path: list[str], value: str, variants: dict[str, Any], flag: str) -> Any:
    """A copy with the variant at the path. Not checked: the flags that follow may make it whole."""
    new = copy.copy(node)
    name = path[0]
    if len(path) == 1:
        changed = _variant(getattr(node, name), value, variants, flag)
    else:
        changed = _replace(_child(node, name), path[1:], value, variants, flag)
    if isinstance(node, Experiment) and name in node.stages:
        changed, name = {**node.stages, name: changed}, "stages"
    object.__setattr__(new, name, changed)
    return new


def _variant(current: Any, value: str, variants: dict[str, Any], flag: str) -> Any:
    """One entry of the table; for a field that holds several, those joined by +."""
    several = isinstance(current, dict)
    names = value.split("+") if several else [value]
    if several and value == "none":
        return {}
    for name in names:
        if name not in variants:
            raise UsageError(f"{flag} {name!r} is unknown.{did_you_mean(name, variants)}")
    if several:
        return {name: current.get(name, variants[name]) for name in names}
    return variants[value]


def _check_names(experiment: Experiment, words: list[str]) -> None:
    """Raises UsageError for a flag that doesn't exist, with the one that may be meant."""
    known = {_field(name) for name in flatten(experiment)} - {"name"}
    known |= {".".join(path) for path in _variant_paths(experiment)}
    for word in words:
        if word.startswith("--") and _field(word) not in known:
            name = word.removeprefix("--")
            flags = {flag.replace("_", "-") for flag in known}
            group = {flag for flag in flags if flag.split(".")[0] == name.split(".")[0]}
            hint = did_you_mean(name, flags)
            if "Did you mean" not in hint:
                hint = did_you_mean(name, group) if group and "." in name else " See --help."
            raise UsageError(f"unknown flag {word}.{hint.replace(chr(39), '')}")


def _variant_paths(node: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all fields that pick a variant."""
    if isinstance(node, dict):
        items = node.items()
    elif dataclasses.is_dataclass(node):
        items = [(f.name, getattr(node, f.name)) for f in dataclasses.fields(node)]
    else:
        return []
    found = []
    for name, child in items:
        here = path if name == "stages" and not path else (*path, name)
        if not isinstance(node, dict) and _variants_at(node, [name]) is not None:
            found.append(here)
        found += _variant_paths(child, here)
    return found


def _description(preset: Experiment) -> str:
    """Help text: the stages, and which flags pick variants by plain name."""
    slots: dict[tuple[str, ...], list[str]] = {}
    for path in _variant_paths(preset):
        names = tuple(_variants_at(preset, list(path)) or {})
        slots.setdefault(names, []).append(f"--{'.'.join(path).replace('_', '-')}")
    lines = [f"Stages: {', '.join(preset.stages)}.", "", "Picked by plain name:"]
    lines += [f"  {', '.join(places)}:\n    {', '.join(names)}" for names, places in slots.items()]
    lines.append("  Names of distillation terms may be joined by +.")
    return "\n".join(lines)


def _one_line(box: str) -> str:
    """What a tyro error box says, as one line that begins with the flag."""
    lines = [line.strip("│╭╮╰╯ ").strip() for line in box.splitlines()]
    said = []
    for line in lines[1:]:
        if set(line) <= {"─"}:
            break
        said.append(line)
    text = " ".join(said)
    found = re.match(r"Error parsing (?:stages\.)?([\w.-]+): (.*)", text)
    if found is None:
        return text or "the flags could not be understood. See --help."
    return _with_flag(*found.groups())


def _with_flag(path: str, message: str) -> str:
    """The message of a failed check, which names a field, with the whole flag in its front."""
    path = path.removeprefix("--").removeprefix("stages.")
    if path == "Experiment":  # it names its flags in full
        return f"--{message}"
    if message.startswith("--"):
        group, _, rest = message.removeprefix("--").partition(".")
        return f"--{path}.{rest}" if path.endswith(group) else message
    field = re.match(r"(?:[A-Z]\w*\.)?([a-z][\w-]* .*)", message)
    if field and not message.startswith(("invalid ", "could not ")):
        return f"--{path}.{field.group(1)}"
    return f"--{path}: {message}"
