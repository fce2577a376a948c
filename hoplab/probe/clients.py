"""Clients with the kernel's own sockets, inside a namespace of the lab, many at once in the observer's loop.

A crafted probe is recognizable packet by packet; a kernel's connection is what an
application would have: its own retransmissions, its keep-alive, its choice of
source port.  Lessons about connections that last use these.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Iterable

from hoplab.hops.evidence import Tuple
from hoplab.net.namespaces import Namespace
from hoplab.probe.edges import ObserverFace, ProbeRefused
from hoplab.probe.http import HttpResponse, host_header, read_response, request_bytes
from hoplab.probe.shield import FIRST_PORT, LAST_PORT


class Pending:
    """A request under way on a connection."""

    def __init__(self, head_only: bool) -> None:
        self.head_only = head_only
        self.started_ns = time.time_ns()
        self.ended_ns = 0
        self.response: HttpResponse | None = None
        self.error = ""
        """Why there is no response, in the kernel's words."""

    @property
    def done(self) -> bool:
        """Whether it was answered or failed."""
        return self.response is not None or bool(self.error)


class Connection:
    """One TCP connection that carries HTTP requests one after the other."""

    def __init__(self, clients: Clients, wire: socket.socket, remote: tuple[str, int]) -> None:
        self._clients = clients
        self._wire = wire
        self._remote = remote
        self._unsent = b""
        self._received = b""
        self._pending: Pending | None = None
        self._connected = False
        self.sent = Tuple("", 0, *remote)
        """Addresses and ports as this end has them; the kernel chose the port when the caller didn't."""
        self.error = ""
        """Why the connection is no more; '' while it is."""

    def request(self, path: str = "/", *, host: str = "", method: str = "GET", last: bool = False) -> Pending:
        """Send a request; `last` asks the server to close behind its answer.

        Raises RuntimeError while the one before is still under way.
        """
        if self._pending is not None and not self._pending.done:
            raise RuntimeError("the connection's last request is still under way")
        pending = self._pending = Pending(method == "HEAD")
        self._received = b""
        self._unsent = request_bytes(host or host_header(*self._remote), path, method=method, keep_alive=not last)
        if self.error:
            pending.error = self.error
        else:
            self.ready(select.EPOLLOUT if self._connected else 0)
        return pending

    def close(self) -> None:
        """Close it; a request under way fails."""
        self._fail("closed by the client")

    def begin(self) -> None:
        """Have the kernel start connecting."""
        try:
            self._wire.connect(self._remote)
        except BlockingIOError:
            local = self._wire.getsockname()
            self.sent = Tuple(local[0], local[1], *self._remote)
        except OSError as error:
            self._fail(os.strerror(error.errno or 0))

    def ready(self, events: int) -> None:
        """Go on with what these epoll events allow."""
        try:
            if events & (select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP) and not self._connected:
                code = self._wire.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
                self._connected = True
            if self._unsent and self._connected:
                self._unsent = self._unsent[self._wire.send(self._unsent) :]
            if events & (select.EPOLLIN | select.EPOLLHUP):
                self._read()
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(os.strerror(error.errno or 0))
        if not self.error:
            wants_out = select.EPOLLOUT if self._unsent or not self._connected else 0
            self._clients.watch(self._wire, wants_out | select.EPOLLIN)

    def _read(self) -> None:
        data = self._wire.recv(1 << 16)
        self._received += data
        pending = self._pending
        if pending is not None and not pending.done:
            found = read_response(self._received, ended=not data, head_only=pending.head_only)
            if found is not None:
                pending.response, self._received = found
                pending.ended_ns = time.time_ns()
        if not data:
            self._fail("closed by the server")

    def _fail(self, why: str) -> None:
        if self.error:
            return
        self.error = why
        self._clients.forget(self._wire)
        self._wire.close()
        if self._pending is not None and not self._pending.done:
            self._pending.error = why
            self._pending.ended_ns = time.time_ns()


class Clients:
    """All kernel clients of one lab."""

    def __init__(self, observer: ObserverFace) -> None:
        self._observer = observer
        # An epoll descriptor is readable when one of its own is ready: so the observer's loop needs to know only this
        # one, and not who waits for writing.
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        observer.register(self._epoll.fileno(), self._on_ready)

    def connect(self, sender: Namespace, address: str, port: int, *, source: tuple[str, int] = ("", 0)) -> Connection:
        """Begin a connection from inside a namespace; what fails is told by the first request.

        Raises ProbeRefused for a source port of crafted probes, whose answers the shield keeps from the kernel,
        OSError when the source can't be used otherwise.
        """
        if FIRST_PORT <= source[1] <= LAST_PORT:
            raise ProbeRefused(
                f"source port {source[1]} belongs to crafted probes ({FIRST_PORT}-{LAST_PORT}):"
                f" the kernel of {sender.name} would never see the answer; choose one from 50000 on"
            )
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with sender.entered():
            wire = socket.socket(family, socket.SOCK_STREAM)
        wire.setblocking(False)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if any(source):
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            wire.bind(source)
        connection = Connection(self, wire, (address, port))
        self._connections[wire.fileno()] = connection
        self._epoll.register(wire.fileno(), select.EPOLLOUT | select.EPOLLIN)
        connection.begin()
        return connection

    def get(
        self,
        sender: Namespace,
        address: str,
        port: int,
        path: str = "/",
        *,
        host: str = "",
        source: tuple[str, int] = ("", 0),
        deadline_s: float = 2.0,
    ) -> Pending:
        """One request on a connection of its own, waited for."""
        connection = self.connect(sender, address, port, source=source)
        pending = connection.request(path, host=host, last=True)
        self.wait([pending], deadline_s)
        connection.close()
        return pending

    def wait(self, requests: Iterable[Pending], deadline_s: float) -> bool:
        """Run the loop until all are done or the deadline passed; whether all are.  Those that aren't say so."""
        waited_for = list(requests)
        give_up = time.monotonic() + deadline_s
        while not all(pending.done for pending in waited_for):
            left = give_up - time.monotonic()
            if left <= 0:
                for pending in waited_for:
                    pending.error = pending.error or ("" if pending.response else f"no answer within {deadline_s:g} s")
                return False
            self._observer.poll(left)
        return True

    def close(self) -> None:
        """Close every connection."""
        for connection in list(self._connections.values()):
            connection.close()
        self._observer.unregister(self._epoll.fileno())
        self._epoll.close()

    def watch(self, wire: socket.socket, events: int) -> None:
        """For connections: wait for these events from now on."""
        self._epoll.modify(wire.fileno(), events)

    def forget(self, wire: socket.socket) -> None:
        """For connections: it is over."""
        if self._connections.pop(wire.fileno(), None) is not None:
            self._epoll.unregister(wire.fileno())

    def _on_ready(self) -> None:
        for fd, events in self._epoll.poll(0):
            connection = self._connections.get(fd)
            if connection is not None:
                connection.ready(events)
