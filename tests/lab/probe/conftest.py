"""Runs a test's body as process 1 of a fresh sandbox: real namespaces, and nothing of it stays."""

from __future__ import annotations

import socket
import sys
import time
import traceback
from collections.abc import Callable

import pytest

from hoplab.hops.evidence import Frame
from hoplab.net import sandbox
from hoplab.net.loop import Loop
from hoplab.net.namespaces import Namespace
from hoplab.watch.watched import enlarge

InSandbox = Callable[[Callable[[], None]], None]


@pytest.fixture
def in_sandbox(capfd: pytest.CaptureFixture[str]) -> InSandbox:
    """Call it with a function; a failure inside fails the test with the inner traceback."""

    def run(body: Callable[[], None]) -> None:
        def main() -> int:
            try:
                body()
            except BaseException:
                traceback.print_exc(file=sys.stderr)
                return 1
            return 0

        code = sandbox.run(main)
        told = capfd.readouterr().err
        if code != 0:
            pytest.fail(f"inside the sandbox (exit code {code}):\n{told}", pytrace=False)

    return run


class Tap(Loop):
    """The least that an observer is: one packet socket a namespace, frames to whoever asked."""

    def __init__(self, namespaces: list[Namespace]) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self._listeners: dict[str, list[Callable[[Frame], None]]] = {}
        for namespace in namespaces:
            with namespace.entered():
                tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            # Room for what hundreds of exchanges bring while this process waits for a processor.
            enlarge(tap)
            tap.setblocking(False)
            self.register(tap.fileno(), lambda tap=tap, name=namespace.name: self._take(tap, name))  # type: ignore[misc]

    def _take(self, tap: socket.socket, name: str) -> None:
        while True:
            try:
                data, (interface, _protocol, kind, *_) = tap.recvfrom(65535)
            except BlockingIOError:
                return
            direction = "out" if kind == socket.PACKET_OUTGOING else "in"
            frame = Frame(len(self.frames) + 1, time.time_ns(), name, interface, direction, data, len(data))  # type: ignore[arg-type]
            self.frames.append(frame)
            for callback in self._listeners.get(name, ()):
                callback(frame)

    def on_frame(self, node: str, callback: Callable[[Frame], None]) -> Callable[[], None]:
        self._listeners.setdefault(node, []).append(callback)
        return lambda: self._listeners[node].remove(callback)


@pytest.fixture
def tap() -> type[Tap]:
    return Tap
