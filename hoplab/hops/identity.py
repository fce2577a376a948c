"""What makes a packet the same packet behind every router and every NAT.

A router changes the TTL and the checksum, NAT changes addresses, ports, the ICMP
query identifier and more checksums, and for an ICMP error the same of the packet
it quotes.  Everything else stays, so that is the identity: IP identification and
length, TCP's sequence and acknowledgement numbers and flags, the payload (UDP and
ICMP have nothing better).  Two identities exist, one the beginning of the other: a
rule trace keeps the headers only, a frame the payload as well.

Sources: RFC 3022 section 4.1 (what NAT rewrites), RFC 5508 (NAT and ICMP errors),
Linux nft_trace.c (a trace keeps 20 bytes of the transport header).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from hoplab.hops.packet import SCTP, TCP, UDP, Packet

TRACED_PAYLOAD = 12
"""Payload bytes of the 20 that a trace event keeps behind the 8 of a UDP or ICMP header."""


def header_identity(packet: Packet) -> Hashable:
    """What frames and rule traces both know of a packet."""
    start = (packet.protocol, packet.ip_id, packet.length)
    if packet.fragment_offset:
        return (*start, "fragment", packet.fragment_offset)
    if packet.protocol == TCP:
        return (*start, packet.seq, packet.ack, packet.flags)
    if packet.quoted is not None:
        return (*start, packet.kind)
    if packet.kind is not None:
        return (*start, packet.kind, packet.seq, packet.payload[:TRACED_PAYLOAD])
    if packet.protocol == UDP:
        return (*start, packet.payload[:TRACED_PAYLOAD])
    if packet.protocol == SCTP:
        return (*start, packet.seq, packet.payload[:8])
    return start


def identity(packet: Packet, kept: int | None = None) -> Hashable:
    """What all frames of one packet have in common; `kept` limits how much of the payload is looked at."""
    headers = header_identity(packet)
    if packet.quoted is not None:
        # IPv6 numbers no packets: what two errors quote of two datagrams may differ by the payload alone.
        return (headers, quoted_identity(packet.quoted), packet.quoted.payload[:TRACED_PAYLOAD])
    return (headers, packet.payload if kept is None else packet.payload[:kept])


def kept_payload(packets: Iterable[Packet]) -> int | None:
    """How many payload bytes every capture kept: None when all did, else those of the shortest cut one.

    One interface may cut what another shows in full (an overlay's headers take room),
    and both must come to the same identity.
    """
    return min((len(packet.payload) for packet in packets if packet.truncated), default=None)


def quoted_identity(packet: Packet) -> Hashable:
    """Of a quoted packet only 8 transport bytes are certain, and NAT rewrites its ports and checksums."""
    return (packet.protocol, packet.ip_id, packet.length, packet.seq if packet.protocol == TCP else 0)
