"""One datagram, and the answer, the error or the silence that follows."""

from __future__ import annotations

from hoplab.probe.datagram import DatagramClient, DatagramPlan
from hoplab.probe.seen import IcmpError, Seen
from hoplab.probe.shapes import Endpoint

CLIENT, SERVER = Endpoint("203.0.113.10", 40000), Endpoint("198.51.100.10", 53)


def answer(payload: bytes) -> Seen:
    return Seen("udp", SERVER, CLIENT, payload)


def test_the_first_answer_counts_and_a_second_is_noted() -> None:
    client = DatagramClient(DatagramPlan(b"token"))
    assert client.start(0.0) == [b"token"]
    assert client.wakes_at is None
    assert not client.finished
    client.on_packet(answer(b"one"), 0.1)
    client.on_packet(answer(b"two"), 0.2)
    assert client.finished
    assert (client.verdict.outcome, client.verdict.response) == ("accepted", b"one")
    assert client.verdict.notes == ("a second answer came",)


def test_an_icmp_error_rejects() -> None:
    client = DatagramClient(DatagramPlan(b"token"))
    client.start(0.0)
    error = IcmpError("10.1.2.4", 3, 3, 0, answer(b""))
    client.on_packet(Seen("icmp-error", Endpoint("10.1.2.4"), CLIENT, error=error), 0.1)
    assert (client.verdict.outcome, client.verdict.reason) == ("rejected", "ICMP port unreachable from 10.1.2.4")


def test_silence() -> None:
    client = DatagramClient(DatagramPlan(b"token"))
    client.start(0.0)
    client.give_up("within 0.5 s")
    assert (client.verdict.outcome, client.verdict.reason) == ("unanswered", "no answer within 0.5 s")


def test_it_asks_again_as_often_as_the_plan_says_each_time_after_twice_as_long() -> None:
    client = DatagramClient(DatagramPlan(b"token", retries=2, retry_s=1.0))
    client.start(0.0)
    assert client.wakes_at == 1.0
    assert client.on_time(0.9) == []
    assert client.on_time(1.0) == [b"token"]
    assert client.wakes_at == 3.0
    assert client.on_time(3.0) == [b"token"]
    assert client.wakes_at is None


def test_an_echo_reply_must_bring_the_payload_back() -> None:
    client = DatagramClient(DatagramPlan(b"token", same_payload_returns=True))
    client.start(0.0)
    client.on_packet(answer(b"other"), 0.1)
    assert not client.finished
    client.on_packet(answer(b"token"), 0.2)
    assert client.verdict.outcome == "accepted"
    assert client.verdict.notes == ("an echo reply with another payload came",)
