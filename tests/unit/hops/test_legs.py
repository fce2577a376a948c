"""Legs joined: which connection of a proxy is part of a client's story, and which is not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.hops.evidence import Loss, Tuple
from hoplab.hops.flow import ProbeKey, flows
from hoplab.hops.leg_checks import (
    expect_client_told,
    expect_leg,
    expect_legs,
    expect_no_leg,
    leg_flow,
    leg_of,
    legs_words,
)
from hoplab.hops.story import Flow
from hoplab.hops.verdict import expect_hops, expect_outcome
from tests.unit.hops.imaginary import (
    ACK,
    CLIENT,
    FIN,
    NODE1,
    NODE_PORT,
    POD_D,
    PSH,
    RST,
    SWITCHES,
    SYN,
    VIP,
    Imaginary,
    Stop,
    Wire,
    switch,
    without,
)

LB = "10.240.0.2"
TO_LB = [Stop("client", outs=("eth0",)), switch("internet"), Stop("lb", ("eth0",))]
FROM_LB = [Stop("lb", outs=("eth0",)), switch("internet"), Stop("client", ("eth0",))]
TOKEN = b"probe-0123456789ab"
ANSWER = b"HTTP/1.1 200 OK\r\n\r\npod d"
THE_LEGS = (("client", "lb"), ("lb", "node1", "pod/d"))


def request(token: bytes = TOKEN, *headers: str) -> bytes:
    lines = [b"GET /?token=" + token + b" HTTP/1.1", *(each.encode() for each in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def to_pod(port: int) -> list[Stop]:
    """lb -> node1 (node port, DNAT, masquerade) -> pod d."""
    return [
        Stop("lb", outs=("eth1",)),
        switch("nodenet"),
        Stop("node1", ("eth0",), ("cni0", "vethd"), dnat=(POD_D, 80), snat=(NODE1, port), track=True),
        Stop("pod/d", ("eth0",)),
    ]


def from_pod(port: int) -> list[Stop]:
    return [
        Stop("pod/d", outs=("eth0",)),
        Stop("node1", ("vethd", "cni0"), ("eth0",), dnat=(LB, port), snat=(NODE1, NODE_PORT)),
        switch("nodenet"),
        Stop("lb", ("eth1",)),
    ]


@dataclass
class Side:
    """One TCP connection of the imaginary lab, packet by packet."""

    lab: Imaginary
    asks: Tuple
    answers: Tuple
    there: list[Stop]
    back: list[Stop]
    isn: int
    irs: int = 77000
    ids: int = 1
    sent: int = field(default=0)
    got: int = field(default=0)

    def out(self, flags: int, payload: bytes = b"") -> None:
        self.ids += 1
        seq = self.isn + self.sent
        self.lab.play(
            Wire(
                self.asks,
                ip_id=self.isn % 5000 + self.ids,
                flags=flags,
                seq=seq,
                ack=self.irs + self.got,
                payload=payload,
            ),
            self.there,
        )
        self.sent += len(payload) + bool(flags & (SYN | FIN))

    def back_with(self, flags: int, payload: bytes = b"") -> None:
        self.ids += 1
        seq, ack = self.irs + self.got, self.isn + self.sent
        self.lab.play(
            Wire(self.answers, ip_id=self.irs % 5000 + self.ids, flags=flags, seq=seq, ack=ack, payload=payload),
            self.back,
        )
        self.got += len(payload) + bool(flags & (SYN | FIN))

    def handshake(self) -> None:
        self.out(SYN)
        self.back_with(SYN | ACK)
        self.out(ACK)


def client_side(lab: Imaginary, sport: int = 40000, isn: int = 1000) -> Side:
    asks = Tuple(CLIENT, sport, VIP, 80)
    return Side(lab, asks, asks.reversed(), TO_LB, FROM_LB, isn, irs=isn + 33000)


def proxy_side(lab: Imaginary, sport: int = 50000, isn: int = 500000, to: str = NODE1, port: int = NODE_PORT) -> Side:
    asks = Tuple(LB, sport, to, port)
    return Side(lab, asks, Tuple(POD_D, 80, NODE1, sport), to_pod(sport), from_pod(sport), isn, irs=isn + 44000)


def key(sport: int = 40000, isn: int = 1000, token: bytes = TOKEN) -> ProbeKey:
    return ProbeKey(f"probe {sport}", "tcp", "client", Tuple(CLIENT, sport, VIP, 80), isn, token)


def tell(lab: Imaginary, *keys: ProbeKey) -> Flow:
    return flows(lab.evidence, keys or [key()], switches=SWITCHES)[0]


def finish(client: Side, answer: bytes = ANSWER) -> None:
    client.back_with(ACK | PSH, answer)
    client.back_with(ACK | FIN)
    client.out(ACK | FIN)


def proxied(lab: Imaginary, asked: bytes = b"", passed_on: bytes = b"", sport: int = 40000, isn: int = 1000) -> None:
    """The client's request, passed on on a fresh connection and answered."""
    client, proxy = client_side(lab, sport, isn), proxy_side(lab, sport + 10000, isn + 500000)
    client.handshake()
    client.out(ACK | PSH, asked or request())
    proxy.handshake()
    proxy.out(ACK | PSH, passed_on or asked or request())
    proxy.back_with(ACK | PSH, ANSWER)
    finish(client)


