"""The packets of one probe's exchange, found among all journeys.

A probe is known by what it sent: protocol, tuple, and TCP's initial sequence number
or a token in the payload.  From there the exchange unfolds.  Its packets have the
probe's tuple; each hop shows which tuples that became behind NAT; an answer has one
of these turned round, and TCP's acknowledgement number (or the echoed token) says
that it answers this probe and no other with the same addresses.  An answer that
comes from a wrong address is still an answer: then the number and the address it is
sent to must do.  An ICMP error names the packet that it is about by quoting it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from hoplab.hops.evidence import Tuple
from hoplab.hops.identity import TRACED_PAYLOAD, quoted_identity
from hoplab.hops.join import Journey
from hoplab.hops.packet import ACK, FIN, RST, SYN, Packet
from hoplab.hops.passing import rewrites

MASK = 0xFFFFFFFF
FAR = 1 << 24
"""No exchange of a lab sends this many bytes: a number further from the first belongs to another connection."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A packet as a socket was given it: behind LOCAL_IN, where NAT is undone and no frame shows it any more."""

    tuple: Tuple
    seq: int = 0
    """TCP's sequence number, or ICMP echo's."""
    flags: int = 0
    payload: bytes = b""

    def is_of(self, packet: Packet) -> bool:
        """Whether a packet that came in is the one that was delivered."""
        return (self.seq, self.flags, self.payload) == (packet.seq, packet.flags, packet.payload)


@dataclass(frozen=True, slots=True)
class ProbeKey:
    """By what the packets of a probe are recognized."""

    name: str
    protocol: str
    """tcp, udp, icmp, sctp."""
    sender: str
    """The namespace that it was sent from."""
    sent: Tuple
    """As the sender sent it; for ICMP echo `sport` is the identifier and `dport` 0."""
    isn: int | None = None
    """TCP's initial sequence number; None when the kernel chose it."""
    token: bytes = b""
    """In the payload of the request and of its answer; b'' when there is none."""
    started_ns: int = 0
    ended_ns: int = 0
    """0: the end of the evidence."""
    delivered: tuple[Delivered, ...] = ()
    """What the sender's sockets got, where its own netfilter stands before them (a node's; a host has none)."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The journeys of one probe, each list in time order."""

    probe: ProbeKey
    forward: tuple[Journey, ...] = ()
    reply: tuple[Journey, ...] = ()
    errors: tuple[Journey, ...] = ()
    """ICMP errors about packets of the exchange."""
    isn: int | None = None

    def arrived(self, journey: Journey) -> bool:
        """Whether a frame of it was seen coming into the sender's namespace."""
        last = journey.hops[-1]
        return last.node == self.probe.sender and last.in_interface is not None


