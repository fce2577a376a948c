"""DNS messages on the wire: read, and each question with its answer."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.hops.evidence import Tuple
from hoplab.probe.dns_messages import Answer, asked_by, query, read_message
from tests.unit.hops.imaginary import ACK, PSH, SYN, Imaginary, Stop, Wire

POD, DNS = "10.1.1.2", "10.0.0.10"
THERE = [Stop("pod/a", outs=("eth0",)), Stop("pod/dns", ("eth0",))]
BACK = [Stop("pod/dns", outs=("eth0",)), Stop("pod/a", ("eth0",))]


def reply(name: str, type_: str, number: int, records: list[Any], rcode: int = 0, truncated: bool = False) -> bytes:
    from scapy.layers.dns import DNS as Dns
    from scapy.layers.dns import DNSQR

    return bytes(Dns(id=number, qr=1, rcode=rcode, tc=int(truncated), qd=DNSQR(qname=name, qtype=type_), an=records))


def rr(name: str, type_: str, data: Any) -> Any:
    from scapy.layers.dns import DNSRR

    return DNSRR(rrname=name, type=type_, rdata=data, ttl=30)


def play(lab: Imaginary, question: bytes, answer: bytes | None, sport: int = 40000) -> None:
    ends = Tuple(POD, sport, DNS, 53)
    lab.play(Wire(ends, "udp", ip_id=len(lab.frames) + 1, payload=question), THERE)
    if answer is not None:
        lab.play(Wire(ends.reversed(), "udp", ip_id=len(lab.frames) + 1, payload=answer), BACK)


def test_a_question_is_read_as_it_was_made() -> None:
    message = read_message(query("Web.default.svc.cluster.local", "SRV", 77))
    assert message is not None
    assert (message.number, message.response, message.name, message.type) == (
        77,
        False,
        "web.default.svc.cluster.local.",
        "SRV",
    )


def test_records_of_every_kind() -> None:
    from scapy.layers.dns import DNSRRSRV

    srv = DNSRRSRV(rrname="_x._tcp.web.", priority=0, weight=50, port=80, target="a.web.")
    records = [
        rr("web.", "CNAME", "www.example.com."),
        rr("www.example.com.", "A", "192.0.2.1"),
        rr("web.", "AAAA", "2001:db8::1"),
        rr("1.2.0.192.in-addr.arpa.", "PTR", "www.example.com."),
        rr("v.", "TXT", "1.1.0"),
        srv,
    ]
    message = read_message(reply("web.", "A", 1, records))
    assert message is not None
    assert message.answers == (
        Answer("web.", "CNAME", "www.example.com."),
        Answer("www.example.com.", "A", "192.0.2.1"),
        Answer("web.", "AAAA", "2001:db8::1"),
        Answer("1.2.0.192.in-addr.arpa.", "PTR", "www.example.com."),
        Answer("v.", "TXT", "1.1.0"),
        Answer("_x._tcp.web.", "SRV", "0 50 80 a.web."),
    )
    assert message.data("A") == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply("web.", "A", 1, [], rcode=3), "NXDOMAIN"),
        (reply("web.", "AAAA", 1, []), "no data"),
        (reply("web.", "A", 1, [], truncated=True), "truncated"),
        (reply("web.", "A", 1, [rr("web.", "A", "192.0.2.1")]), "A 192.0.2.1"),
    ],
)
def test_in_words(answer: bytes, words: str) -> None:
    message = read_message(answer)
    assert message is not None
    assert message.words == words


def test_each_question_finds_its_own_answer() -> None:
    lab = Imaginary()
    play(lab, query("web.a.", "A", 1), reply("web.a.", "A", 1, [], rcode=3))
    play(lab, query("web.", "A", 2), reply("web.", "A", 9, [rr("web.", "A", "192.0.2.9")]))
    play(lab, query("web.", "A", 3), reply("web.", "A", 3, [rr("web.", "A", "192.0.2.1")]))
    play(lab, query("web.", "AAAA", 4), None)
    asked = asked_by(lab.evidence.frames, "pod/a")
    assert [(one.message.name, one.answer.words if one.answer else None) for one in asked] == [
        ("web.a.", "NXDOMAIN"),
        ("web.", None),
        ("web.", "A 192.0.2.1"),
        ("web.", None),
    ]
    assert asked[0].words == "A web.a. -> 10.0.0.10 by udp: NXDOMAIN"
    assert asked[1].words.endswith("no answer")
    assert [one.ends.dst for one in asked] == [DNS] * 4
    # The name server was only asked.
    assert asked_by(lab.evidence.frames, "pod/dns") == []


def test_over_tcp_in_pieces() -> None:
    lab = Imaginary()
    ends = Tuple(POD, 40001, DNS, 53)
    question, answer = (
        query("crowd.", "A", 5),
        reply("crowd.", "A", 5, [rr("crowd.", "A", f"192.0.2.{n}") for n in range(90)]),
    )
    lab.play(Wire(ends, ip_id=1, flags=SYN, seq=100), THERE)
    lab.play(Wire(ends.reversed(), ip_id=2, flags=SYN | ACK, seq=900, ack=101), BACK)
    data = struct.pack("!H", len(question)) + question
    lab.play(Wire(ends, ip_id=3, flags=ACK, seq=101, ack=901, payload=data[:2]), THERE)
    lab.play(Wire(ends, ip_id=4, flags=ACK | PSH, seq=103, ack=901, payload=data[2:]), THERE)
    data = struct.pack("!H", len(answer)) + answer
    lab.play(Wire(ends.reversed(), ip_id=5, flags=ACK, seq=901, ack=200, payload=data[:700]), BACK)
    lab.play(Wire(ends.reversed(), ip_id=6, flags=ACK | PSH, seq=1601, ack=200, payload=data[700:]), BACK)
    [asked] = asked_by(lab.evidence.frames, "pod/a")
    assert asked.protocol == "tcp"
    assert asked.answer is not None
    assert len(asked.answer.data("A")) == 90


@given(st.binary(max_size=80))
def test_no_bytes_break_it(data: bytes) -> None:
    for head in (b"", b"\0\1\1\0\0\1\0\0\0\0\0\0"):
        message = read_message(head + data)
        assert message is None or message.name.endswith(".")
