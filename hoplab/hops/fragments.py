"""Pieces of an IP packet put together again, at each interface on its own.

Only the first fragment has ports, and a node with conntrack reassembles what it
gets and cuts it anew, so fragments cannot be followed one by one: the whole packet
can.  What stays incomplete is left as it was seen.  (RFC 791 section 3.2, RFC 8200
section 4.5.)
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterable
from typing import NamedTuple

from hoplab.hops.packet import Packet, read_packet


class Piece(NamedTuple):
    """One fragment: which sighting it was, the packet as read, and its bytes from the IP header on."""

    number: int
    packet: Packet
    data: bytes


class Whole(NamedTuple):
    """A reassembled packet and the sightings that it was made of, in their order."""

    packet: Packet
    numbers: tuple[int, ...]


def reassemble(pieces: Iterable[tuple[Hashable, Piece]]) -> list[Whole]:
    """All packets that are complete; each piece comes with the place that saw it."""
    waiting: dict[Hashable, dict[int, Piece]] = {}
    wholes = []
    for place, piece in pieces:
        packet = piece.packet
        key = (place, packet.src, packet.dst, packet.protocol, packet.ip_id)
        parts = waiting.setdefault(key, {})
        if packet.fragment_offset in parts:
            # The same packet begins again: what was open never became complete.
            parts.clear()
        parts[packet.fragment_offset] = piece
        body = _joined(parts)
        if body is not None:
            first = parts[0]
            del waiting[key]
            whole = _rebuilt(first, body)
            if whole is not None:
                wholes.append(Whole(whole, tuple(sorted(part.number for part in parts.values()))))
    return wholes


def _body(piece: Piece) -> bytes:
    return piece.data[piece.packet.header_length : piece.packet.length]


def _joined(parts: dict[int, Piece]) -> bytes | None:
    """Everything behind the IP headers, None while something is missing."""
    body = b""
    for offset in sorted(parts):
        if offset != len(body) or parts[offset].packet.truncated:
            return None
        body += _body(parts[offset])
    last = parts[max(parts)].packet
    return None if last.more_fragments else body


def _rebuilt(first: Piece, body: bytes) -> Packet | None:
    """The packet as if it had never been cut; an IPv6 packet loses its extension headers with the fragment header."""
    packet, head = first.packet, first.data
    if packet.family == 4:
        header = bytearray(head[: packet.header_length])
        struct.pack_into("!HHH", header, 2, packet.header_length + len(body), packet.ip_id, 0)
    else:
        header = bytearray(head[:40])
        struct.pack_into("!HB", header, 4, len(body), packet.protocol)
    return read_packet(bytes(header) + body)
