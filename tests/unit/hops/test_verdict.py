"""Expectations: each passes on what it asks for, fails on everything else, and says what it saw and where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hoplab.hops.evidence import Loss, Tuple
from hoplab.hops.findings import Check, is_masquerade
from hoplab.hops.flow import flows
from hoplab.hops.story import Flow, RuleHit
from hoplab.hops.verdict import (
    expect_conntrack,
    expect_dnat,
    expect_endpoint,
    expect_hops,
    expect_masquerade,
    expect_no_masquerade,
    expect_no_nat,
    expect_outcome,
    expect_reply_hops,
    expect_reply_undone,
    expect_rule,
    expect_source_seen,
    expect_ttl,
)
from tests.unit.hops.imaginary import (
    ACK,
    CLIENT,
    MASQUERADED,
    NODE1,
    NODE2,
    NODE_PORT,
    POD_D,
    SWITCHES,
    SYN,
    VIP,
    Imaginary,
    Rule,
    Stop,
    Wire,
    exchange,
    probe,
    sent_by,
    way_back,
    way_there,
)

HOPS = ("client", "lb", "node1", "node2", "pod/d")
SYN_PACKET = Wire(sent_by(), ip_id=5, flags=SYN, seq=1000)
SYN_ACK = Wire(Tuple(POD_D, 80, NODE1, MASQUERADED), ip_id=0, flags=SYN | ACK, seq=9000, ack=1001)


def tell(lab: Imaginary) -> Flow:
    [flow] = flows(lab.evidence, [probe()], switches=SWITCHES)
    return flow


def healthy() -> Flow:
    lab = Imaginary()
    exchange(lab)
    return tell(lab)


def played(there: list[Stop], back: list[Stop] | None = None) -> Flow:
    lab = Imaginary()
    lab.play(SYN_PACKET, there)
    if back is not None:
        lab.play(SYN_ACK, back)
    return tell(lab)


NOTHING = Flow("probe", "tcp", "unanswered", (), (), reason="no frame was seen", sender="client")

ASKED = {
    "hops": lambda flow: expect_hops(flow, *HOPS),
    "way back": lambda flow: expect_reply_hops(flow, *reversed(HOPS)),
    "DNAT on node1": lambda flow: expect_dnat(flow, "node1", POD_D, 80),
    "DNAT on lb": lambda flow: expect_dnat(flow, "lb", NODE1, NODE_PORT),
    "masquerade": lambda flow: expect_masquerade(flow, "node1", to=[NODE1]),
    "no NAT on node2": lambda flow: expect_no_nat(flow, "node2"),
    "source": lambda flow: expect_source_seen(flow, NODE1),
    "endpoint": lambda flow: expect_endpoint(flow, [(POD_D, 80)]),
    "reply undone": lambda flow: expect_reply_undone(flow),
    "TTL": lambda flow: expect_ttl(flow, "pod/d", 61),
    "conntrack": lambda flow: expect_conntrack(
        flow,
        "node1",
        original=Tuple(CLIENT, 40000, NODE1, NODE_PORT),
        reply=Tuple(POD_D, 80, NODE1, MASQUERADED),
    ),
    "outcome": lambda flow: expect_outcome(flow, "accepted"),
    "rule": lambda flow: expect_rule(flow, "node1", chain="KUBE-SEP-D", text="default/service-b"),
}


@pytest.mark.parametrize("name", ASKED)
def test_it_passes_on_the_healthy_flow_and_names_its_evidence(name: str) -> None:
    check = ASKED[name](healthy())
    assert check.passed, check
    assert check.evidence
    assert check.observed


@pytest.mark.parametrize("name", ASKED)
def test_nothing_seen_never_passes(name: str) -> None:
    check = ASKED[name](NOTHING)
    assert not check.passed
    assert check.expected
    assert check.observed


@pytest.mark.parametrize(
    "check",
    [
        expect_hops(healthy(), "client", "lb", "node2", "pod/d"),
        expect_hops(healthy()),
        expect_hops(healthy(), *HOPS[:-1]),
        expect_reply_hops(healthy(), *HOPS),
        expect_dnat(healthy(), "node1", POD_D, 8080),
        expect_dnat(healthy(), "node1", "10.1.1.9", 80),
        expect_dnat(healthy(), "node2", POD_D, 80),
        expect_masquerade(healthy(), "node1", to=[NODE2]),
        expect_masquerade(healthy(), "lb"),
        expect_no_masquerade(healthy(), "node1"),
        expect_no_masquerade(healthy(), "node2"),
        expect_no_nat(healthy()),
        expect_no_nat(healthy(), "node1"),
        expect_source_seen(healthy(), CLIENT),
        expect_source_seen(healthy(), NODE1, at="lb"),
        expect_endpoint(healthy(), [("10.1.1.9", 80)]),
        expect_endpoint(healthy(), []),
        expect_ttl(healthy(), "pod/d", 64),
        expect_conntrack(healthy(), "node1", original=sent_by()),
        expect_conntrack(healthy(), "pod/d"),
        expect_outcome(healthy(), "rejected"),
        expect_outcome(healthy(), "dropped"),
        expect_outcome(healthy(), "unanswered"),
        expect_rule(healthy(), "node1", chain="KUBE-SEP-C"),
        expect_rule(healthy(), "node1", chain="KUBE-SEP-D", verdict="drop"),
        expect_rule(healthy(), "node1"),
        expect_rule(healthy(), "node1", chain="KUBE-SEP-D", reply=True),
    ],
    ids=lambda check: f"{check.name}: {check.expected}"[:60],
)
def test_it_fails_on_anything_else(check: Check) -> None:
    assert not check.passed


def test_a_failed_check_says_where() -> None:
    check = expect_dnat(healthy(), "node1", "10.1.1.9", 80)
    assert check.expected == "node1 rewrites the destination to 10.1.1.9:80"
    assert check.observed == f"the destination became {POD_D}:80, from {NODE1}:{NODE_PORT}"
    assert check.evidence == ("node1 eth0 -> eth0: frames 8, 9",)


class TestSabotage:
    """What the lab's saboteurs do, as the observer would see it."""

    def test_masquerade_rule_removed(self) -> None:
        way = way_there(masquerade=False)
        way[4] = replace(way[4], rules=way[4].rules[:-1])
        check = expect_masquerade(played(way), "node1")
        assert not check.passed
        assert "none of the 5 rules met in node1" in check.observed
        assert f"the source stayed {CLIENT}" in check.observed

    def test_dnat_without_a_frame_behind_it(self) -> None:
        check = expect_dnat(
            played([*way_there()[:4], Stop("node1", ("eth0",), rules=way_there()[4].rules)]), "node1", POD_D, 80
        )
        assert not check.passed
        assert "no frame shows it leaving node1" in check.observed

    def test_reverse_nat_skipped(self) -> None:
        back = [replace(s, snat=None) if s.node == "node1" else s for s in way_back(client=sent_by())]
        check = expect_reply_undone(played(way_there(), back))
        assert not check.passed
        assert f"node1 sent the answer on as {POD_D}:80 -> {CLIENT}:40000" in check.observed

    def test_answer_past_the_balancer(self) -> None:
        back = [s for s in way_back(client=sent_by()) if s.node != "lb"]
        check = expect_reply_undone(played(way_there(), back))
        assert not check.passed
        assert "lb made destination" in check.observed
        assert "the answer did not pass it" in check.observed
        assert f"got the answer as {NODE1}:{NODE_PORT}" in check.observed

    def test_something_unseen_between_two_hops(self) -> None:
        """A router that nobody watches takes one off the TTL."""
        way = way_there()
        way.insert(4, Stop("hidden", ("eth0",), ("eth1",)))
        lab = Imaginary()
        lab.play(SYN_PACKET, way)
        lab.frames = [f for f in lab.frames if f.node != "hidden"]
        check = expect_hops(tell(lab), *HOPS)
        assert not check.passed
        assert "between lb" in check.observed
        assert "something changed it unseen" in check.observed


