"""Which frames are one packet, and which hops they make."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hoplab.hops.evidence import Interface, Tuple
from hoplab.hops.join import Journey, join
from tests.unit.hops.imaginary import (
    ACK,
    CLIENT,
    NODE1,
    NODE2,
    POD_D,
    SWITCHES,
    SYN,
    VIP,
    Imaginary,
    Rule,
    Stop,
    Wire,
    ethernet,
    sent_by,
    switch,
    vxlan,
    way_there,
)

SYN_PACKET = Wire(sent_by(), ip_id=5, flags=SYN, seq=1000)


def journeys(lab: Imaginary) -> list[Journey]:
    return list(join(lab.evidence, SWITCHES).journeys)


def nodes(journey: Journey) -> list[str]:
    return [hop.node for hop in journey.hops]


def test_one_packet_over_two_nats_is_one_journey_with_its_hops() -> None:
    lab = Imaginary()
    lab.play(SYN_PACKET, way_there())
    [journey] = journeys(lab)
    assert nodes(journey) == ["client", "lb", "node1", "node2", "pod/d"]
    lb, node1 = journey.hops[1], journey.hops[2]
    assert (lb.in_interface, lb.out_interface, lb.rewrite) == ("eth0", "eth1", ("DNAT",))
    assert lb.before == Tuple(CLIENT, 40000, VIP, 80)
    assert lb.after == Tuple(CLIENT, 40000, NODE1, 32261)
    assert node1.rewrite == ("DNAT", "SNAT")
    assert node1.after == Tuple(NODE1, 51000, POD_D, 80)
    assert [(hop.ttl_in, hop.ttl_out) for hop in journey.hops] == [(None, 64), (64, 63), (63, 62), (62, 61), (61, None)]
    assert sorted(n for hop in journey.hops for n in hop.frames) == [
        f.number for f in lab.frames if f.node not in SWITCHES
    ]


def test_switches_are_no_hops_but_are_told() -> None:
    lab = Imaginary()
    lab.play(SYN_PACKET, way_there())
    [journey] = journeys(lab)
    assert [hop.switches for hop in journey.hops] == [("internet",), ("nodenet",), ("nodenet",), (), ()]


def test_the_port_is_named_and_not_the_bridge_behind_it() -> None:
    lab = Imaginary()
    lab.play(SYN_PACKET, way_there())
    node2 = journeys(lab)[0].hops[3]
    assert node2.out_interface == "vethd"
    assert node2.path == ("eth0", "cni0", "vethd")
    lab = Imaginary()
    lab.play(SYN_PACKET, [Stop("node2", ("vethd", "cni0"), ("eth0",))])
    [journey] = journeys(lab)
    assert journey.hops[0].in_interface == "vethd"


def test_a_tunnel_is_one_hop_at_each_end_with_the_outer_tuple() -> None:
    lab = Imaginary()
    lab.play(SYN_PACKET, way_there(overlay=True))
    [journey] = journeys(lab)
    assert nodes(journey) == ["client", "lb", "node1", "node2", "pod/d"]
    node1, node2 = journey.hops[2:4]
    assert (node1.out_interface, node2.in_interface) == ("eth0", "eth0")
    assert node1.tunnel == node2.tunnel == f"{NODE1}:50123 -> {NODE2}:8472 VNI 1"
    assert node2.before == node1.after
    assert (node1.ttl_out, node2.ttl_in) == (62, 62)


def test_the_ethernet_addresses_of_both_ends() -> None:
    lab = Imaginary()
    lab.play(SYN_PACKET, way_there())
    hops = journeys(lab)[0].hops
    assert hops[0].mac_in is None
    assert hops[1].mac_in is not None
    assert hops[1].mac_in != hops[1].mac_out


def test_bridging_inside_a_node_is_a_hop_whose_ttl_stays() -> None:
    lab = Imaginary()
    lab.play(
        Wire(Tuple("10.1.1.4", 40000, "10.1.1.5", 80), flags=SYN, seq=4),
        [Stop("pod/a", outs=("eth0",)), Stop("node1", ("vetha",), ("vethb",), bridged=True), Stop("pod/b", ("eth0",))],
    )
    [journey] = journeys(lab)
    assert nodes(journey) == ["pod/a", "node1", "pod/b"]
    assert (journey.hops[1].ttl_in, journey.hops[1].ttl_out) == (64, 64)


def test_hairpin_two_passages_of_the_same_pod_are_two_hops() -> None:
    pod = Tuple("10.1.1.4", 40000, "10.0.0.1", 80)
    lab = Imaginary()
    lab.play(
        Wire(pod, flags=SYN, seq=4),
        [
            Stop("pod/a", outs=("eth0",)),
            Stop("node1", ("vetha", "cni0"), ("cni0", "vetha"), dnat=("10.1.1.4", 80), snat=("10.1.1.1", 999)),
            Stop("pod/a", ("eth0",)),
        ],
    )
    [journey] = journeys(lab)
    assert nodes(journey) == ["pod/a", "node1", "pod/a"]
    assert journey.hops[1].rewrite == ("DNAT", "SNAT")
    assert (journey.hops[2].in_interface, journey.hops[2].out_interface) == ("eth0", None)


def test_a_node_talking_to_itself_leaves_and_comes_by_lo() -> None:
    lab = Imaginary()
    lab.play(Wire(Tuple(NODE1, 1, NODE1, 2), flags=SYN), [Stop("node1", outs=("lo",)), Stop("node1", ("lo",))])
    [journey] = journeys(lab)
    assert [(hop.in_interface, hop.out_interface) for hop in journey.hops] == [(None, "lo"), ("lo", None)]


def test_a_routing_loop_is_one_journey_round_and_round() -> None:
    lab = Imaginary()
    way = [Stop("client", outs=("eth0",))]
    way += [Stop("a", ("eth0",), ("eth1",)), Stop("b", ("eth1",), ("eth0",))] * 3
    lab.play(replace(SYN_PACKET, ttl=7), way)
    [journey] = journeys(lab)
    assert nodes(journey) == ["client", "a", "b", "a", "b", "a", "b"]
    assert [hop.ttl_out for hop in journey.hops] == [7, 6, 5, 4, 3, 2, 1]


def test_a_retransmission_of_the_same_bytes_is_a_second_journey() -> None:
    lab = Imaginary()
    for _ in range(2):
        lab.play(SYN_PACKET, way_there())
        lab.tick(1_000_000_000)
    first, second = journeys(lab)
    assert nodes(first) == nodes(second)
    assert {n for hop in first.hops for n in hop.frames} < set(range(1, 16))


def test_a_first_copy_that_died_does_not_borrow_the_second_ones_frames() -> None:
    lab = Imaginary()
    lab.play(SYN_PACKET, [*way_there()[:4], Stop("node1", ("eth0",))])
    lab.tick(1_000_000_000)
    lab.play(SYN_PACKET, way_there())
    first, second = journeys(lab)
    assert nodes(first) == ["client", "lb", "node1"]
    assert first.hops[2].out_interface is None
    assert nodes(second) == ["client", "lb", "node1", "node2", "pod/d"]


def test_two_identical_packets_in_flight_at_once_stay_in_their_order() -> None:
    """The second is sent before the first has arrived: frames interleave, each place sees both."""
    one = Imaginary()
    one.play(SYN_PACKET, way_there())
    frames = one.evidence.frames
    pairs = [f for pair in zip(frames, frames, strict=True) for f in pair]
    lab = Imaginary(interfaces=one.interfaces)
    lab.frames = [replace(f, number=n, time_ns=one.now + n) for n, f in enumerate(pairs, 1)]
    found = journeys(lab)
    assert [nodes(j) for j in found] == [["client", "lb", "node1", "node2", "pod/d"]] * 2
    assert all(n % 2 for hop in found[0].hops for n in hop.frames)


def test_a_flooded_copy_that_nobody_took_is_no_hop() -> None:
    lab = Imaginary()
    lab.play(SYN_PACKET, [Stop("client", outs=("eth0",)), switch("internet")])
    lab.seen("router", "eth0", "in", lab.frames[-1].data)
    lab.frames[-1] = replace(lab.frames[-1], packet_type="otherhost")
    lab.seen("lb", "eth0", "in", lab.frames[-1].data)
    [journey] = journeys(lab)
    assert nodes(journey) == ["client", "lb"]


def test_a_lost_frame_leaves_a_hole_and_invents_nothing() -> None:
    lab = Imaginary()
    lab.play(SYN_PACKET, way_there())
    evidence = lab.evidence
    came_into_node1 = next(f for f in evidence.frames if f.node == "node1" and f.direction == "in")
    rest = replace(evidence, frames=tuple(f for f in evidence.frames if f is not came_into_node1), traces=())
    [journey] = join(rest, SWITCHES).journeys
    node1 = journey.hops[2]
    assert (node1.node, node1.in_interface, node1.ttl_in) == ("node1", None, None)
    assert node1.rewrite == ()


def test_two_flows_with_the_same_addresses_are_told_apart_by_their_numbers() -> None:
    lab = Imaginary()
    for isn in (1000, 2000):
        lab.play(replace(SYN_PACKET, seq=isn), way_there())
    assert [j.packet.seq for j in journeys(lab)] == [1000, 2000]


def test_an_icmp_error_is_followed_although_nat_rewrites_what_it_quotes() -> None:
    lab = Imaginary()
    delivered = lab.play(SYN_PACKET, way_there()[:5])
    error = delivered.error(NODE2, (3, 1))
    lab.play(
        error,
        [
            Stop("node2", outs=("eth0",)),
            Stop("node1", ("eth0",), ("eth0",), dnat=(CLIENT, 40000), snat=(NODE1, 32261)),
            Stop("client", ("eth0",)),
        ],
    )
    journey = journeys(lab)[-1]
    assert nodes(journey) == ["node2", "node1", "client"]
    assert journey.quoted == (delivered.tuple, Tuple(CLIENT, 40000, NODE1, 32261))


def test_udp_with_equal_payload_is_told_apart_by_the_ip_id() -> None:
    lab = Imaginary()
    for ip_id in (1, 2):
        lab.play(Wire(sent_by(), "udp", ip_id=ip_id, payload=b"same"), way_there())
    assert len(journeys(lab)) == 2


def fragments(wire: Wire, size: int) -> list[bytes]:
    body, head = wire.transport, wire.header
    pieces = []
    for at in range(0, len(body), size):
        more = at + size < len(body)
        word = (at // 8 | (0x2000 if more else 0)).to_bytes(2, "big")
        part = body[at : at + size]
        pieces.append(head[:2] + (20 + len(part)).to_bytes(2, "big") + head[4:6] + word + head[8:] + part)
    return pieces


def test_fragments_are_put_together_even_if_a_node_cuts_them_anew() -> None:
    sent = Wire(sent_by(), "udp", ip_id=7, payload=bytes(range(256)) * 6)
    arrived = replace(sent, ttl=63, tuple=replace(sent.tuple, dst=POD_D))
    lab = Imaginary()
    for name, direction, wire, size in (
        ("client", "out", sent, 800),
        ("node1", "in", sent, 800),
        ("node1", "out", arrived, 400),
    ):
        for piece in fragments(wire, size):
            lab.seen(name, "eth0", direction, ethernet(piece, "a", "b"))
    [journey] = journeys(lab)
    assert nodes(journey) == ["client", "node1"]
    assert journey.hops[1].rewrite == ("DNAT",)
    assert journey.hops[1].frames == (3, 4, 5, 6, 7, 8)
    assert journey.packet.payload == sent.payload


def test_an_incomplete_datagram_stays_what_was_seen() -> None:
    sent = Wire(sent_by(), "udp", ip_id=7, payload=bytes(1000))
    lab = Imaginary()
    lab.seen("client", "eth0", "out", ethernet(fragments(sent, 800)[0], "a", "b"))
    lab.seen("node1", "eth0", "in", ethernet(fragments(sent, 800)[0], "a", "b"))
    [journey] = journeys(lab)
    assert nodes(journey) == ["client", "node1"]


def test_captures_cut_at_different_lengths_still_join() -> None:
    """An overlay's headers take room: the tunnel shows less of the payload than the bare interface."""
    lab = Imaginary()
    wire = Wire(sent_by(), flags=ACK, payload=b"z" * 900)
    bare = ethernet(wire.network, "a", "b")
    carried = ethernet(vxlan(bare, NODE1, NODE2, 9).network, "a", "b")
    for node, direction, data in (("node1", "out", bare), ("node2", "in", carried)):
        lab.seen(node, "eth0", direction, data)
        lab.frames[-1] = replace(lab.frames[-1], data=data[:200], length=len(data))
    [journey] = journeys(lab)
    assert nodes(journey) == ["node1", "node2"]


