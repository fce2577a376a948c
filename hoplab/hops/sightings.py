"""Frames read: which packet each place saw, and the ARP messages beside them.

The same bytes show up on interface after interface, so each network packet is
parsed once and shared: sightings of an unchanged packet hold the same object.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

from hoplab.hops.evidence import Frame
from hoplab.hops.fragments import Piece, reassemble
from hoplab.hops.packet import ETHERTYPE_ARP, Arp, Packet, read_arp, read_link, read_packet


class Sighting(NamedTuple):
    """A packet at one place at one time."""

    frame: Frame
    packet: Packet
    numbers: tuple[int, ...]
    """Frame numbers; several when the packet came in fragments."""


def read_frames(frames: Iterable[Frame]) -> tuple[list[Sighting], list[tuple[Frame, Arp]]]:
    """Frames to sightings in time order; the same bytes on another interface are parsed once."""
    known: dict[bytes, Packet | None] = {}
    sightings: list[Sighting] = []
    arps: list[tuple[Frame, Arp]] = []
    pieces: list[tuple[Hashable, Piece]] = []
    for frame in frames:
        data = frame.data
        kind, at = data[12:14], 14
        if kind in (b"\x81\x00", b"\x88\xa8", b"\x08\x06"):
            link = read_link(data)
            kind, at = (link.ethertype.to_bytes(2, "big"), link.length) if link else (b"", 0)
            if link and link.ethertype == ETHERTYPE_ARP:
                arp = read_arp(data, at)
                if arp is not None:
                    arps.append((frame, arp))
        if kind not in (b"\x08\x00", b"\x86\xdd"):
            continue
        network = data[at:]
        if network in known:
            packet = known[network]
        else:
            packet = known[network] = read_packet(network)
        if packet is None:
            continue
        if packet.is_fragment:
            inner = network if packet.outer is None else packet.outer.payload[22:]
            pieces.append(((frame.node, frame.interface, frame.direction), Piece(len(sightings), packet, inner)))
        sightings.append(Sighting(frame, packet, (frame.number,)))
    return (_with_wholes(sightings, pieces) if pieces else sightings), arps


def _with_wholes(sightings: list[Sighting], pieces: list[tuple[Hashable, Piece]]) -> list[Sighting]:
    """Fragments replaced by the packets they make, at the place in time of the first of them."""
    made: dict[int, Sighting] = {}
    gone: set[int] = set()
    for packet, numbers in reassemble(pieces):
        first = sightings[numbers[0]]
        made[numbers[0]] = Sighting(first.frame, packet, tuple(n for i in numbers for n in sightings[i].numbers))
        gone.update(numbers)
    return [made.get(i, one) for i, one in enumerate(sightings) if i in made or i not in gone]
