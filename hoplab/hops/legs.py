"""Legs joined: what a proxy did with a flow goes on in connections of its own, and those become part of the story.

A proxy ends the client's connection and opens another one; no address, port or number
is the same on both.  What joins them was seen, or they are not joined:

- the request: its token, or all of its bytes, left the proxy on a connection that the proxy opened, after they had
  come in; so a request on a connection that the proxy had kept open (keep-alive, a pool) joins as well;
- the PROXY protocol header at the beginning of the proxy's connection, which names the client's own;
- for a connection that never came to stand (refused, or silent): time alone, where just one request waited in that
  namespace when its SYN left, and where nothing is sent to that address and port when none waits (a health check);
  a probe's own connection is nobody else's.

The same goes on from the receiver of leg 2 to leg 3.  Nothing here knows who is a proxy, or where it should send.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from hoplab.hops.ending import Ending
from hoplab.hops.evidence import Tuple
from hoplab.hops.exchange import Exchange, ProbeKey, stream_of
from hoplab.hops.join import Journey
from hoplab.hops.opened import Opened, opened_by_node
from hoplab.hops.packet import FIN, RST, SYN
from hoplab.hops.story import Flow, Leg
from hoplab.hops.words import frames_words
from hoplab.proxy_protocol import without_proxy_header

DEEPEST = 9
"""Legs that are followed: two proxies that send to each other would go on for ever."""
FEWEST_BYTES = 16
"""A shorter request says nothing about whose it is."""
_FORWARDED = re.compile(
    rb"^((?:X-Forwarded-[A-Za-z-]+|X-Real-IP|Forwarded):[^\r\n]*)\r?$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Told:
    """A flow with the packets and the ending that it was told from."""

    exchange: Exchange
    ending: Ending
    flow: Flow


class Teller(Protocol):
    """Makes flows of probes; `hops.flow` has the one."""

    def tell(self, probe: ProbeKey, until_ns: int = 0) -> Told:
        """The flow that begins with a SYN (0: to the end)."""

    def tell_request(self, probe: ProbeKey, since_ns: int, until_ns: int) -> Told:
        """The flow that is one request, within these times, on a connection that was there before (0: to the end)."""


@dataclass(slots=True)
class _Waiting:
    """A request that came to a namespace, from when it came to when that namespace answered it."""

    root: int
    """Which of the probes it all began with."""
    told: Told
    node: str
    token: bytes
    asked: bytes
    """The request's bytes as they came in."""
    came: Journey
    """The packet that opened the connection, as it came to the node."""
    request: Journey | None
    until_ns: int
    joined: list[tuple[Opened, str, Journey | None]] = field(default_factory=list)
    """Connection, why it is this request's, and the packet that carried the request (None: nothing did)."""
    doubtful: int = 0
    """Connections that might be this request's as well as another one's."""

    @property
    def tuple(self) -> Tuple:
        """The client's connection as this namespace sees it."""
        return self.came.hops[-1].before

    @property
    def came_ns(self) -> int:
        return self.came.hops[-1].time_ns

    @property
    def request_ns(self) -> int:
        return self.request.hops[-1].time_ns if self.request else self.came_ns

    def waits_at(self, time_ns: int) -> bool:
        return self.came_ns <= time_ns <= self.until_ns


def with_legs(told: Sequence[Told], journeys: Iterable[Journey], teller: Teller) -> tuple[Flow, ...]:
    """The flows, each with the legs that proxies added to it, in the order given."""
    waiting = [w for root, one in enumerate(told) if (w := _waiting(root, one, one.exchange.probe.token)) is not None]
    flows = [one.flow for one in told]
    if not waiting:
        return tuple(flows)
    opened = opened_by_node(journeys)
    probes = {id(journey) for one in told for journey in one.exchange.forward}
    legs: defaultdict[int, list[Leg]] = defaultdict(list)
    beyond: dict[int, str] = {}
    doubtful: dict[int, int] = {}
    for number in range(2, DEEPEST + 1):
        _join(waiting, opened, probes)
        going_on: list[_Waiting] = []
        for one in waiting:
            if words := _beyond(one, waiting):
                beyond[one.root] = words
            if one.doubtful and not one.joined:
                doubtful[one.root] = one.doubtful
            for connection, why, carrying in one.joined:
                name = f"{flows[one.root].name}, leg {number}"
                leg, further = _leg(number, name, one, connection, why, carrying, teller)
                legs[one.root].append(leg)
                following = _waiting(one.root, further, one.token) if carrying is not None else None
                going_on += [following] if following is not None else []
        waiting = going_on
        if not waiting:
            break
    return tuple(
        replace(flow, legs=tuple(legs[root]), beyond=beyond.get(root, ""), doubtful=doubtful.get(root, 0))
        if root in legs or root in beyond
        else flow
        for root, flow in enumerate(flows)
    )


