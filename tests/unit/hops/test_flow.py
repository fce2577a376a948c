"""From a probe to its story: which packets belong to it, and how it ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hoplab.hops.evidence import ConntrackEvent, Tuple
from hoplab.hops.flow import ProbeKey, flows
from hoplab.hops.story import Flow
from tests.unit.hops.imaginary import (
    ACK,
    CLIENT,
    FIN,
    MASQUERADED,
    NODE1,
    NODE_PORT,
    POD_D,
    PSH,
    RST,
    SWITCHES,
    SYN,
    VIP,
    Imaginary,
    Rule,
    Stop,
    Wire,
    ethernet,
    exchange,
    mac,
    packed,
    probe,
    sent_by,
    way_back,
    way_there,
    without,
)

SYN_PACKET = Wire(sent_by(), ip_id=5, flags=SYN, seq=1000)
SYN_ACK = Wire(Tuple(POD_D, 80, NODE1, MASQUERADED), ip_id=0, flags=SYN | ACK, seq=9000, ack=1001)
BACK = way_back(client=sent_by())


def tell(lab: Imaginary, key: ProbeKey | None = None) -> Flow:
    [flow] = flows(lab.evidence, [key or probe()], switches=SWITCHES)
    return flow


class TestAccepted:
    def test_the_whole_exchange(self) -> None:
        lab = Imaginary()
        exchange(lab)
        flow = tell(lab)
        assert (flow.outcome, flow.reason) == ("accepted", "")
        assert [hop.node for hop in flow.forward] == ["client", "lb", "node1", "node2", "pod/d"]
        assert [hop.node for hop in flow.reply] == ["pod/d", "node2", "node1", "lb", "client"]
        assert [(p.label, p.reply) for p in flow.passages] == [
            ("SYN", False),
            ("SYN-ACK", True),
            ("ACK", False),
            ("DATA", False),
            ("ACK", True),
            ("DATA", True),
            ("FIN", True),
            ("FIN", False),
            ("ACK", True),
        ]
        assert flow.response == "HTTP/1.1 200 OK\r\n\r\npod d"
        assert flow.sender == "client"

    def test_conntrack_entries_stand_at_their_hops_both_ways(self) -> None:
        lab = Imaginary()
        exchange(lab)
        flow = tell(lab)
        assert [entry.node for entry in flow.conntrack] == ["lb", "node1", "node2"]
        [there], [back] = flow.forward[2].conntrack, flow.reply[2].conntrack
        assert there == back
        assert there.original == Tuple(CLIENT, 40000, NODE1, NODE_PORT)
        assert there.reply == Tuple(POD_D, 80, NODE1, MASQUERADED)

    def test_the_last_state_of_an_entry_is_told(self) -> None:
        lab = Imaginary()
        exchange(lab)
        born = next(e for e in lab.conntrack if e.node == "node1")
        lab.conntrack.append(replace(born, kind="update", time_ns=lab.tick(), tcp_state="TIME_WAIT", status=14))
        lab.conntrack.append(replace(born, kind="destroy", time_ns=lab.tick(), status=14))
        [entry] = [e for e in tell(lab).conntrack if e.node == "node1"]
        assert entry.tcp_state == "TIME_WAIT"

    def test_a_kernels_own_connection_is_found_by_its_addresses_alone(self) -> None:
        lab = Imaginary()
        exchange(lab)
        flow = tell(lab, replace(probe(), isn=None, started_ns=lab.frames[0].time_ns))
        assert flow.outcome == "accepted"
        assert len(flow.passages) == 9

    def test_udp_with_a_token(self) -> None:
        lab = Imaginary()
        lab.play(Wire(sent_by(), "udp", payload=b"tok-1"), way_there())
        lab.play(Wire(SYN_ACK.tuple, "udp", payload=b'{"echo": "tok-1"}'), BACK)
        flow = tell(lab, ProbeKey("udp", "udp", "client", sent_by(), token=b"tok-1"))
        assert (flow.outcome, flow.response) == ("accepted", '{"echo": "tok-1"}')
        assert [p.label for p in flow.passages] == ["REQUEST", "REPLY"]

    def test_ping(self) -> None:
        asked = Tuple(CLIENT, 77, NODE1, 0)
        lab = Imaginary()
        router = Stop("lb", ("eth0",), ("eth1",), track=True)
        lab.play(
            Wire(asked, "icmp", payload=b"tok", seq=1),
            [Stop("client", outs=("eth0",)), router, Stop("node1", ("eth0",))],
        )
        lab.play(
            Wire(asked.reversed(), "icmp", payload=b"tok", icmp=(0, 0), seq=1),
            [Stop("node1", outs=("eth0",)), Stop("lb", ("eth1",), ("eth0",)), Stop("client", ("eth0",))],
        )
        # The kernel tells the identifier on both sides of both tuples.
        lab.conntrack = [
            ConntrackEvent(
                lab.frames[2].time_ns, "lb", "new", "icmp", Tuple(CLIENT, 77, NODE1, 77), Tuple(NODE1, 77, CLIENT, 77)
            )
        ]
        flow = tell(lab, ProbeKey("ping", "icmp", "client", asked, token=b"tok"))
        assert flow.outcome == "accepted"
        assert flow.forward[1].conntrack[0].original == asked
        assert flow.reply[1].conntrack == flow.forward[1].conntrack

    def test_a_repeated_syn_shows_the_copy_that_was_answered(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, [*way_there()[:4], Stop("node1", ("eth0",))])
        lab.tick(1_000_000_000)
        lab.play(replace(SYN_PACKET, ip_id=6), way_there())
        lab.play(SYN_ACK, BACK)
        flow = tell(lab)
        assert flow.outcome == "accepted"
        assert [hop.node for hop in flow.forward] == ["client", "lb", "node1", "node2", "pod/d"]
        assert [(p.label, p.retransmission) for p in flow.passages] == [
            ("SYN", False),
            ("SYN", True),
            ("SYN-ACK", False),
        ]

    def test_sender_and_receiver_may_be_one_node(self) -> None:
        sent = Tuple(NODE1, 50000, NODE1, 80)
        lab = Imaginary()
        lo = [Stop("node1", outs=("lo",)), Stop("node1", ("lo",))]
        lab.play(Wire(sent, flags=SYN, seq=1), lo)
        lab.play(Wire(sent.reversed(), flags=SYN | ACK, seq=5, ack=2), lo)
        flow = tell(lab, ProbeKey("self", "tcp", "node1", sent, isn=1))
        assert flow.outcome == "accepted"


class TestRejected:
    def test_by_a_reset(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        lab.play(replace(SYN_ACK, flags=RST | ACK, seq=0), BACK)
        flow = tell(lab)
        assert flow.outcome == "rejected"
        assert flow.reason == f"RST {VIP}:80 -> {CLIENT}:40000, sent by pod/d"
        assert flow.reply[0].node == "pod/d"

    def test_by_an_icmp_error_with_the_rule_that_sent_it(self) -> None:
        reject = Rule("filter", "KUBE-EXTERNAL-SERVICES", "-j REJECT", "drop", base=True)
        lab = Imaginary()
        came = lab.play(SYN_PACKET, [*way_there()[:4], Stop("node1", ("eth0",), rules=(reject,))])
        lab.play(
            came.error(NODE1, (3, 3)),
            [
                Stop("node1", outs=("eth0",)),
                Stop("lb", ("eth1",), ("eth0",), snat=(VIP, 80)),
                Stop("client", ("eth0",)),
            ],
        )
        flow = tell(lab)
        assert flow.outcome == "rejected"
        expected = (
            f"ICMP port unreachable from {VIP}, sent by node1, as ip filter KUBE-EXTERNAL-SERVICES: -j REJECT says"
        )
        assert flow.reason == expected
        assert [hop.node for hop in flow.reply] == ["node1", "lb", "client"]
        assert flow.passages[-1].label == "ICMP-ERROR"

    def test_an_error_that_quotes_somebody_elses_packet_is_not_ours(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        lab.play(
            replace(SYN_PACKET, seq=5).error(NODE1, (3, 3)), [Stop("node1", outs=("eth0",)), Stop("client", ("eth0",))]
        )
        assert tell(lab).outcome == "unanswered"

    def test_a_reset_after_the_handshake_before_any_answer(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        lab.play(SYN_ACK, BACK)
        lab.play(replace(SYN_PACKET, ip_id=6, flags=ACK | PSH, seq=1001, ack=9001, payload=b"GET"), way_there())
        lab.play(replace(SYN_ACK, flags=RST, seq=9001, ack=0), BACK)
        flow = tell(lab)
        assert flow.outcome == "rejected"
        assert flow.reason.startswith("connected, then reset before an answer")


class TestDropped:
    def test_by_a_rule(self) -> None:
        rule = Rule("filter", "KUBE-FIREWALL", '-m comment --comment "no local endpoints" -j DROP', "drop", base=True)
        lab = Imaginary()
        lab.play(SYN_PACKET, [*way_there()[:4], Stop("node1", ("eth0",), rules=(rule,))])
        flow = tell(lab)
        assert flow.outcome == "dropped"
        assert flow.reason.startswith("dropped in node1 by ip filter KUBE-FIREWALL: ")
        assert flow.forward[-1].rules[-1].verdict == "drop"

    def test_by_a_policy(self) -> None:
        policy = Rule("filter", "FORWARD", "policy", "drop", base=True)
        lab = Imaginary()
        lab.play(SYN_PACKET, [*way_there()[:4], Stop("node1", ("eth0",), rules=(policy,))])
        assert tell(lab).reason == "dropped in node1 by ip filter FORWARD: policy drop"

    def test_on_the_way_back(self) -> None:
        policy = Rule("filter", "FORWARD", "policy", "drop", base=True)
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        lab.play(SYN_ACK, [BACK[0], Stop("node2", ("vethd", "cni0"), rules=(policy,))])
        flow = tell(lab)
        assert (flow.outcome, flow.reason) == (
            "dropped",
            "the answer was dropped in node2 by ip filter FORWARD: policy drop",
        )
        assert [hop.node for hop in flow.reply] == ["pod/d", "node2"]

    def test_a_drop_in_a_trace_of_a_packet_that_went_on_is_no_drop(self) -> None:
        rule = Rule("filter", "FORWARD", "-j DROP", "drop", base=True, behind="dnat")
        way = way_there()
        way[4] = replace(way[4], rules=(rule,))
        lab = Imaginary()
        lab.play(SYN_PACKET, way)
        assert tell(lab).outcome == "unanswered"


class TestUnanswered:
    def test_nothing_was_sent(self) -> None:
        flow = tell(Imaginary())
        assert flow.outcome == "unanswered"
        assert flow.forward == ()
        assert "was seen in client" in flow.reason

    def test_it_says_where_the_packet_was_last_seen(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, [*way_there()[:4], Stop("node1", ("eth0",))])
        flow = tell(lab)
        assert flow.outcome == "unanswered"
        assert flow.reason == (
            f"{CLIENT}:40000 -> {NODE1}:{NODE_PORT} came into node1 by eth0 (frame 8)"
            " and was neither answered nor seen to leave"
        )

    def test_it_says_whether_a_neighbour_was_asked_for_in_vain(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, [*way_there()[:4], Stop("node1", ("eth0",))])
        body = bytes.fromhex("0001080006040001") + mac("node1") + packed("10.1.1.1") + bytes(6) + packed("10.1.1.9")
        lab.seen("node1", "cni0", "out", ethernet(body, "node1", "x", 0x0806))
        assert "node1 asked for 10.1.1.9 by ARP on cni0 (frame 9) and got no answer" in tell(lab).reason

    def test_an_answered_arp_request_is_no_reason(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, [*way_there()[:4], Stop("node1", ("eth0",))])
        head = bytes.fromhex("00010800060400")
        ask = head + b"\x01" + mac("node1") + packed("10.1.1.1") + bytes(6) + packed("10.1.1.9")
        told = head + b"\x02" + mac("pod") + packed("10.1.1.9") + mac("node1") + packed("10.1.1.1")
        lab.seen("node1", "cni0", "out", ethernet(ask, "node1", "x", 0x0806))
        lab.seen("node1", "cni0", "in", ethernet(told, "x", "node1", 0x0806))
        assert "ARP" not in tell(lab).reason

    def test_an_answer_from_the_wrong_address_is_no_answer_but_is_told(self) -> None:
        """Reverse NAT skipped: the pod's own address arrives at the client."""
        back = [replace(stop, snat=None) if stop.node in ("lb", "node1") else stop for stop in BACK]
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        lab.play(SYN_ACK, back)
        flow = tell(lab)
        assert flow.outcome == "unanswered"
        assert f"an answer came, but as {POD_D}:80 -> {CLIENT}:40000" in flow.reason
        assert [hop.node for hop in flow.reply] == ["pod/d", "node2", "node1", "lb", "client"]

    def test_a_pod_that_answers_from_a_wrong_source_is_found_by_the_numbers(self) -> None:
        strange = replace(SYN_ACK, tuple=Tuple("10.1.2.66", 80, NODE1, MASQUERADED))
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        lab.play(strange, [BACK[0], BACK[1], BACK[2], Stop("node1", ("eth0",))])
        flow = tell(lab)
        assert flow.outcome == "unanswered"
        assert flow.reason.startswith("the answer was lost: 10.1.2.66:80 -> ")
        assert [hop.node for hop in flow.reply] == ["pod/d", "node2", "node1"]

    def test_connected_but_the_request_vanished(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        lab.play(SYN_ACK, BACK)
        request = replace(SYN_PACKET, ip_id=6, flags=ACK | PSH, seq=1001, ack=9001, payload=b"GET")
        lab.play(request, [*way_there()[:4], Stop("node1", ("eth0",))])
        flow = tell(lab)
        assert flow.outcome == "unanswered"
        assert flow.reason.startswith("connected, but no answer to the request: ")
        assert "came into node1 by eth0" in flow.reason

    def test_connected_but_closed_without_an_answer(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        lab.play(SYN_ACK, BACK)
        lab.play(replace(SYN_PACKET, ip_id=6, flags=ACK | PSH, seq=1001, ack=9001, payload=b"GET"), way_there())
        lab.play(replace(SYN_ACK, ip_id=3, flags=FIN | ACK, seq=9001, ack=1004), BACK)
        assert tell(lab).reason == "connected, but the server closed without an answer"

    def test_a_wanted_smaller_packet_is_no_refusal(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        error = SYN_PACKET.error("203.0.113.1", (3, 4))
        lab.play(error, [Stop("router", outs=("eth0",)), Stop("client", ("eth0",))])
        patched = bytearray(lab.frames[-1].data)
        patched[40:42] = (1400).to_bytes(2, "big")
        lab.frames[-2:] = [replace(f, data=bytes(patched)) for f in lab.frames[-2:]]
        flow = tell(lab)
        assert flow.outcome == "unanswered"
        assert "fragmentation needed (MTU 1400)" in flow.reason

    def test_a_datagram_delivered_without_an_answer(self) -> None:
        lab = Imaginary()
        lab.play(Wire(sent_by(), "udp", payload=b"tok"), way_there())
        flow = tell(lab, ProbeKey("udp", "udp", "client", sent_by(), token=b"tok"))
        assert flow.outcome == "unanswered"
        assert "came into pod/d by eth0" in flow.reason


class TestSeveralProbes:
    def test_the_same_addresses_one_after_the_other(self) -> None:
        lab = Imaginary()
        exchange(lab, isn=1000, irs=77000)
        first_end = lab.now
        lab.tick(1_000_000_000)
        exchange(lab, isn=900_000_000, irs=88_000_000, port=52000)
        one, two = flows(lab.evidence, [probe(isn=1000), probe(isn=900_000_000)], switches=SWITCHES)
        assert (one.outcome, two.outcome) == ("accepted", "accepted")
        assert len(one.passages) == len(two.passages) == 9
        assert max(hop.time_ns for p in one.passages for hop in p.hops) <= first_end
        assert [e.reply.dport for e in one.conntrack if e.node == "node1"] == [MASQUERADED]
        assert [e.reply.dport for e in two.conntrack if e.node == "node1"] == [52000]

    def test_the_same_addresses_from_two_namespaces_at_once(self) -> None:
        lab = Imaginary()
        for sender, isn in (("client", 1000), ("other", 5_000_000)):
            way = [Stop(sender, outs=("eth0",)), Stop("node1", ("eth0",))]
            lab.play(replace(SYN_PACKET, seq=isn), way)
        keys = [probe(isn=1000), replace(probe(isn=5_000_000), sender="other")]
        one, two = flows(lab.evidence, keys)
        assert [hop.node for hop in one.forward] == ["client", "node1"]
        assert [hop.node for hop in two.forward] == ["other", "node1"]

    def test_datagrams_with_the_same_addresses_are_told_apart_by_their_tokens(self) -> None:
        lab = Imaginary()
        for number, token in enumerate((b"tok-1", b"tok-2"), 1):
            lab.play(Wire(sent_by(), "udp", ip_id=number, payload=token), way_there())
        for number, token in enumerate((b"tok-2", b"tok-1"), 1):
            lab.play(Wire(SYN_ACK.tuple, "udp", ip_id=number, payload=b"echo " + token), BACK)
        keys = [ProbeKey(t.decode(), "udp", "client", sent_by(), token=t) for t in (b"tok-1", b"tok-2")]
        assert [f.response for f in flows(lab.evidence, keys, switches=SWITCHES)] == ["echo tok-1", "echo tok-2"]

    def test_probes_come_back_in_their_order(self) -> None:
        assert [f.name for f in flows(Imaginary().evidence, [probe(name="b"), probe(name="a")])] == ["b", "a"]


@pytest.mark.parametrize("gone", ["client", "node1"])
def test_what_was_not_seen_is_missing_from_the_story(gone: str) -> None:
    lab = Imaginary()
    exchange(lab)
    frames = [f.number for f in lab.frames if f.node == gone]
    [flow] = flows(replace(without(lab.evidence, frames), traces=()), [probe()], switches=SWITCHES)
    assert gone not in [hop.node for hop in flow.forward]
