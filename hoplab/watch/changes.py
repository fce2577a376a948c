"""Tells whether rules, routes or addresses of namespaces changed since somebody last looked.

nf_tables counts its generations (iptables' rules are among them on today's systems), and
rtnetlink announces every change of links, addresses, routes and policy rules to its
groups.  Both are asked without waiting, so it costs a few microseconds to learn that
nothing changed.  Source: linux/netfilter/nf_tables.h (NFT_MSG_GETGEN), rtnetlink(7).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from hoplab.net.namespaces import Namespace
from hoplab.watch.netlink_messages import NETLINK_NETFILTER, attributes, messages, request

NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_NEWGEN, NFT_MSG_GETGEN = 15, 16
NFTA_GEN_ID = 1
ROUTE_GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400
"""RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Names of namespaces in which something changed since the last look."""

    rules: frozenset[str]
    routes: frozenset[str]
    """Links, addresses, routes or policy rules."""
    gone: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.rules or self.routes or self.gone)


class Changes:
    """Watches some namespaces; `found` tells once of each change."""

    def __init__(self) -> None:
        self._watched: dict[str, tuple[Namespace, socket.socket, socket.socket]] = {}
        self._generations: dict[str, int] = {}

    def found(self, namespaces: Iterable[Namespace]) -> Changed:
        """What changed in them since the last call; in a namespace that is new, everything did."""
        wanted = {namespace.name: namespace for namespace in namespaces}
        gone = {n for n, (namespace, *_) in self._watched.items() if wanted.get(n) != namespace}
        for name in gone:
            self._forget(name)
        rules: set[str] = set()
        routes: set[str] = set()
        for name, namespace in wanted.items():
            if name not in self._watched:
                self._watched[name] = (namespace, *_opened(namespace))
                routes.add(name)
            _namespace, rule_socket, route_socket = self._watched[name]
            generation = _generation(rule_socket)
            if self._generations.get(name) != generation:
                self._generations[name] = generation
                rules.add(name)
            if _drained(route_socket):
                routes.add(name)
        return Changed(frozenset(rules), frozenset(routes), frozenset(gone - wanted.keys()))

    def _forget(self, name: str) -> None:
        for opened in self._watched.pop(name)[1:]:
            opened.close()
        self._generations.pop(name, None)

    def close(self) -> None:
        """Give the sockets back."""
        for name in list(self._watched):
            self._forget(name)


def _opened(namespace: Namespace) -> tuple[socket.socket, socket.socket]:
    with namespace.entered():
        rules = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        routes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    rules.bind((0, 0))
    routes.bind((0, ROUTE_GROUPS))
    routes.setblocking(False)
    return rules, routes


def _generation(rules: socket.socket) -> int:
    """The ruleset's generation; the kernel answers at once."""
    rules.send(request((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN, 0, socket.AF_UNSPEC))
    for message in messages(rules.recv(4096)):
        if message.kind == (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN:
            (number,) = struct.unpack("!I", attributes(message.payload)[NFTA_GEN_ID])
            return int(number)
    return -1


def _drained(routes: socket.socket) -> bool:
    """Whether anything was announced; what did not fit into the buffer was something, too."""
    something = False
    while True:
        try:
            routes.recv(65536)
        except BlockingIOError:
            return something
        except OSError:
            return True
        something = True
