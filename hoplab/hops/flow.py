"""Flows: for each probe the way there, the way back, and how it ended.

The outcome is what the sender's own interface saw come in, and nothing else:

- accepted: the answer came, from the tuple that was addressed (TCP: the SYN-ACK, and
  data if the probe sent any);
- rejected: an RST or an ICMP error came instead;
- dropped: nothing came, and a rule trace shows the rule or policy that took the packet;
- unanswered: nothing came and no trace says why; the reason tells where it was last seen.

A proxy ends one connection and begins another: that is a flow of its own with the proxy
as sender, and a leg of the first one's story where something seen joins them (`legs`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from hoplab.hops.conntrack import Entries
from hoplab.hops.ending import Ending, ending_of, request_ending
from hoplab.hops.evidence import ConntrackEvent, Evidence, Tuple
from hoplab.hops.exchange import Exchange, Exchanges, ProbeKey, stream_of
from hoplab.hops.join import Joined, Journey, join
from hoplab.hops.legs import Told, with_legs
from hoplab.hops.packet import FIN, SYN
from hoplab.hops.story import Flow, Hop, Passage
from hoplab.hops.traces import OBSERVER_TABLE
from hoplab.hops.words import label

__all__ = ["ProbeKey", "flows", "flows_of"]


def flows(
    evidence: Evidence,
    probes: Sequence[ProbeKey],
    *,
    switches: Collection[str] = frozenset(),
    observer_table: str = OBSERVER_TABLE,
) -> tuple[Flow, ...]:
    """One flow for each probe, in the order of the probes.

    `switches` names the namespaces that only bridge frames (they are no hops),
    `observer_table` the nftables table whose rules only switch tracing on.
    """
    return flows_of(evidence, join(evidence, switches, observer_table), probes)


def flows_of(evidence: Evidence, joined: Joined, probes: Sequence[ProbeKey]) -> tuple[Flow, ...]:
    """`flows` for evidence that was joined before."""
    teller = _Teller(Exchanges(joined.journeys, probes), Entries(evidence.conntrack), joined, evidence)
    return with_legs([teller.tell(probe) for probe in probes], joined.journeys, teller)


@dataclass(frozen=True, slots=True)
class _Teller:
    """Tells flows from one run's evidence."""

    exchanges: Exchanges
    entries: Entries
    joined: Joined
    evidence: Evidence

    def tell(self, probe: ProbeKey, until_ns: int = 0) -> Told:
        """The flow that begins with the probe's first packet; until_ns 0: to the end."""
        exchange = _within(self.exchanges.of(probe), 0, until_ns)
        return self._told(exchange, ending_of(exchange, self.joined.arps))

    def tell_request(self, probe: ProbeKey, since_ns: int, until_ns: int) -> Told:
        """The flow that is one request on an older connection of the probe's; until_ns 0: to the end."""
        exchange = _within(self.exchanges.of(probe), since_ns, until_ns)
        return self._told(exchange, request_ending(exchange, self.joined.arps))

    def _told(self, exchange: Exchange, ending: Ending) -> Told:
        probe = exchange.probe
        told = _with_conntrack(exchange, self.entries)
        forward = told[id(ending.first)].hops if ending.first else ()
        reply = told[id(ending.answer)].hops if ending.answer else ()
        passages = sorted(told.values(), key=lambda passage: passage.hops[0].time_ns)
        flow = Flow(
            probe.name,
            probe.protocol,
            ending.outcome,
            forward,
            reply,
            tuple(passages),
            _last_states(passages),
            ending.reason,
            _response(exchange, ending),
            self.evidence.losses,
            probe.sender,
        )
        return Told(exchange, ending, flow)


def _within(whole: Exchange, since_ns: int, until_ns: int) -> Exchange:
    """The packets of an exchange that were made within these times; 0: from the beginning, to the end."""
    if not since_ns and not until_ns:
        return whole

    def kept(journeys: Sequence[Journey]) -> tuple[Journey, ...]:
        return tuple(j for j in journeys if since_ns <= j.started_ns and not 0 < until_ns <= j.started_ns)

    probe = replace(whole.probe, started_ns=since_ns or whole.probe.started_ns, ended_ns=until_ns)
    return Exchange(probe, kept(whole.forward), kept(whole.reply), kept(whole.errors), whole.isn)


def _with_conntrack(exchange: Exchange, entries: Entries) -> dict[int, Passage]:
    """Each journey as a passage, its hops with their conntrack entries; by the journey's id()."""
    every = (*exchange.forward, *exchange.reply, *exchange.errors)
    replies = {id(journey) for journey in exchange.reply}
    if not every:
        return {}
    since, until = every[0].started_ns, max(j.started_ns for j in every)
    looked_up: dict[tuple[str, Tuple, Tuple], tuple[ConntrackEvent, ...]] = {}
    seen: set[tuple[object, ...]] = set()
    told: dict[int, Passage] = {}
    for journey in every:
        hops: list[Hop] = []
        for hop in journey.hops:
            key = (hop.node, hop.before, hop.after)
            found = looked_up.get(key)
            if found is None:
                found = (
                    entries.of_hop(hop, exchange.probe.protocol, since, until) if not journey.packet.is_error else ()
                )
                looked_up[key] = found
            hops.append(replace(hop, conntrack=found) if found else hop)
        back = id(journey) in replies or (journey.packet.is_error and exchange.arrived(journey))
        again = _repeats(journey, back, seen)
        told[id(journey)] = Passage(label(journey.packet, reply=back), tuple(hops), again, back)
    return told


def _repeats(journey: Journey, back: bool, seen: set[tuple[object, ...]]) -> bool:
    """Whether the same bytes of the stream, or the same datagram, were sent before."""
    packet = journey.packet
    if packet.is_error:
        return False
    if packet.protocol_name == "tcp":
        occupying = packet.flags & (SYN | FIN)
        if not occupying and not packet.payload:
            return False
        key: tuple[object, ...] = (back, packet.seq, occupying, len(packet.payload))
    else:
        key = (back, journey.hops[0].node, packet.kind, packet.seq, packet.payload)
    if key in seen:
        return True
    seen.add(key)
    return False


def _last_states(passages: Sequence[Passage]) -> tuple[ConntrackEvent, ...]:
    found: dict[tuple[str, Tuple, int], ConntrackEvent] = {}
    for passage in passages:
        for hop in passage.hops:
            for entry in hop.conntrack:
                found[entry.node, entry.original, entry.zone] = entry
    return tuple(found.values())


def _response(exchange: Exchange, ending: Ending) -> str:
    """What came back to the sender: the stream's bytes in their order, or the first datagram's payload."""
    if exchange.probe.protocol != "tcp":
        if ending.outcome != "accepted" or ending.answer is None:
            return ""
        return ending.answer.packet.payload.decode("utf-8", "replace")
    arrived = [j.packet for j in exchange.reply if exchange.arrived(j)]
    start = next((p.seq + 1 for p in arrived if p.flags & SYN), None)
    if start is None:
        return ""
    return stream_of(arrived, start).decode("utf-8", "replace")
