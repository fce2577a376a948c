"""A program run inside a namespace for somebody who waits for its end: what `docker exec` does.

A minder, forked from the zygote, steps into the namespaces, starts the program as the
leader of a session of its own, and is the only one who talks to the waiting side: over
a socket of the kind SOCK_SEQPACKET it takes {"signal": N} for the program's process
group, tells {} when the program was executed, and {"exit": code} in the end (128 + N
when signal N ended it; with {"error": why} when it could not be executed).  The
program's input and output are the waiting side's own descriptors, so bytes, end of file
and a closed pipe are as exact as without a lab in between.  When the waiting side goes
first, the program is told (SIGHUP) and then ended.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import termios
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from hoplab.net import kernel

NOT_EXECUTABLE, NOT_FOUND = 126, 127
"""A shell's exit codes for a program that can't be executed, and one that isn't there."""

GRACE_MS = 1000
"""Between SIGHUP and SIGKILL for a program whose waiting side has gone."""


def mind(request: Mapping[str, Any], descriptors: Sequence[int], told: int) -> NoReturn:
    """Run `request["argv"]` in the namespaces that this process has entered already; never returns.

    `descriptors`: the program's standard input, output and error, and the waiting side's socket.
    """
    *streams, line = descriptors
    waiting = socket.socket(fileno=line)
    heard, failed = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _become(request, streams, failed)
    os.close(failed)
    nothing = os.open("/dev/null", os.O_RDWR)
    for place in (0, 1, 2):
        os.dup2(nothing, place)
    # What the program's reader waits for is that nobody else holds its output open.
    for descriptor in {*streams, nothing} - {0, 1, 2}:
        os.close(descriptor)
    os.write(told, b"ready\n")
    os.close(told)
    _mind(child, waiting, heard)


def _mind(child: int, waiting: socket.socket, heard: int) -> NoReturn:
    ended = os.pidfd_open(child)
    poll = select.poll()
    for descriptor in (ended, waiting.fileno(), heard):
        poll.register(descriptor, select.POLLIN)
    why = ""
    deadline: int | None = None
    while True:
        ready = dict(poll.poll(deadline))
        if heard in ready:
            # Closed by the very exec, or else it tells why there was none.
            poll.unregister(heard)
            why = os.read(heard, 4096).decode(errors="replace")
            if not why:
                _tell(waiting, {})
        if ended in ready:
            break
        if waiting.fileno() in ready and not _pass_on(child, waiting):
            poll.unregister(waiting)
            _signal(child, signal.SIGHUP)
            _signal(child, signal.SIGCONT)
            deadline = GRACE_MS
        elif not ready and deadline is not None:
            _signal(child, signal.SIGKILL)
            deadline = None
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    answer = {"exit": code if code >= 0 else 128 - code, **({"error": why} if why else {})}
    _tell(waiting, answer)
    os._exit(0)


def _tell(waiting: socket.socket, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        waiting.send(json.dumps(message).encode())


def _pass_on(child: int, waiting: socket.socket) -> bool:
    """Take one message of the waiting side; False when it has gone."""
    try:
        body = waiting.recv(4096)
        number = int(json.loads(body)["signal"]) if body else 0
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if body and 0 < number < signal.NSIG:
        _signal(child, number)
    return bool(body)


def _signal(child: int, number: int) -> None:
    """To the program's whole process group; before it leads one, to it alone."""
    for send, whom in ((os.killpg, child), (os.kill, child)):
        try:
            send(whom, number)
            return
        except ProcessLookupError:
            continue


def _become(request: Mapping[str, Any], streams: Sequence[int], failed: int) -> NoReturn:
    try:
        os.setsid()
        kernel.die_with_parent(signal.SIGKILL)
        if request["terminal"]:
            fcntl.ioctl(streams[0], termios.TIOCSCTTY, 0)
        # Two steps: a stream may itself be one of the three numbers that the next one goes to.
        moved = [fcntl.fcntl(stream, fcntl.F_DUPFD, 64) for stream in streams]
        for place, stream in enumerate(moved):
            os.dup2(stream, place)
        failed = fcntl.fcntl(failed, fcntl.F_DUPFD_CLOEXEC, 64)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                try:
                    signal.signal(number, signal.SIG_DFL)
                except (OSError, ValueError):
                    continue
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.closerange(3, failed)
        os.closerange(failed + 1, 1 << 16)
        os.umask(0o022)
        os.chdir(request["directory"])
        argv: list[str] = request["argv"]
        os.execvpe(argv[0], argv, request["environment"])
    except OSError as error:
        absent = error.errno in (errno.ENOENT, errno.ENOTDIR)
        # execvpe names the last place where it looked, as bytes; what the caller wrote says more.
        what = error.filename if isinstance(error.filename, str) else request["argv"][0]
        os.write(failed, f"{what}: {error.strerror}".encode())
        os._exit(NOT_FOUND if absent else NOT_EXECUTABLE)
