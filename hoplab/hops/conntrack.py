"""Conntrack entries found for a hop: the entry whose tuples are the ones that the packet had there.

An entry has two tuples: what the first packet of the connection looked like when it
came, and what an answer to it will look like as it comes.  The answer's tuple turned
round is the first packet as it left: so a hop's `before` and `after` name its entry
in both directions.  Entries are born, change and die; the same addresses and ports
may belong to several, one after the other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from hoplab.hops.evidence import ConntrackEvent, Tuple
from hoplab.hops.story import Hop

_ICMP_NAMES = frozenset({"icmp", "icmpv6", "ipv6-icmp", "1", "58"})
LATE_NS = 1_000_000_000
"""An event may be read this long after the packet that caused it."""


class Entry:
    """One entry's life: when it was first and last heard of, and its state before it went."""

    __slots__ = ("born_ns", "died_ns", "state")

    def __init__(self, first: ConntrackEvent) -> None:
        # An entry that was dumped had been there before.
        self.born_ns = 0 if first.kind == "dump" else first.time_ns
        self.died_ns: int | None = first.time_ns if first.kind == "destroy" else None
        self.state = first


class Entries:
    """All entries of a run, to be asked by hop."""

    def __init__(self, events: Iterable[ConntrackEvent]) -> None:
        self._by_tuple: defaultdict[tuple[str, str, Tuple], list[Entry]] = defaultdict(list)
        alive: dict[tuple[str, str, Tuple, int], Entry] = {}
        for raw in events:
            event = canonical(raw)
            key = (event.node, event.protocol, event.original, event.zone)
            entry = alive.get(key)
            if entry is None or event.kind == "new" or (event.id and entry.state.id and event.id != entry.state.id):
                entry = alive[key] = Entry(event)
                for tuple_ in {event.original, event.reply}:
                    self._by_tuple[event.node, event.protocol, tuple_].append(entry)
            if event.kind == "destroy":
                # The last event counts packets but no longer tells the state.
                entry.died_ns = event.time_ns
                del alive[key]
            else:
                entry.state = event

    def of_hop(self, hop: Hop, protocol: str, since_ns: int, until_ns: int) -> tuple[ConntrackEvent, ...]:
        """The entries that the hop's tuples name and that lived between these times, each in its last state."""
        found: dict[tuple[Tuple, int], Entry] = {}
        for tuple_ in (hop.before, hop.after.reversed()):
            for entry in self._by_tuple.get((hop.node, protocol, tuple_), ()):
                if entry.born_ns > until_ns + LATE_NS or (entry.died_ns is not None and entry.died_ns < since_ns):
                    continue
                key = (entry.state.original, entry.state.zone)
                other = found.get(key)
                if other is None or _closer(entry, other, since_ns, until_ns):
                    found[key] = entry
        return tuple(entry.state for entry in found.values())


def canonical(event: ConntrackEvent) -> ConntrackEvent:
    """ICMP's two tuples with the identifier where packets have it: at the side that asked."""
    if event.protocol not in _ICMP_NAMES:
        return event
    asked, answered = event.original, event.reply
    query = asked.sport or asked.dport
    reply = answered.dport or answered.sport
    return replace(
        event,
        protocol="icmp",
        original=Tuple(asked.src, query, asked.dst, 0),
        reply=Tuple(answered.src, 0, answered.dst, reply),
    )


def _closer(entry: Entry, other: Entry, since_ns: int, until_ns: int) -> bool:
    """Of two entries with one tuple, the one that was made in the flow's time; else the later one."""

    def inside(one: Entry) -> bool:
        return since_ns <= one.born_ns <= until_ns

    return inside(entry) if inside(entry) != inside(other) else entry.born_ns > other.born_ns
