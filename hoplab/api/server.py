"""The server of a lab that stays: an event loop in a thread of its own, on a socket that was made for it.

The socket listens on the host's loopback and was made before the lab entered its namespaces,
so that kubectl reaches it from outside.  Connections are counted: more than the most are closed
unheard, ones that say nothing for a while are closed too.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import web

from hoplab.api.certificates import Identity
from hoplab.api.http import Front
from hoplab.api.limits import BODY_BYTES, Limits
from hoplab.api.podaccess import PodAccess
from hoplab.api.reading import Reader
from hoplab.api.registry import Registry
from hoplab.api.service import Service
from hoplab.errors import HoplabError
from hoplab.kube.admit import Ranges
from hoplab.kube.store import Store

DEFAULT_LIMITS = Limits()
START_S = 10.0


class ApiServer:
    """Serves the objects of a store, which must have a reentrant lock, and the pods of a PodAccess."""

    def __init__(
        self,
        store: Store,
        ranges: Ranges,
        access: PodAccess,
        identity: Identity,
        seed: int = 0,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._limits = limits
        registry = Registry(store, ranges, random.Random(seed))
        self._front = Front(Service(registry, Reader(store)), access, identity.token, limits)
        self._tls = _context(identity)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def start(self, *listeners: socket.socket) -> None:
        """Serve on bound, listening sockets; returns when the server answers.  Raises HoplabError."""
        ready = threading.Event()

        def run() -> None:
            try:
                asyncio.run(self._serve(listeners, ready))
            except BaseException as error:
                self._failure = error
                ready.set()

        self._thread = threading.Thread(target=run, name="api-server", daemon=True)
        self._thread.start()
        if not ready.wait(START_S) or self._failure is not None:
            raise HoplabError(f"the API server did not start: {self._failure or f'nothing within {START_S:.0f} s'}")

    def close(self) -> None:
        """End all connections and the thread."""
        if self._loop is not None and self._stop is not None and self._thread is not None:
            if self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(START_S)

    async def _serve(self, listeners: Sequence[socket.socket], ready: threading.Event) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        loop.set_default_executor(ThreadPoolExecutor(self._limits.threads, thread_name_prefix="api"))
        # A middleware sees every request, also those whose paths no router would take.
        app = web.Application(client_max_size=BODY_BYTES, middlewares=[self._front.middleware])
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            keepalive_timeout=self._limits.idle,
            lingering_time=self._limits.lingering,
            shutdown_timeout=self._limits.goodbye,
        )
        await runner.setup()
        factory = runner.server
        assert factory is not None
        most = self._limits.connections_here()

        def connection() -> asyncio.Protocol:
            return factory() if len(factory.connections) < most else _Refused()

        servers = []
        for listener in listeners:
            listener.setblocking(False)
            servers.append(
                await loop.create_server(
                    connection, sock=listener, ssl=self._tls, ssl_handshake_timeout=self._limits.handshake, backlog=128
                )
            )
        try:
            ready.set()
            await self._stop.wait()
        finally:
            for server in servers:
                server.close()
            await runner.cleanup()


class _Refused(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _context(identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # The ssl module reads keys from files only; this one is there for a moment, for its owner alone.
    with tempfile.TemporaryDirectory(prefix="hoplab-tls-") as folder:
        path = Path(folder) / "server.pem"
        path.touch(mode=0o600)
        path.write_bytes(identity.key + identity.certificate)
        context.load_cert_chain(path)
    return context