class TestByTheRequest:
    def test_its_token_on_both_legs_joins_them_to_one_story(self) -> None:
        lab = Imaginary()
        proxied(lab)
        flow = tell(lab)
        [leg] = flow.legs
        assert (leg.number, leg.carried, leg.reused, leg.flow.outcome) == (2, True, False, "accepted")
        assert [hop.node for hop in flow.forward] == ["client", "lb"]
        assert [hop.node for hop in leg.flow.forward] == ["lb", "node1", "pod/d"]
        assert [hop.node for hop in leg.flow.reply] == ["pod/d", "node1", "lb"]
        assert leg.flow.forward[1].rewrite == ("DNAT", "SNAT")
        assert [entry.node for entry in leg.flow.conntrack] == ["node1"]
        assert "token probe-0123456789ab left lb on it" in leg.joined_by[0]
        assert expect_legs(flow, *THE_LEGS).passed
        assert expect_leg(flow, by="lb").passed
        assert not expect_no_leg(flow).passed
        assert legs_words(flow) == "client -> lb | lb -> node1 -> pod/d"
        assert expect_hops(leg_flow(flow, 2), "lb", "node1", "pod/d").passed

    def test_a_proxy_of_http_may_rewrite_the_request_and_say_for_whom_it_asks(self) -> None:
        lab = Imaginary()
        proxied(lab, passed_on=request(TOKEN, "X-Forwarded-For: 203.0.113.10, 10.0.0.1", "X-Real-IP: 203.0.113.10"))
        flow = tell(lab)
        assert flow.legs[0].forwarded == ("X-Forwarded-For: 203.0.113.10, 10.0.0.1", "X-Real-IP: 203.0.113.10")
        assert expect_client_told(flow, "X-Forwarded-For", CLIENT).passed
        assert expect_client_told(flow, "x-real-ip", CLIENT).passed
        assert not expect_client_told(flow, "X-Forwarded-For", "10.0.0.1").passed
        assert not expect_client_told(flow, "PROXY", CLIENT).passed
        assert not expect_client_told(flow, "Forwarded", CLIENT).passed

    def test_without_a_token_the_same_bytes_join(self) -> None:
        lab = Imaginary()
        proxied(lab, asked=b"something long enough to be known again")
        flow = tell(lab, key(token=b""))
        assert expect_legs(flow, *THE_LEGS).passed
        assert "39 bytes left lb" in flow.legs[0].joined_by[0]

    def test_the_same_bytes_of_two_clients_join_nothing(self) -> None:
        lab = Imaginary()
        asked = b"both of them ask for just this"
        one, two = client_side(lab), client_side(lab, 40001, 3000)
        for client in (one, two):
            client.handshake()
            client.out(ACK | PSH, asked)
        proxy = proxy_side(lab)
        proxy.handshake()
        proxy.out(ACK | PSH, asked)
        proxy.back_with(ACK | PSH, ANSWER)
        finish(one)
        finish(two)
        flow = tell(lab, key(token=b""), key(40001, 3000, b""))
        assert flow.legs == ()
        assert "may as well" in flow.beyond
        assert not expect_no_leg(flow).passed
        assert not expect_leg(flow).passed

    def test_many_at_once_each_find_their_own(self) -> None:
        lab = Imaginary()
        clients = [(client_side(lab, 40000 + n, 1000 + 5000 * n), b"probe-%012x" % n) for n in range(5)]
        for client, token in clients:
            client.handshake()
            client.out(ACK | PSH, request(token))
        for n in (3, 0, 4, 1, 2):
            proxy = proxy_side(lab, 50000 + n, 600000 + 5000 * n)
            proxy.handshake()
            proxy.out(ACK | PSH, request(b"probe-%012x" % n))
            proxy.back_with(ACK | PSH, ANSWER)
        for client, _token in clients:
            finish(client)
        keys = [key(40000 + n, 1000 + 5000 * n, token) for n, (_client, token) in enumerate(clients)]
        for n, flow in enumerate(flows(lab.evidence, keys, switches=SWITCHES)):
            assert flow.legs[0].flow.forward[0].before.sport == 50000 + n
            assert len(flow.legs) == 1

    def test_a_connection_that_carried_it_before_it_came_is_not_its(self) -> None:
        lab = Imaginary()
        proxy = proxy_side(lab)
        proxy.handshake()
        proxy.out(ACK | PSH, request())
        client = client_side(lab)
        client.handshake()
        client.out(ACK | PSH, request())
        finish(client)
        assert tell(lab).legs == ()

    def test_a_connection_of_another_namespace_is_not_its(self) -> None:
        lab = Imaginary()
        client, proxy = client_side(lab), proxy_side(lab)
        elsewhere = replace(proxy, there=[Stop("router", outs=("eth1",)), *proxy.there[1:]])
        client.handshake()
        client.out(ACK | PSH, request())
        elsewhere.out(SYN)
        elsewhere.out(ACK | PSH, request())
        finish(client)
        assert tell(lab).legs == ()

    def test_who_only_answers_is_no_proxy(self) -> None:
        lab = Imaginary()
        client = client_side(lab)
        client.handshake()
        client.out(ACK | PSH, request())
        finish(client, b"HTTP/1.1 404 Not Found\r\n\r\n" + TOKEN)
        flow = tell(lab)
        assert (flow.legs, flow.beyond) == ((), "")
        assert expect_no_leg(flow).passed
        assert not expect_leg(flow).passed
        assert not expect_no_leg(replace(flow, losses=(Loss("lb", "frames", 3),))).passed
        assert not expect_outcome(leg_flow(flow, 2), "accepted").passed
        assert not expect_outcome(leg_flow(flow, 2), "unanswered").passed


