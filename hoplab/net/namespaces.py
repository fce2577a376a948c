"""Network namespaces by their holder's process id, and how to step inside one.

A namespace lives as long as a process in it (its holder) does.  A thread can
step into another network namespace with setns(2), open a socket there, and step
back: the socket stays where it was opened.  That is how one process observes
and serves every namespace of the lab with one loop.  Programs are started inside
through Mininet's own `mnexec -a PID`.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from hoplab.net.files import write_over
from hoplab.net.kernel import CLONE_NEWNET, setns

Role = Literal["client", "router", "balancer", "node", "pod", "switch", "host"]


class CommandFailed(RuntimeError):
    """A program inside a namespace ended with an error."""

    def __init__(self, node: str, argv: Sequence[str], code: int, output: str) -> None:
        self.node, self.argv, self.code, self.output = node, tuple(argv), code, output
        super().__init__(f"{node}: {' '.join(argv)} ended with {code}: {output.strip() or '(no output)'}")


def listens(protocol: str) -> bool:
    """Whether this kernel has sockets of a transport protocol (TCP, UDP, SCTP): many are built without SCTP."""
    if protocol != "SCTP":
        return True
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Namespace:
    """One network namespace of the lab; `pid` is its holder in the lab's PID namespace."""

    name: str
    pid: int
    role: Role = "host"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have the calling thread inside this network namespace for the block's duration."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                setns(there, CLONE_NEWNET)
            finally:
                os.close(there)
            try:
                yield
            finally:
                setns(here, CLONE_NEWNET)
        finally:
            os.close(here)

    def path(self, inside: str) -> str:
        """Where a file of this namespace's own mount namespace is reached from here."""
        return f"/proc/{self.pid}/root{inside}"

    def write(self, inside: str, text: str) -> None:
        """Put a file in the place of another in this namespace's own mount namespace.  Raises OSError."""
        write_over(self.path(inside), text)

    def argv(self, command: Sequence[str]) -> list[str]:
        """The command as it must be executed to run inside (network and mount namespace)."""
        return ["mnexec", "-a", str(self.pid), *command]

    def popen(self, command: Sequence[str], **options: object) -> subprocess.Popen[str]:
        """Start a program inside; options are subprocess.Popen's, text mode is on."""
        return subprocess.Popen(self.argv(command), text=True, **options)  # type: ignore[call-overload,no-any-return]

    def run(
        self,
        command: Sequence[str],
        stdin: str = "",
        *,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end.

        Raises CommandFailed (with node, command and output) when `check` and the exit code is not 0.
        """
        done = subprocess.run(
            self.argv(command), input=stdin, text=True, capture_output=True, check=False, env=env, timeout=timeout_s
        )
        if check and done.returncode != 0:
            raise CommandFailed(self.name, command, done.returncode, done.stderr + done.stdout)
        return done
