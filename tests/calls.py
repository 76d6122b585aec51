"""Calls of the command line, for the tests of what it refuses."""

import time


def refused(call, *arguments):
    """The one line that a user's mistake is answered with."""
    began = time.monotonic()
    status, _, error = call(*arguments)
    assert status == 2
    assert time.monotonic() - began < 3.0
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error.removeprefix("error: ").rstrip("\n")