class TestAConnectionThatWasKept:
    def kept(self, lab: Imaginary, seen_from: int) -> Flow:
        """Two clients one after the other, one connection to the server; the second client's story."""
        first, second = client_side(lab), client_side(lab, 40001, 9000)
        proxy = proxy_side(lab)
        first.handshake()
        first.out(ACK | PSH, request(b"probe-aaaaaaaaaaaa"))
        proxy.handshake()
        proxy.out(ACK | PSH, request(b"probe-aaaaaaaaaaaa"))
        proxy.back_with(ACK | PSH, b"the first answer")
        finish(first)
        mark = len(lab.frames)
        second.handshake()
        second.out(ACK | PSH, request(b"probe-bbbbbbbbbbbb"))
        proxy.out(ACK | PSH, request(b"probe-bbbbbbbbbbbb"))
        proxy.back_with(ACK | PSH, b"the second answer")
        finish(second)
        evidence = without(lab.evidence, range(1, mark + 1)) if seen_from else lab.evidence
        [flow] = flows(evidence, [key(40001, 9000, b"probe-bbbbbbbbbbbb")], switches=SWITCHES)
        return flow

    @pytest.mark.parametrize("seen_from", [0, 1], ids=["all of it seen", "older than what was seen"])
    def test_the_request_is_a_leg_and_begins_with_itself(self, seen_from: int) -> None:
        flow = self.kept(Imaginary(), seen_from)
        [leg] = flow.legs
        assert (leg.reused, leg.carried, leg.flow.outcome) == (True, True, "accepted")
        assert [p.label for p in leg.flow.passages] == ["DATA", "DATA"]
        assert [hop.node for hop in leg.flow.forward] == ["lb", "node1", "pod/d"]
        assert [hop.node for hop in leg.flow.reply] == ["pod/d", "node1", "lb"]
        assert leg.flow.response in ("the second answer", "")
        assert expect_legs(flow, *THE_LEGS).passed

    def test_the_first_client_has_the_handshake_in_its_story_and_not_the_second_request(self) -> None:
        lab = Imaginary()
        self.kept(lab, 0)
        [flow] = flows(lab.evidence, [key(token=b"probe-aaaaaaaaaaaa")], switches=SWITCHES)
        [leg] = flow.legs
        assert not leg.reused
        assert [p.label for p in leg.flow.passages] == ["SYN", "SYN-ACK", "ACK", "DATA", "DATA"]
        assert leg.flow.response == "the first answer"

    def test_a_request_between_two_others_has_none_of_their_packets(self) -> None:
        lab = Imaginary()
        proxy = proxy_side(lab)
        proxy.handshake()
        for number in range(3):
            client = client_side(lab, 40000 + number, 1000 + 5000 * number)
            client.handshake()
            asked = request(b"probe-%012x" % number)
            client.out(ACK | PSH, asked)
            proxy.out(ACK | PSH, asked)
            proxy.back_with(ACK | PSH, b"answer %d" % number)
            finish(client)
        [flow] = flows(lab.evidence, [key(40001, 6000, b"probe-%012x" % 1)], switches=SWITCHES)
        [leg] = flow.legs
        assert leg.reused
        assert [p.label for p in leg.flow.passages] == ["DATA", "DATA"]


