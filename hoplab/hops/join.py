"""Joins the frames of one packet over all namespaces to its journey, hop by hop.

One packet shows up as many frames: leaving an interface, arriving at the next one,
once more at a bridge device, again inside an overlay.  All of them have the same
identity (see `identity`), whatever NAT did.  Identical packets (a SYN-ACK sent again)
are told apart by three facts:

- no place sees one packet twice with the same TTL (place: namespace, interface, direction);
- the TTL of a packet never grows;
- a wire changes nothing: what arrives is, byte for byte, what left.

Within a journey, a hop begins when the packet comes into a namespace (or first
shows up leaving it) and holds all that the namespace saw until the packet is seen
elsewhere.  Namespaces that only switch frames are no hops; the caller names them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Literal

from hoplab.hops.evidence import Evidence, Frame, Tuple
from hoplab.hops.identity import header_identity, identity, kept_payload
from hoplab.hops.packet import Arp, Packet
from hoplab.hops.passing import Inner, Passing, inner_interfaces, to_hop
from hoplab.hops.sightings import Sighting, read_frames
from hoplab.hops.story import Hop
from hoplab.hops.traces import OBSERVER_TABLE, Resolver, TraceRun, trace_runs

SAME_BURST_NS = 50_000_000
"""Identical packets closer than this stay in their order; a sender repeats one after 200 ms at the earliest."""


@dataclass(frozen=True, slots=True)
class LastSeen:
    """The last place that saw a packet, switches included."""

    node: str
    interface: str
    direction: Literal["in", "out"]
    frame: int
    time_ns: int


@dataclass(frozen=True, slots=True)
class Journey:
    """One packet from where it was first seen to where it was last seen."""

    packet: Packet
    """As it was first seen."""
    hops: tuple[Hop, ...]
    started_ns: int
    last: LastSeen | None
    """None when no frame was seen, only rule traces."""
    arrived: Packet
    """As it was last seen."""
    quoted: tuple[Tuple, ...] = ()
    """For an ICMP error, the tuples of the packet that it quotes, as each place saw them."""


@dataclass(frozen=True, slots=True)
class Joined:
    """All journeys in time order, and the ARP messages beside them."""

    journeys: tuple[Journey, ...]
    arps: tuple[tuple[Frame, Arp], ...] = ()


class _Copy:
    """One of possibly several packets of the same identity."""

    __slots__ = ("by_node", "last", "passings", "places")

    def __init__(self) -> None:
        self.passings: list[Passing] = []
        self.by_node: dict[str, Passing] = {}
        self.places: set[tuple[str, str, str, int]] = set()
        self.last: Sighting | None = None

    def open(self, node: str) -> Passing:
        passing = Passing(node)
        self.passings.append(passing)
        self.by_node[node] = passing
        return passing

    def add(self, sighting: Sighting, *, switch: bool) -> None:
        """Note a sighting, in the hop that it belongs to."""
        frame = sighting.frame
        self.places.add((frame.node, frame.interface, frame.direction, sighting.packet.ttl))
        self.last = sighting
        if switch:
            if self.passings and frame.node not in self.passings[-1].switches:
                self.passings[-1].switches.append(frame.node)
            return
        passing = self.by_node.get(frame.node)
        if frame.direction == "in":
            if passing is None or not passing.takes_in(sighting):
                passing = self.open(frame.node)
            passing.ins.append(sighting)
        else:
            if passing is None or not passing.takes_out(sighting):
                passing = self.open(frame.node)
            passing.outs.append(sighting)


def join(evidence: Evidence, switches: Collection[str] = frozenset(), observer_table: str = OBSERVER_TABLE) -> Joined:
    """All packets of the evidence, each with its hops.

    `switches` are the namespaces that only bridge; `observer_table` is the nftables
    table that switches tracing on: its own rules are not part of any story.
    """
    # Numbers are given batch by batch, so a late frame may stand behind younger ones.
    sightings, arps = read_frames(sorted(evidence.frames, key=lambda frame: frame.time_ns))
    copies = _copies(sightings, frozenset(switches))
    resolver = Resolver(evidence.rules, evidence.chains, observer_table)
    copies += _attach(copies, trace_runs(evidence.traces))
    inner = inner_interfaces(evidence.interfaces)
    journeys = (journey for copy in copies if (journey := _journey(copy, inner, resolver)) is not None)
    return Joined(tuple(sorted(journeys, key=lambda one: one.started_ns)), tuple(arps))


def _copies(sightings: list[Sighting], switches: frozenset[str]) -> list[_Copy]:
    """Sightings sorted to packets."""
    kept = kept_payload(s.packet for s in sightings if s.frame.length > len(s.frame.data))
    identities: dict[int, Hashable] = {}
    same: defaultdict[Hashable, list[Sighting]] = defaultdict(list)
    for sighting in sightings:
        packet = sighting.packet
        key = identities.get(id(packet))
        if key is None:
            key = identities[id(packet)] = identity(packet, kept)
        same[key].append(sighting)
    copies: list[_Copy] = []
    for group in same.values():
        mine: list[_Copy] = []
        for sighting in group:
            copy = _copy_of(sighting, mine)
            if copy is None:
                copy = _Copy()
                mine.append(copy)
            copy.add(sighting, switch=sighting.frame.node in switches)
        copies += mine
    return copies


def _copy_of(sighting: Sighting, copies: list[_Copy]) -> _Copy | None:
    """Which of the packets of this identity was seen here; None for a new one."""
    frame, ttl = sighting.frame, sighting.packet.ttl
    place = (frame.node, frame.interface, frame.direction, ttl)
    possible = [c for c in copies if place not in c.places and c.last is not None and c.last.packet.ttl >= ttl]
    if len(possible) <= 1:
        return possible[0] if possible else None
    fitting = [c for c in possible if _continues(c, sighting)] or possible
    in_flight = [c for c in fitting if c.last and frame.time_ns - c.last.frame.time_ns < SAME_BURST_NS]
    return in_flight[0] if in_flight else fitting[-1]


def _continues(copy: _Copy, sighting: Sighting) -> bool:
    """A frame leaves the namespace that the packet is in, and arrives unchanged from the one it left."""
    last = copy.last
    if last is None:
        return False
    if sighting.frame.direction == "out":
        return last.frame.node == sighting.frame.node
    same_place = last.frame.node == sighting.frame.node and last.frame.direction == "in"
    return last.packet is sighting.packet or same_place


def _attach(copies: list[_Copy], runs: list[TraceRun]) -> list[_Copy]:
    """Give each trace to the hop it was made in; what has no frame at all becomes a packet of its own."""
    if not runs:
        return []
    hops: defaultdict[Hashable, list[Passing]] = defaultdict(list)
    outers: defaultdict[Hashable, list[Passing]] = defaultdict(list)
    by_headers: defaultdict[Hashable, list[_Copy]] = defaultdict(list)
    headers: dict[int, Hashable] = {}
    for copy in copies:
        for passing in copy.passings:
            seen: set[Hashable] = set()
            for sighting in (*passing.ins, *passing.outs):
                packet = sighting.packet
                key = headers.get(id(packet))
                if key is None:
                    key = headers[id(packet)] = header_identity(packet)
                if key not in seen:
                    seen.add(key)
                    hops[passing.node, key].append(passing)
                    by_headers[key].append(copy)
                if packet.outer is not None:
                    outers[passing.node, header_identity(packet.outer)].append(passing)
    unseen: list[_Copy] = []
    for run in runs:
        candidates = hops.get((run.node, run.key), ())
        here = [p for p in candidates if _belongs(run, p)] or [p for p in candidates if _forwarded(run, p)]
        if here:
            _nearest(run, here).runs.append(run)
        elif (run.node, run.key) in outers:
            # The tunnel's own packet is another packet; only its end is news about the one inside.
            if run.dropped:
                run.own = False
                _nearest(run, outers[run.node, run.key]).runs.append(run)
        else:
            _insert(run, by_headers[run.key], unseen)
    return unseen


def _belongs(run: TraceRun, passing: Passing) -> bool:
    """Whether a trace's addresses and TTL are ones that the packet had in this hop."""
    first, last = run.packets[0], run.packets[-1]
    if passing.ins:
        packet = passing.ins[0].packet
        if first.tuple == packet.tuple and first.ttl == packet.ttl:
            return True
        if not passing.outs:
            return False
    after = passing.outs[-1].packet
    if last.ttl != after.ttl:
        return False
    if passing.ins:
        before = passing.ins[0].packet.tuple
        half = Tuple(before.src, before.sport, after.dst, after.dport)
        return first.tuple in (half, after.tuple)
    return (last.dst, last.dport) == (after.dst, after.dport) or (last.src, last.sport) == (after.src, after.sport)


