"""Frames to packets: what the headers say, and nothing about where a frame was seen.

Each header tells where the next one begins: Ethernet (with 802.1Q tags) names the
network protocol, IPv4 and IPv6 name the transport protocol, an ICMP error quotes
the beginning of the packet that it is about, and a VXLAN datagram (RFC 7348)
carries a whole frame.  A capture may have cut a frame anywhere: whatever was kept
is read, `truncated` says that something is missing, and fields that were not kept
are 0.

Formats: RFC 791 and 8200 (IP), 9293 (TCP), 768 (UDP), 792 and 4443 (ICMP), 9260
(SCTP), 826 (ARP).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from hoplab.hops.evidence import Tuple

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
PROTOCOL_NAMES = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmp", SCTP: "sctp"}

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
TCP_FLAGS = 0x3F
"""The six flags that say what a segment is for; ECE and CWR may be changed on the way (RFC 3168)."""

ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD
_VLAN_TAGS = (0x8100, 0x88A8)
VXLAN_PORTS = frozenset({4789, 8472})
"""IANA's port and the one that Linux and flannel use by default."""

_IPV6_EXTENSIONS = (0, 43, 60)
_IPV6_FRAGMENT = 44
_QUOTING_V4 = (3, 4, 5, 11, 12)
_QUOTING_V6 = (1, 2, 3, 4)
_ECHO = {(ICMP, 8): "request", (ICMP, 0): "reply", (ICMPV6, 128): "request", (ICMPV6, 129): "reply"}


@dataclass(frozen=True, slots=True)
class Packet:
    """One IP packet.  `ports` are (source, destination); for ICMP echo as in `Tuple`."""

    family: int
    """4 or 6."""
    src: str
    dst: str
    protocol: int
    ttl: int
    ip_id: int
    """IPv4's identification; 0 for IPv6 without a fragment header."""
    length: int
    """Of the whole packet by its own header, header included."""
    header_length: int
    sport: int = 0
    dport: int = 0
    flags: int = 0
    """TCP: the flags.  SCTP: type of the first chunk."""
    seq: int = 0
    """TCP: sequence number.  ICMP echo: its number.  SCTP: verification tag."""
    ack: int = 0
    kind: tuple[int, int] | None = None
    """ICMP type and code."""
    mtu: int = 0
    """Of "fragmentation needed" and "packet too big"."""
    payload: bytes = b""
    """Behind the transport header; for unknown protocols and later fragments, behind the IP header."""
    fragment_offset: int = 0
    """In bytes."""
    more_fragments: bool = False
    dont_fragment: bool = False
    quoted: Packet | None = None
    """The packet that an ICMP error is about, as far as it was quoted."""
    outer: Packet | None = None
    """The VXLAN datagram that this packet was carried in."""
    vni: int = 0
    truncated: bool = False

    @property
    def tuple(self) -> Tuple:
        """Addresses and ports."""
        return Tuple(self.src, self.sport, self.dst, self.dport)

    @property
    def protocol_name(self) -> str:
        """tcp, udp, icmp (both versions), sctp, or the number as text: conntrack's words."""
        return PROTOCOL_NAMES.get(self.protocol, str(self.protocol))

    @property
    def is_fragment(self) -> bool:
        """Whether it is a piece of a larger packet."""
        return self.more_fragments or self.fragment_offset > 0

    @property
    def is_error(self) -> bool:
        """Whether it is an ICMP error that quotes a packet."""
        return self.quoted is not None

    @property
    def echo(self) -> str:
        """'request' or 'reply' for an ICMP echo, else ''."""
        return _ECHO.get((self.protocol, self.kind[0]), "") if self.kind else ""


@dataclass(frozen=True, slots=True)
class Link:
    """The Ethernet header: who sent it to whom on this link, and what is inside."""

    source: bytes
    destination: bytes
    ethertype: int
    length: int
    """Where the network header begins."""
    vlans: tuple[int, ...] = ()

    @property
    def macs(self) -> tuple[str, str]:
        """(source, destination) as text."""
        return mac_text(self.source), mac_text(self.destination)


@dataclass(frozen=True, slots=True)
class Arp:
    """An ARP message for IPv4 over Ethernet."""

    request: bool
    sender_mac: str
    sender: str
    target_mac: str
    target: str


