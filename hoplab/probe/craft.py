"""Packets: scapy crafts one of each shape, and every packet of an exchange is that one with its own numbers.

scapy knows every field of every header, at the price of about 0.7 ms a packet and
a quarter of a second to be imported.  The shape of a packet (family, protocol,
TTL, TOS, flags, TCP options) comes from it; addresses, ports, sequence numbers,
payload, lengths and the Internet checksum (RFC 1071) are put in their places here,
in microseconds.  A test holds the result against what scapy itself makes of the
same fields, byte by byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hoplab.probe.shapes import Endpoint, Segment, Shape

IP_PROTOCOL = {"tcp": 6, "udp": 17, "icmp": 1}
IPV6_PROTOCOL = {"tcp": 6, "udp": 17, "icmp": 58}
_CHECKSUM_AT = {"tcp": 16, "udp": 6, "icmp": 2}
_HEADER_LENGTH = {4: 20, 6: 40}


@dataclass(frozen=True, slots=True)
class Template:
    """A crafted packet that can be filled in."""

    shape: Shape
    head: bytes

    def tcp(self, source: Endpoint, destination: Endpoint, segment: Segment, identification: int) -> bytes:
        """A TCP segment."""
        buffer = bytearray(self.head)
        at = _HEADER_LENGTH[self.shape.version]
        struct.pack_into(
            "!HHII", buffer, at, source.port, destination.port, segment.seq & 0xFFFFFFFF, segment.ack & 0xFFFFFFFF
        )
        buffer[at + 13] = segment.flags
        return self._finish(buffer, source, destination, segment.payload, identification)

    def udp(self, source: Endpoint, destination: Endpoint, payload: bytes, identification: int) -> bytes:
        """A UDP datagram."""
        buffer = bytearray(self.head)
        at = _HEADER_LENGTH[self.shape.version]
        struct.pack_into("!HHH", buffer, at, source.port, destination.port, 8 + len(payload))
        return self._finish(buffer, source, destination, payload, identification)

    def icmp_echo(self, source: Endpoint, destination: Endpoint, number: int, payload: bytes, identity: int) -> bytes:
        """An echo request; the source's port is the ICMP identifier."""
        buffer = bytearray(self.head)
        struct.pack_into("!HH", buffer, _HEADER_LENGTH[self.shape.version] + 4, source.port, number)
        return self._finish(buffer, source, destination, payload, identity)

    def _finish(
        self, buffer: bytearray, source: Endpoint, destination: Endpoint, payload: bytes, identification: int
    ) -> bytes:
        """Addresses, lengths, identification, payload and checksums."""
        at = _HEADER_LENGTH[self.shape.version]
        buffer += payload
        here, there = source.packed, destination.packed
        if self.shape.version == 4:
            struct.pack_into("!HH", buffer, 2, len(buffer), identification)
            buffer[10:20] = b"\0\0" + here + there
            struct.pack_into("!H", buffer, 10, internet_checksum(buffer[:20]))
        else:
            struct.pack_into("!H", buffer, 4, len(buffer) - 40)
            buffer[8:40] = here + there
        protocol = self.shape.protocol
        pseudo = b""
        if self.shape.version == 6 or protocol != "icmp":
            numbers = IP_PROTOCOL if self.shape.version == 4 else IPV6_PROTOCOL
            pseudo = here + there + struct.pack("!II", len(buffer) - at, numbers[protocol])
        checksum_at = at + _CHECKSUM_AT[protocol]
        buffer[checksum_at : checksum_at + 2] = b"\0\0"
        checksum = internet_checksum(pseudo + buffer[at:])
        # RFC 768: 0 would say that there is no checksum.
        struct.pack_into("!H", buffer, checksum_at, 0xFFFF if checksum == 0 and protocol == "udp" else checksum)
        return bytes(buffer)


def internet_checksum(data: bytes | bytearray) -> int:
    """RFC 1071: the ones' complement of the ones' complement sum of all 16-bit words."""
    if len(data) % 2:
        data = bytes(data) + b"\0"
    # 2^16 is 1 modulo 65535, so the whole number modulo 65535 is the folded sum (65535 stands for 0 unless all is 0).
    number = int.from_bytes(data, "big")
    folded = number % 0xFFFF
    if folded == 0 and number:
        folded = 0xFFFF
    return ~folded & 0xFFFF
