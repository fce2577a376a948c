"""Laws of the joining: what hypothesis may shuffle or take away, and what must not change by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hoplab.hops.evidence import ConntrackEvent, Evidence, Frame, Loss, TraceEvent
from hoplab.hops.findings import Check
from hoplab.hops.flow import flows
from hoplab.hops.story import Flow, Hop
from hoplab.hops.verdict import (
    expect_dnat,
    expect_endpoint,
    expect_hops,
    expect_masquerade,
    expect_no_masquerade,
    expect_no_nat,
    expect_outcome,
    expect_reply_hops,
    expect_reply_undone,
    expect_source_seen,
    expect_ttl,
)
from tests.unit.hops.imaginary import CLIENT, NODE1, POD_D, START, SWITCHES, Imaginary, exchange, probe, without

HOPS = ("client", "lb", "node1", "node2", "pod/d")
Event = Frame | TraceEvent | ConntrackEvent


def one(sport: int, isn: int, port: int, *, overlay: bool = False, handshake_only: bool = False) -> Evidence:
    lab = Imaginary(trace_ids=port)
    irs = isn ^ 0x0F0F0F0F
    exchange(lab, sport=sport, isn=isn, irs=irs, port=port, overlay=overlay, handshake_only=handshake_only)
    return lab.evidence


def merged(first: Evidence, second: Evidence, picks: list[bool]) -> Evidence:
    """Both flows' events in one order: each flow's own order stays, everything else is up to the picks."""

    def events(evidence: Evidence) -> list[Event]:
        # A bridge device shares its port's time stamp, so the order of the list decides.
        every: list[Event] = [*evidence.frames, *evidence.traces, *evidence.conntrack]
        return sorted(every, key=lambda event: event.time_ns)

    queues = [events(first), events(second)]
    frames: list[Frame] = []
    traces: list[TraceEvent] = []
    conntrack: list[ConntrackEvent] = []
    now, turns = START, iter(picks)
    while queues[0] or queues[1]:
        which = next(turns, False)
        event = (queues[which] or queues[not which]).pop(0)
        now += 1000
        if isinstance(event, Frame):
            frames.append(replace(event, number=len(frames) + 1, time_ns=now))
        elif isinstance(event, TraceEvent):
            traces.append(replace(event, time_ns=now))
        else:
            conntrack.append(replace(event, time_ns=now))
    rules = first.rules | second.rules
    return Evidence(tuple(frames), tuple(traces), tuple(conntrack), rules, first.interfaces)


def shape(flow: Flow, *, tracked: bool = True) -> object:
    """The story without frame numbers and times, and without conntrack's ids and times."""

    def hop(one: Hop) -> object:
        entries = sorted((e.original, e.reply) for e in one.conntrack) if tracked else []
        return replace(one, frames=(), time_ns=0, conntrack=()), entries, len(one.frames)

    # Between two flows only the order of packets within each direction is given.
    told = [[(p.label, [hop(h) for h in p.hops]) for p in flow.passages if p.reply is way] for way in (False, True)]
    return flow.outcome, flow.reason, flow.response, [hop(h) for h in (*flow.forward, *flow.reply)], told


PAIRS = {
    "two ports": ((40000, 1000, 51000), (40001, 2_000_000_000, 51001)),
    "equal addresses": ((40000, 1000, 51000), (40000, 2_000_000_000, 51001)),
}


@pytest.mark.parametrize("pair", PAIRS)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), max_size=400), st.booleans())
@example([True] * 17, False)
def test_any_interleaving_of_two_flows_tells_the_same_two_stories(pair: str, picks: list[bool], overlay: bool) -> None:
    parts = [one(*numbers, overlay=overlay) for numbers in PAIRS[pair]]
    probes = [probe(sport, isn) for sport, isn, _port in PAIRS[pair]]
    alone = [flows(evidence, [key], switches=SWITCHES)[0] for evidence, key in zip(parts, probes, strict=True)]
    together = flows(merged(parts[0], parts[1], picks), probes, switches=SWITCHES)
    # A table holds one entry a tuple: two flows with equal addresses can't have theirs at the same time.
    tracked = pair != "equal addresses"
    for apart, found in zip(alone, together, strict=True):
        assert shape(found, tracked=tracked) == shape(apart, tracked=tracked)


PASSING: dict[str, Callable[[Flow], Check]] = {
    "hops": lambda flow: expect_hops(flow, *HOPS),
    "way back": lambda flow: expect_reply_hops(flow, *reversed(HOPS)),
    "DNAT": lambda flow: expect_dnat(flow, "node1", POD_D, 80),
    "masquerade": lambda flow: expect_masquerade(flow, "node1"),
    "source": lambda flow: expect_source_seen(flow, NODE1),
    "no NAT on node2": lambda flow: expect_no_nat(flow, "node2"),
    "reply undone": lambda flow: expect_reply_undone(flow),
    "TTL": lambda flow: expect_ttl(flow, "pod/d", 61),
    "endpoint": lambda flow: expect_endpoint(flow, [(POD_D, 80)]),
    "outcome": lambda flow: expect_outcome(flow, "accepted"),
}
"""Expectations that hold for the healthy flow."""

