"""Asks the kernels of the lab, once something failed, what they know about it.

Nothing here costs a run that goes well anything: sockets are opened when there is
something to ask, and closed again.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from hoplab.hops.decisive import decides
from hoplab.hops.evidence import ConntrackEvent
from hoplab.hops.packet import address_text
from hoplab.hops.story import Flow
from hoplab.net.namespaces import Namespace
from hoplab.reasons.facts import (
    AddressFact,
    DropFact,
    Facts,
    HealthFact,
    LinkFact,
    ListenerFact,
    NeighbourFact,
    RouteAnswer,
    RouteQuestion,
)
from hoplab.reasons.questions import questions, whole
from hoplab.watch import counters, rtnetlink
from hoplab.watch.connections import dump_conntrack
from hoplab.watch.drops import Drops
from hoplab.watch.netlink_messages import NLMSG_DONE, NLMSG_ERROR

FORWARDING = ("node", "router", "balancer")
_SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.ipv6.conf.all.forwarding",
    "net.ipv4.conf.all.rp_filter",
    "net.bridge.bridge-nf-call-iptables",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_be_liberal",
    "net.netfilter.nf_conntrack_tcp_loose",
)
LARGEST_ANSWER = 1 << 17


class Asker:
    """Remembers the counters of each namespace, and looks at everything when asked to."""

    def __init__(self, before: counters.Remembered) -> None:
        self._before = before
        self._queues: dict[tuple[str, str], int] = {}
        self._drops: Drops | None = None
        self._refused = False

    def look(
        self,
        flows: Iterable[Flow],
        namespaces: Mapping[str, Namespace],
        hosts: Mapping[str, str],
        health: Iterable[HealthFact] = (),
    ) -> Facts:
        """Everything about these flows, which failed.  Raises OSError when a kernel refuses to answer.

        The kernel's own drop reasons are told from the second time on, where they can be read.
        """
        flows = tuple(whole(flows))
        # Socket tables are one for the whole machine, and slow to read: only who was asked is asked.
        ends = {hop.node for flow in flows for passage in flow.passages for hop in (passage.hops[0], passage.hops[-1])}
        protocols = {flow.protocol for flow in flows}
        roles = {name: namespace.role for name, namespace in namespaces.items()}
        growth = {name: self._before.growth(namespace) for name, namespace in namespaces.items()}
        links: list[LinkFact] = []
        addresses: list[AddressFact] = []
        neighbours: list[NeighbourFact] = []
        settings: dict[tuple[str, str], str] = {}
        listeners: list[ListenerFact] = []
        for name, namespace in namespaces.items():
            with _asking(namespace) as opened:
                mine = _links(opened, name)
                names = {one.index: one.name for one in mine}
                links += mine
                addresses += _addresses(opened, name, names)
                neighbours += _neighbours(opened, name, names)
                for interface, grown in self._queue_growth(opened, name, names):
                    growth[name][f"{interface}.queue_drop"] = grown
            settings |= _settings(namespace, [one.name for one in mine])
            if name in ends:
                listeners += listening(namespace, protocols)
        indexes = {(one.node, one.name): one.index for one in links}
        routes = {
            question: _route(namespaces[question.node], question, indexes)
            for question in questions(flows, tuple(links), addresses, roles)
            if question.node in namespaces
        }
        return Facts(
            roles,
            hosts,
            tuple(links),
            tuple(addresses),
            tuple(neighbours),
            routes,
            tuple(listeners),
            settings,
            growth,
            tuple(_entries(flows, namespaces)),
            tuple(health),
            tuple(self._dropped()),
        )

    def _dropped(self) -> list[DropFact]:
        if self._drops is not None:
            return self._drops.read()
        if not self._refused:
            try:
                self._drops = Drops()
            except OSError:
                # Nothing depends on it, and `lab.py doctor` says why.
                self._refused = True
        return []

    def close(self) -> None:
        """Switch off what was switched on."""
        if self._drops is not None:
            self._drops.close()
            self._drops = None

    def _queue_growth(self, opened: socket.socket, node: str, names: dict[int, str]) -> Iterator[tuple[str, int]]:
        """Drops of queues since the last look; a namespace begins without any queue that drops."""
        total: dict[str, int] = {}
        for kind, fixed, found in _dumped(opened, rtnetlink.GETQDISC):
            if kind == rtnetlink.NEWQDISC:
                index, _discipline, drops = rtnetlink.queue_drops(fixed, found)
                name = names.get(index, f"if{index}")
                total[name] = total.get(name, 0) + drops
        for name, drops in total.items():
            before = self._queues.get((node, name), 0)
            self._queues[node, name] = drops
            if drops > before:
                yield name, drops - before


@contextmanager
def _asking(namespace: Namespace) -> Iterator[socket.socket]:
    with namespace.entered():
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        opened.bind((0, 0))
        opened.settimeout(5)
        yield opened
    finally:
        opened.close()


def _dumped(opened: socket.socket, kind: int) -> list[tuple[int, bytes, dict[int, bytes]]]:
    opened.send(rtnetlink.dump(kind))
    found: list[tuple[int, bytes, dict[int, bytes]]] = []
    while True:
        for part in rtnetlink.parts(opened.recv(LARGEST_ANSWER)):
            if part[0] in (NLMSG_DONE, NLMSG_ERROR):
                return found
            found.append(part)


def _links(opened: socket.socket, node: str) -> list[LinkFact]:
    read = [
        rtnetlink.link(node, fixed, found)
        for kind, fixed, found in _dumped(opened, rtnetlink.GETLINK)
        if kind == rtnetlink.NEWLINK
    ]
    names = {fact.index: fact.name for fact, _master in read}
    return [
        LinkFact(
            f.node, f.name, f.index, f.mac, f.mtu, f.kind, names.get(master, "") if master else "", f.up, f.hairpin
        )
        for f, master in read
    ]


def _addresses(opened: socket.socket, node: str, names: dict[int, str]) -> list[AddressFact]:
    read = (
        rtnetlink.address(node, fixed, found, names)
        for kind, fixed, found in _dumped(opened, rtnetlink.GETADDR)
        if kind == rtnetlink.NEWADDR
    )
    return [one for one in read if one is not None]


def _neighbours(opened: socket.socket, node: str, names: dict[int, str]) -> list[NeighbourFact]:
    read = (
        rtnetlink.neighbour(node, fixed, found, names)
        for kind, fixed, found in _dumped(opened, rtnetlink.GETNEIGH)
        if kind == rtnetlink.NEWNEIGH
    )
    return [one for one in read if one is not None]


def _route(namespace: Namespace, question: RouteQuestion, indexes: Mapping[tuple[str, str], int]) -> RouteAnswer:
    index = indexes.get((question.node, question.interface), 0)
    names = {number: name for (node, name), number in indexes.items() if node == question.node}
    with _asking(namespace) as opened:
        opened.send(rtnetlink.route_request(question, index))
        for kind, fixed, found in rtnetlink.parts(opened.recv(LARGEST_ANSWER)):
            if kind == NLMSG_ERROR:
                return RouteAnswer(rtnetlink.error_name(fixed))
            if kind == rtnetlink.NEWROUTE:
                return rtnetlink.route(fixed, found, names)
    return RouteAnswer("no answer")


def _settings(namespace: Namespace, interfaces: Iterable[str]) -> dict[tuple[str, str], str]:
    if namespace.role not in FORWARDING:
        return {}
    keys = [*_SYSCTLS, *(f"net.ipv4.conf.{name}.rp_filter" for name in interfaces if "." not in name)]
    found = {}
    with namespace.entered():
        for key in keys:
            with suppress(OSError), open(f"/proc/sys/{key.replace('.', '/')}", encoding="ascii") as knob:
                found[namespace.name, key] = knob.read().strip()
    return found


def listening(namespace: Namespace, protocols: Collection[str] = ("tcp", "udp")) -> Iterator[ListenerFact]:
    """Sockets that wait for somebody: TCP in state LISTEN (0A), UDP without a peer (07)."""
    for name, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        if name.removesuffix("6") not in protocols:
            continue
        with suppress(OSError), open(f"/proc/{namespace.pid}/net/{name}", encoding="ascii") as file:
            for line in file.readlines()[1:]:
                columns = line.split()
                if len(columns) > 3 and columns[3] == state:
                    address, _, port = columns[1].partition(":")
                    yield ListenerFact(namespace.name, name.removesuffix("6"), _proc_address(address), int(port, 16))


def _proc_address(text: str) -> str:
    """An address of /proc/net/tcp: words of 32 bits in the machine's own byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return address_text(b"".join(struct.pack("=I", word) for word in words))


def _entries(flows: Iterable[Flow], namespaces: Mapping[str, Namespace]) -> Iterator[ConntrackEvent]:
    """Connection tracking of the namespaces that rewrote without a rule: their entries are older than the flow."""
    asked = dict.fromkeys(
        hop.node
        for flow in flows
        for hop in flow.forward
        if hop.rules and hop.before.dst != hop.after.dst and not any(decides(hit) == "DNAT" for hit in hop.rules)
    )
    for name in asked:
        if name in namespaces and namespaces[name].role in FORWARDING:
            yield from dump_conntrack(namespaces[name])
