"""The TCP client against a scripted server, and against a lossy network."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.probe.seen import IcmpError, Seen
from hoplab.probe.shapes import ACK, FIN, PSH, RST, SYN, Endpoint, Segment
from hoplab.probe.tcp import TcpClient, TcpPlan

CLIENT, SERVER = Endpoint("203.0.113.10", 40000), Endpoint("198.51.100.10", 80)
ISN, IRS = 0xFFFFFFF0, 7000
"""The client's numbers wrap within its first sixteen bytes."""


def from_server(flags: int, seq: int, ack: int, payload: bytes = b"", *, window: int = 65535, mss: int = 0) -> Seen:
    """A segment of the server; `seq` and `ack` count from the two SYNs."""
    return Seen(
        "tcp", SERVER, CLIENT, payload, flags, (IRS + seq) % (1 << 32), (ISN + ack) % (1 << 32), window, mss=mss
    )


def mine(flags: int, seq: int, ack: int = 0, payload: bytes = b"") -> Segment:
    """A segment of the client, numbered likewise."""
    return Segment(flags, (ISN + seq) % (1 << 32), (IRS + ack) % (1 << 32), payload)


def connected(plan: TcpPlan) -> TcpClient:
    client = TcpClient(plan)
    assert client.start(0.0) == [Segment(SYN, ISN)]
    return client


SYN_ACK = from_server(SYN | ACK, 0, 1, mss=1460)


def test_the_whole_exchange_when_the_server_closes_first() -> None:
    client = connected(TcpPlan(ISN, b"GET"))
    assert client.on_packet(SYN_ACK, 0.1) == [mine(ACK, 1, 1), mine(ACK | PSH, 1, 1, b"GET")]
    assert client.state == "established"
    assert client.on_packet(from_server(ACK, 1, 4), 0.2) == []
    assert client.on_packet(from_server(ACK | PSH, 1, 4, b"page"), 0.3) == [mine(ACK, 4, 5)]
    assert client.on_packet(from_server(ACK | FIN, 5, 4), 0.4) == [mine(FIN | ACK, 4, 6)]
    assert client.state == "last-ack"
    assert not client.finished
    assert client.on_packet(from_server(ACK, 6, 5), 0.5) == []
    assert client.finished
    assert (client.verdict.outcome, client.verdict.response, client.verdict.complete) == ("accepted", b"page", True)


def test_the_whole_exchange_when_the_client_closes_first() -> None:
    client = connected(TcpPlan(ISN, b"hello", close="client"))
    assert client.on_packet(SYN_ACK, 0.1) == [
        mine(ACK, 1, 1),
        mine(ACK | PSH, 1, 1, b"hello"),
        mine(FIN | ACK, 6, 1),
    ]
    assert client.state == "fin-wait-1"
    client.on_packet(from_server(ACK, 1, 7), 0.2)
    assert client.state == "fin-wait-2"
    assert client.on_packet(from_server(ACK | PSH | FIN, 1, 7, b"hello"), 0.3) == [mine(ACK, 7, 7)]
    assert client.state == "time-wait"
    assert client.verdict.complete
    assert client.on_packet(from_server(ACK | FIN, 6, 7), 0.4) == [mine(ACK, 7, 7)], "a late FIN is acknowledged again"


def test_half_open_sends_reset_behind_the_syn_ack() -> None:
    client = connected(TcpPlan(ISN, close="reset"))
    assert client.on_packet(SYN_ACK, 0.1) == [Segment(RST, (ISN + 1) % (1 << 32))]
    assert client.verdict.outcome == "accepted"
    assert client.verdict.complete


def test_a_refused_connection() -> None:
    client = connected(TcpPlan(ISN, b"GET"))
    assert client.on_packet(from_server(RST | ACK, 0, 1), 0.1) == []
    assert client.verdict.outcome == "rejected"
    assert client.verdict.reason == "RST from 198.51.100.10:80 in answer to the SYN"