class Exchanges:
    """All journeys of a run, to be asked by probe."""

    def __init__(self, journeys: Iterable[Journey], probes: Sequence[ProbeKey] = ()) -> None:
        self._by_tuple: defaultdict[tuple[str, Tuple], list[Journey]] = defaultdict(list)
        self._by_destination: defaultdict[tuple[str, str, int], list[Journey]] = defaultdict(list)
        self._by_quoted: defaultdict[Tuple, list[Journey]] = defaultdict(list)
        self._by_isn: defaultdict[int, list[Journey]] = defaultdict(list)
        for journey in journeys:
            packet, hops = journey.packet, journey.hops
            protocol = packet.protocol_name
            if packet.is_error:
                for quoted in journey.quoted:
                    self._by_quoted[quoted].append(journey)
                continue
            for one in dict.fromkeys(t for hop in hops for t in (hop.before, hop.after)):
                self._by_tuple[protocol, one].append(journey)
            first = hops[0].before
            self._by_destination[protocol, first.dst, first.dport].append(journey)
            if protocol == "tcp" and packet.flags & (SYN | ACK) == SYN:
                self._by_isn[packet.seq].append(journey)
        self._rivals: defaultdict[tuple[str, Tuple], list[ProbeKey]] = defaultdict(list)
        self._senders: defaultdict[int | None, list[ProbeKey]] = defaultdict(list)
        for probe in probes:
            self._rivals[probe.protocol, probe.sent].append(probe)
            self._senders[probe.isn].append(probe)

    def of(self, probe: ProbeKey) -> Exchange:
        """Everything that belongs to this probe."""
        forward = self._forward(probe)
        if not forward:
            return Exchange(probe)
        isn = probe.isn
        if probe.protocol == "tcp" and isn is None:
            isn = next((j.packet.seq for j in forward if j.packet.flags & SYN), forward[0].packet.seq)
            forward = [j for j in forward if _distance(j.packet.seq, isn) < FAR]
        reply = [_as_delivered(journey, probe) for journey in self._reply(probe, forward, isn)]
        errors = self._errors(forward, reply)
        return Exchange(probe, tuple(forward), tuple(reply), tuple(errors), isn)

    def _forward(self, probe: ProbeKey) -> list[Journey]:
        tuples = {probe.sent}
        syns = self._by_isn.get(probe.isn, []) if probe.isn is not None else []
        # What the sender's own kernel rewrote before any frame showed it is still known by its number.
        tuples.update(j.hops[0].before for j in syns if _begins(j, probe))
        candidates = [
            journey
            for one in tuples
            for journey in self._by_tuple.get((probe.protocol, one), ())
            if journey.hops[0].before == one and self._fits(probe, journey)
        ]
        begun = [j for j in candidates if _begins(j, probe)]
        # The way's beginning may have been missed; then only a number or a token can tell whose packet it is.
        missed = (
            [j for j in candidates if j.hops[0].in_interface is not None]
            if probe.isn is not None or probe.token
            else []
        )
        return sorted({id(j): j for j in (*begun, *missed)}.values(), key=_time)

    def _fits(self, probe: ProbeKey, journey: Journey) -> bool:
        """Whether number, token or time say that a packet with the probe's tuple is the probe's."""
        packet = journey.packet
        if probe.isn is not None:
            return _distance(packet.seq, probe.isn) < FAR
        if probe.token and probe.protocol != "tcp":
            if packet.truncated and len(packet.payload) >= TRACED_PAYLOAD:
                # Known from a rule trace alone, which keeps the beginning: what a node refuses itself never leaves it.
                return probe.token in packet.payload or probe.token.startswith(packet.payload)
            return probe.token in packet.payload
        return probe.started_ns <= journey.started_ns and (not probe.ended_ns or journey.started_ns <= probe.ended_ns)

    def _reply(self, probe: ProbeKey, forward: list[Journey], isn: int | None) -> list[Journey]:
        tuples = dict.fromkeys(t for j in forward for hop in j.hops for t in (hop.before, hop.after))
        answers = _tcp_answers(forward, isn) if isn is not None else self._datagram_answers(probe, forward)
        known = {id(j) for j in forward}
        found: dict[int, Journey] = {}
        for one in tuples:
            for journey in self._by_tuple.get((probe.protocol, one.reversed()), ()):
                if id(journey) not in known and answers(journey, False):
                    found[id(journey)] = journey
            for journey in self._by_destination.get((probe.protocol, one.src, one.sport), ()):
                if id(journey) not in known and answers(journey, True):
                    found[id(journey)] = journey
        return sorted(found.values(), key=_time)

    def _datagram_answers(self, probe: ProbeKey, forward: list[Journey]) -> Callable[[Journey, bool], bool]:
        begin = forward[0].started_ns
        rivals = [other for other in self._rivals[probe.protocol, probe.sent] if other is not probe]
        foreign = [other.token for other in rivals if other.token and other.token != probe.token]
        later = [other.started_ns for other in rivals if other.started_ns > probe.started_ns]
        end = min(later, default=probe.ended_ns if not probe.token else 0)

        def answers(journey: Journey, strange: bool) -> bool:
            payload = journey.packet.payload
            if journey.started_ns < begin:
                return False
            if probe.token and probe.token in payload:
                return True
            if strange or any(token in payload for token in foreign):
                return False
            return not end or journey.started_ns <= end

        return answers

    def _errors(self, forward: list[Journey], reply: list[Journey]) -> list[Journey]:
        ours = {quoted_identity(j.packet) for j in (*forward, *reply)}
        tuples = {t for j in (*forward, *reply) for hop in j.hops for t in (hop.before, hop.after)}
        found = {
            id(j): j
            for one in tuples
            for j in self._by_quoted.get(one, ())
            if j.packet.quoted is not None and quoted_identity(j.packet.quoted) in ours
        }
        return sorted(found.values(), key=_time)


def _as_delivered(journey: Journey, probe: ProbeKey) -> Journey:
    """An answer with its last hop ending as the sender's socket got it."""
    last = journey.hops[-1]
    if not probe.delivered or last.node != probe.sender or last.in_interface is None:
        return journey
    got = next((each for each in probe.delivered if each.is_of(journey.arrived)), None)
    if got is None or got.tuple == last.after:
        return journey
    ended = replace(last, after=got.tuple, rewrite=rewrites(last.before, got.tuple))
    return replace(journey, hops=(*journey.hops[:-1], ended))


def _tcp_answers(forward: list[Journey], isn: int) -> Callable[[Journey, bool], bool]:
    """Whether a segment acknowledges what was sent; strictly, when its source is not the one that was asked."""
    sent = 1 + max(_distance(j.packet.seq, isn) + _occupies(j.packet) for j in forward)
    acknowledged = {j.packet.ack for j in forward if j.packet.flags & ACK}

    def answers(journey: Journey, strange: bool) -> bool:
        packet = journey.packet
        if packet.flags & ACK:
            return 0 < _distance(packet.ack, isn) <= (sent if strange else FAR)
        # RFC 9293 3.5.2: an RST in answer to an ACK takes its number from it and acknowledges nothing.
        return bool(packet.flags & RST) and packet.seq in acknowledged

    return answers


def stream_of(packets: Iterable[Packet], base: int) -> bytes:
    """The bytes of one direction in their order, from the sequence number `base` on, as far as none is missing."""
    pieces: dict[int, bytes] = {}
    for packet in packets:
        offset = _distance(packet.seq, base)
        if packet.payload and offset < FAR:
            pieces[offset] = max(packet.payload, pieces.get(offset, b""), key=len)
    stream = b""
    for offset in sorted(pieces):
        if offset > len(stream):
            break
        stream += pieces[offset][len(stream) - offset :]
    return stream


def _occupies(packet: Packet) -> int:
    """How many sequence numbers a segment takes."""
    return len(packet.payload) + bool(packet.flags & SYN) + bool(packet.flags & FIN)


def _begins(journey: Journey, probe: ProbeKey) -> bool:
    first = journey.hops[0]
    return first.node == probe.sender and first.in_interface is None


def _distance(number: int, since: int) -> int:
    """How far `number` is ahead on the circle of 32 bits."""
    return (number - since) & MASK


def _time(journey: Journey) -> int:
    return journey.started_ns
