"""A hop in the making: everything that one namespace saw of one packet, then told as a `Hop`.

A node shows a packet at its port, at the bridge device behind the port, at the
tunnel device and at the interface that carries the tunnel.  The hop names the
outermost of them; addresses, ports and TTL are what the frames there say.  Where no
frame can show them (a packet made or delivered here) the headers of the rule trace do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from hoplab.hops.evidence import Interface, Tuple
from hoplab.hops.packet import mac_text
from hoplab.hops.sightings import Sighting
from hoplab.hops.story import Hop
from hoplab.hops.traces import Resolver, TraceRun

Inner = Mapping[tuple[str, str], str]
"""(node, interface) -> bridge or vxlan, for the interfaces that lie behind others."""


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


def to_hop(passing: Passing, inner: Inner, resolver: Resolver) -> Hop:
    """What frames and traces say of it; `inner` are the interfaces that lie behind others."""
    ins, outs, runs = passing.ins, passing.outs, passing.runs
    came = ins[_outermost(passing.node, ins, inner, 0)] if ins else None
    left = outs[_outermost(passing.node, outs, inner, -1)] if outs else None
    traced = [packet for run in runs if run.own for packet in run.packets] if runs else []
    if came is not None:
        before = came.packet.tuple
    elif traced:
        before = traced[0].tuple
    else:
        before = outs[-1].packet.tuple
    if left is None:
        after = traced[-1].tuple if traced else before
    else:
        after = before if came is not None and left.packet is came.packet else left.packet.tuple
    # Handed to a bridge of its own and sent by none of the ports: it has not left this namespace.
    gone = left if left and inner.get((passing.node, left.frame.interface)) != "bridge" else None
    sightings = ins + outs
    numbers = [number for sighting in sightings for number in sighting.numbers]
    return Hop(
        passing.node,
        came.frame.interface if came else None,
        gone.frame.interface if gone else None,
        before,
        after,
        came.packet.ttl if came else None,
        left.packet.ttl if left else None,
        rewrites(before, after),
        tuple([hit for run in runs for hit in resolver.hits(run)]) if runs else (),
        tuple(sorted(numbers)),
        passing.time_ns,
        _macs(came),
        _macs(left),
        _tunnel(came, left),
        (),
        tuple(dict.fromkeys([sighting.frame.interface for sighting in sightings])),
        tuple(passing.switches),
    )


def inner_interfaces(interfaces: Iterable[Interface]) -> Inner:
    """Devices inside a namespace: behind a bridge is a port, behind a tunnel the interface that carries it."""
    return {(one.node, one.name): one.kind for one in interfaces if one.kind in ("bridge", "vxlan")}


def rewrites(before: Tuple, after: Tuple) -> tuple[Literal["DNAT", "SNAT"], ...]:
    """DNAT changes the destination, SNAT the source; so does undoing them, each the other end."""
    destination = before.dst != after.dst or before.dport != after.dport
    source = before.src != after.src or before.sport != after.sport
    if destination:
        return ("DNAT", "SNAT") if source else ("DNAT",)
    return ("SNAT",) if source else ()


def _outermost(node: str, seen: list[Sighting], inner: Inner, end: Literal[0, -1]) -> int:
    """Which sighting stands for the edge of the namespace: the first (0) or last (-1) that is not behind another."""
    if len(seen) == 1:
        return 0
    order = range(len(seen)) if end == 0 else range(len(seen) - 1, -1, -1)
    return next((at for at in order if (node, seen[at].frame.interface) not in inner), end)


def _macs(sighting: Sighting | None) -> tuple[str, str] | None:
    """(source, destination) of the Ethernet header."""
    data = sighting.frame.data if sighting else b""
    return (mac_text(data[6:12]), mac_text(data[:6])) if len(data) >= 14 else None


def _tunnel(came: Sighting | None, left: Sighting | None) -> str:
    """The outer tuple; where it came out of one tunnel and went into another, the one that it left in."""
    for sighting in (left, came):
        if sighting is not None and sighting.packet.outer is not None:
            outer = sighting.packet.outer
            return f"{outer.src}:{outer.sport} -> {outer.dst}:{outer.dport} VNI {sighting.packet.vni}"
    return ""
