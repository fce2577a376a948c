"""Programs that run as themselves inside a machine or pod: nginx, HAProxy, dnsmasq, a shell.

A program is started by the zygote in the namespaces of its machine or pod, leads a
process group there, and ends with the lab.  It is ready when a condition is seen to
hold (its sockets listen, or it said something), never after a while; and when it ends
by itself, its exit code and last words are what an error shows, since "did not start"
helps nobody.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from hoplab.net.consoles import Console
from hoplab.net.files import write_over
from hoplab.net.zygote import ProgramSpec, SpawnFailed, Zygote

READY_WITHIN_S = 10.0
LOOK_AGAIN_S = 0.002
"""How often a waiting lab looks into /proc: no event tells that another process's socket began to listen."""
LAST_LINES = 6

_LISTENING = "0A"
"""TCP_LISTEN as /proc/net/tcp writes it (include/net/tcp_states.h)."""


class ProgramFailed(SpawnFailed):
    """A program ended by itself, or was not ready in time; str() has command, exit code and last log lines."""


@dataclass(frozen=True, slots=True)
class Ready:
    """When a program counts as started.

    `listening`: (protocol, port) pairs with a listening TCP or bound UDP socket in its network namespace, whatever
    the address; `output`: it wrote something.  Neither: as soon as it was executed.
    """

    listening: tuple[tuple[str, int], ...] = ()
    output: bool = False
    within_s: float = READY_WITHIN_S

    def __str__(self) -> str:
        ports = ", ".join(f"{port}/{protocol}" for protocol, port in self.listening)
        return f"listening on {ports}" if ports else "its first output" if self.output else "its start"


def how_ended(status: int) -> str:
    """`ended with 1`, `was ended by SIGKILL` (pure); `status` as os.waitstatus_to_exitcode gives it."""
    if status >= 0:
        return f"ended with {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def bound_ports(table: str, *, listening: bool) -> set[int]:
    """The local ports of a /proc/net/tcp, tcp6, udp or udp6 text; of TCP only the listening ones (pure)."""
    found = set()
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and (not listening or words[3] == _LISTENING):
            found.add(int(words[1].rpartition(":")[2], 16))
    return found


def ports_in_namespace(pid: int, protocol: str) -> set[int]:
    """Ports that somebody listens on (TCP) or has bound (UDP), IPv4 or IPv6, in the network namespace of a process."""
    kind = protocol.lower()
    found: set[int] = set()
    for family in (kind, f"{kind}6"):
        # Without IPv6 there is no such table.
        with (
            suppress(FileNotFoundError, ProcessLookupError),
            open(f"/proc/{pid}/net/{family}", encoding="ascii") as table,
        ):
            found |= bound_ports(table.read(), listening=kind == "tcp")
    return found


