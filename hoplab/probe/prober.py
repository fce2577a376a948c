"""Sends probes from any namespace of the lab, one or hundreds at once, and waits for how they end.

Everything happens in the observer's one loop: what it sees is what the exchanges
are fed with.  Names, ports, tokens and sequence numbers follow from the seed and
the order of the calls alone, so a run can be repeated packet by packet.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hoplab.hops.evidence import Tuple
from hoplab.net.namespaces import Namespace
from hoplab.probe.crafter import Crafter, ScapyCrafter
from hoplab.probe.edges import Edge, FrameEdge, KernelEdge, ObserverFace, ProbeRefused
from hoplab.probe.exchange import Exchange
from hoplab.probe.result import Probe, ProbeResult
from hoplab.probe.seen import Seen
from hoplab.probe.shapes import Endpoint
from hoplab.probe.shield import FIRST_PORT, LAST_PORT, NO_SHIELD, sends_frames, shield_text
from hoplab.probe.ways import NoWay, Unreachable

WINDOW = 64
"""Exchanges under way at once: more would only fill the kernel's queues."""


__all__ = ["ProbeRefused", "Prober", "Unreachable", "spread"]


class Prober:
    """Owns the sockets of all senders.

    `crafter`: where templates come from (default: scapy in this process).  `shielded`:
    namespaces whose shield (`hoplab.probe.shield.shield_text`) is loaded already;
    any other is given its own when it first sends.
    """

    def __init__(
        self,
        observer: ObserverFace,
        namespaces: Mapping[str, Namespace],
        seed: int = 0,
        *,
        crafter: Crafter | None = None,
        shielded: Collection[str] = (),
    ) -> None:
        self._observer = observer
        self._namespaces = namespaces
        self._random = random.Random(seed)
        self._crafter = crafter or ScapyCrafter()
        self._shielded = set(shielded)
        self._edges: dict[str, Edge] = {}
        self._expected: dict[tuple[str, str, Endpoint], list[Exchange]] = {}
        self._count = 0
        self._next_port = self._random.randrange(FIRST_PORT, LAST_PORT + 1)

    def close(self, *, withdraw: bool = False) -> None:
        """Close every socket and return every borrowed address; with `withdraw`, take the shields down, too."""
        for edge in self._edges.values():
            edge.close()
        self._edges.clear()
        if withdraw:
            for name in self._shielded:
                if name in self._namespaces:
                    self._namespaces[name].run(["nft", "-f", "-"], NO_SHIELD)
            self._shielded.clear()

    def forget(self, sender: str) -> None:
        """Close a sender's sockets: its namespace has gone, or is another one of the same name."""
        edge = self._edges.pop(sender, None)
        if edge is not None:
            edge.close()
        self._shielded.discard(sender)

    def why_not(self, probe: Probe) -> str:
        """Why a probe can't be sent (no route, no neighbour), '' when it can.  Raises ProbeRefused."""
        try:
            self._edge(self._check(probe)).prepare(
                _canonical(probe.destination),
                _canonical(probe.next_hop),
                _canonical(probe.source_address),
                probe.interface,
            )
        except NoWay as error:
            return str(error)
        return ""

    def send_tcp(self, sender: str, destination: str, port: int, **options: Any) -> ProbeResult:
        """One TCP exchange; `options` are fields of Probe.  Raises ProbeRefused, NoWay, SendFailed."""
        return self.send_many([Probe(sender, destination, port, "tcp", **options)])[0]

    def send_udp(self, sender: str, destination: str, port: int, **options: Any) -> ProbeResult:
        """One datagram and its answer; otherwise as `send_tcp`."""
        return self.send_many([Probe(sender, destination, port, "udp", **options)])[0]

    def send_icmp(self, sender: str, destination: str, **options: Any) -> ProbeResult:
        """One echo request and its reply; otherwise as `send_tcp`."""
        return self.send_many([Probe(sender, destination, 0, "icmp", **options)])[0]

    def send_many(self, probes: Iterable[Probe], *, window: int = WINDOW) -> list[ProbeResult]:
        """All of them, `window` at a time; the results in the order given.  Each has its own deadline.

        Raises ProbeRefused, NoWay (Unreachable where the network is to blame) or SendFailed, the first two before
        anything was sent.
        """
        probes = list(probes)
        for sender in {probe.sender for probe in probes} & self._edges.keys():
            self._edges[sender].look_again()
        exchanges = [self._exchange(probe) for probe in probes]
        waiting = exchanges[::-1]
        under_way: list[Exchange] = []
        try:
            while waiting or under_way:
                while waiting and len(under_way) < window:
                    exchange = waiting.pop()
                    self._expected.setdefault((exchange.probe.sender, *exchange.key), []).append(exchange)
                    under_way.append(exchange)
                    exchange.start()
                left = min(exchange.wakes_at for exchange in under_way) - time.monotonic()
                self._observer.poll(max(0.0, left))
                now = time.monotonic()
                for exchange in [one for one in under_way if one.wakes_at <= now]:
                    exchange.on_time()
                under_way = [exchange for exchange in under_way if not exchange.finished]
        finally:
            for exchange in exchanges:
                self._expected.pop((exchange.probe.sender, *exchange.key), None)
        return [exchange.result() for exchange in exchanges]

    def not_sent(self, probe: Probe, why: str) -> ProbeResult:
        """The result of a probe that had no way to leave by; `why` as `why_not` says it."""
        now = time.time_ns()
        ports = (0, 0) if probe.protocol == "icmp" else (probe.source_port, probe.port)
        sent = Tuple(_canonical(probe.source_address), ports[0], _canonical(probe.destination), ports[1])
        return ProbeResult(
            probe.name,
            probe.protocol,
            probe.sender,
            sent,
            "",
            0,
            now,
            now,
            0,
            "unanswered",
            f"not sent: {why}",
            False,
            b"",
        )

    def _exchange(self, probe: Probe) -> Exchange:
        self._count += 1
        probe = replace(
            probe,
            destination=_canonical(probe.destination),
            source_address=_canonical(probe.source_address),
            next_hop=_canonical(probe.next_hop),
        )
        namespace = self._check(probe)
        edge = self._edge(namespace)
        way = edge.prepare(probe.destination, probe.next_hop, probe.source_address, probe.interface)
        address = probe.source_address or way.source
        if not address:
            raise ProbeRefused(f"{probe.sender} has no address to send to {probe.destination} from")
        return Exchange(
            probe if probe.name else replace(probe, name=f"{probe.protocol}-{self._count}"),
            source=Endpoint(address, probe.source_port or self._port()),
            token=f"probe-{self._random.getrandbits(48):012x}",
            isn=self._random.getrandbits(32),
            identification=self._random.randrange(0xFFFF),
            way=way,
            edge=edge,
            crafter=self._crafter,
        )

    def _port(self) -> int:
        """The next source port: each is used again only after all others, so conntrack entries never meet."""
        port = self._next_port
        self._next_port = FIRST_PORT + (port + 1 - FIRST_PORT) % (LAST_PORT + 1 - FIRST_PORT)
        return port

    def _check(self, probe: Probe) -> Namespace:
        namespace = self._namespaces.get(probe.sender)
        if namespace is None:
            known = ", ".join(sorted(self._namespaces)) or "none"
            raise ProbeRefused(f"no namespace is called {probe.sender!r}; there are: {known}")
        if probe.source_port and not FIRST_PORT <= probe.source_port <= LAST_PORT:
            raise ProbeRefused(
                f"source port {probe.source_port} is not between {FIRST_PORT} and {LAST_PORT}, which belong to probes:"
                f" the kernel of {probe.sender} would answer in the probe's place"
            )
        if probe.protocol != "icmp" and not 1 <= probe.port <= 65535:
            raise ProbeRefused(f"port {probe.port} of {probe.destination} is not between 1 and 65535")
        for address in filter(None, (probe.source_address, probe.next_hop)):
            if (":" in address) != (":" in probe.destination):
                raise ProbeRefused(f"{address} and {probe.destination} are of different families")
        return namespace

    def _edge(self, namespace: Namespace) -> Edge:
        edge = self._edges.get(namespace.name)
        if edge is None:
            if namespace.name not in self._shielded:
                namespace.run(["nft", "-f", "-"], shield_text(namespace.role))
                self._shielded.add(namespace.name)
            kind = FrameEdge if sends_frames(namespace.role) else KernelEdge

            def arrival(seen: Seen, time_ns: int, name: str = namespace.name) -> None:
                self._arrived(name, seen, time_ns)

            edge = self._edges[namespace.name] = kind(namespace, self._observer, arrival)
        return edge

    def _arrived(self, name: str, seen: Seen, time_ns: int) -> None:
        """Hand an arrival to the exchange that it is for; most frames in a namespace are for none."""
        if seen.error is not None:
            quoted = seen.error.quoted
            kind, ours = ("icmp" if quoted.kind == "echo-request" else quoted.kind), quoted.source
        else:
            kind, ours = ("icmp" if seen.kind == "echo-reply" else seen.kind), seen.destination
        candidates = self._expected.get((name, kind, ours), ())
        theirs = seen.error.quoted.destination if seen.error else seen.source
        # Two exchanges may share a source port; what comes from where nobody was asked is told to the first.
        for exchange in [one for one in candidates if one.remote == theirs] or candidates[:1]:
            exchange.arrived(seen, time_ns)


def _canonical(address: str) -> str:
    """The address as the kernel would write it, '' for none.  Raises ProbeRefused when it is no address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return address and socket.inet_ntop(family, socket.inet_pton(family, address))
    except OSError:
        raise ProbeRefused(f"{address!r} is no IP address") from None


def spread(probe: Probe, ports: Sequence[int]) -> list[Probe]:
    """The same probe from each of these source ports."""
    return [replace(probe, source_port=port) for port in ports]
