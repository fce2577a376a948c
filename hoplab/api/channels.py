"""The streams of an exec or attach, whichever way the client has them: WebSocket channels or SPDY streams.

Over WebSocket each message begins with a byte that says which stream it belongs to: 0 stdin,
1 stdout, 2 stderr, 3 the result, 4 the terminal's size; since v5, 255 and a number close that
stream.  Over SPDY each is a stream of its own, named by its header `streamtype`.
Source: apimachinery's pkg/util/remotecommand/constants.go and kubelet's pkg/cri/streaming/remotecommand.
"""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol

from aiohttp import WSMsgType, web

from hoplab.api import spdy

Name = Literal["stdin", "stdout", "stderr", "error", "resize"]
NUMBERS: tuple[Name, ...] = ("stdin", "stdout", "stderr", "error", "resize")
CLOSE = 255
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
"""WebSocket subprotocols; v4 can't close stdin alone."""
SPDY_PROTOCOLS = ("v4.channel.k8s.io",)
LONGEST_WAIT_S = 30.0
"""For the streams that a client must open."""


class Channels(Protocol):
    """What a running command is connected to."""

    async def send(self, name: Name, data: bytes) -> None:
        """Bytes to the client; waits while it takes no more.  Raises ConnectionError."""
        ...

    async def receive(self) -> tuple[Name, bytes] | None:
        """What the client sent on stdin (no bytes: its end) or resize; None when the client is gone."""
        ...

    async def close(self) -> None:
        """Everything was sent."""
        ...


class WebSocketChannels:
    """Channels in WebSocket messages."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def send(self, name: Name, data: bytes) -> None:
        """One message."""
        await self._socket.send_bytes(bytes([NUMBERS.index(name)]) + data)

    async def receive(self) -> tuple[Name, bytes] | None:
        """The next message that matters."""
        while True:
            message = await self._socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return None
            data = message.data.encode() if message.type == WSMsgType.TEXT else bytes(message.data)
            if data[:1] == bytes([CLOSE]):
                if data[1:2] == b"\0":
                    return "stdin", b""
            elif data and data[0] in (0, 4) and len(data) > 1:
                return NUMBERS[data[0]], data[1:]

    async def close(self) -> None:
        """Say good-bye."""
        await self._socket.close()


class Carrier(Protocol):
    """What SPDY frames travel on: a hijacked connection, or WebSocket messages."""

    async def send(self, data: bytes) -> None:
        """Bytes to the client."""
        ...

    async def receive(self) -> bytes:
        """Bytes from the client, none when it is gone."""
        ...


class SpdyChannels:
    """Channels as SPDY streams."""

    def __init__(self, carrier: Carrier, connection: spdy.Connection) -> None:
        self._carrier, self._connection = carrier, connection
        self._streams: dict[str, int] = {}
        self._waiting: list[tuple[Name, bytes]] = []

    async def begin(self, wanted: set[str]) -> None:
        """Wait for the streams that the request asked for.  Raises TimeoutError, SpdyError, ConnectionError."""
        async with asyncio.timeout(LONGEST_WAIT_S):
            while not wanted <= set(self._streams):
                received = await self._carrier.receive()
                if not received:
                    raise ConnectionError("the client went before it had opened its streams")
                await self._take(received)

    async def _take(self, received: bytes) -> bool:
        for event in self._connection.feed(received):
            if isinstance(event, spdy.Opened):
                self._streams[event.headers.get("streamtype", "")] = event.stream
                await self._carrier.send(self._connection.accept(event.stream))
                if event.fin and event.headers.get("streamtype") == "stdin":
                    self._waiting.append(("stdin", b""))
            elif isinstance(event, spdy.Data):
                for name in ("stdin", "resize"):
                    if self._streams.get(name) == event.stream:
                        if event.data:
                            self._waiting.append((name, event.data))
                        if event.fin and name == "stdin":
                            self._waiting.append(("stdin", b""))
            elif isinstance(event, spdy.Answer):
                await self._carrier.send(event.data)
            elif isinstance(event, spdy.Gone):
                return False
        return True

    async def send(self, name: Name, data: bytes) -> None:
        """One or more data frames."""
        stream = self._streams.get(name)
        if stream is not None:
            await self._carrier.send(spdy.data(stream, data))

    async def receive(self) -> tuple[Name, bytes] | None:
        """The next thing that the client said."""
        while not self._waiting:
            received = await self._carrier.receive()
            if not received or not await self._take(received):
                return None
        return self._waiting.pop(0)

    async def close(self) -> None:
        """End the streams that carry something to the client."""
        for name in ("stdout", "stderr", "error"):
            if name in self._streams:
                await self._carrier.send(spdy.data(self._streams[name], b"", fin=True))