def read_link(frame: bytes) -> Link | None:
    """The Ethernet header of a frame; None when not even that was kept."""
    if len(frame) < 14:
        return None
    ethertype, at = frame[12] << 8 | frame[13], 14
    vlans: tuple[int, ...] = ()
    while ethertype in _VLAN_TAGS and len(frame) >= at + 4:
        vlans += ((frame[at] << 8 | frame[at + 1]) & 0x0FFF,)
        ethertype, at = frame[at + 2] << 8 | frame[at + 3], at + 4
    return Link(frame[6:12], frame[:6], ethertype, at, vlans)


def read_frame(frame: bytes, vxlan_ports: frozenset[int] = VXLAN_PORTS) -> Packet | None:
    """The IP packet of a frame, the innermost one of an overlay; None when there is none."""
    link = read_link(frame)
    if link is None or link.ethertype not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
        return None
    return read_packet(frame[link.length :], vxlan_ports)


def read_packet(data: bytes, vxlan_ports: frozenset[int] = VXLAN_PORTS) -> Packet | None:
    """An IP packet from its first byte on, the carried one of a VXLAN datagram; None when it is no IP packet."""
    packet = _read_network(data)
    if packet is None or packet.protocol != UDP or packet.dport not in vxlan_ports or packet.is_fragment:
        return packet
    return _read_vxlan(packet) or packet


def read_headers(network: bytes, transport: bytes) -> Packet | None:
    """A packet from the separate header fields of a trace event, which keep at most 20 bytes from the ports on."""
    if not network:
        return None
    if network[0] >> 4 == 4:
        return _read_network(network[: (network[0] & 15) * 4] + transport)
    return _read_network(network[:40] + transport)


def read_arp(frame: bytes, at: int) -> Arp | None:
    """The ARP message that begins at byte `at` of a frame; None when it is cut or not about IPv4."""
    if len(frame) < at + 28 or frame[at : at + 6] != b"\x00\x01\x08\x00\x06\x04":
        return None
    return Arp(
        frame[at + 7] == 1,
        mac_text(frame[at + 8 : at + 14]),
        address_text(frame[at + 14 : at + 18]),
        mac_text(frame[at + 18 : at + 24]),
        address_text(frame[at + 24 : at + 28]),
    )


@lru_cache(maxsize=4096)
def address_text(packed: bytes) -> str:
    """An IPv4 or IPv6 address as people write it (RFC 5952)."""
    if len(packed) == 4:
        return ".".join(map(str, packed))
    return str(ipaddress.IPv6Address(packed))


def address_bytes(text: str) -> bytes:
    """The opposite of `address_text`.  Raises ValueError."""
    return ipaddress.ip_address(text).packed


@lru_cache(maxsize=4096)
def mac_text(packed: bytes) -> str:
    """An Ethernet address as people write it."""
    return packed.hex(":")


_IPV4 = struct.Struct("!BxHHHBBxx4s4s")
_IPV6 = struct.Struct("!4xHBB16s16s")
_TCP = struct.Struct("!HHIIBB")


