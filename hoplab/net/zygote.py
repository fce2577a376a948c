"""A small process that makes the lab's other processes: namespace holders and the servers inside pods.

Forking is cheap only from a small process, and a child that was forked before the
heavy libraries came needs neither exec nor import to start.  So the lab forks one
zygote at once and asks it, over a socket pair, for each node, each pod and each
server.  A holder keeps its namespaces alive and does nothing else, like the pause
container of a real pod; the zygote is their parent and reaps them.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from hoplab.net import children, kernel
from hoplab.net.forking import fork, leave_ctrl_c_to_the_parent

LARGEST_REQUEST = 1 << 20


class SpawnFailed(RuntimeError):
    """The zygote could not make a process; str() names it and the failing step."""


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """A machine of the lab: network, mount and UTS namespaces, /run, /etc, /var/log and /var/lib/cni of its own."""

    name: str


@dataclass(frozen=True, slots=True)
class PodSpec:
    """A pod's sandbox on a node.

    `name` is what errors say, `netns` the file below the node's /run/netns that
    pins the pod's network namespace for CNI plugins and `ip netns`.  `files` are
    written over /etc inside the pod (path -> text).  With `volumes` (see hoplab.net.podroot) the pod's programs can
    write to no file of the machine, and the folders `shown` are in their sight wherever they lie.
    """

    name: str
    node_pid: int
    netns: str
    hostname: str
    files: Mapping[str, str]
    sysctls: Mapping[str, str | int] = field(default_factory=dict)
    volumes: Mapping[str, Mapping[str, str]] | None = None
    shown: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A program to run in the namespaces of `inside_pid` (a node's or pod's holder).

    `name` is what errors say, `files` are written first (absolute path inside -> text).  argv[0] is looked for on the
    PATH of `env`, unless it has a slash.
    """

    name: str
    inside_pid: int
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    files: Mapping[str, str] = field(default_factory=dict)
    terminal: bool = False
    """Its standard input is a terminal, which becomes its controlling one."""


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """A program that somebody waits for; with `terminal` its standard input becomes its controlling terminal."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: str = "/"
    terminal: bool = False


class Zygote:
    """The lab's end of the socket pair.  Start it before threads and heavy imports."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        news, news_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs, news_theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_REQUEST)
        # A terminal's Ctrl-C is the lab's to handle, and the lab's death ends the zygote anyhow.
        self.pid = fork(leave_ctrl_c_to_the_parent)
        if self.pid == 0:
            ours.close()
            news.close()
            try:
                _serve(theirs, news_theirs)
            except ConnectionError:
                # The lab ended while it asked, and so does this.
                os._exit(0)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                # Nothing may run on into the parent's code: this is a copy of its stack.
                os._exit(1)
        theirs.close()
        news_theirs.close()
        self._socket, self._news = ours, news
        self._numbers = itertools.count(1)
        self._runs: dict[int, int] = {}
        """pid -> number of the run that had it last: pids are used again."""
        self._ended: dict[int, int] = {}
        self._lock = threading.Lock()

    def nodes(self, specs: Sequence[NodeSpec]) -> list[int]:
        """Make one holder a node; the pids, in order, once all namespaces exist.  Raises SpawnFailed."""
        return self._ask([{"what": "node", "name": spec.name} for spec in specs])

    def pods(self, specs: Sequence[PodSpec]) -> list[int]:
        """Make one holder a pod; the pids, in order.  Raises SpawnFailed."""
        return self._ask(
            [
                {
                    "what": "pod",
                    "name": spec.name,
                    "node_pid": spec.node_pid,
                    "netns": spec.netns,
                    "hostname": spec.hostname,
                    "files": dict(spec.files),
                    "sysctls": dict(spec.sysctls),
                    "volumes": spec.volumes,
                    "shown": list(spec.shown),
                }
                for spec in specs
            ]
        )

    def server(self, name: str, inside_pid: int, config: Mapping[str, Any], log: int) -> int:
        """Run a pod server (hoplab.net.podserver) in the namespaces of `inside_pid`; its pid once every port listens.

        `log` is the descriptor that becomes its standard output and error.
        Raises SpawnFailed with the server's own words when a port can't be bound.
        """
        return self._run({"what": "server", "name": name, "inside_pid": inside_pid, "config": dict(config)}, log)

    def program(self, spec: ProgramSpec, log: int, stdin: int | None = None) -> int:
        """Start a program in the namespaces of `spec.inside_pid`; its pid once it was executed.

        It leads a process group and a session of its own.  `log` becomes its standard output and error, `stdin` its
        input, which is /dev/null otherwise.  Raises SpawnFailed with the kernel's words when it can't be executed.
        How it ended, `ended` tells.
        """
        request = {
            "what": "program",
            "name": spec.name,
            "inside_pid": spec.inside_pid,
            "argv": list(spec.argv),
            "env": dict(spec.env),
            "cwd": spec.cwd,
            "files": dict(spec.files),
            "terminal": spec.terminal,
        }
        return self._run(request, log, *(() if stdin is None else (stdin,)))

    def _run(self, request: Mapping[str, Any], *descriptors: int) -> int:
        number = next(self._numbers)
        (pid,) = self._ask([{**request, "number": number}], descriptors)
        self._runs[pid] = number
        return pid

    def fileno(self) -> int:
        """Readable when a program or server has ended."""
        return self._news.fileno()

    def ended(self, pid: int) -> int | None:
        """How a program or server ended (its exit code, or minus the signal's number); None while it runs.

        Raises KeyError for a process that is neither.
        """
        self.hear()
        return self._ended.get(self._runs[pid])

    def hear(self) -> None:
        """Take in all news about programs and servers that ended, so that the descriptor is quiet until the next."""
        while True:
            try:
                told = self._news.recv(64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if not told:
                break
            number, status = map(int, told.split())
            self._ended[number] = status

    def session(self, name: str, inside_pid: int, spec: SessionSpec, descriptors: Sequence[int]) -> None:
        """Run a program in the namespaces of `inside_pid` for somebody who waits (hoplab.net.sessions).

        `descriptors`: its standard input, output and error, and the waiting side's end of a socket, which hears how
        the program ends, also when it can't be executed at all.  Raises SpawnFailed.
        """
        request = {
            "what": "session",
            "name": name,
            "inside_pid": inside_pid,
            "argv": list(spec.argv),
            "environment": dict(spec.environment),
            "directory": spec.directory,
            "terminal": spec.terminal,
        }
        self._ask([request], descriptors)

    def _ask(self, requests: Sequence[Mapping[str, Any]], fds: Sequence[int] = ()) -> list[int]:
        # The API's thread asks, too.
        with self._lock:
            return self._asked(requests, fds)

    def _asked(self, requests: Sequence[Mapping[str, Any]], fds: Sequence[int]) -> list[int]:
        if not requests:
            return []
        pids: list[int] = []
        for chunk in (requests[at : at + 256] for at in range(0, len(requests), 256)):
            body = json.dumps(chunk).encode()
            if len(body) > LARGEST_REQUEST // 2:
                raise SpawnFailed(f"a request for {len(chunk)} processes is {len(body)} bytes, more than one message")
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            self._socket.sendmsg([body], ancillary)
            answer = self._socket.recv(LARGEST_REQUEST)
            if not answer:
                raise SpawnFailed("the process that starts pods has died")
            result = json.loads(answer)
            if result["error"]:
                raise SpawnFailed(result["error"])
            pids += result["pids"]
        return pids


def _serve(requests: socket.socket, news: socket.socket) -> NoReturn:
    kernel.die_with_parent(signal.SIGKILL)
    # What a program leaves behind when it ends (nginx's workers) becomes the zygote's to reap.
    kernel.adopt_orphans()
    runs: dict[int, int] = {}
    # A signal that comes just before a blocking call interrupts nothing, but its byte is there for select to see.
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    while True:
        ready, _, _ = select.select([requests.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(news, runs)
        if requests.fileno() not in ready:
            continue
        body, ancillary, _flags, _address = requests.recvmsg(LARGEST_REQUEST, socket.CMSG_SPACE(4 * 4))
        if not body:
            os._exit(0)
        fds = array.array("i")
        for _level, _type, data in ancillary:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        wanted = json.loads(body)
        answer = _make(wanted, list(fds), requests)
        runs.update(zip(answer["pids"], (each.get("number", 0) for each in wanted), strict=True))
        for fd in fds:
            os.close(fd)
        requests.send(json.dumps(answer).encode())


def _reap(news: socket.socket, runs: dict[int, int]) -> None:
    """Take in who has ended, and tell the lab of programs and servers among them (`runs`: pid -> number, 0: none)."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        number = runs.pop(pid, 0)
        if not number:
            continue
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionError):
            news.send(f"{number} {os.waitstatus_to_exitcode(status)}".encode(), socket.MSG_DONTWAIT)


def _make(requests: Sequence[Mapping[str, Any]], fds: list[int], door: socket.socket) -> dict[str, Any]:
    """Fork a child for each request, let all of them work at once, then hear each out."""
    started: list[tuple[int, int, str]] = []
    for request in requests:
        heard, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            door.close()
            os.close(heard)
            children.become(request, fds, told)
        os.close(told)
        started.append((pid, heard, request["name"]))
    errors = []
    silent = {request["name"] for request in requests if request["what"] == "program"}
    for _pid, heard, name in started:
        with os.fdopen(heard, "rb") as pipe:
            said = _first_line(pipe.fileno())
        # A program says nothing: executing it closed the pipe.
        if said != (b"" if name in silent else b"ready"):
            errors.append(f"{name}: {said.decode(errors='replace') or 'died before it was ready'}")
    if errors:
        for pid, _heard, _name in started:
            os.kill(pid, signal.SIGKILL)
    return {"pids": [pid for pid, _, _ in started], "error": "; ".join(errors)}


def _first_line(fd: int) -> bytes:
    """What a child said up to its first newline or its end; it may keep its end of the pipe open afterwards."""
    said = b""
    while b"\n" not in said:
        select.select([fd], [], [])
        piece = os.read(fd, 4096)
        if not piece:
            break
        said += piece
    return said.partition(b"\n")[0].strip()
