"""A PodAccess without pods: commands are ordinary processes of the machine, logs are lists, ports are this machine's.

It is the reference for whoever implements the Protocol in a lab, and lets the API be tested
with the real kubectl before any namespace is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Sequence

from hoplab.api.podaccess import LogLine, PodAccessError, PodName


class ListLog:
    """A log that a test writes line by line."""

    def __init__(self) -> None:
        self._lines: list[LogLine] = []
        self._ended = False
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    def write(self, text: str, time_ns: int = 0) -> None:
        with self._lock:
            self._lines.append(LogLine(time_ns or time.time_ns(), "stdout", text.encode()))
        self._tell()

    def end(self) -> None:
        with self._lock:
            self._ended = True
        self._tell()

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    def read(self, start: int) -> tuple[Sequence[LogLine], bool]:
        with self._lock:
            return self._lines[start:], self._ended

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed)


class Process:
    """A command as an ordinary process, in a session of its own."""

    def __init__(self, command: Sequence[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> None:
        self.stdin: int | None = None
        self.stdout: int | None = None
        self.stderr: int | None = None
        self._tty = tty
        ends: list[int] = []
        if tty:
            master, slave = pty.openpty()
            self.stdin, self.stdout = master, os.dup(master)
            files = [slave, slave, slave]
            ends = [slave]
        else:
            files = []
            for name, wanted in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
                if not wanted:
                    files.append(os.open(os.devnull, os.O_RDWR))
                    ends.append(files[-1])
                    continue
                read, write = os.pipe()
                mine, theirs = (write, read) if name == "stdin" else (read, write)
                setattr(self, name, mine)
                files.append(theirs)
                ends.append(theirs)
        try:
            self._process = subprocess.Popen(
                ["/usr/bin/setsid", "--ctty", *command] if tty else command,
                stdin=files[0],
                stdout=files[1],
                stderr=files[2],
                start_new_session=not tty,
            )
        except OSError as error:
            for fd in (self.stdin, self.stdout, self.stderr):
                if fd is not None:
                    os.close(fd)
            raise PodAccessError(f'exec: "{command[0]}": {error.strerror}') from error
        finally:
            for fd in ends:
                os.close(fd)

    def resize(self, columns: int, rows: int) -> None:
        if self._tty and self.stdout is not None:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.stdout, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self) -> int:
        code = self._process.wait()
        return 128 - code if code < 0 else code

    def close(self) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)


class LocalPods:
    """Implements hoplab.api.podaccess.PodAccess."""

    def __init__(self) -> None:
        self._logs: dict[str, ListLog] = {}
        self.ports: dict[int, int] = {}
        """Port in the pod -> port on this machine's loopback."""
        self.attached: list[str] = ["cat"]

    def log(self, pod: PodName, container: str, previous: bool) -> ListLog:
        if previous:
            raise PodAccessError(f'previous terminated container "{container}" in pod "{pod.name}" not found')
        return self._logs.setdefault(pod.name, ListLog())

    def log_of(self, pod: str) -> ListLog:
        """A fresh log for a pod, to be written by a test."""
        self._logs[pod] = ListLog()
        return self._logs[pod]

    def run(
        self,
        pod: PodName,
        container: str,
        command: Sequence[str],
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        tty: bool,
    ) -> Process:
        return Process(command, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty)

    def attach(self, pod: PodName, container: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Process:
        return Process(self.attached, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty)

    def connect(self, pod: PodName, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports.get(port, 1)), 5)
