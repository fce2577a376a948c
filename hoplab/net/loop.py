"""One loop for many sockets: register a callback for a descriptor, run until a condition holds.

No sleeping and hoping: whoever waits says what for and until when, and an unmet
deadline names the condition.  Loops nest: a loop's own descriptor is readable when
one of its sockets is, so it can be registered in another one.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from typing import Protocol


class DeadlinePassed(TimeoutError):
    """A condition was not met in time; str() says which and how long it was waited for."""

    def __init__(self, what: str, seconds: float) -> None:
        self.what = what
        super().__init__(f"waited {seconds:g} s for {what}, in vain")


class Registers(Protocol):
    """What code that owns sockets needs of a loop."""

    def register(self, fd: int, callback: Callable[[], None], *, write: bool = False) -> None:
        """Call back whenever the descriptor is readable (or writable)."""

    def unregister(self, fd: int) -> None:
        """Forget a descriptor; an unknown one is fine."""


class Loop:
    """A selector with callbacks."""

    def __init__(self) -> None:
        self._selector = selectors.EpollSelector()

    def fileno(self) -> int:
        """Readable when a registered descriptor is ready."""
        return self._selector.fileno()

    def close(self) -> None:
        """Give the epoll descriptor back."""
        self._selector.close()

    def register(self, fd: int, callback: Callable[[], None], *, write: bool = False) -> None:
        """Call back whenever the descriptor is readable, or writable when `write`; replaces an earlier registration."""
        events = selectors.EVENT_WRITE if write else selectors.EVENT_READ
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, callback)
        else:
            self._selector.register(fd, events, callback)

    def unregister(self, fd: int) -> None:
        """Forget a descriptor; an unknown one is fine."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def poll(self, timeout_s: float | None) -> int:
        """Handle what is ready, wait at most `timeout_s` for it (None: for ever); the number of callbacks made."""
        ready = self._selector.select(timeout_s)
        for key, _events in ready:
            # An earlier callback of this round may have unregistered it, and given its number to another.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        return len(ready)

    def run_until(self, done: Callable[[], bool], deadline_s: float, what: str) -> None:
        """Run until `done()`.  Raises DeadlinePassed naming `what` after `deadline_s` seconds."""
        end = time.monotonic() + deadline_s
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                raise DeadlinePassed(what, deadline_s)
            self.poll(left)