def _forwarded(run: TraceRun, passing: Passing) -> bool:
    """Whether a trace shows the packet behind routing in a hop that it never left.

    A packet from a bridge has two traces: its interface, which a trace's number follows from, becomes the bridge when
    it goes up to IP.  The second one begins where the destination may be rewritten, and the TTL has been lowered unless
    routing found the packet to be for this node itself.
    """
    if not passing.ins or passing.outs:
        return False
    first, packet = run.packets[0], passing.ins[0].packet
    return first.ttl in (packet.ttl, packet.ttl - 1) and (first.src, first.sport) == (packet.src, packet.sport)


def _nearest(run: TraceRun, passings: list[Passing]) -> Passing:
    """The hop closest in time, of equals the one that has fewer traces."""
    if len(passings) == 1:
        return passings[0]
    return min(passings, key=lambda p: (abs(p.time_ns - run.time_ns) // SAME_BURST_NS, len(p.runs)))


def _insert(run: TraceRun, known: list[_Copy], unseen: list[_Copy]) -> None:
    """A trace without a frame: the packet was met by rules where no interface showed it."""
    for copy in (*known, *unseen):
        passing = copy.by_node.get(run.node)
        if passing is not None and not passing.ins and not passing.outs and passing.runs[0].key == run.key:
            passing.runs.append(run)
            return
    passing = Passing(run.node)
    passing.runs.append(run)
    homes = [copy for copy in known if run.node not in copy.by_node]
    if homes:
        copy = min(homes, key=lambda c: abs(c.passings[0].time_ns - run.time_ns))
        ttl = run.packets[0].ttl
        at = next((i for i, p in enumerate(copy.passings) if p.ttl < ttl), len(copy.passings))
        if at == 0 and copy.passings and run.packets[0].tuple != _first_tuple(copy.passings[0]):
            at = 1
        copy.passings.insert(at, passing)
    else:
        copy = _Copy()
        copy.passings.append(passing)
        unseen.append(copy)
    copy.by_node[run.node] = passing


def _first_tuple(passing: Passing) -> Tuple:
    seen = passing.ins or passing.outs
    return seen[0].packet.tuple if seen else passing.runs[0].packets[0].tuple


def _journey(copy: _Copy, inner: Inner, resolver: Resolver) -> Journey | None:
    passings = [passing for passing in copy.passings if not passing.overheard]
    if not passings:
        return None
    hops = tuple(to_hop(passing, inner, resolver) for passing in passings)
    first, last = passings[0], copy.last
    seen = first.ins or first.outs
    packet = seen[0].packet if seen else first.runs[0].packets[0]
    where = None
    if last is not None:
        frame = last.frame
        where = LastSeen(frame.node, frame.interface, frame.direction, last.numbers[-1], frame.time_ns)
    quoted: dict[Tuple, None] = {}
    if packet.quoted is not None:
        for passing in passings:
            for sighting in (*passing.ins, *passing.outs):
                if sighting.packet.quoted is not None:
                    quoted[sighting.packet.quoted.tuple] = None
    arrived = last.packet if last is not None else passings[-1].runs[-1].packets[-1]
    return Journey(packet, hops, hops[0].time_ns, where, arrived, tuple(quoted))