def _waiting(root: int, told: Told, token: bytes) -> _Waiting | None:
    """The request where its connection was taken, None when nobody took it or it is no TCP."""
    answer, first = told.ending.answer, told.ending.first
    if told.exchange.probe.protocol != "tcp" or answer is None or first is None:
        return None
    node = answer.hops[0].node
    if answer.hops[0].in_interface is not None or first.hops[-1].node != node or answer.packet.flags & RST:
        return None
    asked = [j for j in told.exchange.forward if j.packet.payload and j.hops[-1].node == node]
    ends = [j.started_ns for j in told.exchange.reply if j.packet.payload or j.packet.flags & (FIN | RST)]
    stream = stream_of((j.packet for j in asked), asked[0].packet.seq if asked else 0)
    return _Waiting(
        root, told, node, token, without_proxy_header(stream), first, asked[0] if asked else None,
        min(ends, default=1 << 63),
    )  # fmt: skip


# Joining


def _join(waiting: Sequence[_Waiting], opened: dict[str, list[Opened]], probes: Collection[int]) -> None:
    """Give each connection to the request that it was opened for.

    `probes`: ids of packets that probes sent; what a probe opens on a machine that serves, too, is opened for nobody.
    """
    by_node: defaultdict[str, list[_Waiting]] = defaultdict(list)
    for one in waiting:
        by_node[one.node].append(one)
    for node, here in by_node.items():
        # The sender of a request opened a connection, too: when it asks itself, that is the one it waits on.
        own = {id(j) for one in here for j in one.told.exchange.forward}
        silent = []
        for connection in opened.get(node, ()):
            if id(connection.made[0]) in own:
                continue
            carried = _by_what_it_carried(connection, here)
            if not carried and _never_stood(connection) and id(connection.made[0]) not in probes:
                silent.append(connection)
        _by_time(silent, here)
        for one in here:
            one.joined.sort(key=lambda each: each[0].made[0].started_ns)


def _never_stood(connection: Opened) -> bool:
    """Whether its opener never got further than the SYN.

    A connection that stood and carried nothing says even less of whose it is: probes that only connect make such.
    """
    return all(journey.packet.flags & SYN for journey in connection.made)


def _by_what_it_carried(connection: Opened, here: Sequence[_Waiting]) -> bool:
    """Join a connection to every request that went over it; whether any did, or may have."""
    stream, header = connection.stream(), connection.header()
    if not stream:
        return False
    named = [one for one in here if header and header.client == _ends(one.tuple)]
    for one in named:
        behind = connection.carrying(header.length) if header else None
        words = f"its first bytes are a {header.words}" if header else ""
        one.joined.append((connection, f"{words} ({_frames(connection.made)})", behind or connection.made[0]))
    if named:
        return True
    alike: list[tuple[_Waiting, Journey, str]] = []
    for one in here:
        wanted = one.token or (one.asked if len(one.asked) >= FEWEST_BYTES else b"")
        at = stream.find(wanted) if wanted else -1
        carrying = connection.carrying(at) if at >= 0 else None
        if carrying is None or carrying.started_ns < one.request_ns:
            continue
        what = f"token {one.token.decode('utf-8', 'replace')}" if one.token else f"{len(wanted)} bytes"
        if not one.token and not one.waits_at(carrying.started_ns):
            continue
        alike.append((one, carrying, f"the request's {what} left {one.node} on it{_after(one, carrying)}"))
    # A token is one request's alone; the same bytes may be many requests'.
    certain = [each for each in alike if each[0].token] or (alike if len(alike) == 1 else [])
    for one, carrying, why in certain:
        one.joined.append((connection, why, carrying))
    for one, _carrying, _why in alike if not certain else ():
        one.doubtful += 1
    return bool(alike)


