"""What probes and hooks do to a container: ask it by HTTP, open a connection to it, run a command in it, wait.

Everything is asked from where the kubelet stands, the node's own network namespace, through sockets
and processes that the lab's loop waits for: no thread, no process for a probe that needs none.

Source: pkg/probe/{http,tcp,exec}, pkg/kubelet/prober/prober.go, pkg/kubelet/lifecycle/handlers.go.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hoplab.cluster.endpoints import declared_port
from hoplab.kube.types import Container
from hoplab.net.loop import Loop
from hoplab.net.timers import Timer, Timers

if TYPE_CHECKING:
    from hoplab.cluster.podworker import PodWorker

MOST_SAID = 1024
"""Bytes of an answer or an output that a message repeats."""
Done = Callable[[bool, str], None]
"""Called once, with whether it went well and what was said."""
NOT_HERE = "grpc probes can't be made here: use httpGet, tcpSocket or exec"


class Handling:
    """One question under way; `give_up` ends it without an answer."""

    def __init__(self, loop: Loop, done: Done) -> None:
        self._loop, self._done = loop, done
        self.finished = False
        self._timer: Timer | None = None

    def limit(self, timers: Timers, seconds: float, what: str) -> None:
        """Fail when there is no answer in time."""
        self._timer = timers.after(seconds, lambda: self.finish(False, what))

    def finish(self, good: bool, told: str) -> None:
        """Give the answer; a second one is nobody's business."""
        if not self.finished:
            self._end()
            self._done(good, told)

    def give_up(self) -> None:
        """Forget it."""
        if not self.finished:
            self._end()

    def _end(self) -> None:
        self.finished = True
        if self._timer is not None:
            self._timer.cancel()
        self._close()

    def _close(self) -> None:
        """Give back what it holds."""


class _Waiting(Handling):
    """Nothing but time."""


class _Connection(Handling):
    """A TCP connection from a node to an address; what then is said on it is for `_connected`."""

    def __init__(self, loop: Loop, done: Done, worker: PodWorker, address: str, port: int) -> None:
        super().__init__(loop, done)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with worker.agent.namespace.entered():
            self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._fd = self._socket.fileno()
        self._where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        try:
            self._socket.connect((address, port))
        except BlockingIOError:
            pass
        except OSError as error:
            self._refused(error.errno or 0)
            return
        loop.register(self._fd, self._opened, write=True)

    def _refused(self, number: int) -> None:
        self.finish(False, f"dial tcp {self._where}: connect: {os.strerror(number).lower()}")

    def _opened(self) -> None:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._refused(error)
        else:
            self._connected()

    def _connected(self) -> None:
        self.finish(True, "")

    def _close(self) -> None:
        self._loop.unregister(self._fd)
        self._socket.close()


class _Http(_Connection):
    """One GET: good is a status from 200 to 399."""

    def __init__(
        self, loop: Loop, done: Done, worker: PodWorker, address: str, port: int, action: Mapping[str, Any]
    ) -> None:
        self._action = action
        self._said = bytearray()
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        super().__init__(loop, done, worker, address, port)

    def _connected(self) -> None:
        given = {h["name"].lower(): (h["name"], h.get("value") or "") for h in self._action.get("httpHeaders") or ()}
        wanted = {
            "host": ("Host", self._where),
            "user-agent": ("User-Agent", "kube-probe/1.33"),
            "accept": ("Accept", "*/*"),
            **given,
            "connection": ("Connection", "close"),
        }
        lines = [f"GET {self._action.get('path') or '/'} HTTP/1.1", *(f"{n}: {v}" for n, v in wanted.values()), "", ""]
        self._request = "\r\n".join(lines).encode("utf-8", "replace")
        if self._action.get("scheme") == "HTTPS":
            # As the kubelet: whoever answers is good enough, his certificate is not asked about.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self._tls = context.wrap_bio(self._in, self._out)
        self._loop.register(self._fd, self._readable)
        self._step()

    def _step(self) -> None:
        """Say what is to be said; with TLS as far as the handshake has come."""
        try:
            if self._tls is None:
                self._socket.send(self._request)
                return
            with suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                if self._request:
                    self._tls.write(self._request)
                    self._request = b""
                while piece := self._tls.read(65536):
                    self._said += piece
            self._socket.send(self._out.read())
        except (OSError, ssl.SSLError) as error:
            self.finish(False, f'Get "{self._where}": {error}')

    def _readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.finish(False, f'Get "{self._where}": {error.strerror}')
            return
        if self._tls is not None:
            self._in.write(data)
            self._step()
            if self.finished:
                return
        else:
            self._said += data
        line, newline, _rest = bytes(self._said).partition(b"\r\n")
        if newline:
            words = line.decode("latin-1").split()
            code = int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0
            self.finish(200 <= code < 400, f"HTTP probe failed with statuscode: {code}")
        elif not data:
            self.finish(False, f'Get "{self._where}": EOF')


