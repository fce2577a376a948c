"""What an exchange wants to know of an arriving packet, in the exchange's own terms.

The headers are read by `hoplab.hops.packet`, as every frame of the lab is.  To that a
client adds what only it needs: the window and the segment size that it was offered,
and whose packet an ICMP error is about.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hoplab.hops import packet as packets
from hoplab.hops.packet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet, read_link
from hoplab.hops.words import icmp_error_words
from hoplab.probe.shapes import Endpoint


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
    link = read_link(frame)
    if link is None or link.ethertype not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
        return None
    return read_packet(frame[link.length :])


def read_packet(data: bytes) -> Seen | None:
    """An IP packet; None for a later fragment, and for anything cut short or malformed."""
    # An overlay's packet is for the node that carries it, not for a probe: nothing is unwrapped.
    packet = packets.read_packet(data, vxlan_ports=frozenset())
    if packet is None or packet.truncated or packet.fragment_offset:
        return None
    source, destination = Endpoint(packet.src, packet.sport), Endpoint(packet.dst, packet.dport)
    if packet.quoted is not None and not _only_advice(packet):
        error = _read_error(packet, packet.quoted)
        return Seen("icmp-error", source, destination, error=error)
    if packet.protocol == packets.UDP:
        return Seen("udp", source, destination, packet.payload)
    if packet.protocol == packets.TCP:
        header = data[packet.header_length :]
        window = struct.unpack_from("!H", header, 14)[0] if len(header) >= 20 else 0
        mss = _read_mss(header) if packet.flags & packets.SYN else 0
        return Seen("tcp", source, destination, packet.payload, packet.flags, packet.seq, packet.ack, window, mss)
    if packet.echo:
        return Seen(f"echo-{packet.echo}", source, destination, packet.payload, seq=packet.seq)
    return Seen("other", source, destination, packet.payload)


def read_transport6(protocol: int, data: bytes, source: str, destination: str) -> Seen | None:
    """What an IPv6 raw socket hands out: what followed the header, whose addresses come beside it."""
    header = struct.pack("!IHBB", 6 << 28, len(data), protocol, 64)
    return read_packet(header + Endpoint(source).packed + Endpoint(destination).packed + data)


def _only_advice(packet: Packet) -> bool:
    """Source quench and redirect quote a packet, too, but that packet went its way (RFC 792, RFC 6633)."""
    return packet.family == 4 and packet.kind is not None and packet.kind[0] in (4, 5)


def _read_error(packet: Packet, quoted: Packet) -> IcmpError:
    kind, code = packet.kind or (0, 0)
    what = f"echo-{quoted.echo}" if quoted.echo else quoted.protocol_name
    ends = Endpoint(quoted.src, quoted.sport), Endpoint(quoted.dst, quoted.dport)
    return IcmpError(packet.src, kind, code, packet.mtu, Seen(what, *ends, seq=quoted.seq))


def _read_mss(header: bytes) -> int:
    """The maximum segment size that a SYN offers, 0 when it offers none (RFC 9293 3.2)."""
    options = header[20 : (header[12] >> 4) * 4]
    while len(options) >= 2 and options[0] != 0:
        if options[0] == 1:
            options = options[1:]
        elif options[0] == 2 and len(options) >= 4:
            return options[2] << 8 | options[3]
        else:
            options = options[max(2, options[1]) :]
    return 0


def in_words(error: IcmpError) -> str:
    """The error as a person says it, with who sent it."""
    return icmp_error_words((error.type, error.code), error.mtu, error.reporter)
