"""What SPDY frames travel on: a connection taken over after `Upgrade: SPDY/3.1`, or the messages of a WebSocket.

An HTTP connection that is upgraded is no HTTP connection any more: its transport gets another
protocol, which keeps what arrives in a bounded queue and pauses reading while that is full.
Source: apimachinery's pkg/util/httpstream/spdy and client-go's tools/portforward/tunneling.
"""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import WSMsgType, web

MOST_WAITING = 1 << 20
"""Bytes that wait to be read before the connection is paused."""
SILENCE_S = 4 * 3600.0
"""After which an idle connection is given up, as the kubelet does."""


class WebSocketCarrier:
    """SPDY inside binary messages (subprotocol SPDY/3.1+portforward.k8s.io)."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        """One message."""
        await self._socket.send_bytes(data)

    async def receive(self) -> bytes:
        """One message's bytes; none when the peer is gone."""
        while True:
            message = await self._socket.receive()
            if message.type != WSMsgType.BINARY:
                return b""
            if message.data:
                return bytes(message.data)


class HijackedConnection(asyncio.Protocol):
    """A connection that was HTTP: its bytes, both ways."""

    def __init__(self, request: web.Request) -> None:
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            raise ConnectionResetError("the client is gone")
        self._transport, self._before = transport, request.protocol
        self._received: deque[bytes] = deque()
        self._size = 0
        self._news, self._writable = asyncio.Event(), asyncio.Event()
        self._writable.set()
        self._gone = False
        transport.set_protocol(self)

    def answer(self, headers: dict[str, str]) -> None:
        """101, and from now on no HTTP."""
        lines = ["HTTP/1.1 101 Switching Protocols", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self._transport.write("\r\n".join(lines).encode())

    def data_received(self, data: bytes) -> None:
        """asyncio's: keep it, and pause when too much waits."""
        self._received.append(data)
        self._size += len(data)
        if self._size > MOST_WAITING:
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        """asyncio's: the client sends nothing more, which ends all of it."""
        self.connection_lost(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: wake who waits, and let the HTTP side clean up."""
        if not self._gone:
            self._gone = True
            self._news.set()
            self._writable.set()
            self._before.connection_lost(exc)

    def pause_writing(self) -> None:
        """asyncio's: the client takes no more for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """asyncio's: it does again."""
        self._writable.set()

    async def send(self, data: bytes) -> None:
        """Bytes to the client.  Raises ConnectionError."""
        await self._writable.wait()
        if self._gone:
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)

    async def receive(self) -> bytes:
        """What arrived, none when the client is gone."""
        while not self._received and not self._gone:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), SILENCE_S)
        if not self._received:
            return b""
        data = self._received.popleft()
        self._size -= len(data)
        if self._size <= MOST_WAITING // 2 and not self._transport.is_closing():
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        """End the connection after what was written."""
        self._transport.close()
