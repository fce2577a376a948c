"""From evidence and facts to the reason, as a table: what was played, what the kernels answered, what it has to say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.hops.evidence import ConntrackEvent, Tuple
from hoplab.hops.flow import flows
from hoplab.hops.reason import CAUSES, Reason
from hoplab.hops.sightings import read_frames
from hoplab.reasons.case import Case, in_family
from hoplab.reasons.decide import reasons
from hoplab.reasons.facts import (
    AddressFact,
    Facts,
    HealthFact,
    LinkFact,
    ListenerFact,
    NeighbourFact,
    RouteAnswer,
    RouteQuestion,
)
from hoplab.report.run import explain_by
from tests.unit.hops.imaginary import (
    ACK,
    CLIENT,
    MASQUERADED,
    NODE1,
    NODE2,
    NODE_PORT,
    POD_D,
    RST,
    SERVICE_RULES,
    SWITCHES,
    SYN,
    Imaginary,
    Rule,
    Stop,
    Wire,
    exchange,
    probe,
    sent_by,
    switch,
    way_back,
    way_there,
    without,
)

ROLES = {
    "client": "client", "lb": "balancer", "router": "router", "node1": "node", "node2": "node", "pod/d": "pod",
    "pod/e": "pod", "internet": "switch", "nodenet": "switch",
}  # fmt: skip
ADDRESSES = (
    AddressFact("client", "eth0", CLIENT, 24),
    AddressFact("lb", "eth0", "203.0.113.2", 24),
    AddressFact("lb", "eth1", "10.240.0.2", 16),
    AddressFact("router", "eth0", "203.0.113.1", 24),
    AddressFact("node1", "eth0", NODE1, 16),
    AddressFact("node2", "eth0", NODE2, 16),
    AddressFact("node2", "cni0", "10.1.2.1", 24),
    AddressFact("pod/d", "eth0", POD_D, 24),
)
LINKS = (
    LinkFact("client", "eth0", 2, "02:00:00:00:00:0c", 1500, "veth"),
    LinkFact("lb", "eth0", 2, "02:00:00:00:00:0b", 1500, "veth"),
    LinkFact("lb", "eth1", 3, "02:00:00:00:00:1b", 1500, "veth"),
    LinkFact("node1", "eth0", 2, "02:00:00:00:00:01", 1500, "veth"),
    LinkFact("node2", "eth0", 2, "02:00:00:00:00:02", 1500, "veth"),
    LinkFact("node2", "cni0", 3, "02:00:00:00:00:12", 1500, "bridge"),
    LinkFact("node2", "vethd", 4, "02:00:00:00:00:22", 1500, "veth", "cni0", True, True),
    LinkFact("pod/d", "eth0", 2, "02:00:00:00:00:0d", 1500, "veth"),
)
HEALTHY = Facts(
    roles=ROLES, hosts={"pod/d": "node2", "pod/e": "node1"}, links=LINKS, addresses=ADDRESSES,
    settings={("node1", "net.ipv4.ip_forward"): "1", ("node2", "net.ipv4.ip_forward"): "1"},
)  # fmt: skip
EXPLAIN = explain_by({"KUBE-SEP-D": "endpoint 10.1.2.3:80 (pod default/d) of default/service-b"})
SENT = Wire(sent_by(), ip_id=1, flags=SYN, seq=1000)


def until(node: str, *, rules: tuple[Rule, ...] = (), ins: tuple[str, ...] | None = None) -> list[Stop]:
    """The way there, ending inside of a node."""
    way = way_there()
    at = next(i for i, stop in enumerate(way) if stop.node == node)
    stop = way[at]
    end = replace(stop, outs=(), dnat=None, snat=None, rules=rules, track=False, ins=ins or stop.ins)
    return [*way[:at], end]


def play(*ways: tuple[Wire, list[Stop]]) -> Imaginary:
    lab = Imaginary()
    for packet, way in ways:
        lab.play(packet, way)
    return lab


def syn(way: list[Stop], **changes: Any) -> Imaginary:
    return play((replace(SENT, **changes), way))


def answered(*, flags: int, source: Tuple, way: list[Stop], there: list[Stop] | None = None) -> Imaginary:
    answer = Wire(source, ip_id=0, flags=flags, seq=77000, ack=1001)
    return play((SENT, there or way_there()), (answer, way))


def dropping(text: str, verdict: str = "drop", table: str = "filter", chain: str = "FORWARD") -> tuple[Rule, ...]:
    return (Rule(table, chain, text, verdict, base=True),)


def asked(node: str, destination: str, source: str, interface: str, answer: RouteAnswer) -> dict[Any, Any]:
    return {RouteQuestion(node, destination, source, interface): answer}


DEFAULT = RouteAnswer("", "0.0.0.0/0", "10.240.0.2", "eth0")
SERVER = Tuple(POD_D, 80, NODE1, MASQUERADED)
UNMASQUERADED = Tuple(POD_D, 80, CLIENT, 40000)
PAST_NODE1 = [
    Stop("pod/d", outs=("eth0",)),
    Stop("node2", ("vethd", "cni0"), ("eth0",)),
    switch("nodenet"),
    Stop("lb", ("eth1",), ("eth0",)),
    switch("internet"),
    Stop("client", ("eth0",)),
]
WITHOUT_MASQUERADE = [
    replace(stop, rules=SERVICE_RULES[:4]) if stop.node == "node1" else stop for stop in way_there(masquerade=False)
]
THROUGH_THE_ROUTER = [
    *way_there()[:5],
    switch("nodenet", "p2", "p1"),
    Stop("lb", ("eth1",), ("eth0",)),
    switch("internet"),
    Stop("router", ("eth0",)),
]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    cause: str
    node: str
    lab: Callable[[], Imaginary]
    facts: Facts = HEALTHY
    about: str = ""


TABLE = {
    "a rule of somebody's firewall": Row(
        "rule",
        "node1",
        lambda: syn(until("node1", rules=dropping('--comment "host firewall" -j DROP'))),
        about="firewall",
    ),
    "a chain's policy": Row("policy", "node1", lambda: syn(until("node1", rules=dropping("policy"))), about="FORWARD"),
    "what is invalid is dropped": Row(
        "invalid-state",
        "node2",
        lambda: syn(until("node2", rules=dropping("-m conntrack --ctstate INVALID -j DROP"))),
    ),
    "no endpoint of its own, and the balancer should have known": Row(
        "health-check",
        "lb",
        lambda: syn(until("node1", rules=dropping('--comment "default/b has no local endpoints" -j DROP'))),
        replace(HEALTHY, health=(HealthFact("node1", NODE1, 32000, False, "HTTP 503", "default/b"),)),
    ),
    "nobody to hand it to": Row(
        "no-candidates",
        "lb",
        lambda: syn(
            until("lb", rules=dropping('drop comment "default/b: no node passes its check"', table="balancer"))
        ),
    ),
    "the Service's chain chose nothing": Row(
        "no-endpoint-chosen",
        "node1",
        lambda: syn(
            until(
                "node1",
                rules=(
                    Rule("nat", "KUBE-SERVICES", "-j KUBE-SVC-ABC", "jump KUBE-SVC-ABC", base=True),
                    Rule("nat", "KUBE-SVC-ABC", "-j KUBE-MARK-MASQ", "jump KUBE-MARK-MASQ"),
                ),
            )
        ),
        about="KUBE-SVC-ABC",
    ),
    "no forwarding": Row(
        "forwarding-off",
        "node2",
        lambda: syn(until("node2")),
        replace(
            HEALTHY,
            settings={("node2", "net.ipv4.ip_forward"): "0"},
            growth={"node2": {"Ip.InAddrErrors": 1}},
        ),
    ),
    "the reverse path": Row(
        "reverse-path",
        "node2",
        lambda: syn(until("node2")),
        replace(HEALTHY, growth={"node2": {"TcpExt.IPReversePathFilter": 1}}),
        about="rp_filter",
    ),
    "nobody has the address": Row(
        "no-arp-answer",
        "node2",
        lambda: syn(until("node2")),
        replace(
            HEALTHY,
            addresses=tuple(one for one in ADDRESSES if one.node != "pod/d"),
            neighbours=(NeighbourFact("node2", "cni0", POD_D, "FAILED"),),
            routes=asked("node2", POD_D, NODE1, "eth0", RouteAnswer("", "10.1.2.0/24", "", "cni0")),
        ),
        about="10.1.2.3",
    ),
    "only the default route": Row(
        "no-route",
        "node1",
        lambda: syn(THROUGH_THE_ROUTER),
        replace(
            HEALTHY, routes=asked("node1", POD_D, CLIENT, "eth0", RouteAnswer("", "0.0.0.0/0", "10.240.0.2", "eth0"))
        ),
        about="pod default/d",
    ),
    "a route that swallows": Row(
        "no-route",
        "node2",
        lambda: syn(until("node2")),
        replace(HEALTHY, routes=asked("node2", POD_D, NODE1, "eth0", RouteAnswer("EINVAL"))),
    ),
    "a hardware address that nobody has": Row(
        "wrong-neighbour",
        "lb",
        lambda: syn(way_there()[:3]),
        replace(
            HEALTHY,
            links=tuple(replace(one, mac=f"02:99:00:00:00:{number:02x}") for number, one in enumerate(LINKS)),
            neighbours=(NeighbourFact("lb", "eth1", NODE1, "PERMANENT", "02:00:00:00:00:02"),),
        ),
        about=NODE1,
    ),
    "no route, since its cable is down": Row(
        "link-down",
        "node1",
        lambda: syn(until("node1")),
        replace(
            HEALTHY,
            links=tuple(replace(one, up=one.node != "node1") for one in LINKS),
            routes=asked("node1", NODE1, CLIENT, "eth0", RouteAnswer("ENETUNREACH"))
            | asked("node1", POD_D, CLIENT, "eth0", RouteAnswer("ENETUNREACH")),
            addresses=tuple(one for one in ADDRESSES if one.node != "node1"),
        ),
        about="eth0",
    ),
    "given to a bridge of its own, and dropped before it came to a port": Row(
        "rule",
        "node2",
        lambda: syn([*until("node2")[:-1], Stop("node2", ("eth0",), ("cni0",), rules=dropping("-j DROP"))]),
        about="FORWARD",
    ),
    "no rule took it, and it went to somebody who forwards nothing": Row(
        "not-rewritten",
        "node1",
        lambda: syn([Stop("client", outs=("eth0",)), Stop("node1", ("eth0",), ("vethe",)), Stop("pod/e", ("eth0",))]),
        about="198.51.100.10",
    ),
    "no route back": Row(
        "no-route",
        "pod/d",
        lambda: syn(way_there()),
        replace(HEALTHY, routes={RouteQuestion("pod/d", NODE1, POD_D): RouteAnswer("ENETUNREACH")}),
    ),
    "a gateway that nobody is": Row(
        "wrong-gateway",
        "pod/d",
        lambda: syn(way_there()),
        replace(
            HEALTHY,
            routes={RouteQuestion("pod/d", NODE1, POD_D): RouteAnswer("", "0.0.0.0/0", "10.1.2.99", "eth0")},
            neighbours=(NeighbourFact("pod/d", "eth0", "10.1.2.99", "INCOMPLETE"),),
        ),
        about="10.1.2.99",
    ),
    "too old": Row("ttl", "node2", lambda: syn(until("node2"), ttl=3)),
    "too large": Row(
        "mtu",
        "node2",
        lambda: play(
            (SENT, way_there()),
            (Wire(SERVER, flags=SYN | ACK, seq=77000, ack=1001), way_back(client=sent_by())),
            (Wire(sent_by(), ip_id=3, flags=ACK, seq=1001, ack=77001, payload=b"." * 1460), until_with_nat("node2")),
        ),
        replace(
            HEALTHY,
            links=tuple(replace(one, mtu=1400) if one.name == "cni0" else one for one in LINKS),
            routes=asked("node2", POD_D, NODE1, "eth0", RouteAnswer("", "10.1.2.0/24", "", "cni0")),
            growth={"node2": {"Ip.FragFails": 1}},
        ),
        about="cni0",
    ),
    "a full table of connections": Row(
        "conntrack-full",
        "node2",
        lambda: syn(until("node2")),
        replace(HEALTHY, growth={"node2": {"conntrack.drop": 1}}),
    ),
    "a full queue": Row(
        "queue-full",
        "node2",
        lambda: syn(until("node2")),
        replace(HEALTHY, growth={"node2": {"eth0.queue_drop": 2}}),
        about="eth0",
    ),
    "a full backlog": Row(
        "queue-full",
        "pod/d",
        lambda: syn(way_there()),
        replace(HEALTHY, growth={"pod/d": {"TcpExt.ListenOverflows": 1, "TcpExt.ListenDrops": 1}}),
    ),
    "a pulled cable": Row(
        "link-down",
        "pod/d",
        lambda: syn(until("node2")),
        replace(HEALTHY, links=tuple(replace(one, up=False) if one.node == "pod/d" else one for one in LINKS)),
    ),
    "a closed port": Row(
        "port-closed",
        "pod/d",
        lambda: answered(flags=RST | ACK, source=SERVER, way=way_back(client=sent_by())),
        replace(HEALTHY, listeners=(ListenerFact("pod/d", "tcp", "0.0.0.0", 8080),)),
        about="endpoint 10.1.2.3:80",
    ),
    "the answer goes past the node that rewrote": Row(
        "answer-bypasses-nat",
        "node1",
        lambda: answered(flags=SYN | ACK, source=UNMASQUERADED, way=PAST_NODE1, there=WITHOUT_MASQUERADE),
    ),
    "an answer from a wrong address": Row(
        "wrong-source",
        "pod/d",
        lambda: answered(flags=SYN | ACK, source=replace(SERVER, src="10.1.2.77"), way=way_back(client=sent_by())[:2]),
    ),
    "two who have one address": Row(
        "duplicate-address",
        "node2 and node1",
        lambda: answered(flags=RST | ACK, source=SERVER, way=way_back(client=sent_by())),
        replace(HEALTHY, addresses=(*ADDRESSES, AddressFact("pod/e", "eth0", POD_D, 24))),
        about=POD_D,
    ),
    "an entry that outlived its pod": Row(
        "stale-conntrack",
        "node1",
        lambda: syn([replace(s, rules=SERVICE_RULES[3:4]) if s.node == "node1" else s for s in way_there()[:-1]]),
        replace(
            HEALTHY,
            addresses=tuple(one for one in ADDRESSES if one.node != "pod/d"),
            entries=(
                ConntrackEvent(
                    0, "node1", "dump", "tcp", Tuple(CLIENT, 40000, NODE1, NODE_PORT), Tuple(POD_D, 80, NODE1, 5), 1
                ),
            ),
        ),
        about=POD_D,
    ),
}


def until_with_nat(node: str) -> list[Stop]:
    """The way of a later packet of a connection: rewritten, but without meeting rules."""
    way = [replace(stop, rules=(), track=False) for stop in way_there()]
    at = next(i for i, stop in enumerate(way) if stop.node == node)
    return [*way[:at], replace(way[at], outs=())]


def told(lab: Imaginary, facts: Facts) -> tuple[Reason, ...]:
    evidence = lab.evidence
    (flow,) = flows(evidence, [probe()], switches=SWITCHES)
    _sightings, arps = read_frames(evidence.frames)
    return reasons(Case(flow, facts, {frame.number: frame for frame in evidence.frames}, arps, EXPLAIN))


@pytest.mark.parametrize("name", TABLE)
def test_the_table(name: str) -> None:
    row = TABLE[name]
    (reason,) = told(row.lab(), row.facts)
    assert (reason.cause, reason.node) == (row.cause, row.node)
    assert row.about in reason.object
    assert reason.decided
    assert reason.words
    assert reason.evidence
    assert reason.next_step
    assert reason.last_seen
    assert reason.cause in CAUSES


def test_a_healthy_exchange_has_no_reason() -> None:
    lab = Imaginary()
    exchange(lab)
    assert told(lab, HEALTHY) == ()


@pytest.mark.parametrize(
    ("text", "six"),
    [
        ("On node1: `ip route get X`", "On node1: `ip -6 route get X`"),
        ("`iptables-save -t filter` or `nft list ruleset`", "`ip6tables-save -t filter` or `nft list ruleset`"),
        ("let ICMP fragmentation needed pass", "let ICMP packet too big pass"),
    ],
)
def test_commands_are_those_of_the_packets_family(text: str, six: str) -> None:
    assert in_family(text, "10.1.1.2") == text
    assert in_family(text, "fd00::2") == six


def test_what_nothing_explains_says_which_experiment_would_tell() -> None:
    (reason,) = told(syn(until("node2")), HEALTHY)
    assert reason.cause == "unknown"
    assert not reason.decided
    assert reason.experiment
    assert reason.last_seen == "node2, coming in by eth0 (frame 12)"


def test_errors_that_a_kernel_held_back_stand_beside_the_reason() -> None:
    rejecting = dropping("-j REJECT --reject-with icmp-port-unreachable")
    facts = replace(HEALTHY, growth={"node1": {"Icmp.OutRateLimitHost": 3}, "node2": {"Icmp.OutRateLimitHost": 9}})
    (reason,) = told(syn(until("node1", rules=rejecting)), facts)
    assert reason.cause == "rule"
    [line] = [line for line in reason.evidence if "held back" in line]
    assert "OutRateLimitHost of node1 grew by 3" in line


def test_a_probe_that_was_not_seen_is_not_explained_away() -> None:
    (reason,) = told(Imaginary(), HEALTHY)
    assert (reason.cause, reason.node, reason.decided) == ("unknown", "client", False)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_it_never_breaks_and_never_decides_without_evidence(data: st.DataObject) -> None:
    """Whatever was not seen and whatever the kernels did not answer: a failed flow has one reason, with its grounds."""
    row = TABLE[data.draw(st.sampled_from(sorted(TABLE)))]
    lab = row.lab()
    gone = data.draw(st.sets(st.integers(1, len(lab.frames)), max_size=6))
    fields = data.draw(st.sets(st.sampled_from(["links", "addresses", "routes", "growth", "settings", "neighbours"])))
    empty = {name: type(getattr(row.facts, name))() for name in fields}
    facts = replace(row.facts, **empty)
    evidence = without(lab.evidence, gone)
    (flow,) = flows(evidence, [probe()], switches=SWITCHES)
    found = reasons(Case(flow, facts, {frame.number: frame for frame in evidence.frames}, (), EXPLAIN))
    if flow.outcome == "accepted":
        return
    (reason,) = found
    assert reason.next_step
    assert reason.evidence or not reason.decided
    assert reason.decided or reason.experiment
