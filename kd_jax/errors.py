"""The error for a user's mistake: shown as one line, with exit status 2 and no traceback."""

import difflib
import math
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


def require(condition: bool, message: str) -> None:
    """Raises UsageError(message) unless the condition holds."""
    if not condition:
        raise UsageError(message)


def require_between(
    field: str, value: object, low: float, high: float = math.inf, open_low: bool = False
) -> None:
    """Raises UsageError unless low <= value <= high (low < value where `open_low`).

    Only Python numbers are checked: what is traced or stacked for vmap has no single value.
    """
    if not isinstance(value, int | float):
        return
    inside = (low < value if open_low else low <= value) and value <= high
    above = f"greater than {low:g}" if open_low else f"at least {low:g}"
    below = "" if high == math.inf else f" and at most {high:g}"
    require(inside, f"{field} is {value:g}: it must be {above}{below}.")