def test_a_reset_that_acknowledges_something_else_is_not_believed() -> None:
    client = connected(TcpPlan(ISN, b"GET"))
    client.on_packet(from_server(RST | ACK, 0, 77), 0.1)
    assert not client.finished


def test_a_syn_ack_of_another_connection_is_noted_and_not_answered() -> None:
    client = connected(TcpPlan(ISN, b"GET"))
    assert client.on_packet(from_server(SYN | ACK, 0, 9), 0.1) == []
    client.give_up("within 1 s")
    assert client.verdict.outcome == "unanswered"
    assert client.verdict.reason == "no answer to the SYN within 1 s"
    assert "does not acknowledge" in client.verdict.notes[0]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (IcmpError("10.240.0.11", 3, 3, 0, SYN_ACK), "ICMP port unreachable from 10.240.0.11"),
        (IcmpError("10.240.0.1", 3, 1, 0, SYN_ACK), "ICMP host unreachable from 10.240.0.1"),
        (IcmpError("fd00::1", 1, 4, 0, SYN_ACK), "ICMP port unreachable from fd00::1"),
        (IcmpError("10.240.0.1", 11, 0, 0, SYN_ACK), "ICMP TTL exceeded in transit from 10.240.0.1"),
        (IcmpError("10.240.0.1", 12, 7, 0, SYN_ACK), "ICMP type 12 code 7 from 10.240.0.1"),
    ],
)
def test_an_icmp_error_to_the_syn_rejects(error: IcmpError, words: str) -> None:
    client = connected(TcpPlan(ISN, b"GET"))
    client.on_packet(Seen("icmp-error", Endpoint(error.reporter), CLIENT, error=error), 0.1)
    assert (client.verdict.outcome, client.verdict.reason) == ("rejected", words)


def test_a_reset_in_the_middle_of_the_answer() -> None:
    client = connected(TcpPlan(ISN, b"GET"))
    client.on_packet(SYN_ACK, 0.1)
    client.on_packet(from_server(ACK, 1, 4, b"half"), 0.2)
    client.on_packet(from_server(RST, 5, 0), 0.3)
    verdict = client.verdict
    assert (verdict.outcome, verdict.response, verdict.complete) == ("rejected", b"half", False)
    assert verdict.reason == "198.51.100.10:80 reset the connection in the middle of its answer"


def test_a_server_that_closes_without_an_answer() -> None:
    client = connected(TcpPlan(ISN, b"GET"))
    client.on_packet(SYN_ACK, 0.1)
    client.on_packet(from_server(ACK | FIN, 1, 4), 0.2)
    client.on_packet(from_server(ACK, 2, 5), 0.3)
    assert (client.verdict.outcome, client.verdict.reason) == ("unanswered", "the server closed without an answer")


def test_a_server_that_never_answers_is_given_up_with_a_reset() -> None:
    client = connected(TcpPlan(ISN, b"GET"))
    client.on_packet(SYN_ACK, 0.1)
    client.on_packet(from_server(ACK, 1, 4), 0.2)
    assert client.give_up("within 1 s") == [mine(RST | ACK, 4, 1)]
    assert client.verdict.outcome == "unanswered"
    assert client.verdict.reason == "connected, but no answer to the request within 1 s"


def test_an_answer_without_the_end_of_the_connection_is_accepted_but_not_complete() -> None:
    client = connected(TcpPlan(ISN, b"GET"))
    client.on_packet(SYN_ACK, 0.1)
    client.on_packet(from_server(ACK, 1, 4, b"page"), 0.2)
    client.give_up("within 1 s")
    assert client.verdict.outcome == "accepted"
    assert not client.verdict.complete
    assert client.verdict.reason == "the answer came, but the connection was still established within 1 s"


