"""The connections that each namespace opened itself, with the bytes that it sent on them.

A proxy is known by what it does: it answers connections, and it makes others.  Whether
a namespace made a packet is told by the packet's first hop, which no interface brought
in; whether a connection is its own is told by the SYN, or, when the connection is older
than the evidence, by no SYN having come in for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from hoplab.hops.evidence import Tuple
from hoplab.hops.exchange import MASK, stream_of
from hoplab.hops.join import Journey
from hoplab.hops.packet import ACK, SYN, TCP
from hoplab.proxy_protocol import ProxyHeader, read_proxy_header


@dataclass(slots=True)
class Opened:
    """One connection, and the packets that its opener made for it, in time order."""

    node: str
    tuple: Tuple
    made: list[Journey] = field(default_factory=list)

    @property
    def syn(self) -> Journey | None:
        """Its first packet; None when the connection is older than the evidence."""
        return self.made[0] if self.made[0].packet.flags & SYN else None

    @property
    def base(self) -> int:
        """The sequence number of the first byte that is known of."""
        first = self.made[0].packet
        return (first.seq + bool(first.flags & SYN)) & MASK

    def stream(self) -> bytes:
        """The bytes that its opener sent, as far as they follow each other from the first one known of."""
        return stream_of((journey.packet for journey in self.made), self.base)

    def header(self) -> ProxyHeader | None:
        """The PROXY protocol header that it began with."""
        return read_proxy_header(self.stream()) if self.syn else None

    def carrying(self, at: int) -> Journey | None:
        """The packet that first carried the byte at this place of the stream."""
        for journey in self.made:
            offset = (journey.packet.seq - self.base) & MASK
            if offset <= at < offset + len(journey.packet.payload):
                return journey
        return None


def opened_by_node(journeys: Iterable[Journey]) -> dict[str, list[Opened]]:
    """Node -> the TCP connections that it opened, in the order of their beginning."""
    made: defaultdict[tuple[str, Tuple], list[Journey]] = defaultdict(list)
    served: set[tuple[str, Tuple]] = set()
    for journey in journeys:
        packet, first, last = journey.packet, journey.hops[0], journey.hops[-1]
        if packet.protocol != TCP:
            continue
        if first.in_interface is None:
            made[first.node, first.before].append(journey)
        if packet.flags & (SYN | ACK) == SYN and last.out_interface is None:
            served |= {(last.node, last.before.reversed()), (last.node, last.after.reversed())}
    found: defaultdict[str, list[Opened]] = defaultdict(list)
    for (node, tuple_), packets in made.items():
        if (node, tuple_) not in served:
            found[node] += _connections(node, tuple_, packets)
    return {node: sorted(each, key=lambda one: one.made[0].started_ns) for node, each in found.items()}


def _connections(node: str, tuple_: Tuple, packets: Iterable[Journey]) -> list[Opened]:
    """The packets of one tuple by connection: a SYN with another number begins the next one."""
    found: list[Opened] = []
    for journey in sorted(packets, key=lambda one: one.started_ns):
        packet = journey.packet
        begins = packet.flags & (SYN | ACK) == SYN and not (found and found[-1].made[0].packet.seq == packet.seq)
        if begins or not found:
            found.append(Opened(node, tuple_))
        found[-1].made.append(journey)
    # An RST or a SYN-ACK out of nowhere answers somebody; it opens nothing.
    return [one for one in found if one.syn is not None or any(j.packet.payload for j in one.made)]
