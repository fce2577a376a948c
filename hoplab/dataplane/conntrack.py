"""Which UDP connections lead to endpoints that are no more: kube-proxy removes them, or clients would talk to nobody.

A datagram that belongs to a known connection is rewritten as the first one was, for as
long as entries live, whatever the rules say by now; TCP notices, UDP does not.  Pure:
the entries come from whoever lists them.

Source: kube-proxy, pkg/proxy/conntrack/cleanup.go (CleanStaleEntries): every entry to a
UDP Service's address or node port that is not rewritten to a serving endpoint of it is
stale; traffic policies, hints and terminating do not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hoplab.dataplane.view import View


@dataclass(frozen=True, slots=True)
class UdpEntry:
    """A connection: whom the first datagram was sent to, and who answers it."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    answers: str
    """Source address of the reply direction: the endpoint."""
    answers_port: int


def serving(seen: View) -> dict[tuple[str, int], frozenset[tuple[str, int]]]:
    """(address, port) of each way to a UDP Service -> its serving endpoints; node ports have the address '' (pure)."""
    found: dict[tuple[str, int], frozenset[tuple[str, int]]] = {}
    for info in seen.ports:
        if info.protocol != "UDP":
            continue
        endpoints = frozenset((e.address, e.port) for e in seen.endpoints.get(info.key, ()) if e.serving)
        for address in (info.cluster_ip, *info.external_ips, *info.load_balancer_vips):
            found[address, info.port] = endpoints
        if info.node_port:
            found["", info.node_port] = endpoints
    return found


def stale(seen: View, entries: Iterable[UdpEntry]) -> list[UdpEntry]:
    """The entries that lead to no serving endpoint of the Service that was asked (pure)."""
    ways = serving(seen)
    gone = []
    for entry in entries:
        endpoints = ways.get((entry.destination, entry.destination_port))
        if endpoints is None:
            endpoints = ways.get(("", entry.destination_port))
        if endpoints is not None and (entry.answers, entry.answers_port) not in endpoints:
            gone.append(entry)
    return gone