def _read_network(data: bytes, *, quoted: bool = False) -> Packet | None:
    """The IP header, then whatever the named transport makes of the rest."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        first, length, ip_id, fragment, ttl, protocol, src, dst = _IPV4.unpack_from(data)
        header = (first & 15) * 4
        if header < 20:
            return None
        # A length of 0 is what a packet larger than 64 KiB (offload) has in its header.
        end = max(length, header) if length else len(data)
        offset, more, dont = (fragment & 0x1FFF) * 8, bool(fragment & 0x2000), bool(fragment & 0x4000)
    elif version == 6 and len(data) >= 40:
        carried, protocol, ttl, src, dst = _IPV6.unpack_from(data)
        header, end, ip_id, offset, more, dont = 40, 40 + carried, 0, 0, False, True
        length = end
        while protocol in _IPV6_EXTENSIONS and len(data) >= header + 2:
            protocol, header = data[header], header + 8 + data[header + 1] * 8
        if protocol == _IPV6_FRAGMENT and len(data) >= header + 8:
            protocol, fragment, ip_id = struct.unpack_from("!BxHI", data, header)
            offset, more, header = fragment & 0xFFF8, bool(fragment & 1), header + 8
    else:
        return None
    addresses = address_text(src), address_text(dst)
    body, cut = data[header:end], len(data) < end
    fields = (version, *addresses, protocol, ttl, ip_id, length or end, header)
    if offset:
        return Packet(
            *fields, payload=body, fragment_offset=offset, more_fragments=more, dont_fragment=dont, truncated=cut
        )
    reader = (_QUOTED if quoted else _TRANSPORTS).get(protocol, _read_other)
    packet = reader(fields, body, dont, cut)
    return replace(packet, more_fragments=True) if more else packet


_Fields = tuple[int, str, str, int, int, int, int, int]
_Reader = Callable[[_Fields, bytes, bool, bool], Packet]


def _read_tcp(fields: _Fields, body: bytes, dont: bool, cut: bool) -> Packet:
    if len(body) < 14:
        return _read_ports(fields, body, dont, seq=int.from_bytes(body[4:8], "big") if len(body) >= 8 else 0)
    sport, dport, seq, ack, offset, flags = _TCP.unpack_from(body)
    payload = body[(offset >> 4) * 4 :]
    # By position: keyword arguments cost a third of the whole parsing.
    return Packet(
        *fields, sport, dport, flags & TCP_FLAGS, seq, ack, None, 0, payload, 0, False, dont, None, None, 0, cut
    )


def _read_udp(fields: _Fields, body: bytes, dont: bool, cut: bool) -> Packet:
    if len(body) < 8:
        return _read_ports(fields, body, dont)
    sport, dport, length = struct.unpack_from("!HHH", body)
    payload = body[8 : max(length, 8)]
    return Packet(*fields, sport, dport, 0, 0, 0, None, 0, payload, 0, False, dont, None, None, 0, cut)


def _read_sctp(fields: _Fields, body: bytes, dont: bool, cut: bool) -> Packet:
    if len(body) < 12:
        return _read_ports(fields, body, dont)
    sport, dport, tag = struct.unpack_from("!HHI", body)
    chunk = body[12] if len(body) > 12 else 0
    return Packet(
        *fields,
        sport,
        dport,
        flags=chunk,
        seq=tag,
        payload=body[12:],
        dont_fragment=dont,
        truncated=cut,
    )


def _read_icmp(fields: _Fields, body: bytes, dont: bool, cut: bool) -> Packet:
    return _read_icmp_message(fields, body, dont, cut, quoting=True)


def _read_quoted_icmp(fields: _Fields, body: bytes, dont: bool, cut: bool) -> Packet:
    """An error never quotes an error (RFC 1122 3.2.2): what claims to do so is not followed any deeper."""
    return _read_icmp_message(fields, body, dont, cut, quoting=False)


def _read_icmp_message(fields: _Fields, body: bytes, dont: bool, cut: bool, *, quoting: bool) -> Packet:
    if len(body) < 8:
        return _read_other(fields, body, dont, True)
    protocol = fields[3]
    kind, code, high, low = struct.unpack_from("!BBxxHH", body)
    echo = _ECHO.get((protocol, kind))
    errors = _QUOTING_V4 if protocol == ICMP else _QUOTING_V6
    too_big = (kind, code) == (3, 4) if protocol == ICMP else kind == 2
    return Packet(
        *fields,
        sport=high if echo == "request" else 0,
        dport=high if echo == "reply" else 0,
        seq=low if echo else 0,
        kind=(kind, code),
        mtu=(low if protocol == ICMP else high << 16 | low) if too_big else 0,
        payload=body[8:],
        dont_fragment=dont,
        quoted=_read_network(body[8:], quoted=True) if quoting and kind in errors else None,
        truncated=cut,
    )


def _read_other(fields: _Fields, body: bytes, dont: bool, cut: bool) -> Packet:
    return Packet(*fields, payload=body, dont_fragment=dont, truncated=cut)


def _read_ports(fields: _Fields, body: bytes, dont: bool, seq: int = 0) -> Packet:
    """A transport header cut behind the ports, as ICMP errors quote it (RFC 792: 64 bits)."""
    sport, dport = struct.unpack_from("!HH", body) if len(body) >= 4 else (0, 0)
    return Packet(*fields, sport, dport, seq=seq, dont_fragment=dont, truncated=True)


_TRANSPORTS: dict[int, _Reader] = {
    TCP: _read_tcp,
    UDP: _read_udp,
    ICMP: _read_icmp,
    ICMPV6: _read_icmp,
    SCTP: _read_sctp,
}
_QUOTED: dict[int, _Reader] = {**_TRANSPORTS, ICMP: _read_quoted_icmp, ICMPV6: _read_quoted_icmp}


def _read_vxlan(outer: Packet) -> Packet | None:
    """The packet inside; None when the I flag is not set (RFC 7348 section 5) or no IP packet is inside."""
    if len(outer.payload) < 8 or not outer.payload[0] & 0x08:
        return None
    inner = read_frame(outer.payload[8:], frozenset())
    if inner is None:
        return None
    vni = int.from_bytes(outer.payload[4:7], "big")
    return replace(inner, outer=outer, vni=vni, truncated=inner.truncated or outer.truncated)
