"""Values of a field's type: from the words of a command line, and whether a value is one.

The types are those that the config's dataclasses use: str, int, float, bool, Literal, tuples of
these, and any of these or None.
"""

import types
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from kd_jax.errors import UsageError, did_you_mean, require, shortened

NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
}
LONGEST = 2**14  # signs of a text: a sweep may list many values
NO_TEXT = ("Cc", "Cs")  # controls, and bytes that are of no sign: no name or path has them


def read(kind: Any, words: list[str], flag: str) -> Any:
    """The value that the words after a flag spell.

    Raises:
      UsageError: naming the flag, the words and what may stand there.
    """
    if _is_union(kind):
        if words in (["None"], ["none"]):
            return None
        (kind,) = _without_none(kind)
        return read(kind, words, flag)
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * len(words)
        if len(kinds) != len(words):
            raise UsageError(f"{flag} takes {len(kinds)} values, but got {said(words, len(kinds))}")
        return tuple(_read_one(k, word, flag) for k, word in zip(kinds, words, strict=True))
    if len(words) != 1:
        raise UsageError(f"{flag} takes one value, {describe(kind)}, but got {said(words)}")
    return _read_one(kind, words[0], flag)


def describe(kind: Any) -> str:
    """What a value may be, in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if kind in NAMES:
        return NAMES[kind]
    return kind.__name__ if isinstance(kind, type) else str(kind)


def fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a type; a whole number is also a float, and True no whole number."""
    if kind is Any:
        return True
    if _is_union(kind):
        return any(fits(k, value) for k in get_args(kind))
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = (inner[0],) * len(value) if inner[-1] is Ellipsis else inner
        return len(kinds) == len(value) and all(map(fits, kinds, value))
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(fits(inner[1], item) for item in value.values())
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _read_one(kind: Any, word: str, flag: str) -> Any:
    if get_origin(kind) is Literal:
        choices = {str(choice): choice for choice in get_args(kind)}
        if word not in choices:
            hint = did_you_mean(word, choices)
            raise UsageError(f"{flag} {shortened(repr(word))} is unknown.{hint}")
        return choices[word]
    if kind is str:
        return _text(word, flag)
    try:
        if kind is bool:
            return {"true": True, "false": False}[word.lower()]
        return kind(word)
    except (ValueError, KeyError):
        shown = shortened(repr(word))
        raise UsageError(f"{flag} {shown}: it must be {describe(kind)}") from None


def _text(word: str, flag: str) -> str:
    shown = shortened(repr(word))
    odd = [sign for sign in word if unicodedata.category(sign) in NO_TEXT]
    require(not odd, f"{flag} {shown} has the sign {''.join(odd[:1])!r} in it: leave it out")
    require(len(word) <= LONGEST, f"{flag} {shown} has more than {LONGEST} signs: shorten it")
    return word


def is_whole(word: str) -> bool:
    """Whether it is a whole number, not below 0, of no more digits than one can be meant to have:
    Python refuses to read thousands of them."""
    return word.isdecimal() and len(word) < 16


def check_encoded(words: list[str]) -> None:
    """Raises UsageError for a word of a command line with bytes that are no text: it could neither
    be shown nor written into a file."""
    flag = ""
    for word in words:
        name, equals, value = word.partition("=") if word.startswith("--") else (flag, "", word)
        flag = "" if equals else name
        require(
            not any(unicodedata.category(sign) == "Cs" for sign in word),
            f"{name} {shortened(ascii(value))}".strip() + ": these bytes are no text: write it in "
            "UTF-8, or rename the file",
        )


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _without_none(kind: Any) -> list[Any]:
    return [k for k in get_args(kind) if k is not type(None)]


def said(words: list[str], wanted: int = 1) -> str:
    """The words as they were given; where there are too many, what they may have been meant as."""
    hint = " (flags begin with two dashes)" if len(words) > wanted else ""
    return (" ".join(shortened(repr(word)) for word in words[:9]) or "none") + hint
