"""What the Kubernetes API does with running pods: logs, commands, attach, connections to ports.

The API server calls from threads of its own; the lab's loop goes on meanwhile.  So
nothing here waits for the loop: a command is started by the zygote and minded by its
minder, a connection is made by the calling thread inside the pod's network namespace,
and a log is read where the loop left its notes.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from hoplab.api.podaccess import LogLine, PodAccessError, PodName
from hoplab.cluster.containers import by_busybox, kind_of
from hoplab.cluster.node import PodOnNode
from hoplab.cluster.runtime import on_machine
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import Store
from hoplab.kube.types import Container
from hoplab.labs.channel import Channel, LabGone
from hoplab.labs.podlogs import LogBook, LogFile
from hoplab.labs.running import RunningLab
from hoplab.net.consoles import Console
from hoplab.net.sessions import NOT_FOUND
from hoplab.net.zygote import SessionSpec, SpawnFailed

CONNECTS_WITHIN_S = 5.0
LAST_WORDS_WITHIN_S = 2.0
"""Between a container's end and what its terminal still shows."""


class Pods:
    """The PodAccess of a running lab."""

    def __init__(self, lab: RunningLab, book: LogBook) -> None:
        self._lab, self._book = lab, book

    # Finding

    def _pod(self, name: PodName) -> PodOnNode:
        for agent in self._lab.cluster.nodes.values():
            running = agent.pods.get((name.namespace, name.name))
            if running is not None and name.uid in ("", running.pod.meta.uid):
                return running
        raise PodAccessError(f"pod {name.namespace}/{name.name} does not run on any node")

    def _container(self, running: PodOnNode, name: str) -> Container:
        for container in running.pod.containers:
            if container.name == name:
                return container
        raise PodAccessError(f"container {name} not found in pod {running.pod.meta.name}")

    # The protocol

    def log(self, pod: PodName, container: str, previous: bool) -> ContainerLog:
        """The log of a container's present run, or of the one before; those of a pod that has ended stay."""
        obj = self._lab.cluster.store.find("Pod", pod.name, pod.namespace)
        if obj is None or pod.uid not in ("", obj.meta.uid):
            raise PodAccessError(f'pods "{pod.name}" not found')
        runs = self._book.runs(obj.meta.uid, container)
        number = len(runs) - 1 - previous
        if previous and number < 0:
            raise PodAccessError(f'previous terminated container "{container}" in pod "{pod.name}" not found')
        return ContainerLog(self._lab.cluster.store, obj, container, runs[number] if number >= 0 else None)

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
    ) -> Command:
        """Start a command in the container."""
        running = self._pod(pod)
        inside = self._container(running, container)
        environment = self._lab.environment(running.namespace, {"TERM": "xterm"} if tty else {}, inside)
        directory = str(inside.document.get("workingDir") or "/")
        # An image like nginx' brings programs of its own, which no machine's busybox stands for.
        argv = by_busybox(command, on_machine) if kind_of(inside) == "command" else tuple(command)
        spec = SessionSpec(argv, environment, directory, tty)
        wanted = (stdin, stdout, stderr and not tty)
        ours, theirs = _terminal() if tty else _pipes(wanted)
        mine, minders = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._lab.session(running.namespace, spec, [*theirs, minders.fileno()])
        except SpawnFailed as error:
            mine.close()
            _close(each for each in ours if each is not None)
            raise PodAccessError(str(error)) from error
        finally:
            minders.close()
            _close(set(theirs))
        started = Command(Channel(mine), ours, terminal=tty)
        started.expect_running()
        return started

    def attach(self, pod: PodName, container: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Attached:
        """What the container writes from now on, and its standard input and terminal where it has them."""
        del stderr, tty  # A container's two outputs are one log; its terminal is its own affair.
        log, console = self.log(pod, container, False), None
        if stdin or stdout:
            running = self._pod(pod)
            program = self._lab.cluster.containers.program(running.namespace, container)
            console = program.console if program is not None else None
        return Attached(log, console, stdin=stdin, stdout=stdout)

    def connect(self, pod: PodName, port: int) -> socket.socket:
        """A connection to a port on the pod's loopback."""
        running = self._pod(pod)
        with running.namespace.entered():
            found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.settimeout(CONNECTS_WITHIN_S)
        try:
            found.connect(("127.0.0.1", port))
        except OSError as error:
            found.close()
            raise PodAccessError(
                f"failed to connect to localhost:{port} inside namespace of pod {pod.namespace}/{pod.name}:"
                f" {error.strerror or error}"
            ) from error
        found.settimeout(None)
        return found


class ContainerLog:
    """The log of one run; it ends when the container's status says that the run is over."""

    def __init__(self, store: Store, pod: KubeObject, container: str, file: LogFile | None) -> None:
        self._store, self._pod, self._container, self._file = store, pod, container, file

    def read(self, start: int) -> tuple[Sequence[LogLine], bool]:
        """The lines from number `start`, and whether no more will come."""
        over = self._over()
        if self._file is None:
            return (), over
        if over:
            # What was written last may not have been noted yet.
            self._file.finish()
        return self._file.lines(start), over

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have `changed` called after lines came or the pod's status changed."""
        stops = [self._store.subscribe(changed)]
        if self._file is not None:
            stops.append(self._file.subscribe(changed))

        def stop() -> None:
            for each in stops:
                with suppress(ValueError):
                    each()

        return stop

    def _over(self) -> bool:
        if self._file is not None and self._file.complete:
            return True
        pod = self._now()
        return pod is None or "running" not in _state(pod, self._container)

    def _now(self) -> KubeObject | None:
        """The pod's object as it is by now; None when it has gone."""
        meta = self._pod.meta
        pod = self._store.find("Pod", meta.name, meta.namespace)
        return pod if pod is not None and pod.meta.uid == meta.uid else None


def _state(pod: KubeObject, container: str) -> dict[str, object]:
    for each in pod.status.get("containerStatuses") or ():
        if each.get("name") == container:
            return dict(each.get("state") or {})
    return {}


class Command:
    """A command that was started in a pod."""

    def __init__(self, line: Channel, ours: Sequence[int | None], *, terminal: bool) -> None:
        self.stdin, self.stdout, self.stderr = ours
        self._line = line
        self._code: int | None = None
        self._size = os.dup(ours[0]) if terminal and ours[0] is not None else None
        """The terminal, for its size: its other descriptors are the server's to close."""

    def expect_running(self) -> None:
        """Wait until it was executed.  Raises PodAccessError when it can't be."""
        message, _descriptors = self._line.receive()
        if "error" in message:
            self.close()
            _close(each for each in (self.stdin, self.stdout, self.stderr) if each is not None)
            absent = int(message.get("exit", 0)) == NOT_FOUND
            more = "; a pod's commands are this machine's own programs (docs/images.md)" if absent else ""
            raise PodAccessError(f"exec failed: {message['error']}{more}")
        if "exit" in message:
            self._code = int(message["exit"])

    def resize(self, columns: int, rows: int) -> None:
        """The client's terminal has this size now."""
        if self._size is not None:
            with suppress(OSError):
                fcntl.ioctl(self._size, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def wait(self) -> int:
        """Block until it ended; its exit code."""
        while self._code is None:
            try:
                message, _descriptors = self._line.receive()
            except (LabGone, OSError):
                self._code = 137
                break
            if "exit" in message:
                self._code = int(message["exit"])
        return self._code

    def close(self) -> None:
        """The client is gone: its minder ends what still runs."""
        with suppress(OSError):
            self._line.shutdown()
        if self._size is not None:
            os.close(self._size)
            self._size = None


class Attached:
    """A container's own output from now on, through a pipe that a thread fills."""

    stderr: int | None = None

    def __init__(self, log: ContainerLog, console: Console | None, *, stdin: bool, stdout: bool) -> None:
        self._log, self._console = log, console
        self.stdin = console.input() if stdin and console is not None else None
        self.stdout: int | None = None
        if stdout and console is not None and console.terminal:
            self.stdout = console.listen()
        self._changed = threading.Event()
        self._closed = False
        self._done = threading.Event()
        self._next = len(log.read(0)[0])
        write = -1
        if stdout and self.stdout is None:
            self.stdout, write = os.pipe2(os.O_CLOEXEC)
        self._stop = log.subscribe(self._changed.set)
        threading.Thread(target=self._copy, args=(write,), name="attached", daemon=True).start()

    def _copy(self, write: int) -> None:
        over = False
        try:
            while not over and not self._closed:
                self._changed.clear()
                lines, over = self._log.read(self._next)
                self._next += len(lines)
                if write >= 0 and lines:
                    with open(write, "wb", closefd=False) as pipe:
                        pipe.write(b"".join(line.text + b"\n" for line in lines))
                if not over:
                    self._changed.wait()
        except OSError:
            # The client has gone.
            pass
        finally:
            if write >= 0:
                os.close(write)
            self._stop()
            self._done.set()

    def resize(self, columns: int, rows: int) -> None:
        """The client's terminal has this size now, and so has the container's."""
        if self._console is not None:
            self._console.resize(columns, rows)

    def wait(self) -> int:
        """Block until the container's run ended; 0 as the kubelet says it: how a pod ended, its status tells."""
        self._done.wait()
        if self._console is not None and not self._closed:
            self._console.wait(LAST_WORDS_WITHIN_S)
        return 0

    def close(self) -> None:
        """The client is gone; the container goes on."""
        self._closed = True
        self._changed.set()


def _terminal() -> tuple[list[int | None], list[int]]:
    ours, theirs = os.openpty()
    return [ours, os.dup(ours), None], [theirs] * 3


def _pipes(wanted: Sequence[bool]) -> tuple[list[int | None], list[int]]:
    """Our and the program's ends of its streams; what is not wanted is /dev/null."""
    ours: list[int | None] = []
    theirs: list[int] = []
    for number, is_wanted in enumerate(wanted):
        if not is_wanted:
            ours.append(None)
            theirs.append(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
            continue
        read, write = os.pipe2(os.O_CLOEXEC)
        ours.append(write if number == 0 else read)
        theirs.append(read if number == 0 else write)
    return ours, theirs


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
