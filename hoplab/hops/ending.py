"""How an exchange ended, and the words for it: what answered, what took the packet, where it was last seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hoplab.hops.exchange import Exchange
from hoplab.hops.join import Journey
from hoplab.hops.neighbours import Arps, asked_in_vain
from hoplab.hops.packet import ACK, FIN, RST, SYN
from hoplab.hops.story import Hop, Outcome, RuleHit
from hoplab.hops.words import icmp_words, rule_words, tuple_words
from hoplab.proxy_protocol import without_proxy_header


@dataclass(frozen=True, slots=True)
class Ending:
    """The outcome with the two packets that tell it."""

    outcome: Outcome
    reason: str = ""
    first: Journey | None = None
    """The first packet: the copy that was answered, if it had to be sent again."""
    answer: Journey | None = None


def ending_of(exchange: Exchange, arps: Arps = ()) -> Ending:
    """What the evidence says of the end."""
    probe = exchange.probe
    if not exchange.forward:
        where = f"no frame of {tuple_words(probe.sent)} ({probe.protocol}) was seen in {probe.sender}"
        return Ending("unanswered", f"{where}: the probe was not sent, or its interface was not watched")
    if probe.protocol == "tcp":
        return _tcp_ending(exchange, arps)
    return _datagram_ending(exchange, arps)


def _datagram_ending(exchange: Exchange, arps: Arps) -> Ending:
    requests = exchange.forward
    answer = next((j for j in exchange.reply if _accepts(exchange, j)), None)
    if answer is not None:
        return Ending("accepted", "", _answered(requests, answer), answer)
    return _unaccepted(exchange, requests, exchange.reply, arps)


def _tcp_ending(exchange: Exchange, arps: Arps) -> Ending:
    syns = [j for j in exchange.forward if j.packet.flags & SYN]
    syn_acks = [j for j in exchange.reply if j.packet.flags & SYN]
    answer = next((j for j in syn_acks if _accepts(exchange, j)), None)
    if answer is None:
        resets = [j for j in exchange.reply if j.packet.flags & RST]
        return _unaccepted(exchange, syns, [*syn_acks, *resets], arps)
    return _connected_ending(exchange, _answered(syns, answer), answer, arps)


def request_ending(exchange: Exchange, arps: Arps = ()) -> Ending:
    """The end of a request on a connection that was there before: its first packet is the request itself."""
    asked = next((j for j in exchange.forward if j.packet.payload), None)
    answer = next((j for j in exchange.reply if j.packet.payload and exchange.arrived(j)), None)
    return _connected_ending(exchange, asked, answer, arps)


def _connected_ending(exchange: Exchange, first: Journey | None, answer: Journey | None, arps: Arps) -> Ending:
    # A PROXY protocol header is no request: nobody answers it.
    asked = [j for j in exchange.forward if without_proxy_header(j.packet.payload)]
    came = [j for j in exchange.reply if exchange.arrived(j)]
    arrived = [j for j in came if _from_addressed(exchange, j)]
    served = next((j for j in arrived if j.packet.payload), None)
    reset = next((j for j in arrived if j.packet.flags & RST), None)
    if not asked or (served and not (reset and reset.hops[-1].time_ns < served.hops[-1].time_ns)):
        return Ending("accepted", "", first, answer)
    # Connected, but the request got no answer: the connection alone is not what was asked for.
    if reset is not None:
        source = tuple_words(reset.arrived.tuple)
        return Ending("rejected", f"connected, then reset before an answer: RST {source}", first, answer)
    strange = next((j for j in came if j not in arrived), None)
    if strange is not None:
        wrong = tuple_words(strange.arrived.tuple)
        words = f"connected, but the answer came as {wrong} instead of {tuple_words(exchange.probe.sent.reversed())}"
        return Ending("unanswered", words, first, answer)
    if any(j.packet.flags & FIN for j in arrived):
        return Ending("unanswered", "connected, but the server closed without an answer", first, answer)
    tail = [j for j in exchange.reply if j.packet.payload] or asked
    found = _drop(tail)
    if found is not None:
        return Ending("dropped", f"connected, but the data was {_drop_words(*found)}", first, answer)
    error = next((j for j in exchange.errors if exchange.arrived(j)), None)
    heard = f"; {icmp_words(error.packet)} came" if error else ""
    return Ending(
        "unanswered", f"connected, but no answer to the request: {_last_words(tail[-1], arps)}{heard}", first, answer
    )


def _unaccepted(exchange: Exchange, sent: Sequence[Journey], replies: Sequence[Journey], arps: Arps) -> Ending:
    """The first packet got no answer that its sender could take."""
    resets = [j for j in replies if exchange.arrived(j) and _refuses(j) and _from_addressed(exchange, j)]
    refusals = [j for j in exchange.errors if exchange.arrived(j) and not _asks_for_smaller(j)]
    refusal = min((*resets, *refusals), key=lambda j: j.hops[-1].time_ns, default=None)
    if refusal is not None:
        if refusal.packet.is_error:
            words = f"{icmp_words(refusal.arrived)}, sent by {refusal.hops[0].node}"
        else:
            words = f"RST {tuple_words(refusal.arrived.tuple)}, sent by {refusal.hops[0].node}"
        first = _answered(sent, refusal)
        found = _drop([first] if first else [])
        rule = f", as {rule_words(found[1])} says" if found and found[0].node == refusal.hops[0].node else ""
        return Ending("rejected", words + rule, first, refusal)
    answer = replies[0] if replies else None
    first = _answered(sent, answer) if answer else _furthest(sent)
    strange = next((j for j in replies if exchange.arrived(j)), None)
    if strange is not None:
        expected, came = exchange.probe.sent.reversed(), strange.arrived.tuple
        words = f"an answer came, but as {tuple_words(came)} instead of {tuple_words(expected)}"
        return Ending("unanswered", words, _answered(sent, strange), strange)
    found = _drop(replies or sent)
    if found is not None:
        what = "the answer was " if replies else ""
        return Ending("dropped", what + _drop_words(*found), first, answer)
    smaller = next((j for j in exchange.errors if exchange.arrived(j)), None)
    if smaller is not None:
        return Ending("unanswered", f"{icmp_words(smaller.packet)} came, and no answer", first, smaller)
    if answer is not None:
        return Ending("unanswered", f"the answer was lost: {_last_words(answer, arps)}", first, answer)
    if first is None:
        return Ending("unanswered", f"the SYN of {tuple_words(exchange.probe.sent)} was not seen, later packets were")
    return Ending("unanswered", _last_words(first, arps), first, None)


def _accepts(exchange: Exchange, journey: Journey) -> bool:
    """Whether it came to the sender as the answer of the one that was asked."""
    packet = journey.packet
    if not exchange.arrived(journey) or not _from_addressed(exchange, journey):
        return False
    if exchange.probe.protocol == "tcp":
        return packet.flags & (SYN | ACK | RST) == SYN | ACK
    return not _refuses(journey)


_SCTP_ABORT = 6
"""RFC 9260 section 3.3.7."""


def _refuses(journey: Journey) -> bool:
    packet = journey.packet
    if packet.protocol_name == "tcp":
        return bool(packet.flags & RST)
    return packet.protocol_name == "sctp" and packet.flags == _SCTP_ABORT


def _from_addressed(exchange: Exchange, journey: Journey) -> bool:
    # Behind the sender's own NAT, if it has one: what its socket got counts.
    return journey.hops[-1].after == exchange.probe.sent.reversed()


def _asks_for_smaller(journey: Journey) -> bool:
    """Fragmentation needed and packet too big say how to do it, not that it can't be done."""
    return journey.packet.mtu > 0


