"""The lab's end of its control socket: takes requests from its user, and nobody else, and answers them.

Everything runs in the lab's one loop.  What is quick is answered at once; what takes a
while (a trace) waits for its turn outside the loop's callbacks; what lasts (a capture)
keeps its channel.  A program that is run inside gets the channel itself: from then on
its minder and the caller speak with each other, however busy the lab is.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from hoplab.errors import HoplabError
from hoplab.labs.capturing import Listening, all_interfaces
from hoplab.labs.channel import Channel, LabGone, close_all
from hoplab.labs.protocol import (
    Addons,
    Capture,
    Down,
    Exec,
    Interfaces,
    ProtocolError,
    Request,
    Status,
    Trace,
    from_message,
)
from hoplab.labs.running import RunningLab, services
from hoplab.net.namespaces import CommandFailed
from hoplab.net.zygote import SessionSpec, SpawnFailed

TOLD = (HoplabError, CommandFailed, SpawnFailed)
"""Errors whose message is for the user."""


class ControlServer:
    """Serves the control socket of one lab."""

    def __init__(self, lab: RunningLab, listener: socket.socket) -> None:
        self._lab, self._listener = lab, listener
        self._loop = lab.cluster.loop
        self._channels: dict[int, Channel] = {}
        self._listening: dict[int, Listening] = {}
        self._loop.register(listener.fileno(), self._accept)

    def refresh(self) -> None:
        """Tell those who capture of namespaces that came."""
        for descriptor, listening in list(self._listening.items()):
            try:
                listening.refresh()
            except (LabGone, OSError):
                self._close(descriptor)

    def close(self) -> None:
        """End every conversation."""
        self._loop.unregister(self._listener.fileno())
        for descriptor in list(self._channels):
            self._close(descriptor)
        self._listener.close()

    def _accept(self) -> None:
        try:
            opened, _address = self._listener.accept()
        except BlockingIOError:
            return
        channel = Channel(opened)
        # In the lab's user namespace its user is who the lab itself is; anybody else's id has no name there.
        if channel.peer()[1] != os.geteuid():
            channel.close()
            return
        channel.timeout(1.0)
        descriptor = channel.fileno()
        self._channels[descriptor] = channel
        self._loop.register(descriptor, lambda: self._hear(descriptor))

    def _close(self, descriptor: int) -> None:
        self._loop.unregister(descriptor)
        self._listening.pop(descriptor, None)
        channel = self._channels.pop(descriptor, None)
        if channel is not None:
            channel.close()

    def _hear(self, descriptor: int) -> None:
        channel = self._channels[descriptor]
        received: list[int] = []
        try:
            message, received = channel.receive()
            if descriptor in self._listening:
                self._listening[descriptor].asked(message)
                return
            self._serve(descriptor, from_message(message), received)
        except LabGone:
            self._close(descriptor)
        except Exception as error:
            # Whatever one request meets must not end the lab.
            self._refuse(descriptor, error)
        finally:
            close_all(received)

    def _refuse(self, descriptor: int, error: Exception) -> None:
        if not isinstance(error, TOLD):
            traceback.print_exception(error, file=sys.stderr)
        self._answer(descriptor, refusal(error))
        if not isinstance(error, ProtocolError):
            self._close(descriptor)

    def _answer(self, descriptor: int, message: Mapping[str, Any]) -> None:
        channel = self._channels.get(descriptor)
        if channel is not None:
            try:
                channel.send(message)
            except (LabGone, OSError):
                self._close(descriptor)

    def _serve(self, descriptor: int, request: Request, received: list[int]) -> None:
        match request:
            case Status():
                self._answer(descriptor, status(self._lab))
            case Interfaces():
                self._answer(descriptor, {"interfaces": all_interfaces(self._lab)})
            case Down():
                self._answer(descriptor, {})
                self._lab.ending = True
            case Exec():
                self._exec(descriptor, request, received)
            case Trace():
                self._later(descriptor, lambda: _traced(self._lab, request))
            case Addons():
                self._later(descriptor, lambda: _addons(self._lab, request))
            case Capture():
                self._listening[descriptor] = Listening(self._lab, request, self._channels[descriptor])

    def _later(self, descriptor: int, work: Callable[[], Mapping[str, Any]]) -> None:
        def job() -> None:
            try:
                answer = work()
            except Exception as error:
                self._refuse(descriptor, error)
            else:
                self._answer(descriptor, answer)

        self._lab.jobs.append(job)

    def _exec(self, descriptor: int, request: Exec, received: list[int]) -> None:
        if len(received) != 3:
            raise ProtocolError(f"exec comes with 3 descriptors, this one with {len(received)}")
        if not request.argv:
            raise ProtocolError("exec: argv is empty")
        inside = self._lab.namespace(request.target, request.namespace)
        environment = self._lab.environment(inside, request.environment)
        spec = SessionSpec(request.argv, environment, request.directory or "/", request.terminal)
        self._lab.session(inside, spec, [*received, self._channels[descriptor].fileno()])
        # The program's minder has it now.
        self._close(descriptor)


def refusal(error: Exception) -> dict[str, Any]:
    """An error as an answer: its message, and the exit code that it means."""
    if isinstance(error, TOLD):
        return {"error": str(error), "code": getattr(error, "exit_code", 1)}
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return {"error": f"unexpected {what}. This is a defect; the lab's log has more", "code": 1}


def status(lab: RunningLab) -> dict[str, Any]:
    """What `ps` tells."""
    cluster = lab.cluster
    return {
        "nodes": len(cluster.nodes),
        "pods": len(cluster.running()),
        "services": len(services(cluster)),
    }


def _traced(lab: RunningLab, request: Trace) -> dict[str, Any]:
    from hoplab.labs.tracing import trace

    return trace(lab, request)


def _addons(lab: RunningLab, request: Addons) -> dict[str, Any]:
    from hoplab.labs import addons

    return {"addons": addons.asked(lab, request)}