def test_a_frame_that_was_read_late_still_finds_its_hop() -> None:
    lab = Imaginary()
    lab.play(SYN_PACKET, way_there())
    late = lab.frames.pop(4)
    lab.frames.append(late)
    [journey] = journeys(lab)
    assert nodes(journey) == ["client", "lb", "node1", "node2", "pod/d"]
    assert (journey.hops[1].in_interface, journey.hops[1].out_interface) == ("eth0", "eth1")


class TestTraces:
    def test_the_end_of_a_chain_is_told_without_a_rule(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        at = next(i for i, event in enumerate(lab.traces) if event.chain == "FORWARD")
        lab.traces.insert(at, replace(lab.traces[at], kind="rule", chain="KUBE-FORWARD", handle=0, network_header=b""))
        ended = next(hit for hit in journeys(lab)[0].hops[2].rules if hit.chain == "KUBE-FORWARD")
        assert ended.rule == "end of chain"

    def test_rules_come_in_order_with_their_text_and_without_the_observers_own(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        node1 = journeys(lab)[0].hops[2]
        assert [hit.chain for hit in node1.rules] == [
            "PREROUTING",
            "KUBE-SERVICES",
            "KUBE-SEP-D",
            "FORWARD",
            "POSTROUTING",
            "KUBE-POSTROUTING",
        ]
        assert [hit.hook for hit in node1.rules] == ["prerouting"] * 3 + ["forward"] + ["postrouting"] * 2
        assert node1.rules[2].rule.endswith("-j DNAT --to 10.1.2.3:80")
        assert node1.rules[2].comment == "default/service-b"
        assert (node1.rules[3].rule, node1.rules[3].verdict) == ("policy", "accept")

    def test_a_rule_that_is_no_longer_listed_is_named_by_its_handle(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        lab.rules.clear()
        node1 = journeys(lab)[0].hops[2]
        assert node1.rules[0].rule.startswith("handle ")

    def test_each_copy_of_a_packet_gets_its_own_trace(self) -> None:
        lab = Imaginary()
        for _ in range(2):
            lab.play(SYN_PACKET, way_there())
            lab.tick(1_000_000_000)
        assert [len(j.hops[2].rules) for j in journeys(lab)] == [6, 6]

    def test_a_reused_trace_id_begins_a_new_trace(self) -> None:
        lab = Imaginary()
        for sport in (40000, 40001):
            lab.trace_ids = 100
            lab.play(replace(SYN_PACKET, tuple=sent_by(sport), seq=sport), way_there())
        assert [len(j.hops[2].rules) for j in journeys(lab)] == [6, 6]

    def test_a_packet_that_no_frame_shows_is_known_from_its_trace(self) -> None:
        """Dropped in its sender's output hook: it never came to an interface."""
        lab = Imaginary()
        lab.trace_ids = 7
        lab.event("pod/a", Rule("filter", "OUTPUT", "-j DROP", "drop", base=True), SYN_PACKET)
        [journey] = journeys(lab)
        [hop] = journey.hops
        assert (hop.node, hop.in_interface, hop.out_interface, hop.frames) == ("pod/a", None, None, ())
        assert hop.before == SYN_PACKET.tuple
        assert hop.rules[-1].verdict == "drop"

    def test_what_its_own_kernel_rewrote_before_it_left_is_told_by_the_trace(self) -> None:
        lab = Imaginary()
        lab.trace_ids = 7
        lab.event("node1", Rule("nat", "OUTPUT", "-j KUBE-SERVICES", "accept", base=True), SYN_PACKET)
        changed = replace(SYN_PACKET, tuple=replace(SYN_PACKET.tuple, dst=POD_D))
        lab.event("node1", Rule("nat", "POSTROUTING", "policy", "accept", base=True), changed)
        lab.play(changed, [Stop("node1", outs=("eth0",)), Stop("node2", ("eth0",))])
        journey = journeys(lab)[0]
        assert nodes(journey) == ["node1", "node2"]
        assert journey.hops[0].before == SYN_PACKET.tuple
        assert journey.hops[0].rewrite == ("DNAT",)

    def test_a_trace_whose_frames_were_all_missed_stands_in_its_place_without_interfaces(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        evidence = lab.evidence
        rest = replace(evidence, frames=tuple(f for f in evidence.frames if f.node != "node1"))
        [journey] = join(rest, SWITCHES).journeys
        assert nodes(journey) == ["client", "lb", "node1", "node2", "pod/d"]
        assert (journey.hops[2].in_interface, journey.hops[2].out_interface) == (None, None)

    @pytest.mark.parametrize(
        ("to", "ttl"), [("10.240.0.11", 64), (POD_D, 63)], ids=["for the node itself", "for another"]
    )
    def test_the_second_trace_of_a_packet_from_a_bridge_tells_the_hop_that_it_did_not_leave(
        self, to: str, ttl: int
    ) -> None:
        """The bridge becomes the packet's interface when it goes up to IP, and a trace's number follows from that."""
        lab = Imaginary()
        lab.play(SYN_PACKET, [Stop("pod/a", outs=("eth0",)), Stop("node1", ("vetha", "cni0"))])
        lab.trace_ids += 1
        lab.event("node1", Rule("nat", "PREROUTING", "-j KUBE-SERVICES", "accept", base=True), SYN_PACKET)
        lab.trace_ids += 1
        changed = replace(SYN_PACKET, ttl=ttl, tuple=replace(SYN_PACKET.tuple, dst=to, dport=10180))
        lab.event("node1", Rule("filter", "INPUT", "policy", "accept", base=True), changed)
        [journey] = journeys(lab)
        assert nodes(journey) == ["pod/a", "node1"]
        assert (journey.hops[1].after.dst, journey.hops[1].after.dport) == (to, 10180)

    def test_the_end_of_the_tunnel_packet_is_news_about_the_packet_inside(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, [*way_there(overlay=True)[:6], Stop("node2", ("eth0",))])
        outer = next(f for f in reversed(lab.frames) if f.node == "node2").data
        carrier = Wire(Tuple(NODE1, 50123, NODE2, 8472), "udp", 64, SYN_PACKET.ip_id + 7000, payload=outer[42:])
        lab.trace_ids += 1
        lab.event("node2", Rule("filter", "INPUT", "-p udp --dport 8472 -j DROP", "drop", base=True), carrier)
        [journey] = journeys(lab)
        assert journey.hops[-1].node == "node2"
        assert journey.hops[-1].rules[-1].verdict == "drop"
        assert journey.hops[-1].before.dst == POD_D


def test_interfaces_that_nobody_described_are_taken_as_ports() -> None:
    lab = Imaginary()
    lab.play(SYN_PACKET, way_there())
    bare = replace(lab.evidence, interfaces=())
    assert join(bare, SWITCHES).journeys[0].hops[3].out_interface == "vethd"
    described = (Interface("node2", "vethd", 3, "02:00:00:00:00:01", 1500, "veth"),)
    assert join(replace(bare, interfaces=described), SWITCHES).journeys[0].hops[3].out_interface == "vethd"
