"""Reading frames: every header that a lab's wire carries, whole and cut."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.hops.evidence import Tuple
from hoplab.hops.identity import identity
from hoplab.hops.packet import ICMPV6, UDP, Packet, read_arp, read_frame, read_headers, read_link, read_packet
from tests.unit.hops.imaginary import ACK, SYN, Wire, ethernet, mac, packed, vxlan

T = Tuple("203.0.113.10", 40000, "10.0.0.1", 80)


def test_tcp_over_ipv4() -> None:
    wire = Wire(T, ttl=63, ip_id=77, flags=SYN | ACK, seq=5, ack=6, payload=b"hello")
    packet = read_frame(ethernet(wire.network, "a", "b"))
    assert packet is not None
    assert packet.tuple == T
    assert (packet.protocol_name, packet.ttl, packet.ip_id, packet.flags, packet.seq, packet.ack) == (
        "tcp",
        63,
        77,
        SYN | ACK,
        5,
        6,
    )
    assert packet.payload == b"hello"
    assert packet.length == 45
    assert not packet.truncated


def test_ethernet_padding_is_not_payload() -> None:
    packet = read_frame(ethernet(Wire(T, "udp", payload=b"x").network, "a", "b") + bytes(20))
    assert packet is not None
    assert packet.payload == b"x"


def test_vlan_tags_are_looked_through() -> None:
    inner = Wire(T, "udp", payload=b"x").network
    frame = mac("b") + mac("a") + bytes.fromhex("88a80064 8100 0007 0800") + inner
    link = read_link(frame)
    assert link is not None
    assert link.vlans == (100, 7)
    packet = read_frame(frame)
    assert packet is not None
    assert packet.tuple == T


def test_an_echo_has_its_identifier_where_a_port_would_be() -> None:
    request = read_packet(Wire(Tuple("10.0.0.1", 7, "10.0.0.2", 0), "icmp", seq=3, payload=b"tok").network)
    reply = read_packet(Wire(Tuple("10.0.0.2", 0, "10.0.0.1", 7), "icmp", seq=3, icmp=(0, 0), payload=b"tok").network)
    assert request is not None
    assert reply is not None
    assert request.tuple == Tuple("10.0.0.1", 7, "10.0.0.2", 0)
    assert reply.tuple == request.tuple.reversed()
    assert (request.echo, reply.echo, request.seq, request.payload) == ("request", "reply", 3, b"tok")


def test_an_icmp_error_quotes_a_packet_cut_behind_its_ports() -> None:
    about = Wire(T, ttl=1, ip_id=5, flags=SYN, seq=1234)
    packet = read_packet(about.error("10.0.0.9", (11, 0)).network)
    assert packet is not None
    assert packet.is_error
    assert packet.quoted is not None
    assert packet.quoted.tuple == T
    assert (packet.quoted.seq, packet.quoted.ip_id, packet.quoted.truncated) == (1234, 5, True)


def test_an_error_about_an_echo_tells_the_identifier() -> None:
    about = Wire(Tuple("10.0.0.1", 7, "10.0.0.2", 0), "icmp", seq=3)
    packet = read_packet(about.error("10.0.0.9", (11, 0)).network)
    assert packet is not None
    assert packet.quoted is not None
    assert packet.quoted.tuple == about.tuple


def test_fragmentation_needed_tells_the_mtu() -> None:
    error = bytearray(Wire(T, flags=ACK).error("10.0.0.9", (3, 4)).network)
    struct.pack_into("!H", error, 26, 1450)
    packet = read_packet(bytes(error))
    assert packet is not None
    assert packet.mtu == 1450


def test_vxlan_shows_the_inner_packet_and_keeps_the_outer_one() -> None:
    inner = Wire(T, flags=SYN, seq=9)
    frame = ethernet(
        vxlan(ethernet(inner.network, "c", "d"), "10.240.0.11", "10.240.0.12", 3, vni=42).network, "a", "b"
    )
    packet = read_frame(frame)
    assert packet is not None
    assert packet.tuple == T
    assert packet.vni == 42
    assert packet.outer is not None
    assert packet.outer.tuple == Tuple("10.240.0.11", 50123, "10.240.0.12", 8472)


def test_a_datagram_to_a_vxlan_port_without_the_flag_is_just_a_datagram() -> None:
    packet = read_packet(Wire(Tuple("10.0.0.1", 1, "10.0.0.2", 4789), "udp", payload=bytes(60)).network)
    assert packet is not None
    assert packet.outer is None
    assert packet.dport == 4789


IPV6 = bytes.fromhex("20010db8000000000000000000000001") + bytes.fromhex("20010db8000000000000000000000002")


def test_tcp_over_ipv6_behind_an_extension_header() -> None:
    tcp = Wire(T, flags=SYN, seq=8).transport
    options = bytes([6, 0, 1, 4, 0, 0, 0, 0])
    packet = read_packet(struct.pack("!IHBB", 6 << 28, len(options + tcp), 0, 61) + IPV6 + options + tcp)
    assert packet is not None
    assert packet.tuple == Tuple("2001:db8::1", 40000, "2001:db8::2", 80)
    assert (packet.ttl, packet.seq, packet.flags, packet.family) == (61, 8, SYN, 6)


def test_an_ipv6_fragment_has_an_identification() -> None:
    head = bytes([17, 0]) + struct.pack("!HI", (1480 & 0xFFF8) | 1, 0xABCDEF)
    packet = read_packet(struct.pack("!IHBB", 6 << 28, len(head) + 8, 44, 61) + IPV6 + head + bytes(8))
    assert packet is not None
    assert (packet.ip_id, packet.fragment_offset, packet.more_fragments, packet.protocol) == (0xABCDEF, 1480, True, 17)


def test_sctp_has_ports_tag_and_chunk() -> None:
    body = struct.pack("!HHII", 5000, 80, 0xBEEF, 0) + bytes([1, 0, 0, 20])
    head = bytearray(Wire(T, "udp").header)
    head[9] = 132
    struct.pack_into("!H", head, 2, 20 + len(body))
    packet = read_packet(bytes(head) + body)
    assert packet is not None
    assert (packet.sport, packet.dport, packet.seq, packet.flags) == (5000, 80, 0xBEEF, 1)
    assert packet.protocol_name == "sctp"


def test_trace_headers_read_like_the_packet_that_they_are_of() -> None:
    wire = Wire(T, ttl=63, ip_id=77, flags=SYN, seq=5, payload=b"x" * 30)
    packet = read_headers(wire.header, wire.transport[:20])
    assert packet is not None
    assert (packet.tuple, packet.seq, packet.length, packet.ttl) == (T, 5, 70, 63)


def test_arp() -> None:
    body = bytes.fromhex("0001080006040001") + mac("a") + packed("10.1.2.1") + bytes(6) + packed("10.1.2.9")
    arp = read_arp(ethernet(body, "a", "b", 0x0806), 14)
    assert arp is not None
    assert arp.request
    assert (arp.sender, arp.target) == ("10.1.2.1", "10.1.2.9")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0" * 13,
        ethernet(b"", "a", "b"),
        ethernet(b"\x45" + bytes(10), "a", "b"),
        ethernet(bytes(60), "a", "b", 0x88CC),
    ],
)
def test_what_is_no_ip_packet_is_none(frame: bytes) -> None:
    assert read_frame(frame) is None


WIRES = [
    Wire(T, flags=SYN, seq=1, payload=b"payload"),
    Wire(T, "udp", payload=b"payload"),
    Wire(Tuple("10.0.0.1", 7, "10.0.0.2", 0), "icmp", payload=b"payload"),
    Wire(T, flags=SYN).error("10.0.0.9", (3, 3)),
    vxlan(ethernet(Wire(T, flags=SYN).network, "a", "b"), "10.0.0.1", "10.0.0.2", 3),
]


@given(st.sampled_from(WIRES), st.integers(0, 120))
def test_a_frame_cut_anywhere_is_read_as_far_as_it_goes(wire: Wire, kept: int) -> None:
    whole = ethernet(wire.network, "a", "b")
    packet = read_frame(whole[:kept])
    if kept >= 34:
        assert packet is not None
        assert packet.truncated or kept >= len(whole)
    if packet is not None and packet.outer is None:
        assert (packet.src, packet.dst) == (wire.tuple.src, wire.tuple.dst)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_can_break_it(data: bytes) -> None:
    read_frame(data)
    read_packet(data)
    read_headers(data[:20], data[20:40])
    for first in (0x45, 0x60, 0x4F):
        read_packet(bytes([first]) + data)


def test_tunnels_and_quotes_are_followed_once_only() -> None:
    """A frame of nothing but nested tunnels or quotes must not exhaust the stack."""
    packet = Wire(T, "udp", payload=b"x").network
    for depth in range(400):
        packet = vxlan(ethernet(packet, "a", "b"), "10.0.0.1", "10.0.0.2", depth).network
    read = read_packet(packet)
    assert read is not None
    assert read.outer is not None
    assert read.dport == 8472
    quote = Wire(T, flags=SYN)
    for _ in range(3):
        quote = quote.error("10.0.0.9", (3, 3))
    read = read_packet(quote.network)
    assert read is not None
    assert read.quoted is not None
    assert read.quoted.quoted is None


def test_errors_about_two_datagrams_of_a_family_without_numbers_differ_by_what_was_sent() -> None:
    def error(token: bytes) -> Packet:
        quoted = Packet(6, "2001:db8::1", "2001:db8::2", UDP, 64, 0, 66, 40, 40000, 80, payload=token)
        return Packet(6, "2001:db8::2", "2001:db8::1", ICMPV6, 64, 0, 114, 40, kind=(1, 4), quoted=quoted)

    assert identity(error(b"probe-000000000001")) == identity(error(b"probe-000000000001"))
    assert identity(error(b"probe-1")) != identity(error(b"probe-2"))
