"""A hop in the making: everything that one namespace saw of one packet, then told as a `Hop`.

A node shows a packet at its port, at the bridge device behind the port, at the
tunnel device and at the interface that carries the tunnel.  The hop names the
outermost of them; addresses, ports and TTL are what the frames there say.  Where no
frame can show them (a packet made or delivered here) the headers of the rule trace do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from hoplab.hops.evidence import Interface
from hoplab.hops.packet import read_link
from hoplab.hops.sightings import Sighting
from hoplab.hops.story import Hop
from hoplab.hops.traces import Resolver, TraceRun


class Passing:
    """A hop in the making: what one namespace saw of a packet."""

    __slots__ = ("ins", "node", "outs", "runs", "switches")

    def __init__(self, node: str) -> None:
        self.node = node
        self.ins: list[Sighting] = []
        self.outs: list[Sighting] = []
        self.runs: list[TraceRun] = []
        self.switches: list[str] = []

    @property
    def time_ns(self) -> int:
        """When it began."""
        seen = self.ins or self.outs
        return seen[0].frame.time_ns if seen else self.runs[0].time_ns

    @property
    def ttl(self) -> int:
        """The lowest that was seen in it."""
        seen = self.outs or self.ins
        return seen[-1].packet.ttl if seen else self.runs[0].packets[-1].ttl

    def takes_in(self, sighting: Sighting) -> bool:
        """Whether an arriving frame belongs to it: the bridge device behind the port, the inside of a tunnel."""
        return not self.outs and (not self.ins or self.ins[0].packet.ttl == sighting.packet.ttl)

    def takes_out(self, sighting: Sighting) -> bool:
        """Whether a leaving frame belongs to it: a router takes one off the TTL, a bridge nothing."""
        ttl = sighting.packet.ttl
        if self.outs:
            return self.outs[-1].packet.ttl == ttl
        return not self.ins or ttl in (self.ins[0].packet.ttl, self.ins[0].packet.ttl - 1)

    @property
    def overheard(self) -> bool:
        """A copy that a flooding switch sent to somebody else: nothing here took it."""
        return not self.outs and not self.runs and all(s.frame.packet_type == "otherhost" for s in self.ins)


_INNER_KINDS = frozenset({"bridge", "vxlan"})
"""Devices inside a namespace: behind a bridge is a port, behind a tunnel the interface that carries it."""


def to_hop(passing: Passing, interfaces: Mapping[tuple[str, str], Interface], resolver: Resolver) -> Hop:
    """What frames and traces say of it."""

    def edge(seen: list[Sighting], *, last: bool) -> Sighting | None:
        outer = [
            s
            for s in seen
            if (known := interfaces.get((passing.node, s.frame.interface))) is None or known.kind not in _INNER_KINDS
        ]
        found = outer or seen
        return (found[-1] if last else found[0]) if found else None

    came, left = edge(passing.ins, last=False), edge(passing.outs, last=True)
    traced = [packet for run in passing.runs if run.own for packet in run.packets]
    if came is not None:
        before = came.packet.tuple
    elif traced:
        before = traced[0].tuple
    else:
        before = passing.outs[-1].packet.tuple
    after = left.packet.tuple if left is not None else traced[-1].tuple if traced else before
    rewrite: list[Literal["DNAT", "SNAT"]] = []
    if (before.dst, before.dport) != (after.dst, after.dport):
        rewrite.append("DNAT")
    if (before.src, before.sport) != (after.src, after.sport):
        rewrite.append("SNAT")
    sightings = (*passing.ins, *passing.outs)
    return Hop(
        passing.node,
        came.frame.interface if came else None,
        left.frame.interface if left else None,
        before,
        after,
        came.packet.ttl if came else None,
        left.packet.ttl if left else None,
        tuple(rewrite),
        tuple(hit for run in passing.runs for hit in resolver.hits(run)),
        tuple(sorted(number for s in sightings for number in s.numbers)),
        passing.time_ns,
        _macs(came),
        _macs(left),
        _tunnel(came, left),
        (),
        tuple(dict.fromkeys(s.frame.interface for s in sightings)),
        tuple(passing.switches),
    )


def _macs(sighting: Sighting | None) -> tuple[str, str] | None:
    link = read_link(sighting.frame.data) if sighting else None
    return link.macs if link else None


def _tunnel(came: Sighting | None, left: Sighting | None) -> str:
    """The outer tuple; where it came out of one tunnel and went into another, the one that it left in."""
    for sighting in (left, came):
        if sighting is not None and sighting.packet.outer is not None:
            outer = sighting.packet.outer
            return f"{outer.src}:{outer.sport} -> {outer.dst}:{outer.dport} VNI {sighting.packet.vni}"
    return ""