class TestNegatives:
    def test_silence_passes_only_where_it_could_be_heard(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        assert expect_outcome(tell(lab), "unanswered").passed
        lab.losses = [Loss("client", "frames", 3)]
        check = expect_outcome(tell(lab), "unanswered")
        assert not check.passed
        assert "3 frames events of client were lost" in check.observed

    def test_silence_of_a_sender_that_nobody_watched(self) -> None:
        lab = Imaginary()
        lab.play(SYN_PACKET, way_there())
        lab.frames = [f for f in lab.frames if f.node != "client"]
        assert not expect_outcome(tell(lab), "unanswered").passed

    def test_no_masquerade_needs_a_trace(self) -> None:
        way = way_there(masquerade=False)
        kept = played(
            [replace(s, rules=s.rules[:-1]) if s.node == "node1" else s for s in way], way_back(client=sent_by())
        )
        assert expect_no_masquerade(kept, "node1").passed
        untraced = played([replace(s, rules=()) for s in way])
        check = expect_no_masquerade(untraced, "node1")
        assert not check.passed
        assert check.observed == "no rule trace of the packet exists there"

    def test_a_nodes_own_traffic_may_keep_its_address(self) -> None:
        way = way_there(masquerade=False)
        flow = played(way)
        assert expect_masquerade(flow, "node1", address_may_stay=True).passed
        assert not expect_masquerade(flow, "node1").passed


@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        ('-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully', True),
        ("masquerade fully-random", True),
        ("ip saddr 10.1.0.0/16 masquerade", True),
        ('counter packets 1 bytes 60 xt target "MASQUERADE"', True),
        ("-j KUBE-MARK-MASQ", False),
        ("jump mark-for-masquerade", False),
        ("goto masquerade", False),
        ('-m comment --comment "masquerade traffic" -j KUBE-MARK-MASQ', False),
        ("policy", False),
    ],
)
def test_what_counts_as_a_masquerade_rule(rule: str, taken: bool) -> None:
    assert is_masquerade(RuleHit("nat", "X", rule, "accept")) is taken


def test_reply_undone_needs_no_rewrite() -> None:
    lab = Imaginary()
    sent = Tuple("10.1.1.4", 40000, "10.1.2.3", 80)
    lab.play(Wire(sent, flags=SYN, seq=1), [Stop("pod/a", outs=("eth0",)), Stop("pod/b", ("eth0",))])
    lab.play(
        Wire(sent.reversed(), flags=SYN | ACK, seq=1, ack=2), [Stop("pod/b", outs=("eth0",)), Stop("pod/a", ("eth0",))]
    )
    [flow] = flows(lab.evidence, [replace(probe(isn=1), sender="pod/a", sent=sent)])
    assert expect_reply_undone(flow).passed
    assert expect_no_nat(flow).passed


def test_a_rejection_needs_the_frame_that_says_so() -> None:
    lab = Imaginary()
    drop = Rule("filter", "INPUT", "-j REJECT", "drop", base=True)
    came = lab.play(SYN_PACKET, [Stop("client", outs=("eth0",)), Stop("node1", ("eth0",), rules=(drop,))])
    assert expect_outcome(tell(lab), "dropped").passed
    lab.play(came.error(VIP, (3, 3)), [Stop("node1", outs=("eth0",)), Stop("client", ("eth0",))])
    assert expect_outcome(tell(lab), "rejected").passed