ENDS = [("client", "out")] + [(node, way) for node in HOPS[1:-1] for way in ("in", "out")] + [("pod/d", "in")]
BACK = [(node, {"in": "out", "out": "in"}[way]) for node, way in reversed(ENDS)]
NEEDS: dict[str, list[tuple[int, str, str]]] = {
    "hops": [(0, *end) for end in ENDS],
    "way back": [(1, *end) for end in BACK],
    "DNAT": [(0, "node1", "in"), (0, "node1", "out")],
    "masquerade": [(0, "node1", "in"), (0, "node1", "out")],
    "source": [(0, "pod/d", "in")],
    "no NAT on node2": [(0, "node2", "in"), (0, "node2", "out")],
    "reply undone": [(0, *end) for end in ENDS] + [(1, *end) for end in BACK],
    "TTL": [(0, "pod/d", "in")],
    "endpoint": [(0, "pod/d", "in"), (1, "client", "in")],
    "outcome": [(1, "client", "in")],
}
"""The frames without which an expectation has nothing to stand on: (SYN or SYN-ACK, namespace, direction)."""

HEALTHY = one(40000, 1000, 51000, overlay=True, handshake_only=True)
[STORY] = flows(HEALTHY, [probe()], switches=SWITCHES)
NUMBERS = [f.number for f in HEALTHY.frames]


def frames_at(which: int, node: str, direction: str) -> set[int]:
    """The frames of the SYN (0) or the SYN-ACK (1) at one end of one namespace."""
    mine = {n for hop in STORY.passages[which].hops if hop.node == node for n in hop.frames}
    return {f.number for f in HEALTHY.frames if f.number in mine and f.direction == direction}


BEHIND_NODE2 = [(0, "node2", "out"), (0, "pod/d", "in"), (1, "pod/d", "out"), (1, "node2", "in")]
"""Without all of these, what is left is just what a node2 shows that answers by itself: undone rightly, as far as it
goes.  That it should have been the pod is asked by the expectations of hops and endpoint."""


@settings(max_examples=150, deadline=None)
@given(st.sets(st.sampled_from(NUMBERS), max_size=20))
@example({1, 15, 16, 17, 18, 19, 20})
@example({15, 16, 17, 18, 19, 20})
def test_a_missing_frame_never_yields_a_passing_expectation_that_needs_it(gone: set[int]) -> None:
    [flow] = flows(without(HEALTHY, gone), [probe()], switches=SWITCHES)
    shortened = all(frames_at(*end) <= gone for end in BEHIND_NODE2)
    for name, ask in PASSING.items():
        if ask(flow).passed and not (name == "reply undone" and shortened):
            for end in NEEDS[name]:
                assert not frames_at(*end) <= gone, f"{name} passed without {end}"


@pytest.mark.parametrize("name", PASSING)
def test_each_needed_end_counts(name: str) -> None:
    assert PASSING[name](STORY).passed
    for end in NEEDS[name]:
        [flow] = flows(without(HEALTHY, frames_at(*end)), [probe()], switches=SWITCHES)
        assert not PASSING[name](flow).passed, end


FAILING: dict[str, Callable[[Flow], Check]] = {
    "hops without node1": lambda flow: expect_hops(flow, "client", "lb", "node2", "pod/d"),
    "hops without lb": lambda flow: expect_hops(flow, "client", "node1", "node2", "pod/d"),
    "hops end at node1": lambda flow: expect_hops(flow, "client", "lb", "node1"),
    "hops end at lb": lambda flow: expect_hops(flow, "client", "lb"),
    "way back": lambda flow: expect_reply_hops(flow, "pod/d", "node2", "node1", "client"),
    "DNAT elsewhere": lambda flow: expect_dnat(flow, "node1", "10.1.1.9", 80),
    "DNAT on node2": lambda flow: expect_dnat(flow, "node2", POD_D, 80),
    "masquerade on node2": lambda flow: expect_masquerade(flow, "node2"),
    "no masquerade": lambda flow: expect_no_masquerade(flow, "node1"),
    "no NAT": lambda flow: expect_no_nat(flow),
    "no NAT on node1": lambda flow: expect_no_nat(flow, "node1"),
    "no NAT on lb": lambda flow: expect_no_nat(flow, "lb"),
    "source": lambda flow: expect_source_seen(flow, CLIENT),
    "TTL": lambda flow: expect_ttl(flow, "pod/d", 62),
    "endpoint": lambda flow: expect_endpoint(flow, [("10.1.1.9", 80)]),
    "rejected": lambda flow: expect_outcome(flow, "rejected"),
    "dropped": lambda flow: expect_outcome(flow, "dropped"),
    "unanswered": lambda flow: expect_outcome(flow, "unanswered"),
}
"""Expectations that the healthy flow does not meet."""


@settings(max_examples=150, deadline=None)
@given(st.sets(st.sampled_from(NUMBERS), max_size=30) | st.sets(st.sampled_from(HOPS)))
def test_seeing_less_never_makes_a_false_expectation_true(gone: set[int] | set[str]) -> None:
    """Frames that the observer lost are told as losses; whole namespaces may have been lost, too."""
    numbers = {f.number for f in HEALTHY.frames if f.number in gone or f.node in gone}
    losses = tuple(Loss(n, "frames", 1) for n in sorted({f.node for f in HEALTHY.frames if f.number in numbers}))
    [flow] = flows(replace(without(HEALTHY, numbers), losses=losses), [probe()], switches=SWITCHES)
    for name, ask in FAILING.items():
        check = ask(flow)
        assert not check.passed, (name, check)
