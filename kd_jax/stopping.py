"""Being told to stop: SIGTERM, which a cluster sends some seconds before it takes a machine away,
and Ctrl-C. What was trained since the last checkpoint is saved first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop(BaseException):
    """The process was told to stop. No Exception: nothing that handles mistakes may keep it.

    Attributes:
      number: of the signal.
      saved: what was saved on the way out, in words; empty where nothing had to be.
    """

    def __init__(self, number: int, saved: str = "") -> None:
        super().__init__(number, saved)
        self.number, self.saved = number, saved

    @property
    def status(self) -> int:
        """The exit status, as shells tell it of a process that a signal ended."""
        return 128 + self.number


class _Watch:
    """Which signal came while there was something to save."""

    def __init__(self) -> None:
        self.unsaved = False
        self.told = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.unsaved and not self.told:
            self.told = number  # whoever has what is unsaved looks here soon
        else:  # there is nothing to save, or somebody is in a hurry
            raise Stop(number)


_watch = _Watch()


@contextmanager
def listening() -> Iterator[None]:
    """Within it, signals stop the process by Stop, once what is unsaved is saved; at once the
    second time. Other threads than the main one hear no signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    settled()  # what ended by a mistake may have left it unsaved
    before = {number: signal.signal(number, _watch) for number in SIGNALS}
    try:
        yield
    finally:
        settled()
        for number, handler in before.items():
            signal.signal(number, handler)


def unsaved() -> None:
    """There is something that would be lost: from now on a signal waits until it is asked for."""
    _watch.unsaved = True


def settled() -> int:
    """All is saved, or not worth it. Gives the signal that has come meanwhile; 0 where none has."""
    _watch.unsaved = False  # first: one that comes now stops at once, and none is lost
    waited, _watch.told = _watch.told, 0
    return waited


def told() -> int:
    """The signal that waits; 0 where there is none."""
    return _watch.told
