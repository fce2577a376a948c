"""Links, addresses and routes of one namespace, over netlink.

A thin face on pyroute2: one socket a namespace, opened inside it once and kept.
Every failure names the node, the operation and the kernel's word for it, and every
operation can be repeated (what exists already is left as it is), so that a
converging caller needs no memory of what it has done.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import ipaddress
import itertools
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hoplab.net.namespaces import Namespace
from hoplab.net.pyroute2_parts import IPRoute, NetlinkError

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
ETHTOOL_SGRO = 0x2C
NUD_PERMANENT = 0x80
IFF_LOWER_UP = 0x10000
RT_SCOPE_LINK = 253


RT_TABLE_LOCAL = 255
ROUTE_KINDS: Mapping[int, Literal["unicast", "blackhole", "unreachable", "prohibit", "throw"]] = {
    1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw",
}  # fmt: skip
"""RTN_* of linux/rtnetlink.h, without those that follow from addresses."""


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """One route as the kernel has it: `destination` is a CIDR, `via` and `device` are '' when there is none."""

    destination: str
    via: str
    device: str
    table: int
    metric: int
    kind: Literal["unicast", "blackhole", "unreachable", "prohibit", "throw"]
    source: str


class NetlinkFailed(RuntimeError):
    """The kernel refused a change of links, addresses or routes; str() says which, where, and its reason."""

    def __init__(self, node: str, operation: str, error: NetlinkError | OSError) -> None:
        self.code = error.code if isinstance(error, NetlinkError) else error.errno
        super().__init__(f"{node}: {operation}: {os.strerror(self.code or 0)}")


SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
IFA_TENTATIVE = 0x40

Links = dict[str, dict[str, Any]]
"""What `Netlink.links` tells, by interface."""


class Netlink:
    """rtnetlink of one namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        with namespace.entered():
            self._route = IPRoute()
        self._index: dict[str, int] = {}
        self._far_indexes = itertools.count(5000)

    def close(self) -> None:
        """Give the socket back."""
        self._route.close()

    def _do(self, operation: str, what: str, *arguments: Any, fine: tuple[int, ...] = (), **options: Any) -> Any:
        try:
            return getattr(self._route, what)(*arguments, **options)
        except NetlinkError as error:
            if error.code in fine:
                return ()
            raise NetlinkFailed(self.namespace.name, operation, error) from error

    def index(self, interface: str) -> int:
        """The interface's index.  Raises NetlinkFailed (ENODEV) when there is none of that name."""
        known = self._index.get(interface)
        if known is None:
            found = self._route.link_lookup(ifname=interface)
            if not found:
                raise NetlinkFailed(self.namespace.name, f"find interface {interface}", OSError(errno.ENODEV, ""))
            known = self._index[interface] = found[0]
        return known

    def links(self) -> Links:
        """All interfaces by name: index, mac, mtu, kind, master (index or None), up, carrier."""
        found = {}
        for link in self._route.get_links():
            info = link.get_attr("IFLA_LINKINFO")
            found[link.get_attr("IFLA_IFNAME")] = {
                "index": link["index"],
                "mac": link.get_attr("IFLA_ADDRESS") or "",
                "mtu": link.get_attr("IFLA_MTU") or 0,
                "kind": (info.get_attr("IFLA_INFO_KIND") if info else None) or "",
                "master": link.get_attr("IFLA_MASTER"),
                "up": bool(link["flags"] & 1),
                "carrier": bool(link["flags"] & IFF_LOWER_UP),
            }
        return found

    def addresses(self, links: Links | None = None) -> list[tuple[str, str, int]]:
        """(interface, address, prefix length) of every address, IPv4 and IPv6.  `links`: if known already."""
        names = {link["index"]: name for name, link in (links or self.links()).items()}
        return [
            (names.get(a["index"], "?"), a.get_attr("IFA_LOCAL") or a.get_attr("IFA_ADDRESS"), a["prefixlen"])
            for a in self._route.get_addr()
        ]

    def without_link_local(self) -> list[str]:
        """Interfaces with an IPv6 address of their own that can't ask for neighbours yet, or can't be asked.

        A packet that is forwarded waits for its neighbour, who is asked from the interface's link-local address.  The
        kernel gives that one when it takes note of the carrier, up to a second later on a busy machine
        (net/core/link_watch.c), and repeats a question that it could not ask after another second.
        """
        links = self.links().items()
        names = {link["index"]: name for name, link in links if name != "lo" and link["up"] and link["carrier"]}
        found = list(self._route.get_addr(family=socket.AF_INET6))
        tentative = {address["index"] for address in found if address["flags"] & IFA_TENTATIVE}
        routable, ready = (
            {address["index"] for address in found if address["scope"] == scope}
            for scope in (SCOPE_UNIVERSE, SCOPE_LINK)
        )
        return sorted(names[index] for index in (routable - ready) | tentative if index in names)

    def veth(
        self, name: str, mac: str, peer_name: str, peer_mac: str, *, peer: Namespace, index: int = 0, mtu: int = 1500
    ) -> None:
        """A veth pair, this end here and the other in `peer`, both with checksum offload off.

        `index` (of this end; 0: a high one) must differ from the one that the far end gets: Linux
        takes up to a second to declare a pair of equal indexes operational (net/core/link_watch.c, urgent events).
        """
        self._do(
            f"veth {name} <-> {peer.name}:{peer_name}",
            "link",
            "add",
            ifname=name,
            kind="veth",
            address=mac,
            mtu=mtu,
            index=index or next(self._far_indexes),
            peer={"ifname": peer_name, "address": peer_mac, "mtu": mtu, "net_ns_pid": peer.pid},
        )
        for namespace, interface in ((self.namespace, name), (peer, peer_name)):
            offloads_off(namespace, [interface])

    def bridge(self, name: str, mtu: int = 1500) -> None:
        """A Linux bridge, without spanning tree and forward delay, up."""
        options = {"br_forward_delay": 0, "br_stp_state": 0}
        self._do(f"bridge {name}", "link", "add", ifname=name, kind="bridge", mtu=mtu, fine=(errno.EEXIST,), **options)
        offloads_off(self.namespace, [name])
        self.up(name)

    def vxlan(self, name: str, vni: int, local: str, device: str, port: int = 4789, mtu: int = 1450) -> None:
        """A VXLAN device without learning: its forwarding entries are written by `fdb`, as flannel does."""
        self._do(
            f"vxlan {name}",
            "link",
            "add",
            ifname=name,
            kind="vxlan",
            vxlan_id=vni,
            vxlan_local=local,
            vxlan_link=self.index(device),
            vxlan_port=port,
            vxlan_learning=0,
            mtu=mtu,
            fine=(errno.EEXIST,),
        )
        offloads_off(self.namespace, [name])
        self.up(name)

    def enslave(self, interface: str, bridge: str) -> None:
        """Make the interface a port of the bridge, and bring it up."""
        self._do(
            f"{interface} into {bridge}",
            "link",
            "set",
            index=self.index(interface),
            master=self.index(bridge),
            state="up",
        )

    def up(self, interface: str, up: bool = True) -> None:
        """Set an interface up or down."""
        state = "up" if up else "down"
        self._do(f"{interface} {state}", "link", "set", index=self.index(interface), state=state)

    def set_link(self, interface: str, **attributes: Any) -> None:
        """Change attributes of a link: mtu, address, ifname, ..."""
        self._do(f"{interface} {attributes}", "link", "set", index=self.index(interface), **attributes)

    def delete_link(self, interface: str) -> None:
        """Remove an interface; one that is gone already is fine."""
        try:
            index = self.index(interface)
        except NetlinkFailed:
            return
        self._do(f"delete {interface}", "link", "del", index=index, fine=(errno.ENODEV,))
        self._index.pop(interface, None)

    def address(self, interface: str, cidr: str, *, secondary: bool = False) -> None:
        """Give the interface an address (`10.240.0.11/16`); one that it has already is fine.

        `secondary`: an IPv6 address that the kernel never picks as a source by itself (IPv4 takes the first anyway).
        """
        address, _, prefix = cidr.partition("/")
        options: dict[str, Any] = {"index": self.index(interface), "address": address, "prefixlen": int(prefix)}
        if ":" in address:
            # Duplicate address detection would keep the address unusable for a second in a net that we alone fill.
            options["flags"] = 0x02
            if secondary:
                options["preferred_lft"], options["valid_lft"] = 0, 0xFFFFFFFF
        self._do(f"address {cidr} on {interface}", "addr", "add", fine=(errno.EEXIST,), **options)

    def remove_address(self, interface: str, cidr: str) -> None:
        """Take an address away; none is fine."""
        address, _, prefix = cidr.partition("/")
        gone = (errno.EADDRNOTAVAIL,)
        index = self.index(interface)
        self._do(
            f"delete address {cidr}", "addr", "del", index=index, address=address, prefixlen=int(prefix), fine=gone
        )

    def _route_options(
        self, destination: str, via: str | None, device: str | None, onlink: bool, table: int
    ) -> dict[str, Any]:
        options: dict[str, Any] = {"dst": destination}
        if via:
            options["gateway"] = via
        if device:
            options["oif"] = self.index(device)
        if device and not via and ":" not in destination:
            # As ip(8) does it: only a route of this scope says that a gateway can be reached.
            options["scope"] = RT_SCOPE_LINK
        if onlink:
            options["flags"] = 4
        if table:
            options["table"] = table
        family = ipaddress.ip_network(destination).version if destination != "default" else 4
        if ":" in (via or ""):
            family = 6
        options["family"] = socket.AF_INET6 if family == 6 else socket.AF_INET
        return options

    def route(
        self,
        destination: str,
        *,
        via: str | None = None,
        device: str | None = None,
        onlink: bool = False,
        table: int = 0,
    ) -> None:
        """Set the route to a CIDR (or 'default'), in place of one that was there."""
        options = self._route_options(destination, via, device, onlink, table)
        self._do(f"route {destination} via {via or device}", "route", "replace", **options)

    def remove_route(self, destination: str, *, table: int = 0) -> None:
        """Delete the route to a CIDR; none is fine."""
        options = self._route_options(destination, None, None, False, table)
        self._do(f"delete route {destination}", "route", "del", fine=(errno.ESRCH,), **options)

    def routes(self, links: Links | None = None) -> list[RouteEntry]:
        """Routes of every table but the local one, which follows from the addresses.  `links`: if known already."""
        names = {link["index"]: name for name, link in (links or self.links()).items()}
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for route in self._route.get_routes(family=family):
                table, kind = route.get_attr("RTA_TABLE") or route["table"], ROUTE_KINDS.get(route["type"])
                if table == RT_TABLE_LOCAL or kind is None:
                    continue
                anywhere = "0.0.0.0" if family == socket.AF_INET else "::"
                found.append(
                    RouteEntry(
                        f"{route.get_attr('RTA_DST') or anywhere}/{route['dst_len']}",
                        route.get_attr("RTA_GATEWAY") or "",
                        names.get(route.get_attr("RTA_OIF"), ""),
                        table,
                        route.get_attr("RTA_PRIORITY") or 0,
                        kind,
                        route.get_attr("RTA_PREFSRC") or "",
                    )
                )
        return found

    def mark_rules(self) -> list[tuple[int, int, int]]:
        """(priority, mark, table) of every IPv4 policy rule that looks at the packet's mark."""
        return [
            (rule.get_attr("FRA_PRIORITY"), rule.get_attr("FRA_FWMARK"), rule.get_attr("FRA_TABLE") or rule["table"])
            for rule in self._route.get_rules(family=socket.AF_INET)
            if rule.get_attr("FRA_FWMARK")
        ]

    def rule(self, *, fwmark: int, table: int, priority: int) -> None:
        """A policy rule: packets with this mark use that table (ip rule)."""
        self._do(
            f"rule fwmark {fwmark}",
            "rule",
            "add",
            fwmark=fwmark,
            table=table,
            priority=priority,
            fine=(errno.EEXIST,),
        )

    def neighbour(self, interface: str, address: str, mac: str) -> None:
        """A permanent neighbour (ARP) entry."""
        self._do(
            f"neighbour {address}",
            "neigh",
            "replace",
            ifindex=self.index(interface),
            dst=address,
            lladdr=mac,
            state=NUD_PERMANENT,
        )

    def forget_neighbour(self, address: str) -> None:
        """Drop what is remembered of an address's hardware address, on every interface."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for entry in self._route.get_neighbours(family=family, dst=address):
            gone = (errno.ENOENT, errno.ESRCH)
            self._do(f"forget {address}", "neigh", "del", dst=address, ifindex=entry["ifindex"], fine=gone)

    def fdb(self, interface: str, mac: str, remote: str) -> None:
        """Where frames to `mac` leave a VXLAN device: the remote end's address."""
        self._do(
            f"fdb {mac} at {remote}",
            "fdb",
            "append",
            ifindex=self.index(interface),
            lladdr=mac,
            dst=remote,
            fine=(errno.EEXIST,),
        )


