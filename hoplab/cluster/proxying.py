"""HAProxy on the balancer's machine: starts it, has it take a new configuration, reads what it knows of its servers.

It runs as itself, a master with one worker.  A new configuration makes a new worker,
which takes over the listening sockets and asks every node for its health at once;
the earlier worker goes on with the connections that it has until they end.
"""

from __future__ import annotations

import csv
import io
import os
import signal
import socket
import time
from dataclasses import dataclass

from hoplab.errors import CannotRunHere, HoplabError
from hoplab.net import programs
from hoplab.net.loop import DeadlinePassed, Loop
from hoplab.net.namespaces import Namespace
from hoplab.net.zygote import ProgramSpec, Zygote
from hoplab.setup.programs import find

CONFIG, ADMIN, LOG = "/etc/haproxy/haproxy.cfg", "/run/haproxy.sock", "/var/log/haproxy.log"
"""In the balancer's own mount namespace."""
READY_S = 8.0
"""A node that is silent takes HAProxy the two time-outs of a check, two seconds each, to find out."""
LOOK_AGAIN_S = 0.002
NOT_ASKED_YET = "INI"
"""check_status of a server whose first check has not ended (HAProxy's management guide, 9.1)."""


class ProxyRefused(HoplabError):
    """HAProxy did not take its configuration; str() has its words."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """What HAProxy knows of one server of one section."""

    up: bool
    detail: str
    """'L7OK 200 after 1 ms', 'L4TOUT: ...': how the last check ended."""


def read_states(table: str) -> dict[tuple[str, str], ServerState] | None:
    """(section, server) -> state, of `show stat`'s CSV; None while a server has not been asked yet (pure)."""
    found = {}
    for row in csv.DictReader(io.StringIO(table.removeprefix("# "))):
        status, words = row["check_status"].removeprefix("* "), row.get("check_desc") or row.get("last_chk") or ""
        if status == NOT_ASKED_YET:
            return None
        told = " ".join(filter(None, [status, row["check_code"], f"after {row['check_duration'] or 0} ms"]))
        detail = f"{told}: {words}" if words and words != "OK" else told
        found[row["pxname"], row["svname"]] = ServerState(
            row["status"].startswith("UP") or not status, detail if status else "is not asked"
        )
    return found


class HAProxy:
    """The running program, if there is one."""

    def __init__(self, machine: Namespace, zygote: Zygote, loop: Loop) -> None:
        self._machine, self._zygote, self._loop = machine, zygote, loop
        self._running: programs.RunningProgram | None = None

    def load(self, config: str, ports: tuple[int, ...]) -> dict[tuple[str, str], ServerState]:
        """Have it take this configuration, and wait until it has asked every server; what it found.

        The nodes' health is served from the lab's loop, so that goes round meanwhile.  Raises as `tell`, and
        DeadlinePassed.
        """
        before = self.tell(config, ports)
        end = time.monotonic() + READY_S
        while True:
            states = self.states() if self._pid() not in ("", before) else None
            if states is not None:
                return states
            if time.monotonic() > end:
                words = self._running.last_words() if self._running else ""
                raise DeadlinePassed(f"HAProxy to ask every node{words}", READY_S)
            self._loop.poll(LOOK_AGAIN_S)

    def tell(self, config: str, ports: tuple[int, ...]) -> str:
        """Have it take this configuration, without waiting for what it finds; the worker that is replaced, or ''.

        Raises CannotRunHere when the machine has no HAProxy, ProxyRefused, ProgramFailed.
        """
        found = find("haproxy")
        if found is None:
            raise CannotRunHere(
                "--balancer-mode proxy: this machine has no HAProxy; `lab.py --setup` brings it into the project"
                " (it installs and starts no service). The modes nat and passthrough work without"
            )
        programs.write_inside(self._machine.pid, CONFIG, config)
        checked = self._machine.run(
            [found.path, "-c", "-f", CONFIG], check=False, env={**os.environ, **found.environment()}
        )
        if checked.returncode != 0:
            raise ProxyRefused(f"{self._machine.name}: HAProxy refuses its configuration: {checked.stdout.strip()}")
        if self._running is not None and self._running.ended is None:
            before = self._pid()
            self._running.send(signal.SIGUSR2)
            return before
        argv = (found.path, "-W", "-f", CONFIG)
        spec = ProgramSpec(f"{self._machine.name}: haproxy", self._machine.pid, argv, found.environment())
        ready = programs.Ready(tuple(("tcp", port) for port in ports))
        self._running = programs.start(self._zygote, spec, self._machine.path(LOG), ready)
        return ""

    def states(self) -> dict[tuple[str, str], ServerState] | None:
        """What it knows of its servers; None while one has not been asked yet.  Raises ProgramFailed when it ended."""
        if self._running is None:
            return {}
        if fault := self._running.fault():
            raise programs.ProgramFailed(fault)
        return read_states(self._ask("show stat -1 4 -1"))

    def stop(self) -> None:
        """End it, if it runs."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _pid(self) -> str:
        """The process id of the worker that answers, '' when none does."""
        lines = self._ask("show info").splitlines()
        return next((line.partition(": ")[2] for line in lines if line.startswith("Pid: ")), "")

    def _ask(self, command: str) -> str:
        """What it says on its own socket; '' while nobody listens there."""
        said = b""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.settimeout(READY_S)
            try:
                admin.connect(self._machine.path(ADMIN))
                admin.sendall(command.encode() + b"\n")
                while piece := admin.recv(1 << 16):
                    said += piece
            except (FileNotFoundError, ConnectionError):
                return ""
        return said.decode("utf-8", "replace")
