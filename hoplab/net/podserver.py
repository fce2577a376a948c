"""The server inside a pod: real kernel sockets, one small loop, one process a pod.

It runs in an already entered network namespace, in a child that the zygote forked,
so it imports little and starts at once.  TCP (and SCTP, where the kernel has it)
speaks HTTP to whoever speaks HTTP and echoes bytes to anybody else; UDP answers
each datagram from the very address that was asked, as a multi-homed server must
(RFC 1122 4.1.3.5).  The faults are what lessons and sabotages need a pod to do wrong.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import os
import resource
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from hoplab.net import podpages, podsockets
from hoplab.net.podconfig import Listener, ServerConfig
from hoplab.net.podhttp import BadRequest, Request, RequestReader, Response, looks_like_http
from hoplab.net.podsockets import CannotListen
from hoplab.proxy_protocol import may_become_header, read_proxy_header

IDLE_S = 75.0
"""An idle connection is closed after this long, as nginx's keepalive_timeout does by default."""
LINGER_S = 2.0
"""After a refusal, how long unread bytes are thrown away before the close, so that no RST overtakes the answer."""
MOST_UNSENT = 1 << 20

__all__ = ["CannotListen", "Listener", "Server", "ServerConfig", "serve"]


def serve(config: ServerConfig, ready_fd: int) -> NoReturn:
    """Serve until SIGTERM, then finish what is under way and exit 0.

    Writes "ready" and a line end to `ready_fd` once every socket listens (at once, with a start-up delay), or the
    reason why one can't (then exits 1), and closes it.  One line for each request goes to standard output.
    """
    server = Server(config)
    try:
        server.prepare()
        if not config.startup_delay_s:
            server.listen()
    except CannotListen as error:
        os.write(ready_fd, f"{error}\n".encode())
        os._exit(1)
    os.write(ready_fd, b"ready\n")
    os.close(ready_fd)
    try:
        server.run()
    except CannotListen as error:
        _log(str(error))
        os._exit(1)
    os._exit(0)


@dataclass(eq=False, slots=True)
class _Connection:
    """One accepted connection."""

    socket: socket.socket
    local: tuple[str, int]
    client: tuple[str, int]
    last_used: float
    kind: Literal["unknown", "http", "echo", "draining"] = "unknown"
    start: bytearray = field(default_factory=bytearray)
    """The first bytes, until they tell what is spoken."""
    proxied: str | None = None
    """Whom a PROXY protocol header named as the client, '' for nobody; None without one."""
    reader: RequestReader = field(default_factory=RequestReader)
    unsent: bytearray = field(default_factory=bytearray)
    delayed: bool = False
    ended: bool = False
    """The client will send no more."""
    close_when_sent: bool = False
    events: int = 0

    @property
    def busy(self) -> bool:
        """Whether something is owed to the client, or it is in the middle of asking."""
        return bool(self.unsent) or self.delayed or (self.kind == "http" and self.reader.mid_request)


