"""Errors that are no bugs, but a user's mistake or a machine's limit: shown as one line, with exit
status 2 and no traceback."""

import dataclasses
import difflib
import math
import os
import re
import warnings
from collections.abc import Iterable


class UsageError(ValueError):
    """A wrong flag, value or input. The message names the flag, the value and the fix."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest known word, or a list of all of them.

    Starts with a space and may be empty, so it can be appended to a sentence.
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(known)}." if known else ""


def trouble(error: Exception) -> str:
    """What disk or memory can't do, in one line with the fix. An error of another kind is
    raised again."""
    disk = of_disk(error)
    if disk is not None:
        where = disk.filename2 or disk.filename or _file_of_orbax(str(error)) or "the disk"
        return (
            f"can't write to or read from {where} ({disk.strerror or disk}): make it possible, or "
            "choose another folder"
        )
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "out of memory: lower a batch, --seeds or a model's width"
    raise error


def of_disk(error: BaseException) -> OSError | None:
    """The OSError that an error is, or that Orbax tells of in the words of another; else None."""
    code = re.search(r"\[os_error_code='(\d+)'\]", str(error))  # in a ValueError
    if code is not None:
        number = int(code[1])
        return OSError(number, os.strerror(number), _file_of_orbax(str(error)) or None)
    return error if isinstance(error, OSError) else None


def _file_of_orbax(message: str) -> str:
    """The file or checkpoint of which Orbax's message tells; "" where it tells of none."""
    # It goes from the whole to its parts; how all was opened comes last.
    found = re.findall(r'"(/[^"]+)"', message.partition("[tensorstore_spec")[0])
    return found[-1].partition(".orbax-checkpoint-tmp")[0] if found else ""


def require(condition: bool, message: str) -> None:
    """Raises UsageError(message) unless the condition holds."""
    if not condition:
        raise UsageError(message)


def shortened(text: str, most: int = 100) -> str:
    """A text that is too long for a line, without its middle."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def reason(error: Exception, most: int = 200) -> str:
    """What an error of somebody else's code says, in one line of so many letters."""
    return shortened(" ".join(str(error).split()), most) or type(error).__name__


def require_pattern(said: str, pattern: str) -> None:
    """Raises UsageError, which begins with what was `said`, for what is no regular expression."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of what may once mean something else
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        shown, why = shortened(repr(pattern)), reason(error)
        raise UsageError(f"{said} {shown} is no regular expression ({why}): correct it") from error


def require_patterns(field: str, patterns: Iterable[str]) -> None:
    """The same of each of a field's patterns; none may be empty, which is a slip and would find
    everything."""
    for pattern in patterns:
        require(bool(pattern), f"{field} '' finds everything: write .* where that is meant")
        require_pattern(field, pattern)


LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes that common file systems allow


def require_path(field: str, path: str) -> None:
    """Raises UsageError for a path that no file system would take: of a name that is too long."""
    parts = [len(os.fsencode(part)) for part in path.split("/")]
    require(
        max(parts) <= LONGEST_NAME and sum(parts) + len(parts) - 1 <= LONGEST_PATH,
        f"{field} {shortened(repr(path))}: a path has at most {LONGEST_PATH} bytes, and each name "
        f"in it {LONGEST_NAME}: shorten it",
    )


def require_between(
    field: str, value: object, low: float, high: float = math.inf, open_low: bool = False
) -> None:
    """Raises UsageError unless low <= value <= high (low < value where `open_low`).

    Only Python numbers are checked: what is traced or stacked for vmap has no single value.
    """
    if not isinstance(value, int | float):
        return
    require_finite(value, f"{field} is ")
    inside = (low < value if open_low else low <= value) and value <= high
    above = f"greater than {low:g}" if open_low else f"at least {low:g}"
    below = "" if high == math.inf else f" and at most {high:g}"
    require(inside, f"{field} is {value:g}: it must be {above}{below}.")


LARGEST = 3e38  # about what float32 can hold, and everything is computed in float32


def require_finite(value: object, before: str = "") -> None:
    """Raises UsageError for a float that is not finite or a whole number that int32 can't hold, at
    any depth of dataclasses, dictionaries and tuples; the message names its field. `before` comes
    before a number that stands alone."""
    if isinstance(value, int):
        require(abs(value) < 2**31, f"{before}{shortened(str(value))}: it must be within ±2**31.")
    elif isinstance(value, float):
        fine = abs(value) <= LARGEST
        require(fine, f"{before}{value:g}: it must be a finite number (of float32).")
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            require_finite(getattr(value, field.name), _name(before, field.name))
    elif isinstance(value, dict):
        for name, child in value.items():
            require_finite(child, _name(before, name))
    elif isinstance(value, tuple):
        for child in value:
            require_finite(child, before)


def _name(before: str, field: str) -> str:
    outer = f"{before.removesuffix(' is ')}." if before else ""
    return f"{outer}{field.replace('_', '-')} is "
