"""What the API server needs from whoever runs the pods: their logs, commands inside them, connections to their ports.

In a cluster this is the kubelet's streaming server (the CRI's Exec, Attach, PortForward
and the log files).  Here it is a set of plain calls: the API server makes them in worker
threads, one thread a call, so that an implementation may block and needs no event loop;
bytes go through file descriptors, which the server then owns and closes.
Source: the CRI's runtime API (ExecRequest, AttachRequest, PortForwardRequest) and the
log format of the kubelet's container logs.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from hoplab.errors import HoplabError


class PodAccessError(HoplabError):
    """It can't be done with this pod or container now; the message is what kubectl prints."""


@dataclass(frozen=True, slots=True)
class PodName:
    """One pod; `uid` tells a pod from an older one of the same name."""

    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a container wrote: when (nanoseconds since 1970), where, and its bytes without the line's end."""

    time_ns: int
    stream: Literal["stdout", "stderr"]
    text: bytes


class ContainerLog(Protocol):
    """The log of one container, which may still grow."""

    def read(self, start: int) -> tuple[Sequence[LogLine], bool]:
        """The lines from number `start` (0 is the first that was ever written), and whether no more will come."""
        ...

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have `changed` called, in any thread, after lines came or the log ended; returns how to stop that."""
        ...


class Started(Protocol):
    """A command that was started, or a container's own process that was attached to.

    The descriptors are the lab's ends: None where the request did not ask for that stream.
    With a terminal `stdin` and `stdout` are two descriptors of the same pty master (both
    are closed by the server, so the second is a dup) and `stderr` is None.
    """

    @property
    def stdin(self) -> int | None:
        """To write to; closing it is the end of the input."""
        ...

    @property
    def stdout(self) -> int | None:
        """To read from, until the end (or EIO of a pty)."""
        ...

    @property
    def stderr(self) -> int | None:
        """To read from, until the end."""
        ...

    def resize(self, columns: int, rows: int) -> None:
        """The client's terminal has this size now."""
        ...

    def wait(self) -> int:
        """Block until the command ended; its exit code, 128 + the signal where one killed it."""
        ...

    def close(self) -> None:
        """The client is gone: end a command that still runs; a container that was attached to goes on."""
        ...


class PodAccess(Protocol):
    """What is done with running pods.  Every method may raise PodAccessError."""

    def log(self, pod: PodName, container: str, previous: bool) -> ContainerLog:
        """The log of a container, or of its `previous` run before the last restart."""
        ...

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
    ) -> Started:
        """Start a command in the container's namespaces, with its environment and working directory."""
        ...

    def attach(self, pod: PodName, container: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Started:
        """Look at (and, where it has a stdin, type at) the container's own first process."""
        ...

    def connect(self, pod: PodName, port: int) -> socket.socket:
        """A blocking, connected TCP socket to a port on the pod's loopback, made in its network namespace."""
        ...