def test_out_of_order_duplicate_and_overlapping_data_are_put_together() -> None:
    client = connected(TcpPlan(ISN, b"GET"))
    client.on_packet(SYN_ACK, 0.1)
    assert client.on_packet(from_server(ACK, 4, 4, b"def"), 0.2) == [mine(ACK, 4, 1)], (
        "a gap is told by a duplicate ACK"
    )
    client.on_packet(from_server(ACK | FIN, 10, 4), 0.2)
    assert client.on_packet(from_server(ACK, 1, 4, b"abc"), 0.2) == [mine(ACK, 4, 7)]
    client.on_packet(from_server(ACK, 1, 4, b"abc"), 0.2)
    assert client.on_packet(from_server(ACK, 3, 4, b"cdefghi"), 0.2) == [mine(FIN | ACK, 4, 11)]
    client.on_packet(from_server(ACK, 11, 5), 0.3)
    assert client.verdict.response == b"abcdefghi"
    assert client.verdict.complete


def test_a_big_request_is_cut_by_mss_and_held_back_by_the_window() -> None:
    client = connected(TcpPlan(ISN, b"x" * 1000))
    first = client.on_packet(from_server(SYN | ACK, 0, 1, mss=400, window=600), 0.1)
    assert [len(segment.payload) for segment in first] == [0, 400, 200]
    rest = client.on_packet(from_server(ACK, 1, 601, window=65535), 0.2)
    assert [(len(segment.payload), segment.flags) for segment in rest] == [(400, ACK | PSH)]


def test_a_smaller_path_mtu_cuts_what_was_not_acknowledged_anew() -> None:
    client = connected(TcpPlan(ISN, b"x" * 2000))
    assert [len(s.payload) for s in client.on_packet(SYN_ACK, 0.1)] == [0, 1460, 540]
    error = IcmpError("10.240.0.11", 3, 4, 1460, SYN_ACK)
    again = client.on_packet(Seen("icmp-error", Endpoint("10.240.0.11"), CLIENT, error=error), 0.2)
    assert [len(segment.payload) for segment in again] == [1420, 580]
    assert again[0].seq == (ISN + 1) % (1 << 32)
    client.give_up("within 1 s")
    assert client.verdict.notes == ("ICMP fragmentation needed (MTU 1460) from 10.240.0.11",)


def test_nothing_is_sent_twice_unless_the_plan_says_so() -> None:
    client = connected(TcpPlan(ISN, b"GET"))
    assert client.wakes_at is None
    patient = connected(TcpPlan(ISN, b"GET", retries=2, retry_s=0.5))
    assert patient.wakes_at == 0.5
    assert patient.on_time(0.25) == []
    assert patient.on_time(0.5) == [Segment(SYN, ISN)]
    assert patient.wakes_at == 1.5
    assert patient.on_time(1.5) == [Segment(SYN, ISN)]
    assert patient.wakes_at is None


@dataclass
class Server:
    """The other half of RFC 9293, as simple as it can be: answers a whole request, closes, repeats itself."""

    request_length: int
    response: bytes
    mss: int
    got: dict[int, int] = field(default_factory=dict)
    una: int = 0
    """Of the server's own numbers: 0 SYN, 1.. response, then FIN."""
    client_fin: int | None = None
    opened: bool = False

    @property
    def request(self) -> bytes:
        return bytes(self.got[n] for n in itertools.takewhile(self.got.__contains__, itertools.count(1)))

    @property
    def expected(self) -> int:
        upto = len(self.request) + 1
        return upto + (self.client_fin == upto)

    def take(self, segment: Segment) -> list[Seen]:
        number = (segment.seq - ISN) % (1 << 32)
        if segment.flags & SYN:
            self.opened = True
            return self.speak()
        for offset, byte in enumerate(segment.payload):
            self.got[number + offset] = byte
        if segment.flags & FIN:
            self.client_fin = number + len(segment.payload)
        acknowledged = (segment.ack - IRS) % (1 << 32)
        fresh = acknowledged > self.una
        self.una = max(self.una, acknowledged)
        if segment.payload or segment.flags & FIN or fresh:
            return self.speak() or [from_server(ACK, min(self.una, len(self.response) + 2), self.expected)]
        return []

    def speak(self) -> list[Seen]:
        """Everything that was not acknowledged and may be sent."""
        if not self.opened:
            return []
        if self.una == 0:
            return [from_server(SYN | ACK, 0, 1, mss=self.mss)]
        if len(self.request) < self.request_length:
            return [from_server(ACK, 1, self.expected)]
        end = len(self.response) + 1
        data = [
            from_server(ACK, n, self.expected, self.response[n - 1 : n - 1 + self.mss])
            for n in range(self.una, end, self.mss)
        ]
        return data + ([from_server(ACK | FIN, end, self.expected)] if self.una <= end else [])