def _answered(sent: Sequence[Journey], answer: Journey) -> Journey | None:
    """Of a packet sent several times, the copy that reached the one who answered; None when no copy was seen."""
    there = [j for j in sent if j.started_ns <= answer.started_ns]
    reached = [j for j in there if j.hops[-1].node == answer.hops[0].node]
    return next(iter(reached or there or sent), None)


def _furthest(sent: Iterable[Journey]) -> Journey | None:
    """Of a packet sent several times, the first of the copies that got furthest."""
    return max(sent, key=lambda j: (len(j.hops), -j.started_ns), default=None)


def _drop(journeys: Iterable[Journey]) -> tuple[Hop, RuleHit] | None:
    """The rule or policy that a trace saw take the packet, where no frame left afterwards."""
    for journey in journeys:
        hop = journey.hops[-1]
        if hop.out_interface is None:
            for hit in hop.rules:
                if hit.verdict.lower() == "drop":
                    return hop, hit
    return None


def _drop_words(hop: Hop, hit: RuleHit) -> str:
    comment = f" ({hit.comment})" if hit.comment and hit.comment not in hit.rule else ""
    return f"dropped in {hop.node} by {rule_words(hit)}{comment}"


def _last_words(journey: Journey, arps: Arps) -> str:
    """Where it was last seen, and whether the next neighbour was asked for in vain."""
    hop, last = journey.hops[-1], journey.last
    if last is None:
        return f"only rule traces in {hop.node} saw it; no frame of it was seen on any interface"
    packet = tuple_words(journey.arrived.tuple)
    if last.direction == "out":
        words = f"{packet} left {last.node} by {last.interface} (frame {last.frame}) and was not seen again"
    elif last.node == hop.node and hop.out_interface is None:
        words = f"{packet} came into {last.node} by {hop.in_interface or last.interface} (frame {last.frame})"
        words += " and was neither answered nor seen to leave"
    else:
        words = f"{packet} was last seen coming into {last.node} by {last.interface} (frame {last.frame})"
    asked = asked_in_vain(arps, last.node, last.time_ns)
    if not asked:
        return words
    frame, arp = asked[0]
    question = f"{last.node} asked for {arp.target} by ARP on {frame.interface} (frame {frame.number})"
    return f"{words}; {question} and got no answer"
