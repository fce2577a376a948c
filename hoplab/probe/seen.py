"""What a probe reads of an arriving packet: addresses, ports, TCP's numbers, and an ICMP error's quoted packet.

RFC 791, 8200, 9293, 768, 792, 4443.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from hoplab.probe.shapes import Endpoint

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
ECHO_REQUEST, ECHO_REPLY = 8, 0
_V6_ECHO = {128: ECHO_REQUEST, 129: ECHO_REPLY}
_V6_EXTENSIONS = (0, 43, 60)


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error message; types and codes are those of its own protocol version."""

    reporter: str
    type: int
    code: int
    mtu: int
    """Of 'fragmentation needed' and 'packet too big', else 0."""
    quoted: Seen
    """The packet that it is about, as far as it was quoted."""

    @property
    def asks_for_smaller(self) -> bool:
        """Fragmentation needed (RFC 1191) or packet too big (RFC 8201)."""
        return (self.type, self.code) == (3, 4) if ":" not in self.reporter else self.type == 2


@dataclass(frozen=True, slots=True)
class Seen:
    """One packet.  `kind` is tcp, udp, echo-request, echo-reply, icmp-error or other."""

    kind: str
    source: Endpoint
    destination: Endpoint
    payload: bytes = b""
    flags: int = 0
    seq: int = 0
    """TCP's sequence number, or ICMP echo's."""
    ack: int = 0
    window: int = 0
    mss: int = 0
    error: IcmpError | None = None


def read_frame(frame: bytes) -> Seen | None:
    """The IP packet of an Ethernet frame; None when there is none that a probe could be meant by."""
    at = 12
    kind = frame[at : at + 2]
    while kind in (b"\x81\x00", b"\x88\xa8"):
        at += 4
        kind = frame[at : at + 2]
    return read_packet(frame[at + 2 :]) if kind in (b"\x08\x00", b"\x86\xdd") else None


def read_packet(packet: bytes, *, quoted: bool = False) -> Seen | None:
    """An IP packet; None for a fragment that is not the first, and for anything cut short or malformed.

    A packet quoted by an ICMP error may be cut behind the ports (RFC 792: 64 bits of it are enough).
    """
    try:
        version = packet[0] >> 4
        if version == 4:
            length, fragment = (packet[0] & 15) * 4, struct.unpack_from("!H", packet, 6)[0]
            if fragment & 0x1FFF:
                return None
            end = struct.unpack_from("!H", packet, 2)[0]
            source, destination = (socket.inet_ntop(socket.AF_INET, packet[at : at + 4]) for at in (12, 16))
            return read_transport(packet[9], packet[length:end], source, destination, quoted=quoted)
        if version == 6:
            protocol, at, end = packet[6], 40, 40 + struct.unpack_from("!H", packet, 4)[0]
            while protocol in _V6_EXTENSIONS:
                protocol, at = packet[at], at + 8 + packet[at + 1] * 8
            source, destination = (socket.inet_ntop(socket.AF_INET6, packet[at : at + 16]) for at in (8, 24))
            return read_transport(protocol, packet[at:end], source, destination, quoted=quoted)
    except (IndexError, struct.error, ValueError):
        return None
    return None


def read_transport(protocol: int, data: bytes, source: str, destination: str, *, quoted: bool = False) -> Seen:
    """What follows an IP header.  Raises IndexError or struct.error when it is cut short."""
    if protocol in (TCP, UDP):
        sport, dport = struct.unpack_from("!HH", data)
        ends = Endpoint(source, sport), Endpoint(destination, dport)
        if protocol == UDP:
            return Seen("udp", *ends, payload=data[8:])
        return Seen("tcp", *ends) if quoted and len(data) < 20 else _tcp(data, *ends)
    if protocol in (ICMP, ICMPV6):
        return _icmp(protocol, data, source, destination, quoted=quoted)
    return Seen("other", Endpoint(source), Endpoint(destination), payload=data)


def _tcp(data: bytes, source: Endpoint, destination: Endpoint) -> Seen:
    seq, ack, offset, flags, window = struct.unpack_from("!IIBBH", data, 4)
    length = (offset >> 4) * 4
    options, mss = data[20:length], 0
    while options and options[0] != 0:
        if options[0] == 1:
            options = options[1:]
            continue
        if options[0] == 2:
            mss = struct.unpack_from("!H", options, 2)[0]
        options = options[max(2, options[1]) :]
    return Seen("tcp", source, destination, data[length:], flags & 0x3F, seq, ack, window, mss)


def _icmp(protocol: int, data: bytes, source: str, destination: str, *, quoted: bool) -> Seen:
    kind, code, _checksum, identifier, number = struct.unpack_from("!BBHHH", data)
    echo = _V6_ECHO.get(kind) if protocol == ICMPV6 else kind
    if echo == ECHO_REQUEST:
        return Seen("echo-request", Endpoint(source, identifier), Endpoint(destination), data[8:], seq=number)
    if echo == ECHO_REPLY:
        return Seen("echo-reply", Endpoint(source), Endpoint(destination, identifier), data[8:], seq=number)
    is_error = kind in (3, 4, 5, 11, 12) if protocol == ICMP else 1 <= kind <= 4
    # An error is never about an error (RFC 1122 3.2.2), so what quotes one again is not read further.
    inner = read_packet(data[8:], quoted=True) if is_error and not quoted else None
    if inner is None:
        return Seen("other", Endpoint(source), Endpoint(destination), payload=data)
    mtu = struct.unpack_from("!I", data, 4)[0] if protocol == ICMPV6 else number
    too_big = (kind, code) == (3, 4) if protocol == ICMP else kind == 2
    error = IcmpError(source, kind, code, mtu if too_big else 0, inner)
    return Seen("icmp-error", Endpoint(source), Endpoint(destination), error=error)


_WORDS4 = {
    (3, 0): "network unreachable",
    (3, 1): "host unreachable",
    (3, 2): "protocol unreachable",
    (3, 3): "port unreachable",
    (3, 4): "fragmentation needed",
    (3, 9): "network administratively prohibited",
    (3, 10): "host administratively prohibited",
    (3, 13): "communication administratively prohibited",
    (11, 0): "TTL expired in transit",
    (11, 1): "fragment reassembly time exceeded",
}
_WORDS6 = {
    (1, 0): "no route to destination",
    (1, 1): "administratively prohibited",
    (1, 3): "address unreachable",
    (1, 4): "port unreachable",
    (2, 0): "packet too big",
    (3, 0): "hop limit exceeded in transit",
}


def in_words(error: IcmpError) -> str:
    """The error as a person says it, with who sent it."""
    words = (_WORDS6 if ":" in error.reporter else _WORDS4).get((error.type, error.code))
    mtu = f" (MTU {error.mtu})" if error.mtu else ""
    return f"ICMP {words or f'type {error.type} code {error.code}'}{mtu} from {error.reporter}"
