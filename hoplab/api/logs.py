"""`kubectl logs`: which lines of a container's log a client wants, and following it while it grows.

Source: core/v1's PodLogOptions and kubelet's pkg/kubelet/kuberuntime/logs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hoplab.api import status
from hoplab.api.ages import parsed_time
from hoplab.api.paths import flag
from hoplab.api.podaccess import ContainerLog, LogLine
from hoplab.kube.clock import timestamp

AT_A_TIME = 1000
"""Lines that are written in one piece."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """PodLogOptions; `since_ns` is a time, `tail` and `limit` (bytes) are None where nothing is said."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since_ns: int = 0
    tail: int | None = None
    limit: int | None = None


def options(query: Mapping[str, str], now: datetime) -> LogOptions:
    """The options of a query.  Raises ApiError (400, 422)."""
    since_ns = 0
    if query.get("sinceSeconds"):
        since_ns = int((now.timestamp() - _number(query, "sinceSeconds", 1)) * 1e9)
    elif query.get("sinceTime"):
        moment = parsed_time(query["sinceTime"])
        if moment is None:
            raise status.bad_request(f"sinceTime: expected a time (RFC 3339), found {query['sinceTime']!r}")
        since_ns = int(moment.timestamp() * 1e9)
    tail = _number(query, "tailLines", 0) if query.get("tailLines") else None
    limit = _number(query, "limitBytes", 1) if query.get("limitBytes") else None
    return LogOptions(flag(query, "follow"), flag(query, "previous"), flag(query, "timestamps"), since_ns, tail, limit)


def _number(query: Mapping[str, str], name: str, least: int) -> int:
    text = query[name]
    if not text.isdecimal() or len(text) > 12 or int(text) < least:
        problem = (name, f"Invalid value: {text}: must be greater than or equal to {least}")
        raise status.invalid("PodLogOptions", "", "", [problem])
    return int(text)


def written(lines: Sequence[LogLine], wanted: LogOptions) -> bytes:
    """Lines as the client sees them."""
    if not wanted.timestamps:
        return b"".join(line.text + b"\n" for line in lines)
    return b"".join(_stamp(line.time_ns) + b" " + line.text + b"\n" for line in lines)


def _stamp(time_ns: int) -> bytes:
    return f"{timestamp(time_ns // 10**9)[:-1]}.{time_ns % 10**9:09d}Z".encode()


async def pieces(log: ContainerLog, wanted: LogOptions) -> AsyncGenerator[bytes, None]:
    """The log piece by piece, until its end, or its present end when it is not followed."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def changed() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(news.set)

    stop = log.subscribe(changed)
    left = wanted.limit
    try:
        lines, ended = await asyncio.to_thread(log.read, 0)
        start = len(lines)
        lines = [line for line in lines if line.time_ns >= wanted.since_ns]
        if wanted.tail is not None:
            lines = lines[max(len(lines) - wanted.tail, 0) :]
        while True:
            for at in range(0, len(lines), AT_A_TIME):
                data = written(lines[at : at + AT_A_TIME], wanted)
                if left is not None:
                    data = data[:left]
                    left -= len(data)
                if data:
                    yield data
            if ended or not wanted.follow or left == 0:
                return
            news.clear()
            more, ended = await asyncio.to_thread(log.read, start)
            if not more and not ended:
                await news.wait()
            start += len(more)
            lines = list(more)
    finally:
        stop()