@dataclass(slots=True)
class RunningProgram:
    """A started program.  Its log is the file that it was given; `stop` ends it with all that it started."""

    spec: ProgramSpec
    pid: int
    log: str
    began_at: int
    """Size of the log when it started: what stands before is of an earlier run."""
    zygote: Zygote
    ready: Ready
    stopped: bool = False
    console: Console | None = None
    """Its standard input, where it has one."""

    @property
    def ended(self) -> int | None:
        """Its exit code, minus the number of the signal that ended it, or None while it runs."""
        return self.zygote.ended(self.pid)

    def fault(self) -> str:
        """What to tell of a program that ended by itself, with command, exit code and last words; else ''."""
        status = self.ended
        if status is None or self.stopped:
            return ""
        return f"{self.spec.name}: `{' '.join(self.spec.argv)}` {how_ended(status)}{self.last_words()}"

    def output(self) -> str:
        """What it wrote so far."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            file.seek(self.began_at)
            return file.read()

    def last_words(self) -> str:
        """The end of its log, as the end of a message."""
        lines = self.output().strip().splitlines()[-LAST_LINES:]
        return ": " + " | ".join(line.strip() for line in lines) if lines else " and said nothing"

    def wait_ready(self) -> None:
        """Wait until it is ready.  Raises ProgramFailed when it ends before, or takes too long (it is stopped then).

        One that only has to be executed is ready already, also when it has done all it had to do and ended.
        """
        if not (self.ready.listening or self.ready.output):
            return
        try:
            self.wait_until(lambda: _holds(self), self.ready.within_s, str(self.ready))
        except ProgramFailed:
            self.stop()
            raise

    def send(self, number: int) -> None:
        """Send a signal to the program itself; one that has ended is fine."""
        with suppress(ProcessLookupError):
            if self.ended is None:
                os.kill(self.pid, number)

    def reload(self, files: Mapping[str, str]) -> None:
        """Write files anew (absolute path inside -> text) and have the program read them: SIGHUP, as nginx takes it."""
        for path, text in files.items():
            write_inside(self.spec.inside_pid, path, text)
        self.send(signal.SIGHUP)

    def stop(self, grace_s: float = 0.0, number: int = signal.SIGTERM) -> None:
        """End it: with grace by `number` and, when that did not help in time, by SIGKILL; with its whole group."""
        self.stopped = True
        if self.console is not None:
            self.console.close()
        if grace_s > 0 and self.ended is None:
            self.send(number)
            with suppress(ProgramFailed):
                self._wait(lambda: self.ended is not None, grace_s, "its end")
        # Its children may outlive it, so the group is asked even when it has ended.
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self, within_s: float) -> int:
        """Its exit code, once it ended by itself.  Raises ProgramFailed when it still runs after that time."""
        self._wait(lambda: self.ended is not None, within_s, "its end")
        return self.zygote.ended(self.pid) or 0

    def wait_until(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        """Wait for something that the program brings about.  Raises ProgramFailed when it ends or takes too long."""
        self._wait(lambda: bool(self.fault()) or condition(), within_s, what)
        if fault := self.fault():
            raise ProgramFailed(fault)

    def _wait(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        end = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > end:
                command = " ".join(self.spec.argv)
                raise ProgramFailed(
                    f"{self.spec.name}: waited {within_s:g} s for {what} of `{command}`, in vain{self.last_words()}"
                )
            # Woken at once by an end, else to look again.
            select.select([self.zygote], [], [], LOOK_AGAIN_S)


def launch(
    zygote: Zygote, spec: ProgramSpec, log: str, ready: Ready | None = None, console: Console | None = None
) -> RunningProgram:
    """Start a program; what it says is appended to the file `log`.  `wait_ready` waits until it is what it should be.

    Raises SpawnFailed when it can't be executed.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        began_at = os.fstat(descriptor).st_size
        if console is None:
            pid = zygote.program(spec, descriptor)
        else:
            pid = zygote.program(spec, console.theirs if console.terminal else descriptor, console.theirs)
    finally:
        os.close(descriptor)
        if console is not None:
            console.begin()
    return RunningProgram(spec, pid, log, began_at, zygote, ready or Ready(), console=console)


def start(zygote: Zygote, spec: ProgramSpec, log: str, ready: Ready | None = None) -> RunningProgram:
    """`launch` and `wait_ready` in one.  Raises SpawnFailed or ProgramFailed."""
    program = launch(zygote, spec, log, ready)
    program.wait_ready()
    return program


def _holds(program: RunningProgram) -> bool:
    ready = program.ready
    if ready.output and os.stat(program.log).st_size == program.began_at:
        return False
    protocols = {protocol for protocol, _ in ready.listening}
    bound = {protocol: ports_in_namespace(program.spec.inside_pid, protocol) for protocol in protocols}
    return all(port in bound[protocol] for protocol, port in ready.listening)


def write_inside(pid: int, path: str, text: str) -> None:
    """Write a file in the mount namespace of a process, so that whoever reads it sees the old or the new one whole."""
    write_over(f"/proc/{pid}/root{path}", text)
