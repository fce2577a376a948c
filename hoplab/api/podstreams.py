"""exec, attach and port-forward: from an upgraded request to bytes in a pod.

The same streams come in two ways: as a WebSocket (kubectl since 1.31), or as SPDY after an HTTP
upgrade (kubectl before, and as fall-back).  What happens in the pod is the same for both.
Source: core/v1's PodExecOptions, PodAttachOptions and PodPortForwardOptions, apiserver's
pkg/registry/core/pod/strategy.go (locations), kubelet's streaming server.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from socket import socket as Socket
from typing import Any

from aiohttp import web

from hoplab.api import paths, sessions, spdy, status
from hoplab.api.carriers import HijackedConnection, WebSocketCarrier
from hoplab.api.channels import PROTOCOLS, SPDY_PROTOCOLS, Carrier, Channels, SpdyChannels, WebSocketChannels
from hoplab.api.podaccess import PodAccess, PodAccessError, PodName, Started
from hoplab.api.portforward import PortForward
from hoplab.api.registry import Registry, Target
from hoplab.kube.objects import KubeObject

TUNNEL = "SPDY/3.1+portforward.k8s.io"
PORT_FORWARD = "portforward.k8s.io"
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
LARGEST_MESSAGE = 1 << 20
ECHO_S = 60.0
"""A WebSocket client is asked for a sign of life that often."""


def pod_name(pod: KubeObject) -> PodName:
    """For the PodAccess."""
    return PodName(pod.meta.namespace, pod.meta.name, pod.meta.uid)


def container_of(pod: KubeObject, wanted: str) -> str:
    """The container that is meant.  Raises ApiError (400)."""
    names = [each["name"] for each in pod.spec.get("containers") or ()]
    initial = [each["name"] for each in pod.spec.get("initContainers") or ()]
    if wanted:
        if wanted not in (*names, *initial):
            raise status.bad_request(f"container {wanted} is not valid for pod {pod.meta.name}")
        return wanted
    default = pod.meta.annotations.get(DEFAULT_CONTAINER, "")
    if default in names:
        return default
    if len(names) == 1:
        return str(names[0])
    listed = " ".join(names)
    also = f" or one of the init containers: [{' '.join(initial)}]" if initial else ""
    raise status.bad_request(
        f"a container name must be specified for pod {pod.meta.name}, choose one of: [{listed}]{also}"
    )


def expect_assigned(pod: KubeObject) -> None:
    """Raises ApiError (400) for a pod that no node has yet."""
    if not pod.spec.get("nodeName"):
        raise status.bad_request(f"pod {pod.meta.name} does not have a host assigned")


def state_of(pod: KubeObject, container: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """What its node last said of a container: its state, and how the run before ended; None when it said nothing."""
    for field in ("containerStatuses", "initContainerStatuses"):
        for each in pod.status.get(field) or ():
            if each.get("name") == container:
                return each.get("state") or {}, each.get("lastState") or {}
    return None


def expect_started(pod: KubeObject, container: str) -> None:
    """Raises ApiError (400) for the log of a container that never ran yet (validateContainerLogStatus)."""
    said = state_of(pod, container)
    if said is None or "terminated" in said[1] or "waiting" not in said[0]:
        return
    reason = said[0]["waiting"].get("reason", "")
    raise status.bad_request(f'container "{container}" in pod "{pod.meta.name}" is waiting to start: {reason}')


def _expect_running(pod: KubeObject, container: str) -> None:
    """Raises ApiError (500) for a container that is known not to run, where nobody can do anything in it."""
    said = state_of(pod, container)
    if said is not None and said[0] and "running" not in said[0]:
        why = f'unable to upgrade connection: container not found ("{container}")'
        raise status.ApiError(500, "InternalError", f"Internal error occurred: {why}")


class PodStreams:
    """Serves the streaming subresources of pods."""

    def __init__(self, registry: Registry, access: PodAccess) -> None:
        self._registry, self._access = registry, access

    async def handle(self, request: web.Request, target: Target) -> web.StreamResponse:
        """One request for exec, attach or portforward.  Raises ApiError before anything is upgraded."""
        pod = self._registry.get(target)
        expect_assigned(pod)
        phase = pod.status.get("phase")
        if phase in ("Succeeded", "Failed"):
            verb = {"exec": "exec into", "attach": "attach to"}.get(target.subresource, "forward to")
            raise status.bad_request(f"cannot {verb} a container in a completed pod; current phase is {phase}")
        if target.subresource == "portforward":
            return await self._forward(request, pod)
        container = container_of(pod, request.query.get("container", ""))
        _expect_running(pod, container)
        return await self._run(request, target, pod, container)

    async def _run(self, request: web.Request, target: Target, pod: KubeObject, container: str) -> web.StreamResponse:
        query = dict(request.query)
        stdin, stdout, stderr, tty = (paths.flag(query, name) for name in ("stdin", "stdout", "stderr", "tty"))
        command = request.query.getall("command", [])
        if target.subresource == "exec" and not command:
            raise status.bad_request("you must specify at least 1 command for the container")
        if not (stdin or stdout or stderr):
            raise status.bad_request("you must specify at least 1 of stdin, stdout, stderr")

        def start() -> Started:
            name, errors = pod_name(pod), stderr and not tty
            if target.subresource == "attach":
                return self._access.attach(name, container, stdin=stdin, stdout=stdout, stderr=errors, tty=tty)
            return self._access.run(name, container, command, stdin=stdin, stdout=stdout, stderr=errors, tty=tty)

        async def serve(channels: Channels) -> None:
            try:
                started = await sessions.start(start)
            except (PodAccessError, OSError) as error:
                await channels.send("error", json.dumps(sessions.failure(str(error))).encode())
                await channels.close()
                return
            await sessions.serve(channels, started)

        if _is_websocket(request):
            socket = await _websocket(request, PROTOCOLS)
            await serve(WebSocketChannels(socket))
            return socket
        wanted = {"error"} | {name for name, on in (("stdin", stdin), ("stdout", stdout)) if on}
        wanted |= {"stderr"} if stderr and not tty else set()
        wanted |= {"resize"} if tty else set()

        async def over_spdy(carrier: Carrier) -> None:
            channels = SpdyChannels(carrier, spdy.Connection())
            await channels.begin(wanted)
            await serve(channels)

        return await _hijacked(request, SPDY_PROTOCOLS, over_spdy)

    async def _forward(self, request: web.Request, pod: KubeObject) -> web.StreamResponse:
        def connect(port: int) -> Socket:
            return self._access.connect(pod_name(pod), port)

        if _is_websocket(request):
            socket = await _websocket(request, (TUNNEL,))
            try:
                await PortForward(WebSocketCarrier(socket), spdy.Connection(), connect).serve()
            except spdy.SpdyError:
                await socket.close(code=1002)
            else:
                await socket.close()
            return socket

        async def over_spdy(carrier: Carrier) -> None:
            await PortForward(carrier, spdy.Connection(), connect).serve()

        return await _hijacked(request, (PORT_FORWARD,), over_spdy)


def _is_websocket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


async def _websocket(request: web.Request, protocols: tuple[str, ...]) -> web.WebSocketResponse:
    """The upgraded request.  Raises ApiError (400) when the client speaks none of the protocols."""
    given = [each.strip() for each in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    if not set(given) & set(protocols):
        raise status.bad_request(f"expected one of the WebSocket subprotocols {', '.join(protocols)}, found {given}")
    socket = web.WebSocketResponse(protocols=protocols, max_msg_size=LARGEST_MESSAGE, heartbeat=ECHO_S, compress=False)
    await socket.prepare(request)
    return socket


async def _hijacked(
    request: web.Request, protocols: tuple[str, ...], serve: Callable[[Carrier], Awaitable[None]]
) -> web.StreamResponse:
    """Take the connection over and serve SPDY on it.  Raises ApiError (400, 403)."""
    if request.headers.get("Upgrade", "").lower() != "spdy/3.1":
        raise status.bad_request("Upgrade request required")
    given = [
        each.strip() for line in request.headers.getall("X-Stream-Protocol-Version", []) for each in line.split(",")
    ]
    protocol = next((each for each in protocols if each in given), None)
    if protocol is None:
        message = f"unable to upgrade: unable to negotiate protocol: client supports {given}, server supports "
        raise status.ApiError(403, "Forbidden", message + str(list(protocols)))
    connection = HijackedConnection(request)
    headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": protocol}
    connection.answer(headers)
    try:
        await serve(connection)
    except (spdy.SpdyError, ConnectionError, TimeoutError):
        pass  # What can't be spoken with is left; there is no HTTP any more to say so.
    finally:
        connection.close()
    # The connection is no HTTP any more: nothing that is returned reaches anybody.
    return web.Response(status=101)