class Server:
    """The loop; `serve` is how it is normally run."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._who = podpages.Identity(config.pod, config.namespace, config.node, config.image)
        self._selector = selectors.DefaultSelector()
        self._listening: list[socket.socket] = []
        self._connections: set[_Connection] = set()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_number = itertools.count()
        self._stopping = False

    def prepare(self) -> None:
        """From now on take SIGTERM as a request to finish; and listen later, when that was asked for."""
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        self._waker = waker
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda _number, _frame: None)
        self._selector.register(woken, selectors.EVENT_READ, lambda _events: self._terminate(woken))
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if self._config.startup_delay_s:
            self._after(self._config.startup_delay_s, self.listen)

    def listen(self) -> None:
        """Bind every listener.  Raises CannotListen."""
        if self._stopping:
            return
        for listener in self._config.listeners:
            for bound in podsockets.bind(listener):
                self._listening.append(bound)
                self._hear(bound)

    def _hear(self, bound: socket.socket) -> None:
        take = self._take_datagrams if bound.type == socket.SOCK_DGRAM else self._accept
        self._selector.register(bound, selectors.EVENT_READ, lambda _events: take(bound))

    def run(self) -> None:
        """Serve until SIGTERM and what was under way is finished."""
        self._after(IDLE_S / 4, self._close_idle)
        while not (self._stopping and not self._listening and not self._connections):
            wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, events in self._selector.select(wait):
                key.data(events)
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()

    def _after(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._timer_number), action))

    def _terminate(self, woken: socket.socket) -> None:
        woken.recv(64)
        if not self._stopping:
            self._stopping = True
            self._after(self._config.shutdown_delay_s, self._stop_listening)

    def _stop_listening(self) -> None:
        """Take in who was already connected and what they asked, close the doors, and let idle connections go."""
        for bound in self._listening:
            if bound.type == socket.SOCK_STREAM:
                self._accept(bound)
            self._selector.unregister(bound)
            bound.close()
        self._listening.clear()
        for connection in list(self._connections):
            # What lies unread would have the kernel answer the close with RST (RFC 2525 2.17).
            if connection.events & selectors.EVENT_READ:
                self._ready(connection, selectors.EVENT_READ)
            else:
                self._close_if_done(connection)

    def _close_idle(self) -> None:
        before = time.monotonic() - IDLE_S
        for connection in [one for one in self._connections if one.last_used < before and not one.delayed]:
            self._close(connection)
        self._after(IDLE_S / 4, self._close_idle)

    # Streams.

    def _accept(self, bound: socket.socket) -> None:
        while True:
            try:
                accepted, client = bound.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self._pause(bound)
                return
            self._welcome(accepted, client)

    def _pause(self, bound: socket.socket) -> None:
        """Out of descriptors: leave the queue to the kernel for a moment instead of spinning."""
        self._selector.unregister(bound)

        def resume() -> None:
            if bound in self._listening:
                self._hear(bound)

        self._after(0.1, resume)

    def _welcome(self, accepted: socket.socket, client: tuple[Any, ...]) -> None:
        if self._config.fault in ("close", "reset"):
            if self._config.fault == "reset":
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
            _log(f"{client[0]} - connection {'closed' if self._config.fault == 'close' else 'reset'} at once")
            return
        accepted.setblocking(False)
        if accepted.proto in (0, socket.IPPROTO_TCP):
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        local = accepted.getsockname()
        connection = _Connection(accepted, (local[0], local[1]), (client[0], client[1]), time.monotonic())
        self._connections.add(connection)
        self._watch(connection)

    def _watch(self, connection: _Connection) -> None:
        """Tell the selector what this connection waits for."""
        reading = not connection.ended and not connection.delayed and len(connection.unsent) < MOST_UNSENT
        events = (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if connection.unsent else 0)
        if events == connection.events:
            return
        if not connection.events:
            self._selector.register(connection.socket, events, lambda ready: self._ready(connection, ready))
        elif events:
            self._selector.modify(connection.socket, events, lambda ready: self._ready(connection, ready))
        else:
            self._selector.unregister(connection.socket)
        connection.events = events

    def _ready(self, connection: _Connection, events: int) -> None:
        connection.last_used = time.monotonic()
        try:
            if events & selectors.EVENT_READ:
                self._read(connection)
            self._advance(connection)
        except (ConnectionError, TimeoutError):
            self._close(connection)
        except OSError as error:
            # A host or network that became unreachable in between ends this connection, not the server.
            _log(f"{connection.client[0]} - connection lost: {error}")
            self._close(connection)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(1 << 16)
        except BlockingIOError:
            return
        connection.ended = not data
        if self._config.fault == "silent" or connection.kind == "draining":
            return
        if connection.kind == "unknown":
            connection.start += data
            if self._reads_header(connection):
                return
            http = looks_like_http(bytes(connection.start), ended=connection.ended)
            if http is None:
                return
            connection.kind = "http" if http else "echo"
            data = bytes(connection.start)
            connection.start.clear()
        if connection.kind == "echo":
            connection.unsent += data
        else:
            connection.reader.feed(data)

    @staticmethod
    def _reads_header(connection: _Connection) -> bool:
        """Take a PROXY protocol header off the connection's beginning; whether the rest of one is still to come."""
        if connection.proxied is not None:
            return False
        start = bytes(connection.start)
        header = read_proxy_header(start)
        if header is not None:
            del connection.start[: header.length]
            connection.proxied = podpages.endpoint(*header.client[:2]) if header.client else ""
        return header is None and may_become_header(start) and not connection.ended

    def _advance(self, connection: _Connection) -> None:
        """Answer what can be answered, send what can be sent, close what is finished."""
        while connection.kind == "http" and self._may_answer(connection):
            try:
                request = connection.reader.next_request()
            except BadRequest as error:
                self._refuse(connection, error)
                break
            if request is None:
                if connection.reader.take_continue():
                    connection.unsent += b"HTTP/1.1 100 Continue\r\n\r\n"
                break
            self._answer(connection, request)
        if connection.unsent:
            try:
                sent = connection.socket.send(connection.unsent)
                del connection.unsent[:sent]
            except BlockingIOError:
                sent = 0
        if not self._close_if_done(connection):
            self._watch(connection)

    @staticmethod
    def _may_answer(connection: _Connection) -> bool:
        return not connection.delayed and not connection.close_when_sent and len(connection.unsent) < MOST_UNSENT

    def _answer(self, connection: _Connection, request: Request) -> None:
        page = podpages.answer(
            self._who, self._config.style, request, connection.local, connection.client, connection.proxied or ""
        )
        if not page.delay_s:
            self._reply(connection, request, page)
            return
        connection.delayed = True

        def now() -> None:
            connection.delayed = False
            if connection in self._connections:
                self._reply(connection, request, page)
                self._ready(connection, 0)

        self._after(page.delay_s, now)

    def _reply(self, connection: _Connection, request: Request, page: Response) -> None:
        keep = request.keeps_alive and not self._stopping
        connection.unsent += page.to_bytes(_http_date(), head_only=request.method == "HEAD", keep_alive=keep)
        connection.close_when_sent = not keep
        agent = request.header("user-agent") or "-"
        line = f'"{request.method} {request.target} HTTP/{request.version[0]}.{request.version[1]}"'
        _log(f'{connection.client[0]} - - [{_log_date()}] {line} {page.status} {len(page.body)} "-" "{agent}"')

    def _refuse(self, connection: _Connection, error: BadRequest) -> None:
        page = podpages.refusal(self._who, error.status, str(error))
        connection.unsent += page.to_bytes(_http_date(), head_only=False, keep_alive=False)
        connection.kind = "draining"
        _log(f"{connection.client[0]} - - [{_log_date()}] refused: {error.status} {error}")

        def give_up() -> None:
            if connection in self._connections:
                self._close(connection)

        self._after(LINGER_S, give_up)

    def _close_if_done(self, connection: _Connection) -> bool:
        """Close a connection on which nothing more will happen; whether that was so."""
        if connection.unsent or connection.delayed:
            return False
        if connection.kind == "draining" and not connection.ended:
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_WR)
            return False
        if not (connection.ended or connection.close_when_sent or (self._leaving and not connection.busy)):
            return False
        self._close(connection)
        return True

    @property
    def _leaving(self) -> bool:
        return self._stopping and not self._listening

    def _close(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        if connection.events:
            self._selector.unregister(connection.socket)
            connection.events = 0
        connection.socket.close()

    # Datagrams.

    def _take_datagrams(self, bound: socket.socket) -> None:
        while True:
            try:
                payload, ancillary, _flags, client = bound.recvmsg(65535, socket.CMSG_SPACE(20))
            except BlockingIOError:
                return
            except OSError:
                # An ICMP error about an earlier answer: it was consumed by being reported.
                continue
            _log(f"{client[0]} - - [{_log_date()}] udp {len(payload)} bytes")
            if self._config.fault:
                continue
            local, reply_from = podsockets.asked_address(bound, ancillary)
            answer = podpages.datagram(self._who, payload, local, (client[0], client[1]))
            try:
                bound.sendmsg([answer], reply_from, 0, client)
            except OSError as error:
                _log(f"{client[0]} - - [{_log_date()}] udp answer not sent: {error}")


def _http_date() -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())


def _log_date() -> str:
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime())


def _log(line: str) -> None:
    """One line to standard output, which `kubectl logs` shows; a reader who went away is no reason to stop serving."""
    with contextlib.suppress(OSError):
        os.write(1, line.encode("utf-8", "replace") + b"\n")
