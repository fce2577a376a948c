"""HTTP by hand at an API: what no well-behaved client would ever send."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from dataclasses import dataclass

from tests.lab.api.rig import PATIENCE_S


@dataclass
class Answer:
    code: int
    head: str
    body: bytes

    @property
    def status(self):
        return json.loads(self.body)


def connect(rig):
    context = ssl.create_default_context(cadata=rig.identity.authority.decode())
    plain = socket.create_connection(("127.0.0.1", rig.port), PATIENCE_S)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def head(rig, method, path, headers=(), token=True):
    lines = [f"{method} {path} HTTP/1.1", "Host: lab", *(f"{name}: {value}" for name, value in headers)]
    if token:
        lines.append(f"Authorization: Bearer {rig.identity.token}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def read_answer(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        if not received:
            raise ConnectionError(f"closed after {data!r}")
        data += received
    top, _blank, body = data.partition(b"\r\n\r\n")
    text = top.decode("latin-1")
    length = next(
        (int(line.split(":")[1]) for line in text.splitlines() if line.lower().startswith("content-length")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return Answer(int(text.split()[1]), text, body)


def ask(rig, method, path, body=b"", content_type="application/json", token=True, headers=()):
    more = [("Content-Type", content_type), ("Content-Length", len(body))] if body else []
    with connect(rig) as connection:
        connection.sendall(head(rig, method, path, [*headers, *more], token) + body)
        return read_answer(connection)


def closed_within(connection, seconds):
    deadline = time.monotonic() + seconds
    connection.settimeout(seconds)
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            if not connection.recv(1000):
                return True
        return False
    return time.monotonic() < deadline
