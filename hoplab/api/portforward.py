"""`kubectl port-forward`: connections that kubectl accepts outside become connections inside the pod.

For each connection kubectl opens two streams with the same `requestid`: `data` carries its bytes,
`error` whatever went wrong.  Here each pair gets a TCP connection made inside the pod's network
namespace.  Both directions end separately, as TCP's do.
Source: kubelet's pkg/cri/streaming/portforward/httpstream.go and client-go's tools/portforward.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from hoplab.api import spdy
from hoplab.api.channels import Carrier
from hoplab.api.podaccess import PodAccessError

CHUNK = 32768
MOST_QUEUED = 256
"""Pieces that wait for a pod that reads slowly, before the client is read no more."""

Connect = Callable[[int], socket.socket]
"""Port in the pod -> connected socket; called in a thread.  Raises PodAccessError, OSError."""


@dataclass(slots=True)
class _Pair:
    """The two streams of one connection, until both are there; then its task."""

    port: int = 0
    data: int = 0
    error: int = 0
    queue: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(MOST_QUEUED))
    task: asyncio.Task[None] | None = None


class PortForward:
    """All forwarded connections of one client."""

    def __init__(self, carrier: Carrier, connection: spdy.Connection, connect: Connect) -> None:
        self._carrier, self._connection, self._connect = carrier, connection, connect
        self._pairs: dict[str, _Pair] = {}
        self._by_stream: dict[int, _Pair] = {}

    async def serve(self) -> None:
        """Until the client is gone.  Raises SpdyError."""
        try:
            while received := await self._carrier.receive():
                for event in self._connection.feed(received):
                    if isinstance(event, spdy.Gone):
                        return
                    await self._handle(event)
        except ConnectionError:
            pass
        finally:
            tasks = [pair.task for pair in self._pairs.values() if pair.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, event: spdy.Event) -> None:
        if isinstance(event, spdy.Answer):
            await self._carrier.send(event.data)
        elif isinstance(event, spdy.Opened):
            await self._opened(event)
        elif isinstance(event, spdy.Data):
            pair = self._by_stream.get(event.stream)
            if pair is not None and event.stream == pair.data:
                if event.data:
                    await pair.queue.put(event.data)
                if event.fin:
                    await pair.queue.put(b"")
        elif isinstance(event, spdy.Reset):
            pair = self._by_stream.pop(event.stream, None)
            if pair is not None and event.stream == pair.data and pair.task is not None:
                pair.task.cancel()

    async def _opened(self, event: spdy.Opened) -> None:
        kind, port = event.headers.get("streamtype", ""), event.headers.get("port", "")
        valid = port.isdecimal() and 0 < int(port[:6]) < 65536
        if kind not in ("data", "error") or not valid:
            self._connection.forget(event.stream)
            await self._carrier.send(spdy.reset(event.stream, 3))
            return
        request = event.headers.get("requestid") or str(event.stream - (event.stream - 1) % 4)
        pair = self._pairs.setdefault(request, _Pair())
        pair.port = int(port)
        setattr(pair, kind, event.stream)
        self._by_stream[event.stream] = pair
        await self._carrier.send(self._connection.accept(event.stream))
        if pair.data and pair.error:
            pair.task = asyncio.create_task(self._forward(request, pair))

    async def _forward(self, request: str, pair: _Pair) -> None:
        try:
            await self._carry(pair)
        finally:
            self._pairs.pop(request, None)
            for stream in (pair.data, pair.error):
                self._by_stream.pop(stream, None)
                self._connection.forget(stream)

    async def _carry(self, pair: _Pair) -> None:
        try:
            inside = await asyncio.to_thread(self._connect, pair.port)
        except (PodAccessError, OSError) as error:
            message = f"error forwarding port {pair.port} to pod: {error}"
            await self._carrier.send(spdy.data(pair.error, message.encode(), fin=True))
            await self._carrier.send(spdy.data(pair.data, b"", fin=True))
            return
        with inside:
            inside.setblocking(False)
            inwards = asyncio.create_task(self._inwards(pair, inside))
            try:
                await self._outwards(pair, inside)
            finally:
                inwards.cancel()
                await asyncio.gather(inwards, return_exceptions=True)
        await self._carrier.send(spdy.data(pair.data, b"", fin=True))
        await self._carrier.send(spdy.data(pair.error, b"", fin=True))

    async def _outwards(self, pair: _Pair, inside: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(inside, CHUNK):
                await self._carrier.send(spdy.data(pair.data, data))
        except OSError as error:
            message = f"error forwarding port {pair.port} to pod: {error}"
            with contextlib.suppress(ConnectionError):
                await self._carrier.send(spdy.data(pair.error, message.encode()))

    async def _inwards(self, pair: _Pair, inside: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # The pod closed; the other direction tells.
            while data := await pair.queue.get():
                await loop.sock_sendall(inside, data)
            inside.shutdown(socket.SHUT_WR)
