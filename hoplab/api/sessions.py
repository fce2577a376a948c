"""A running command and its client: bytes both ways, the terminal's size, and how it ended.

What the command writes goes to the client as fast as that takes it; when the command has
ended, what is still in its pipes is sent, then the result as a Status on the error stream:
success, or the exit code as a cause.  When the client goes first the command is ended.
Source: kubelet's pkg/cri/streaming/remotecommand (the v4 error stream) and apimachinery's
pkg/util/remotecommand.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

from hoplab.api import descriptors
from hoplab.api.channels import Channels, Name
from hoplab.api.podaccess import Started


def result(code: int) -> dict[str, Any]:
    """The Status of an exit code."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    message = f"command terminated with non-zero exit code: exit status {code}"
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return {
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "NonZeroExitCode",
        "details": {"causes": causes},
    }


def failure(message: str) -> dict[str, Any]:
    """The Status of a command that could not be started."""
    details = {"causes": [{"message": message}]}
    text = f"Internal error occurred: {message}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": text,
        "reason": "InternalError",
        "details": details,
        "code": 500,
    }


async def serve(channels: Channels, started: Started) -> None:
    """Run until the command has ended or the client is gone; closes the descriptors and the channels."""
    open_fds = {fd for fd in (started.stdin, started.stdout, started.stderr) if fd is not None}
    for fd in open_fds:
        os.set_blocking(fd, False)
    listening = asyncio.create_task(_listen(channels, started, open_fds))
    session = asyncio.create_task(_session(channels, started, open_fds, listening))
    try:
        await asyncio.shield(session)
    except asyncio.CancelledError:
        # A request whose client is gone is cancelled, maybe twice; what was started is ended all the same.
        listening.cancel()
        await asyncio.wait({session})
        raise


async def start(begin: Callable[[], Started]) -> Started:
    """Start something in a thread; what starts after nobody waits for it any more is ended at once."""
    starting = asyncio.create_task(asyncio.to_thread(begin))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_abandon)
        raise


def _abandon(starting: asyncio.Task[Started]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        started = starting.result()
        for fd in (started.stdin, started.stdout, started.stderr):
            if fd is not None:
                os.close(fd)
        started.close()


async def _session(channels: Channels, started: Started, open_fds: set[int], listening: asyncio.Task[None]) -> None:
    outputs: list[tuple[Name, int]] = []
    for name, output in (("stdout", started.stdout), ("stderr", started.stderr)):
        if output is not None:
            outputs.append((name, output))  # type: ignore[arg-type]
    pumps = [asyncio.create_task(_pump(channels, name, fd)) for name, fd in outputs]
    ended = asyncio.create_task(asyncio.to_thread(started.wait))
    try:
        await asyncio.wait({listening, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            await _stopped(pumps)
            for name, fd in outputs:
                while data := descriptors.read_now(fd):
                    await channels.send(name, data)
            await channels.send("error", json.dumps(result(ended.result())).encode())
            await channels.close()
    except ConnectionError:
        pass  # The client is gone: nobody is left to be told anything.
    finally:
        await _stopped([*pumps, listening])
        for fd in open_fds:
            os.close(fd)
        await asyncio.to_thread(started.close)
        await ended


async def _stopped(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(channels: Channels, name: Name, fd: int) -> None:
    while data := await descriptors.read(fd):
        await channels.send(name, data)


async def _listen(channels: Channels, started: Started, open_fds: set[int]) -> None:
    """What the client sends; returns when it is gone."""
    stdin = started.stdin
    while (received := await channels.receive()) is not None:
        name, data = received
        if name == "resize":
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                size = json.loads(data)
                started.resize(int(size.get("Width", 0)), int(size.get("Height", 0)))
        elif stdin is not None and stdin in open_fds:
            if data:
                try:
                    await descriptors.write(stdin, data)
                    continue
                except OSError:
                    pass  # The command closed its input; what else is typed goes nowhere.
            open_fds.discard(stdin)
            os.close(stdin)
