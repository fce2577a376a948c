"""What is open for one namespace that is watched: its frames' ring, and its netlink events where it has rules.

A packet socket or a netlink socket belongs to the namespace that it was made in, wherever it
is read; so all of them can be read by one loop in one process.  Names of interfaces are not
in the evidence itself, which has their indexes; they are asked for once, and again for an
index that came since.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hoplab.hops.evidence import Interface
from hoplab.net.namespaces import Namespace
from hoplab.net.netlink import Netlink
from hoplab.watch import conntrack
from hoplab.watch.netlink_messages import NETLINK_NETFILTER
from hoplab.watch.ring import FrameRing, ring_socket
from hoplab.watch.trace import NFNLGRP_NFTRACE

SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 64 << 20

RING_SLOTS: Mapping[str, int] = {"pod": 512, "host": 512, "router": 512, "switch": 2048}
"""Frames a ring holds, by role; everything not named forwards for others and gets DEFAULT_SLOTS."""
DEFAULT_SLOTS = 1024


def ring_slots(namespace: Namespace) -> int:
    """Frames that the ring of a namespace should hold (pure)."""
    return RING_SLOTS.get(namespace.role, DEFAULT_SLOTS)


@dataclass(frozen=True, slots=True)
class Target:
    """A namespace to watch: its frames always, its rules and connection tracking where it has any."""

    namespace: Namespace
    trace: bool = False
    conntrack: bool = False
    slots: int = 0
    """Frames that its ring holds, 0: what its role needs."""


def interfaces_of(node: str, netlink: Netlink) -> list[Interface]:
    """The interfaces of a namespace, as evidence has them."""
    return [
        Interface(node, name, link["index"], link["mac"], link["mtu"], link["kind"])
        for name, link in netlink.links().items()
    ]


class Watched:
    """What is open for one target."""

    def __init__(self, target: Target) -> None:
        self.target = target
        slots = target.slots or ring_slots(target.namespace)
        self.ring = FrameRing(ring_socket(target.namespace, slots), slots)
        self.netlink = Netlink(target.namespace)
        self.interfaces: dict[int, Interface] = {}
        self.readers: dict[int, Callable[[], None]] = {}
        """What reads each of its sockets, by descriptor."""
        self.trace = self.conntrack = None
        if target.trace:
            self.trace = _subscribe(target.namespace, (NFNLGRP_NFTRACE,))
        if target.conntrack:
            self.conntrack = _subscribe(target.namespace, conntrack.GROUPS)
        self.learn_interfaces()

    def learn_interfaces(self) -> None:
        """Ask which interfaces there are now; those that went stay known."""
        for interface in interfaces_of(self.target.namespace.name, self.netlink):
            self.interfaces[interface.index] = interface

    def interface_name(self, index: int) -> str:
        """The name behind an index; asks again for one that came since."""
        if index not in self.interfaces:
            self.learn_interfaces()
        known = self.interfaces.get(index)
        return known.name if known else f"if{index}"

    def sockets(self) -> list[FrameRing | socket.socket]:
        """All that is read here."""
        return [part for part in (self.ring, self.trace, self.conntrack) if part is not None]

    def close(self) -> None:
        """Give them back."""
        for part in self.sockets():
            part.close()
        self.netlink.close()


def enlarge(opened: socket.socket) -> None:
    """Give a socket room for all that comes while its reader is kept waiting."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    except PermissionError:
        # An ordinary user is held to net.core.rmem_max: what does not fit is told as a loss.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)


def _subscribe(namespace: Namespace, groups: Sequence[int]) -> socket.socket:
    with namespace.entered():
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    opened.setblocking(False)
    enlarge(opened)
    opened.bind((0, 0))
    for group in groups:
        opened.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
    return opened
