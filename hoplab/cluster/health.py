"""Health over the network: the servers that kube-proxy runs on a node, and the balancer's checker that asks them.

A cloud balancer sends no flow to a node whose health check fails.  For a Service
with externalTrafficPolicy Cluster it asks kube-proxy's own /healthz (port 10256),
for Local the Service's healthCheckNodePort, where kube-proxy answers 200 only when
the node has endpoints of its own.  Both are real HTTP over the lab's network here,
served and asked from one loop through sockets in the right namespaces.

Sources: kube-proxy's pkg/proxy/healthcheck/service_health.go and proxy_health.go;
GCE's cloud provider asks exactly these two (KEP-3458).
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial

from hoplab.net.loop import Loop
from hoplab.net.namespaces import Namespace
from hoplab.net.podhttp import BadRequest, RequestReader, Response
from hoplab.net.timers import Timers

KUBE_PROXY_HEALTHZ_PORT = 10256
LAST_CHANCE_S = 0.05


JSON = "application/json"
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer: status, body, further headers, type of the body."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...] = (("X-Content-Type-Options", "nosniff"),)
    content_type: str = JSON


NO_SUCH_PATH = Answer(NOT_FOUND, "404 page not found\n", content_type="text/plain; charset=utf-8")
"""As Go's http.ServeMux answers for a path that nobody handles."""


def kube_proxy_healthz(healthy: bool, eligible: bool, now: float, synced: float) -> Answer:
    """kube-proxy's /healthz: 200 while it syncs in time and the node is not being deleted, 503 otherwise (pure).

    `synced` is the time of the last sync; who is well says that it is now, as older releases did.  Seconds since 1970.
    """
    well = healthy and eligible
    updated = _go_time(now if well else synced)
    told = f'{{"lastUpdated": "{updated}","currentTime": "{_go_time(now)}", "nodeEligible": {json.dumps(eligible)}}}'
    return Answer(200 if well else 503, told)


def kube_proxy_livez(healthy: bool, now: float, synced: float) -> Answer:
    """kube-proxy's /livez: /healthz without regard to the node, so that nobody restarts kube-proxy for it (pure)."""
    updated = _go_time(now if healthy else synced)
    return Answer(200 if healthy else 503, f'{{"lastUpdated": "{updated}","currentTime": "{_go_time(now)}"}}')


def _go_time(seconds: float) -> str:
    """A time as Go prints it (time.Time.String), in UTC."""
    whole, parts = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(whole))}.{parts:06} +0000 UTC"


def service_health(namespace: str, name: str, local_endpoints: int, proxy_healthy: bool) -> Answer:
    """A healthCheckNodePort: 200 with local endpoints, 503 without, the number in a header as well (pure)."""
    told = {
        "service": {"namespace": namespace, "name": name},
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": proxy_healthy,
    }
    return Answer(
        200 if local_endpoints and proxy_healthy else 503,
        json.dumps(told, indent="\t"),
        (("X-Content-Type-Options", "nosniff"), ("X-Load-Balancing-Endpoint-Weight", str(local_endpoints))),
    )


class HealthServer:
    """An HTTP server on one port of one node; `answer` is asked anew for each request (path -> Answer or None)."""

    def __init__(
        self,
        loop: Loop,
        node: Namespace,
        port: int,
        answer: Callable[[str], Answer | None],
        addresses: Sequence[str] = (),
    ) -> None:
        """Listen on these addresses of the node, on all of both families without any.

        Raises OSError when the port is taken.
        """
        self._loop, self._answer = loop, answer
        self._connections: dict[int, tuple[socket.socket, RequestReader]] = {}
        with node.entered():
            self._sockets = [_listening(address, port) for address in addresses or ("",)]
        for listening in self._sockets:
            loop.register(listening.fileno(), partial(self._accept, listening))

    def close(self) -> None:
        """Stop listening and drop what is open."""
        for listening in self._sockets:
            self._loop.unregister(listening.fileno())
            listening.close()
        for fd in list(self._connections):
            self._drop(fd)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionAbortedError):
            connection, _address = listening.accept()
            connection.setblocking(False)
            fd = connection.fileno()
            self._connections[fd] = (connection, RequestReader())
            self._loop.register(fd, lambda: self._read(fd))

    def _drop(self, fd: int) -> None:
        self._loop.unregister(fd)
        self._connections.pop(fd)[0].close()

    def _read(self, fd: int) -> None:
        connection, reader = self._connections[fd]
        try:
            data = connection.recv(65536)
            reader.feed(data)
            request = reader.next_request()
        except BlockingIOError:
            return
        except (OSError, BadRequest):
            self._drop(fd)
            return
        if request is not None:
            answer = self._answer(request.path) or NO_SUCH_PATH
            response = Response(answer.status, answer.body.encode(), answer.content_type, answer.headers)
            with suppress(OSError):
                connection.send(
                    response.to_bytes(formatdate(usegmt=True), head_only=request.method == "HEAD", keep_alive=False)
                )
        if request is not None or not data:
            self._drop(fd)


