"""Forking while somebody may ask this process to end.

Requests to end (Ctrl-C, SIGTERM) become exceptions here, raised by handlers that Python calls between any two of its
steps.  Around a fork that is the wrong moment twice.  What is raised in a callback of the fork itself (logging has
some: os.register_at_fork) Python prints and forgets, and the request is lost; and a child with its parent's handlers
would run its parent's way to the end, with its messages.  So the signals wait (pthread_sigmask(3)) until the fork is
over and the child has handlers of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def fork(in_child: Callable[[], None] = lambda: None) -> int:
    """As os.fork; `in_child` is called in the child before any of ENDINGS may reach it."""
    with held_back():
        pid = os.fork()
        if pid == 0:
            in_child()
        return pid


@contextmanager
def held_back() -> Iterator[None]:
    """Have ENDINGS wait until the end of the block, which may raise what their handlers raise."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_ctrl_c_to_the_parent() -> None:
    """A terminal's Ctrl-C is ignored; any other request to end is the kernel's default."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_by_default(signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def end_by_default(*numbers: signal.Signals) -> None:
    """These signals end the process, whatever handlers it was forked with."""
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
