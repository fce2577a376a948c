"""The PROXY protocol's header: how a proxy of connections tells the server whom it stands for.

A proxy that only passes bytes on has no other place to name its client than the
beginning of the connection.  Version 1 is one line of text, version 2 a signature of
twelve bytes, then command, family, a length and the addresses; what follows them up
to that length (TLVs) is not looked at.

Source: "The PROXY protocol, versions 1 & 2" (HAProxy's doc/proxy-protocol.txt), 2.1 and 2.2.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

Ends = tuple[str, int, str, int]
"""Source address and port, destination address and port."""

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST_V1 = 107
"""Bytes of a version 1 line with its CRLF, as the specification counts them."""
_PORT = rb"(0|[1-9]\d{0,4})"
_V1 = re.compile(rb"PROXY (?:(TCP4|TCP6) (\S+) (\S+) " + _PORT + b" " + _PORT + rb"|UNKNOWN[^\r\n]*)\r\n")
_SIZES = {1: 4, 2: 16}
_STREAM, _DATAGRAM = 1, 2


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A header that was read: `client` is the connection it stands for, None when it names none."""

    version: int
    length: int
    """Bytes of the stream that it takes."""
    client: Ends | None = None

    @property
    def words(self) -> str:
        """'PROXY protocol version 2: 203.0.113.10:45308 -> 198.51.100.11:80'."""
        whom = "no connection (LOCAL or UNKNOWN)"
        if self.client:
            src, sport, dst, dport = self.client
            whom = f"{_socket(src, sport)} -> {_socket(dst, dport)}"
        return f"PROXY protocol version {self.version}: {whom}"


def read_proxy_header(stream: bytes) -> ProxyHeader | None:
    """The header that a stream begins with; None when there is none that is whole and well formed."""
    if stream.startswith(SIGNATURE):
        return _read_v2(stream)
    return _read_v1(stream[:LONGEST_V1]) if stream.startswith(b"PROXY ") else None


def may_become_header(stream: bytes) -> bool:
    """Whether these bytes are the beginning of a header that is not whole yet."""
    if stream.startswith(SIGNATURE):
        whole = len(stream) >= 16 and len(stream) >= 16 + int.from_bytes(stream[14:16], "big")
        return not whole
    if stream.startswith(b"PROXY "):
        return b"\n" not in stream and len(stream) < LONGEST_V1
    return bool(stream) and (SIGNATURE.startswith(stream) or b"PROXY ".startswith(stream))


def without_proxy_header(stream: bytes) -> bytes:
    """The stream behind its header, or as it is."""
    header = read_proxy_header(stream)
    return stream[header.length :] if header else stream


def _read_v1(line: bytes) -> ProxyHeader | None:
    match = _V1.match(line)
    if match is None:
        return None
    family, src, dst, sport, dport = match.groups()
    if family is None:
        return ProxyHeader(1, match.end())
    try:
        source, destination = (ipaddress.ip_address(each.decode("ascii")) for each in (src, dst))
    except ValueError:
        return None
    wanted = 4 if family == b"TCP4" else 6
    if {source.version, destination.version} != {wanted} or max(int(sport), int(dport)) > 65535:
        return None
    return ProxyHeader(1, match.end(), (str(source), int(sport), str(destination), int(dport)))


def _read_v2(stream: bytes) -> ProxyHeader | None:
    if len(stream) < 16 or stream[12] >> 4 != 2:
        return None
    command, family, transport = stream[12] & 0x0F, stream[13] >> 4, stream[13] & 0x0F
    length = 16 + int.from_bytes(stream[14:16], "big")
    if command > 1 or len(stream) < length:
        return None
    size = _SIZES.get(family, 0)
    if command == 0 or not size or transport not in (_STREAM, _DATAGRAM):
        return ProxyHeader(2, length)
    if length < 16 + 2 * size + 4:
        return None
    at = 16 + 2 * size
    ports = int.from_bytes(stream[at : at + 2], "big"), int.from_bytes(stream[at + 2 : at + 4], "big")
    source, destination = (str(ipaddress.ip_address(each)) for each in (stream[16 : 16 + size], stream[16 + size : at]))
    return ProxyHeader(2, length, (source, ports[0], destination, ports[1]))


def _socket(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