def _ends(tuple_: Tuple) -> tuple[str, int, str, int]:
    return (tuple_.src, tuple_.sport, tuple_.dst, tuple_.dport)


def _by_time(silent: Sequence[Opened], here: Sequence[_Waiting]) -> None:
    """Join connections that never carried anything, where only one request can be meant."""
    others = {
        (one.tuple.dst, one.tuple.dport)
        for one in silent
        if not any(each.waits_at(one.made[0].started_ns) for each in here)
    }
    for connection in silent:
        left = connection.made[0].started_ns
        could = [one for one in here if one.waits_at(left)]
        if len(could) == 1 and (connection.tuple.dst, connection.tuple.dport) not in others:
            one = could[0]
            why = f"its SYN left {one.node}{_after(one, connection.made[0])}, and no other request waited there"
            one.joined.append((connection, why, None))
        else:
            for one in could:
                one.doubtful += 1


def _after(one: _Waiting, left: Journey) -> str:
    """How long after the request it left, and which frames show both."""
    since = one.request if one.request is not None and one.request_ns <= left.started_ns else one.came
    delay = (left.started_ns - since.hops[-1].time_ns) / 1000
    took = f"{delay:.0f} µs" if delay < 1000 else f"{delay / 1000:.1f} ms"
    return f" {took} after it had come in ({_frames([since], last=True)}, then {_frames([left])})"


def _frames(journeys: Sequence[Journey], *, last: bool = False) -> str:
    return frames_words(journeys[0].hops[-1 if last else 0].frames[:1])


def _beyond(one: _Waiting, everyone: Sequence[_Waiting]) -> str:
    """Why a request has no further leg although its receiver is a proxy; '' where nothing says that it is one."""
    if one.joined:
        return ""
    if one.doubtful:
        connections = "a connection" if one.doubtful == 1 else f"{one.doubtful} connections"
        return f"{one.node} opened {connections} meanwhile that other requests may as well have caused"
    if any(other.joined for other in everyone if other.node == one.node):
        return f"{one.node} answered it without opening a connection for it"
    return ""


# Telling


def _leg(
    number: int, name: str, one: _Waiting, connection: Opened, why: str, carrying: Journey | None, teller: Teller
) -> tuple[Leg, Told]:
    syn = connection.syn
    probe = ProbeKey(
        name, "tcp", connection.node, connection.tuple, syn.packet.seq if syn else None, one.token,
        connection.made[0].started_ns,
    )  # fmt: skip
    whole = teller.tell(probe)
    reused = carrying is not None and _served_before(whole.exchange, carrying, syn)
    told = whole
    if carrying is not None:
        # What a connection does for the next request is the next one's story.
        until = _next_request_ns(whole.exchange, carrying)
        if reused:
            told = teller.tell_request(probe, carrying.started_ns, until)
        elif until:
            told = teller.tell(probe, until)
    header = connection.header()
    request = b"".join(j.packet.payload for j in told.exchange.forward)
    leg = Leg(
        number,
        told.flow,
        (why,),
        carrying is not None,
        reused,
        header.words if header else "",
        forwarded_headers(without_proxy_header(request)),
    )
    return leg, told


def _served_before(exchange: Exchange, carrying: Journey, syn: Journey | None) -> bool:
    """Whether it had answered an earlier request, or is older than what was seen."""
    if syn is None:
        return True
    before = [
        j for j in exchange.forward if j.started_ns < carrying.started_ns and without_proxy_header(j.packet.payload)
    ]
    if not before:
        return False
    first = before[0].started_ns
    return any(j.packet.payload and first < j.started_ns < carrying.started_ns for j in exchange.reply)


def _next_request_ns(exchange: Exchange, carrying: Journey) -> int:
    """When the opener sent something again after this request's answer had begun; 0 for never."""
    answered = [j.started_ns for j in exchange.reply if j.packet.payload and j.started_ns > carrying.started_ns]
    if not answered:
        return 0
    later = [j.started_ns for j in exchange.forward if j.packet.payload and j.started_ns > min(answered)]
    return min(later, default=0)


def forwarded_headers(request: bytes) -> tuple[str, ...]:
    """Header lines of a request by which a proxy tells whom it stands for, as they stand there."""
    head = request.partition(b"\r\n\r\n")[0]
    return tuple(match.decode("utf-8", "replace").strip() for match in _FORWARDED.findall(head))
