"""Walks a packet from namespace to namespace: each one's rules, and the link that leads to the next.

A packet that leaves a namespace goes to whoever owns the address of its next hop; where its interface hangs on a bridge
whose host hands bridged frames to iptables, it meets that host's rules first.  What conntrack holds and what marks say
does not cross a link, so each namespace starts anew with a new packet.

Source: kernel net/bridge/br_netfilter_hooks.c; ip-sysctl.rst ("bridge-nf-call-iptables").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby

from hoplab.model.packet import Host, Packet
from hoplab.model.prediction import Outcome, Prediction, Remembered
from hoplab.model.rules import Ruleset
from hoplab.model.state import Step, Unforeseeable, address_number
from hoplab.model.walk import merged, outcomes


@dataclass(frozen=True, slots=True)
class Station:
    """A namespace of the cluster with the rules that are loaded in it."""

    host: Host
    ruleset: Ruleset = field(default_factory=Ruleset)


@dataclass(frozen=True, slots=True)
class PredictedHop:
    """One passage through one namespace as foretold; the interfaces are "" where the packet is made or ends."""

    node: str
    in_interface: str
    out_interface: str
    before: Packet
    after: Packet
    masqueraded: bool
    path: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class FlowPrediction:
    """One possible fate of a flow's first packet.

    `accepted`: it reaches a socket, so far as that is known.  `unhandled`: no nat rule on its way took it, and
    nothing is known to listen where it ends.  `rejected`, `dropped`: see `reason`.
    """

    probability: Fraction
    outcome: Outcome
    endpoint: str
    masqueraded: bool
    hops: tuple[PredictedHop, ...]
    reason: str = ""
    open_end: bool = False
    """Whether the way goes on beyond what is known here: out of the cluster, or round in a loop."""
    assumptions: tuple[str, ...] = ()
    remembers: tuple[tuple[str, Remembered], ...] = ()
    """What the packet leaves in dynamic sets, by namespace: see `remembering`."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """The namespaces that it passes, in order."""
        return tuple(hop.node for hop in self.hops)

    @property
    def summary_key(self) -> tuple[object, ...]:
        """What makes two fates the same to whoever watches the packet."""
        masqueraded = tuple(hop.masqueraded for hop in self.hops)
        return (self.outcome, self.nodes, self.endpoint, masqueraded, self.reason, self.open_end)


def foretell(cluster: Mapping[str, Station], packet: Packet, at: str) -> tuple[FlowPrediction, ...]:
    """Every possible fate of a packet made in (or arriving at) the namespace `at`, the most probable first.

    The probabilities sum to exactly 1.  Raises KeyError when `at` is no namespace of the cluster, and what
    `walk.outcomes` raises, with the namespace's name.
    """
    if at not in cluster:
        raise KeyError(f"no namespace is called {at!r}; there are {', '.join(sorted(cluster))}")
    return summary(_Follower(cluster).follow(_Point(at, packet)))


def summary(predictions: Iterable[FlowPrediction]) -> tuple[FlowPrediction, ...]:
    """Equal fates as one, their probabilities added; the most probable first."""
    ordered = sorted(predictions, key=lambda each: repr(each.summary_key))
    found = []
    for _, same in groupby(ordered, key=lambda each: each.summary_key):
        group = sorted(same, key=lambda each: -each.probability)
        probability = sum((each.probability for each in group), Fraction(0))
        assumptions = tuple(dict.fromkeys(text for each in group for text in each.assumptions))
        found.append(replace(group[0], probability=probability, assumptions=assumptions))
    return tuple(sorted(found, key=lambda each: -each.probability))


def remembering(cluster: Mapping[str, Station], prediction: FlowPrediction) -> dict[str, Station]:
    """The cluster after a packet went that way: with the entries that it left in dynamic sets."""
    after = dict(cluster)
    for name, entries in prediction.remembers:
        station = after[name]
        after[name] = replace(station, host=station.host.remembering(entries))
    return after


@dataclass(frozen=True, slots=True)
class _Point:
    """A packet at the door of a namespace, and how it came there."""

    node: str
    packet: Packet
    probability: Fraction = Fraction(1)
    hops: tuple[PredictedHop, ...] = ()
    redirected: bool = False
    assumptions: tuple[str, ...] = ()
    remembers: tuple[tuple[str, Remembered], ...] = ()


class _Follower:
    def __init__(self, cluster: Mapping[str, Station]) -> None:
        self._cluster = cluster
        self._owners: dict[tuple[int, int], list[tuple[str, str]]] = {}
        for name, station in cluster.items():
            for address, interface in station.host.owned.items():
                self._owners.setdefault(address, []).append((name, interface))

    def follow(self, start: _Point) -> Iterator[FlowPrediction]:
        """All fates from a point on."""
        waiting = [start]
        while waiting:
            point = waiting.pop()
            station = self._cluster[point.node]
            try:
                found = merged(outcomes(station.ruleset, point.packet, station.host))
            except Unforeseeable as error:
                raise Unforeseeable(f"{point.node}: {error}") from error
            for prediction in found:
                after = self._passed(point, prediction)
                if prediction.passes and not prediction.delivered:
                    yield from self._onward(point, prediction, after, waiting)
                else:
                    yield self._ended(point, prediction, after)

    def _passed(self, point: _Point, prediction: Prediction) -> _Point:
        hop = PredictedHop(
            point.node, point.packet.in_interface, prediction.out_interface, point.packet, prediction.packet,
            prediction.masqueraded, prediction.path,
        )  # fmt: skip
        remembers = ((point.node, prediction.remembers),) if prediction.remembers else ()
        return _Point(
            point.node, prediction.packet, point.probability * prediction.probability, (*point.hops, hop),
            point.redirected or prediction.redirected,
            tuple(dict.fromkeys((*point.assumptions, *prediction.assumptions))), (*point.remembers, *remembers),
        )  # fmt: skip

    def _onward(
        self, point: _Point, prediction: Prediction, after: _Point, waiting: list[_Point]
    ) -> Iterator[FlowPrediction]:
        """Put the next namespace in `waiting`, or give the fate of a packet that has none."""
        following = self._next(point, prediction)
        if following is None:
            reason = f"it leaves {point.node} by {prediction.out_interface} for {prediction.next_hop}, which nobody has"
            yield _fate(after, prediction, "dropped" if after.redirected else "unhandled", reason, open_end=True)
            return
        node, interface = following
        # Marks, flags and connections end with the namespace; the next one sees a new packet.
        packet = replace(prediction.packet, in_interface=interface, mark=0, ct_state="new")
        seen = {(hop.node, hop.in_interface, hop.before) for hop in after.hops}
        if (node, interface, packet) in seen:
            reason = f"it goes round in a loop: {' -> '.join((*(hop.node for hop in after.hops), node))}"
            yield _fate(after, prediction, "rejected" if after.redirected else "unhandled", reason, open_end=True)
            return
        waiting.append(replace(after, node=node, packet=packet))

    def _next(self, point: _Point, prediction: Prediction) -> tuple[str, str] | None:
        """(namespace, interface) that gets what leaves by the prediction's interface."""
        leaving = self._cluster[point.node].host.by_name.get(prediction.out_interface)
        if leaving is not None and leaving.bridged_by is not None and leaving.bridged_by[0] in self._cluster:
            return leaving.bridged_by
        segment = leaving.segment if leaving else ""
        for name, interface in self._owners.get(address_number(prediction.next_hop), ()):
            if name == point.node:
                continue
            owned = self._cluster[name].host.by_name.get(interface)
            if not segment or owned is None or owned.segment in ("", segment):
                return name, interface
        return None

    def _ended(self, point: _Point, prediction: Prediction, after: _Point) -> FlowPrediction:
        if not prediction.delivered:
            outcome = prediction.outcome
            return _fate(after, prediction, outcome, f"{point.node}: {prediction.reason}")
        listens = self._cluster[point.node].host.listens
        protocol, port = prediction.packet.protocol, prediction.packet.dport
        if protocol in ("icmp", "icmpv6"):
            return _fate(after, prediction, "accepted", "")
        if listens is None:
            return _fate(after, prediction, "accepted" if after.redirected else "unhandled", "")
        if (protocol, port) in listens:
            return _fate(after, prediction, "accepted", "")
        reason = f"nothing listens on {protocol} port {port} in {point.node}"
        return _fate(after, prediction, "rejected" if after.redirected else "unhandled", reason)


def _fate(
    after: _Point, prediction: Prediction, outcome: Outcome, reason: str, *, open_end: bool = False
) -> FlowPrediction:
    return FlowPrediction(
        probability=after.probability,
        outcome=outcome,
        endpoint=prediction.endpoint,
        masqueraded=any(hop.masqueraded for hop in after.hops),
        hops=after.hops,
        reason=reason,
        open_end=open_end,
        assumptions=after.assumptions,
        remembers=after.remembers,
    )
