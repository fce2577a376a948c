"""The standard input of a container that asks for one, and its terminal where it wants that.

A container with `stdin: true` (`kubectl run -i`) reads what somebody who attaches to it types, and must wait
for that instead of finding the end of its input at once.  With `tty: true` its three streams are a pseudo terminal
that leads its session: what comes out there is read by a thread here, written to the container's log, and passed to
everybody who is attached.  Source: core/v1 Container (stdin, stdinOnce, tty).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import termios
import threading


class Console:
    """The lab's end of a container's input, and of its terminal.  `begin` once the program has its own end."""

    def __init__(self, log: str, *, terminal: bool, once: bool) -> None:
        """`log`: the file that the terminal's output is added to; `once`: the first who attaches has the only input."""
        self.terminal, self._log, self._once = terminal, log, once and not terminal
        self._lock = threading.Lock()
        self._listeners: list[int] = []
        self._over = threading.Event()
        self._ours: int | None
        if terminal:
            self._ours, self.theirs = os.openpty()
        else:
            self.theirs, self._ours = os.pipe2(os.O_CLOEXEC)

    def begin(self) -> None:
        """The program has its end, or never will: only its own copy must keep that end open."""
        os.close(self.theirs)
        if self.terminal:
            threading.Thread(target=self._copy, name="console", daemon=True).start()
        else:
            self._over.set()

    def input(self) -> int | None:
        """A descriptor to write the program's input to, which the caller closes; None when there is no more input."""
        with self._lock:
            if self._ours is None:
                return None
            if not self._once:
                return os.dup(self._ours)
            # With the only descriptor goes the end of the input.
            given, self._ours = self._ours, None
            return given

    def listen(self) -> int:
        """A descriptor to read what the terminal shows from now on, until its end; the caller closes it."""
        read, write = os.pipe2(os.O_CLOEXEC)
        with self._lock:
            if self._ours is None:
                os.close(write)
            else:
                self._listeners.append(write)
        return read

    def resize(self, columns: int, rows: int) -> None:
        """The terminal has this size now."""
        with self._lock:
            if self.terminal and self._ours is not None:
                fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self, within_s: float) -> None:
        """Wait until everything that the terminal showed was passed on: it hangs up when its program has ended."""
        self._over.wait(within_s)

    def close(self) -> None:
        """Nobody can type any more.  A terminal closes by itself when its program ends."""
        with self._lock:
            if not self.terminal and self._ours is not None:
                os.close(self._ours)
                self._ours = None

    def _copy(self) -> None:
        terminal = self._ours
        assert terminal is not None
        with open(self._log, "ab", buffering=0) as log:
            while True:
                # Whoever is attached may have made the terminal non-blocking.
                select.select([terminal], [], [])
                try:
                    data = os.read(terminal, 1 << 16)
                except BlockingIOError:
                    continue
                except OSError:
                    break  # EIO: nobody has its other end any more.
                if not data:
                    break
                with contextlib.suppress(OSError):
                    log.write(data)
                self._pass_on(data)
        with self._lock:
            os.close(terminal)
            self._ours = None
            for each in self._listeners:
                os.close(each)
            self._listeners.clear()
        self._over.set()

    def _pass_on(self, data: bytes) -> None:
        with self._lock:
            listeners = tuple(self._listeners)
        for each in listeners:
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(each, left) :]
            except BrokenPipeError:
                with self._lock:
                    self._listeners.remove(each)
                os.close(each)