def offloads_off(namespace: Namespace, interfaces: list[str]) -> None:
    """Have these interfaces send what a wire would carry: complete checksums, no oversized segments.

    Transmit checksumming off takes segmentation offload with it (netdev features
    depend on each other), receive coalescing is switched off beside it.
    """
    with namespace.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for interface in interfaces:
            for command in (ETHTOOL_STXCSUM, ETHTOOL_SGRO):
                value = ctypes.create_string_buffer(struct.pack("II", command, 0))
                request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
                try:
                    fcntl.ioctl(any_socket, SIOCETHTOOL, request)
                except OSError as error:
                    if error.errno != errno.EOPNOTSUPP:
                        raise NetlinkFailed(namespace.name, f"offloads of {interface}", error) from error


def write_sysctls(namespace: Namespace, settings: Mapping[str, str | int]) -> None:
    """Write `net.*` sysctls of one namespace, names with dots as sysctl(8) has them ('/' for a dot inside a name).

    Raises OSError that names node, key and value.
    """
    with namespace.entered():
        for key, value in settings.items():
            path = "/proc/sys/" + "/".join(part.replace("/", ".") for part in key.split("."))
            try:
                with open(path, "w", encoding="ascii") as knob:
                    knob.write(str(value))
            except OSError as error:
                raise OSError(error.errno, f"{namespace.name}: sysctl {key}={value}: {error.strerror}") from error