class TestByTheProxyHeader:
    def header(self, sport: int) -> bytes:
        return f"PROXY TCP4 {CLIENT} {VIP} {sport} 80\r\n".encode()

    def test_it_names_the_clients_own_connection(self) -> None:
        lab = Imaginary()
        proxied(lab, asked=b"x", passed_on=self.header(40000) + b"x")
        flow = tell(lab, key(token=b""))
        [leg] = flow.legs
        assert leg.proxy_header == f"PROXY protocol version 1: {CLIENT}:40000 -> {VIP}:80"
        assert "its first bytes are a PROXY protocol" in leg.joined_by[0]
        assert expect_client_told(flow, "PROXY", CLIENT).passed
        assert not expect_client_told(flow, "PROXY", VIP).passed

    def test_another_clients_header_joins_nothing(self) -> None:
        lab = Imaginary()
        proxied(lab, asked=b"x", passed_on=self.header(40009) + b"x")
        assert tell(lab, key(token=b"")).legs == ()

    def test_a_header_alone_is_no_request_that_had_to_be_answered(self) -> None:
        lab = Imaginary()
        client, proxy = client_side(lab), proxy_side(lab)
        client.handshake()
        proxy.handshake()
        proxy.out(ACK | PSH, self.header(40000))
        client.out(RST)
        [leg] = tell(lab, key(token=b"")).legs
        assert leg.flow.outcome == "accepted"