def _listening(address: str, port: int) -> socket.socket:
    """A socket of the namespace that the thread is in; '' is every address of both families, as Go takes it."""
    if address or not socket.has_dualstack_ipv6():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        opened = socket.create_server((address, port), family=family, backlog=128)
    else:
        opened = socket.create_server(("", port), family=socket.AF_INET6, backlog=128, dualstack_ipv6=True)
    opened.setblocking(False)
    return opened


@dataclass(frozen=True, slots=True)
class Target:
    """One question of the checker: which node, where, which path."""

    node: str
    address: str
    port: int
    path: str = "/healthz"


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of asking: healthy means HTTP 200 within the time-out."""

    target: Target
    healthy: bool
    detail: str


class HealthChecker:
    """Asks targets from one namespace (the balancer's), all at once."""

    def __init__(self, loop: Loop, asker: Namespace) -> None:
        self._loop, self._asker = loop, asker

    def ask(self, targets: Sequence[Target], timeout_s: float = 1.0) -> list[Finding]:
        """One round: connect to each target, send a GET, read the status line.  Never raises for a sick node."""
        if not targets:
            return []
        found: dict[Target, Finding] = {}
        questions = [_Question(self._loop, self._asker, target, found) for target in dict.fromkeys(targets)]
        with suppress(TimeoutError):
            self._loop.run_until(lambda: len(found) == len(questions), timeout_s, "the nodes' health")
        for question in questions:
            question.give_up(f"no answer within {timeout_s:g} s")
        return [found[target] for target in targets]

    def begin(
        self,
        targets: Sequence[Target],
        timeout_s: float,
        timers: Timers,
        done: Callable[[Sequence[Finding]], None],
    ) -> None:
        """One round without waiting: `done` is called from the loop when all have answered or the time is over."""
        found: dict[Target, Finding] = {}
        wanted = list(dict.fromkeys(targets))
        questions: list[_Question] = []

        def late() -> None:
            # What answered while the loop was busy with something else waits in its sockets: it is heard first.
            rounds.append(timers.after(LAST_CHANCE_S, give_up))

        def give_up() -> None:
            for question in questions:
                question.give_up(f"no answer within {timeout_s:g} s")

        rounds = [timers.after(timeout_s, late)]

        def heard() -> None:
            if len(found) == len(wanted):
                for timer in rounds:
                    timer.cancel()
                done([found[target] for target in targets])

        questions += [_Question(self._loop, self._asker, target, found, heard) for target in wanted]
        if not wanted:
            heard()


class _Question:
    """One HTTP GET as three callbacks: connected, readable, done."""

    def __init__(
        self,
        loop: Loop,
        asker: Namespace,
        target: Target,
        found: dict[Target, Finding],
        heard: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop, self._target, self._found, self._heard = loop, target, found, heard
        self._said = b""
        family = socket.AF_INET6 if ":" in target.address else socket.AF_INET
        with asker.entered():
            self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._fd = self._socket.fileno()
        self._step = "connect"
        with suppress(BlockingIOError):
            try:
                self._socket.connect((target.address, target.port))
            except BlockingIOError:
                raise
            except OSError as error:
                self._finish(False, f"connect: {error.strerror}")
                return
        loop.register(self._fd, self._connected, write=True)

    def _connected(self) -> None:
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._finish(False, f"connect: {os.strerror(error)}")
            return
        host = f"{self._target.address}:{self._target.port}"
        request = f"GET {self._target.path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        self._step = "answer"
        self._socket.send(request.encode())
        self._loop.register(self._fd, self._readable)

    def _readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except OSError as error:
            self._finish(False, f"read: {error.strerror}")
            return
        self._said += data
        if b"\r\n" in self._said:
            status = self._said.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
            code = status[1] if len(status) > 1 else "?"
            self._finish(code == "200", f"HTTP {code}")
        elif not data:
            self._finish(False, "closed without an answer")

    def give_up(self, why: str) -> None:
        """End a question that got no answer."""
        if self._target not in self._found:
            self._finish(False, f"{self._step}: {why}")

    def _finish(self, healthy: bool, detail: str) -> None:
        self._loop.unregister(self._fd)
        self._socket.close()
        self._found[self._target] = Finding(self._target, healthy, detail)
        self._heard()