class _Command(Handling):
    """A program in the pod's namespaces: good is exit code 0."""

    def __init__(self, loop: Loop, done: Done, worker: PodWorker, container: Container, argv: list[str]) -> None:
        super().__init__(loop, done)
        self._fd = -1
        environment = {**os.environ, **container.env}
        inside = worker.running.namespace.argv(argv)
        try:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                inside,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            self._process = None
            self.finish(False, f"{argv[0]}: {error.strerror}")
            return
        self._said = bytearray()
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._fd = os.pidfd_open(self._process.pid)
        loop.register(self._fd, self._ended)

    def _ended(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        code = process.wait()
        said = b""
        with suppress(BlockingIOError):
            said = os.read(process.stdout.fileno(), MOST_SAID)
        text = said.decode("utf-8", "replace").strip()
        self.finish(code == 0, text or f"command exited with {code}")

    def _close(self) -> None:
        if self._fd >= 0:
            self._loop.unregister(self._fd)
            os.close(self._fd)
        if self._process is not None:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()


class Handlers:
    """Runs the actions that probes and hooks name."""

    def __init__(self, loop: Loop, timers: Timers) -> None:
        self._loop, self._timers = loop, timers

    def run(
        self, worker: PodWorker, container: Container, action: Mapping[str, Any], timeout_s: float, done: Done
    ) -> Handling | None:
        """Begin one; `done` is called once, from the loop or at once.  None: it was done at once."""
        handling = self._begin(worker, container, action, done)
        if handling is None or handling.finished:
            return None
        if "sleep" not in action:
            handling.limit(self._timers, timeout_s, f"timed out after {timeout_s:g}s")
        return handling

    def _begin(self, worker: PodWorker, container: Container, action: Mapping[str, Any], done: Done) -> Handling | None:
        if action.get("exec") is not None:
            argv = [str(word) for word in action["exec"].get("command") or ()]
            if argv:
                return _Command(self._loop, done, worker, container, argv)
            done(False, "exec: no command")
        elif action.get("sleep") is not None:
            waiting = _Waiting(self._loop, done)
            self._timers.after(float(action["sleep"].get("seconds") or 0), lambda: waiting.finish(True, ""))
            return waiting
        elif action.get("httpGet") is not None or action.get("tcpSocket") is not None:
            return self._connect(worker, container, action, done)
        else:
            done(False, NOT_HERE)
        return None

    def _connect(
        self, worker: PodWorker, container: Container, action: Mapping[str, Any], done: Done
    ) -> Handling | None:
        http = action.get("httpGet")
        target = http if http is not None else action["tcpSocket"]
        given = target.get("port")
        port = given if isinstance(given, int) else declared_port(container, str(given))
        if port is None and str(given).isdecimal():
            port = int(given)
        if port is None:
            done(False, f"the container has no port called {given!r}")
            return None
        address = target.get("host") or worker.running.ips[0]
        if http is not None:
            return _Http(self._loop, done, worker, address, port, http)
        return _Connection(self._loop, done, worker, address, port)