class TestByTimeAlone:
    def failing(self, lab: Imaginary, *, refused: bool, sport: int = 50000) -> None:
        client, proxy = client_side(lab), proxy_side(lab, sport)
        client.handshake()
        client.out(ACK | PSH, request())
        proxy.out(SYN)
        if refused:
            proxy.back_with(RST | ACK)
        finish(client, b"HTTP/1.1 502 Bad Gateway\r\n\r\n" if refused else b"HTTP/1.1 504 Gateway Time-out\r\n\r\n")

    @pytest.mark.parametrize(("refused", "outcome"), [(True, "rejected"), (False, "unanswered")])
    def test_a_refused_or_silent_server(self, refused: bool, outcome: str) -> None:
        lab = Imaginary()
        self.failing(lab, refused=refused)
        flow = tell(lab)
        [leg] = flow.legs
        assert (leg.flow.outcome, leg.carried) == (outcome, False)
        assert flow.outcome == "accepted"
        assert "no other request waited" in leg.joined_by[0]
        assert not expect_leg(flow).passed
        assert not expect_no_leg(flow).passed
        assert not expect_legs(flow, *THE_LEGS).passed
        assert expect_outcome(leg_flow(flow, 2), outcome).passed  # type: ignore[arg-type]

    def test_one_server_refuses_and_the_next_one_answers(self) -> None:
        lab = Imaginary()
        client, first, second = client_side(lab), proxy_side(lab), proxy_side(lab, 50001, 800000)
        client.handshake()
        client.out(ACK | PSH, request())
        first.out(SYN)
        first.back_with(RST | ACK)
        second.handshake()
        second.out(ACK | PSH, request())
        second.back_with(ACK | PSH, ANSWER)
        finish(client)
        flow = tell(lab)
        assert [(leg.carried, leg.flow.outcome) for leg in flow.legs] == [(False, "rejected"), (True, "accepted")]
        assert leg_of(flow, 2) is flow.legs[1]

    def test_a_probe_that_is_sent_from_there_is_nobodys_leg(self) -> None:
        lab = Imaginary()
        self.failing(lab, refused=True)
        from_there = ProbeKey("another probe", "tcp", "lb", Tuple(LB, 50000, NODE1, NODE_PORT), 500000, b"")
        flow = tell(lab, key(), from_there)
        assert (flow.legs, flow.doubtful) == ((), 0)
        assert expect_no_leg(flow).passed

    def test_two_requests_that_wait_can_not_be_told_apart(self) -> None:
        lab = Imaginary()
        other = client_side(lab, 40001, 3000)
        other.handshake()
        other.out(ACK | PSH, request(b"probe-ffffffffffff"))
        self.failing(lab, refused=True)
        finish(other)
        flow = tell(lab, key(), key(40001, 3000, b"probe-ffffffffffff"))
        assert flow.legs == ()
        assert flow.doubtful == 1

    def test_a_health_check_is_nobodys_leg(self) -> None:
        lab = Imaginary()
        check = proxy_side(lab, 50900, 900000)
        check.out(SYN)
        check.back_with(RST | ACK)
        self.failing(lab, refused=True)
        flow = tell(lab)
        assert flow.legs == ()
        assert not expect_no_leg(flow).passed

    def test_a_connection_that_stood_and_carried_nothing_is_nobodys_leg(self) -> None:
        lab = Imaginary()
        client, probe = client_side(lab), proxy_side(lab)
        client.handshake()
        client.out(ACK | PSH, request())
        probe.handshake()
        probe.out(ACK | FIN)
        finish(client)
        flow = tell(lab)
        assert (flow.legs, flow.doubtful) == ((), 0)
        assert expect_no_leg(flow).passed

    def test_after_the_answer_nothing_is_opened_for_it(self) -> None:
        lab = Imaginary()
        client, late = client_side(lab), proxy_side(lab)
        client.handshake()
        client.out(ACK | PSH, request())
        finish(client)
        late.out(SYN)
        assert tell(lab).legs == ()


class TestFurtherLegs:
    def test_a_proxy_behind_a_proxy(self) -> None:
        lab = Imaginary()
        client, proxy = client_side(lab), proxy_side(lab)
        client.handshake()
        client.out(ACK | PSH, request())
        proxy.handshake()
        proxy.out(ACK | PSH, request())
        third = Side(
            lab,
            Tuple(POD_D, 51000, "10.1.1.9", 8080),
            Tuple("10.1.1.9", 8080, POD_D, 51000),
            [Stop("pod/d", outs=("eth0",)), Stop("node1", ("vethd",), ("vethe",)), Stop("pod/e", ("eth0",))],
            [Stop("pod/e", outs=("eth0",)), Stop("node1", ("vethe",), ("vethd",)), Stop("pod/d", ("eth0",))],
            700000,
        )
        third.handshake()
        third.out(ACK | PSH, request(TOKEN, "X-Forwarded-For: 10.240.0.2"))
        third.back_with(ACK | PSH, ANSWER)
        proxy.back_with(ACK | PSH, ANSWER)
        finish(client)
        flow = tell(lab)
        assert [leg.number for leg in flow.legs] == [2, 3]
        assert [leg.flow.name for leg in flow.legs] == ["probe 40000, leg 2", "probe 40000, leg 3"]
        assert expect_legs(flow, *THE_LEGS, ("pod/d", "node1", "pod/e")).passed
        assert not expect_legs(flow, *THE_LEGS).passed
        assert not expect_legs(flow, *THE_LEGS, ("pod/d", "pod/e")).passed
        assert expect_leg(flow, 3, by="pod/d").passed


@given(st.sets(st.integers(1, 120), max_size=40))
def test_seeing_less_never_joins_what_was_not_seen(missing: set[int]) -> None:
    """Whatever frames are taken away: a leg is only told while the frame that carried the request away is there."""
    lab = Imaginary()
    proxied(lab)
    left = [f.number for f in lab.frames if f.node == "lb" and f.interface == "eth1" and TOKEN in f.data]
    [flow] = flows(without(lab.evidence, missing), [key()], switches=SWITCHES)
    carried = [leg for leg in flow.legs if leg.carried]
    if carried:
        assert set(left) - missing
    if expect_legs(flow, *THE_LEGS).passed:
        assert not missing & {n for leg in flow.legs for hop in (*flow.forward, *leg.flow.forward) for n in hop.frames}
        assert carried