@given(
    request=st.binary(min_size=1, max_size=60),
    response=st.binary(min_size=1, max_size=120),
    mss=st.integers(7, 40),
    closes=st.sampled_from(["server", "client"]),
    fates=st.lists(st.tuples(st.sampled_from(["pass", "drop", "twice"]), st.floats(0.001, 0.2)), max_size=60),
)
def test_loss_reordering_and_duplication_change_nothing_but_the_time(
    request: bytes, response: bytes, mss: int, closes: str, fates: list[tuple[str, float]]
) -> None:
    client = TcpClient(TcpPlan(ISN, request, close=closes, mss=mss, retries=50, retry_s=0.3))  # type: ignore[arg-type]
    server = Server(len(request), response, mss)
    fate = itertools.chain(fates, itertools.repeat(("pass", 0.01)))
    number = itertools.count()
    queue: list[tuple[float, int, str, Segment | Seen | None]] = [(0.5, next(number), "server-timer", None)]

    def send(now: float, to: str, packets: list[Segment] | list[Seen]) -> None:
        for packet in packets:
            what, delay = next(fate)
            for _ in range({"pass": 1, "drop": 0, "twice": 2}[what]):
                heapq.heappush(queue, (now + delay, next(number), to, packet))
                delay += 0.05

    send(0.0, "server", client.start(0.0))
    for _step in range(5000):
        if client.finished and server.una == len(response) + 2:
            break
        now, _, to, packet = queue[0]
        if client.wakes_at is not None and client.wakes_at < now:
            now = client.wakes_at
            send(now, "server", client.on_time(now))
            continue
        heapq.heappop(queue)
        if isinstance(packet, Segment):
            send(now, "client", server.take(packet))
        elif isinstance(packet, Seen):
            send(now, "server", client.on_packet(packet, now))
        else:
            if not client.finished or server.una < len(response) + 2:
                send(now, "client", server.speak())
            heapq.heappush(queue, (now + 0.5, next(number), to, None))
    assert client.finished
    assert (client.verdict.outcome, client.verdict.complete) == ("accepted", True)
    assert client.verdict.response == response
    assert server.request == request


@given(
    st.lists(
        st.builds(
            from_server,
            st.integers(0, 63),
            st.integers(-5, 40),
            st.integers(-5, 10),
            st.binary(max_size=9),
            window=st.integers(0, 100),
        ),
        max_size=12,
    ),
    st.sampled_from(["server", "client", "reset"]),
)
def test_no_sequence_of_segments_confuses_it(segments: list[Seen], closes: str) -> None:
    client = connected(TcpPlan(ISN, b"GET", close=closes))  # type: ignore[arg-type]
    client.on_packet(SYN_ACK, 0.0)
    for seen in segments:
        for answer in client.on_packet(seen, 0.1):
            assert (answer.seq - ISN) % (1 << 32) <= 5
    client.give_up("within 1 s")
    assert client.finished
    assert client.verdict.outcome in ("accepted", "rejected", "unanswered")
