"""The sender's own kernel, asked: which way to an address, by which neighbour, from which source.

A packet socket sends what it is given, so the questions that the kernel answers for
an ordinary socket are put to it over rtnetlink: RTM_GETROUTE for interface, gateway
and preferred source, RTM_GETNEIGH for the gateway's hardware address.  When it has
none yet, it is told to find out (NTF_USE), as it would for a packet of its own.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

from hoplab.errors import HoplabError
from hoplab.net.namespaces import Namespace
from hoplab.net.pyroute2_parts import IPRoute, NetlinkError

RTN_LOCAL = 2
LOOPBACK = 1
"""Index of the interface lo in every network namespace."""
SOLICITED_NODE = ipaddress.IPv6Address("ff02::1:ff00:0").packed[:13]
NTF_USE = 0x01
NUD_NONE = 0x00
NUD_UNUSABLE = 0x01 | 0x20
"""Incomplete or failed: no hardware address."""


class NoWay(HoplabError):
    """The sender has no way to send by; str() says who, where to, and the kernel's reason."""


class Unreachable(NoWay):
    """It has no route, or nobody answers where the packet would have to go next: a fault of the network it is in."""


@dataclass(frozen=True, slots=True)
class Way:
    """How packets for one destination leave."""

    interface: str
    index: int
    mac: bytes
    mtu: int
    source: str
    """The address that the kernel prefers as source."""
    neighbour: str
    """The address whose hardware address the frame needs: the gateway, or the destination itself."""
    local: bool
    """The destination is an address of the sender itself."""


class Ways:
    """Routes and neighbours of one namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self._name, self._namespace = namespace.name, namespace
        with namespace.entered():
            self._route = IPRoute()
        self._groups: socket.socket | None = None
        self._joined: set[bytes] = set()
        self._links: dict[int, Any] = {}
        self._borrowed: list[tuple[str, int]] = []

    def close(self) -> None:
        """Give back the socket and every borrowed address."""
        for address, index in self._borrowed:
            self._route.addr("del", index=index, address=address, prefixlen=128 if ":" in address else 32)
        self._borrowed.clear()
        if self._groups is not None:
            self._groups.close()
        self._route.close()

    def to(self, destination: str, next_hop: str = "", interface: str = "") -> Way:
        """The way to an address, or to an on-link next hop in place of the route's own.  Raises NoWay.

        Asked for an `interface`, the kernel takes what no route leads to for on-link there.
        """
        family = socket.AF_INET6 if ":" in destination else socket.AF_INET
        by = {"oif": self._index(interface)} if interface else {}
        if interface and family == socket.AF_INET6:
            # IPv4 takes what no route leads to for on-link there; IPv6 has to be told.
            return self._on_link(next_hop or destination, by["oif"])
        try:
            (found,) = self._route.route("get", dst=next_hop or destination, family=family, **by)
        except NetlinkError as error:
            why = os.strerror(error.code or 0)
            raise Unreachable(f"{self._name} has no route to {next_hop or destination}: {why}") from error
        gateway = found.get_attr("RTA_GATEWAY") or ""
        if next_hop and gateway:
            raise NoWay(f"{self._name} can't use {next_hop} as next hop: it is not on a link, but behind {gateway}")
        link = self._link(found.get_attr("RTA_OIF"))
        return Way(
            interface=link.get_attr("IFLA_IFNAME"),
            index=link["index"],
            mac=bytes.fromhex((link.get_attr("IFLA_ADDRESS") or "").replace(":", "")),
            mtu=link.get_attr("IFLA_MTU"),
            source=self._own(found.get_attr("RTA_PREFSRC") or "", family, local=found["type"] == RTN_LOCAL),
            neighbour=next_hop or gateway or destination,
            local=found["type"] == RTN_LOCAL,
        )

    def _on_link(self, neighbour: str, index: int) -> Way:
        link = self._link(index)
        source = self._own("", socket.AF_INET6)
        return Way(
            interface=link.get_attr("IFLA_IFNAME"),
            index=index,
            mac=bytes.fromhex((link.get_attr("IFLA_ADDRESS") or "").replace(":", "")),
            mtu=link.get_attr("IFLA_MTU"),
            source=source,
            neighbour=neighbour,
            local=False,
        )

    def _own(self, preferred: str, family: int, *, local: bool = False) -> str:
        """The source that the kernel prefers, if it is the sender's own; else the first one that is.

        A borrowed address, or one on loopback for which a server answers, is nobody's to send from unasked.
        """
        borrowed = {address for address, _index in self._borrowed}
        found = (a for a in self._route.get_addr(family=family, scope=0) if a["index"] != LOOPBACK)
        own = [address for a in found if (address := a.get_attr("IFA_ADDRESS")) not in borrowed]
        return preferred if local or preferred in own or not own else own[0]

    def _index(self, interface: str) -> int:
        found = self._route.link_lookup(ifname=interface)
        if not found:
            raise NoWay(f"{self._name} has no interface {interface}")
        index: int = found[0]
        return index

    def _link(self, index: int) -> Any:
        if index not in self._links:
            (self._links[index],) = self._route.get_links(index)
        return self._links[index]

    def look_again(self) -> None:
        """Forget what interfaces looked like: somebody may have changed them since."""
        self._links.clear()

    def neighbour(self, way: Way) -> bytes | None:
        """The neighbour's hardware address, None while the kernel doesn't know it."""
        try:
            (entry,) = self._route.neigh("get", dst=way.neighbour, ifindex=way.index)
        except NetlinkError:
            return None
        address = entry.get_attr("NDA_LLADDR")
        if not address or entry["state"] & NUD_UNUSABLE:
            return None
        return bytes.fromhex(address.replace(":", ""))

    def ask_neighbour(self, way: Way) -> None:
        """Have the kernel ask for the neighbour's hardware address (ARP, or neighbour discovery)."""
        self._route.neigh("replace", dst=way.neighbour, ifindex=way.index, flags=NTF_USE, state=NUD_NONE)

    def borrow(self, address: str, way: Way) -> None:
        """Have the kernel answer for an address that nothing has, until `close` or `give_back`."""
        if any(found.get_attr("IFA_ADDRESS") == address for found in self._route.get_addr(index=way.index)):
            return
        options: dict[str, Any] = {"index": way.index, "address": address, "prefixlen": 128 if ":" in address else 32}
        if ":" in address:
            # Duplicate address detection would keep it unusable for a second.
            options["flags"] = 0x02
        self._route.addr("add", **options)
        self._borrowed.append((address, way.index))
        if ":" in address:
            self._listen_to_neighbours(address, way.index)

    def _listen_to_neighbours(self, address: str, index: int) -> None:
        """Join the group in which neighbours ask for an IPv6 address (RFC 4291, 2.7.1), now.

        The kernel joins it too, in its own time (net/ipv6/addrconf.c, addrconf_dad_work); a neighbour that asks before
        that is not heard, and asks again a second later.
        """
        if self._groups is None:
            with self._namespace.entered():
                self._groups = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        group = SOLICITED_NODE + ipaddress.IPv6Address(address).packed[-3:]
        request = group + struct.pack("@I", index)
        if request not in self._joined:
            # Addresses that end alike share a group, which a socket joins once.
            self._groups.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
            self._joined.add(request)
