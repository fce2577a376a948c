"""The caller's side of a program inside: its streams, or a terminal between it and the caller's own.

Without -t the program gets the caller's very descriptors, and there is nothing to do but
to pass signals on and to wait.  With -t it gets one end of a pseudo terminal (pty(7));
this side copies between the other end and the caller's terminal, which is set to raw
mode meanwhile, so that each key and Ctrl-C reach the program, and is put back whatever
happens.  The size of the window follows the caller's (TIOCSWINSZ makes the kernel tell
the program by SIGWINCH).
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from hoplab.errors import InputError
from hoplab.labs import asking
from hoplab.labs.channel import Channel, LabGone
from hoplab.labs.protocol import Exec

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
PIECE = 1 << 16


def run(lab: str | None, request: Exec, *, interactive: bool) -> tuple[int, str]:
    """Run a program inside; its exit code, and why it could not be executed ('' when it could).

    `request.terminal` asks for a terminal, `interactive` for the caller's standard input.  Raises InputError for a
    name that nothing has, or for a terminal where the caller has none.
    """
    if not request.terminal:
        return _plain(lab, request, interactive=interactive)
    if interactive and not os.isatty(0):
        raise InputError("-t: standard input is no terminal; leave -t out (-i alone passes it on as it is)")
    return _on_terminal(lab, request, interactive=interactive)


def _plain(lab: str | None, request: Exec, *, interactive: bool) -> tuple[int, str]:
    nothing = -1 if interactive else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        opened = asking.ask(lab, request, [0 if interactive else nothing, 1, 2])
    finally:
        if nothing >= 0:
            os.close(nothing)
    with _passing_on(opened):
        return _end(opened)


def _end(opened: Channel) -> tuple[int, str]:
    """Wait for the program's end."""
    while True:
        ended = _told(opened)
        if ended is not None:
            return ended


def _told(opened: Channel) -> tuple[int, str] | None:
    """Take one message: exit code and fault when it tells the program's end, None when it tells its start."""
    try:
        message, _descriptors = asking.answer(opened)
    except LabGone as error:
        raise LabGone("the lab ended while the program ran") from error
    return (int(message["exit"]), str(message.get("error", ""))) if "exit" in message else None


@contextmanager
def _passing_on(opened: Channel) -> Iterator[None]:
    """What asks this process to end is asked of the program inside."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        try:
            opened.send({"signal": number})
        except LabGone:
            return

    wanted = [number for number in PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _on_terminal(lab: str | None, request: Exec, *, interactive: bool) -> tuple[int, str]:
    ours, theirs = os.openpty()
    own = next((descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)), None)
    try:
        if own is not None:
            _copy_size(own, ours)
        term = {"TERM": os.environ.get("TERM", "xterm")}
        opened = asking.ask(lab, replace(request, environment={**term, **request.environment}), [theirs] * 3)
    finally:
        os.close(theirs)

    def resized(_number: int, _frame: FrameType | None) -> None:
        if own is not None:
            _copy_size(own, ours)

    before = signal.signal(signal.SIGWINCH, resized)
    try:
        with _passing_on(opened), _raw(0 if interactive else None):
            return _relay(opened, ours, interactive=interactive)
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(ours)


def _copy_size(source: int, target: int) -> None:
    size = fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(8))
    fcntl.ioctl(target, termios.TIOCSWINSZ, size)


@contextmanager
def _raw(descriptor: int | None) -> Iterator[None]:
    if descriptor is None or not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _relay(opened: Channel, ours: int, *, interactive: bool) -> tuple[int, str]:
    """Copy until the program has ended and all that it wrote is out; its exit code and fault."""
    poll = select.poll()
    poll.register(ours, select.POLLIN)
    poll.register(opened.fileno(), select.POLLIN)
    if interactive:
        poll.register(0, select.POLLIN)
    ended: tuple[int, str] | None = None
    while True:
        ready = dict(poll.poll(None if ended is None else 0))
        if ours in ready:
            if not _copied(ours, 1):
                # Nobody has the other end any more.
                return ended or _end(opened)
        elif ended is not None:
            return ended
        if 0 in ready and not _copied(0, ours):
            poll.unregister(0)
        if opened.fileno() in ready and ended is None:
            ended = _told(opened)
            if ended is not None:
                poll.unregister(opened.fileno())


def _copied(source: int, target: int) -> bool:
    """Copy what is there; False at the end (of a terminal nobody has open, the kernel says EIO)."""
    try:
        piece = os.read(source, PIECE)
    except OSError:
        return False
    while piece:
        done = os.write(target, piece)
        piece = piece[done:]
        if not piece:
            return True
    return False
