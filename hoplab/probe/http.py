"""HTTP from the client's side, without sockets: the request that a probe makes, and the answer taken apart.

RFC 9112: an answer ends with its Content-Length, its last chunk, or its connection.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_BODILESS = (204, 304)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One answer.  Header names are in lower case; the last one wins when a name comes twice."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = True
    """Whether all of the body was there."""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def told(self) -> Mapping[str, Any]:
        """What a pod's server says in JSON; empty when the body is no JSON object."""
        return read_told(self.body)

    @property
    def pod(self) -> str:
        """The pod that answered, by its own word; '' when the answer is of something else."""
        return self.headers.get("x-hoplab-pod", "")

    @property
    def client(self) -> str:
        """IP:PORT of the client as the pod saw it, '' likewise."""
        return self.headers.get("x-hoplab-client", "")

    @property
    def proxied(self) -> str:
        """IP:PORT of the client that a PROXY protocol header named to the pod, '' when there was none."""
        return self.headers.get("x-hoplab-proxied", "")


def request_bytes(
    host: str, path: str, *, token: str = "", method: str = "GET", body: bytes = b"", keep_alive: bool = False
) -> bytes:
    """A request.  `host` is the Host header's value; `token` is added to the path's query."""
    if token:
        path += ("&" if "?" in path else "?") + f"token={token}"
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "User-Agent: hoplab", "Accept: */*"]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    if not keep_alive:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def host_header(address: str, port: int) -> str:
    """The Host header for an address and port (RFC 9110 7.2); port 80 goes without saying."""
    name = f"[{address}]" if ":" in address else address
    return name if port == 80 else f"{name}:{port}"


def read_response(data: bytes, *, ended: bool, head_only: bool = False) -> tuple[HttpResponse, bytes] | None:
    """The first answer in `data` and what follows it; None while there is none that is whole.

    `ended`: no more will come, so what there is counts, marked as not whole where something is missing.
    Also None for anything that is no HTTP answer.
    """
    head, separator, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = re.match(r"HTTP/1\.[01] (\d{3})(?: |\Z)", lines[0])
    if not separator or status is None:
        return None
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    code = int(status[1])
    if 100 <= code < 200:
        return read_response(rest, ended=ended, head_only=head_only)
    if head_only or code in _BODILESS:
        return HttpResponse(code, headers), rest
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body, rest, whole = _read_chunks(rest)
    elif headers.get("content-length", "").isdigit():
        length = int(headers["content-length"])
        body, rest, whole = rest[:length], rest[length:], len(rest) >= length
    else:
        body, rest, whole = rest, b"", ended
    return (HttpResponse(code, headers, body, whole), rest) if whole or ended else None


def _read_chunks(data: bytes) -> tuple[bytes, bytes, bool]:
    """(body, what follows, whether the last chunk was there)."""
    body = b""
    while True:
        line, newline, rest = data.partition(b"\r\n")
        size = re.match(rb"[0-9A-Fa-f]{1,8}", line)
        if not newline or size is None:
            return body, b"", False
        length = int(size[0], 16)
        if length == 0:
            trailer_end = re.match(rb"(?:[^\r\n]+\r\n)*\r\n", rest)
            return body, rest[trailer_end.end() :] if trailer_end else b"", trailer_end is not None
        body += rest[:length]
        if len(rest) < length + 2:
            return body, b"", False
        data = rest[length + 2 :]


def read_told(data: bytes) -> Mapping[str, Any]:
    """The JSON object that a pod's server sent, empty when there is none."""
    try:
        told = json.loads(data)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
