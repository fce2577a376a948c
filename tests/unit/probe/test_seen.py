"""What is read of arriving packets, told by packets as captures show them."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.probe.crafter import ScapyCrafter
from hoplab.probe.seen import Seen, in_words, read_frame, read_packet
from hoplab.probe.shapes import ACK, SYN, Endpoint, Segment, Shape

CRAFTER = ScapyCrafter()
A4, B4 = Endpoint("203.0.113.10", 40000), Endpoint("198.51.100.10", 80)
A6, B6 = Endpoint("fd00::1", 40000), Endpoint("fd00::2", 80)
ENDS = [(A4, B4), (A6, B6)]


def tcp(source: Endpoint, destination: Endpoint, segment: Segment, mss: int = 0) -> bytes:
    return CRAFTER.template(Shape(source.version, "tcp", mss=mss)).tcp(source, destination, segment, 7)


def ethernet(packet: bytes, tags: bytes = b"") -> bytes:
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return bytes(12) + tags + kind + packet


def icmp(reporter: Endpoint, destination: Endpoint, kind: int, code: int, rest: int, quoted: bytes) -> bytes:
    body = struct.pack("!BBHI", kind, code, 0, rest) + quoted
    if reporter.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(body), 58, 64)
        return head + reporter.packed + destination.packed + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, 1, 0)
    return head + reporter.packed + destination.packed + body


def must(seen: Seen | None) -> Seen:
    assert seen is not None
    return seen


@pytest.mark.parametrize(("source", "destination"), ENDS)
def test_a_tcp_segment(source: Endpoint, destination: Endpoint) -> None:
    seen = must(read_frame(ethernet(tcp(source, destination, Segment(SYN | ACK, 5, 6, b"xy"), mss=1400))))
    assert (seen.kind, seen.source, seen.destination) == ("tcp", source, destination)
    assert (seen.flags, seen.seq, seen.ack, seen.window, seen.mss) == (SYN | ACK, 5, 6, 64240, 1400)
    assert seen.payload == b"xy"


@pytest.mark.parametrize(("source", "destination"), ENDS)
def test_a_udp_datagram_behind_a_vlan_tag_and_with_ethernets_padding(source: Endpoint, destination: Endpoint) -> None:
    packet = CRAFTER.template(Shape(source.version, "udp")).udp(source, destination, b"q", 1)
    seen = must(read_frame(ethernet(packet + bytes(17), tags=b"\x81\x00\x00\x05")))
    assert (seen.kind, seen.source, seen.destination, seen.payload) == ("udp", source, destination, b"q")


@pytest.mark.parametrize(("source", "destination"), ENDS)
def test_echo_request_and_reply_carry_the_identifier_as_the_askers_port(
    source: Endpoint, destination: Endpoint
) -> None:
    packet = CRAFTER.template(Shape(source.version, "icmp")).icmp_echo(source, destination, 3, b"t", 1)
    seen = must(read_packet(packet))
    assert (seen.kind, seen.source, seen.destination.port) == ("echo-request", source, 0)
    at = 40 if source.version == 6 else 20
    reply = bytearray(packet)
    reply[at] = 129 if source.version == 6 else 0
    seen = must(read_packet(bytes(reply)))
    assert (seen.kind, seen.destination.port, seen.seq, seen.payload) == ("echo-reply", source.port, 3, b"t")


@pytest.mark.parametrize(
    ("ends", "reporter", "kind", "code", "rest", "words"),
    [
        (ENDS[0], "10.240.0.11", 3, 3, 0, "ICMP port unreachable from 10.240.0.11"),
        (ENDS[0], "10.240.0.11", 3, 4, 1460, "ICMP fragmentation needed (MTU 1460) from 10.240.0.11"),
        (ENDS[1], "fd00::9", 1, 4, 0, "ICMP port unreachable from fd00::9"),
        (ENDS[1], "fd00::9", 2, 0, 1400, "ICMP packet too big (MTU 1400) from fd00::9"),
    ],
)
def test_an_icmp_error_tells_whom_it_is_about(
    ends: tuple[Endpoint, Endpoint], reporter: str, kind: int, code: int, rest: int, words: str
) -> None:
    source, destination = ends
    quoted = tcp(source, destination, Segment(SYN, 5))[: (40 if source.version == 6 else 20) + 8]
    seen = must(read_packet(icmp(Endpoint(reporter), source, kind, code, rest, quoted)))
    assert seen.kind == "icmp-error"
    assert seen.error is not None
    assert (seen.error.quoted.source, seen.error.quoted.destination) == (source, destination)
    assert seen.error.asks_for_smaller == (rest > 0)
    assert in_words(seen.error) == words


def test_a_redirect_rejects_nothing() -> None:
    quoted = tcp(A4, B4, Segment(SYN, 5))[:28]
    seen = must(read_packet(icmp(Endpoint("10.240.0.1"), A4, 5, 1, 0, quoted)))
    assert (seen.kind, seen.error) == ("other", None)


def test_extension_headers_are_stepped_over() -> None:
    packet = tcp(A6, B6, Segment(SYN, 5))
    options = struct.pack("!BB6x", 6, 0)
    longer = packet[:4] + struct.pack("!HB", len(packet) - 40 + 8, 60) + packet[7:40] + options + packet[40:]
    assert must(read_packet(longer)).destination == B6


def test_a_later_fragment_is_no_packet() -> None:
    packet = bytearray(tcp(A4, B4, Segment(SYN, 5)))
    packet[6:8] = struct.pack("!H", 10)
    assert read_packet(bytes(packet)) is None


def test_arp_is_no_packet() -> None:
    assert read_frame(bytes(12) + b"\x08\x06" + bytes(28)) is None


def test_another_protocol_is_other() -> None:
    packet = bytearray(tcp(A4, B4, Segment(SYN, 5)))
    packet[9] = socket.IPPROTO_GRE
    assert must(read_packet(bytes(packet))).kind == "other"


@given(st.binary(max_size=80), st.integers(0, 60))
def test_any_bytes_are_read_or_refused_quietly(noise: bytes, keep: int) -> None:
    read_frame(noise)
    for source, destination in ENDS:
        read_packet(tcp(source, destination, Segment(SYN, 5))[:keep] + noise)
        read_packet(icmp(source, destination, 3, 3, 0, noise))
