"""What the evaluator is told: a packet, and the namespace that it meets.

A namespace is its interfaces with their addresses, its routes and routing policy rules, and a few switches.
Addresses and networks are text as `ip` prints them; nothing here looks anything up by itself.

Source: ip-route(8), ip-rule(8), kernel Documentation/networking/ip-sysctl.rst.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from hoplab.model.state import CT_STATES, PROTOCOLS, TCP_FLAGS, CtState, State, address_number, network, prefix_mask

MAIN, DEFAULT, LOCAL = 254, 253, 255
"""Numbers of the routing tables that always exist."""


@dataclass(frozen=True, slots=True)
class Translation:
    """What conntrack already holds for an established connection: where its packets are rewritten to.

    Empty addresses and port 0 mean: not rewritten.
    """

    dst: str = ""
    dport: int = 0
    src: str = ""
    sport: int = 0


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet.  Without `in_interface` it is made by the namespace itself.

    For ICMP `sport` is the echo id and `dport` 0; None is a source port that nobody knows.  The default flags make a
    TCP packet the first one of its connection.  `translation` is for packets that aren't new.
    """

    src: str
    sport: int | None
    dst: str
    dport: int
    protocol: str = "tcp"
    in_interface: str = ""
    mark: int = 0
    ct_state: CtState = "new"
    tcp_flags: tuple[str, ...] = ("syn",)
    icmp_type: int | None = None
    """None: an echo request of the packet's family."""
    icmp_code: int = 0
    reply: bool = False
    """Whether it goes in the reply direction of its connection."""
    translation: Translation = Translation()

    def state(self, host: Host) -> State:
        """The working copy at the namespace's door.

        Raises ValueError when an address or the protocol is none, or the families differ.
        """
        (version, src), (other, dst) = address_number(self.src), address_number(self.dst)
        if version != other:
            raise ValueError(f"packet from {self.src} to {self.dst}: both addresses must be of one family")
        name = self.protocol.lower()
        protocol = PROTOCOLS.get(name)
        if protocol is None:
            raise ValueError(f"packet of protocol {self.protocol!r}: expected one of {', '.join(PROTOCOLS)}")
        if protocol == PROTOCOLS["icmp"] and version == 6:
            protocol = PROTOCOLS["icmpv6"]
        echo_request = 128 if version == 6 else 8
        flags = sum(TCP_FLAGS[each.lower()] for each in self.tcp_flags) if protocol == PROTOCOLS["tcp"] else 0
        return State(
            host=host, version=version, protocol=protocol, src=src, sport=self.sport, dst=dst, dport=self.dport,
            in_interface=self.in_interface, mark=self.mark, tcp_flags=flags, icmp_type=echo_request if self.icmp_type
            is None else self.icmp_type, icmp_code=self.icmp_code, reply=self.reply,
        )  # fmt: skip

    @property
    def ct_bit(self) -> int:
        """The connection state as nft numbers it."""
        return CT_STATES[self.ct_state]


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface with its addresses ("10.1.1.1/24").

    `bridged_by` is (host, interface) when the other end is a port of that host's bridge and br_netfilter hands bridged
    frames to iptables there: whatever leaves here meets that host's rules first, also when it isn't the next hop.
    """

    name: str
    addresses: tuple[str, ...] = ()
    rp_filter: Literal[0, 1, 2] = 0
    bridged_by: tuple[str, str] | None = None
    bridge: bool | None = None
    """Whether it is a bridge whose frames br_netfilter hands to iptables; None when that isn't known."""
    segment: str = ""
    """The network on the link's other side: next hops are looked for among interfaces on the same one, or on none."""
    point_to_point: str = ""
    """The other end's address of a point-to-point interface."""


@dataclass(frozen=True, slots=True)
class Route:
    """One route; `destination` is a network or "default" (without `via` that is 0.0.0.0/0).  `via` is the gateway."""

    destination: str
    interface: str = ""
    via: str = ""
    table: int = MAIN
    metric: int = 0
    kind: Literal["unicast", "local", "blackhole", "unreachable", "prohibit", "throw"] = "unicast"
    source: str = ""
    """Preferred source address (`src` in ip-route)."""


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """One `ip rule`: packets that fit look their route up in `table`.  Mask 0xffffffff compares the whole mark."""

    priority: int
    table: int
    mark: int | None = None
    mask: int = 0xFFFFFFFF
    source: str = ""
    destination: str = ""
    in_interface: str = ""
    version: Literal[4, 6] = 4


Memory = Mapping[tuple[str, str, str], Mapping[object, object]]
"""Entries of dynamic sets by (family, table, set); xt_recent lists are ("xt_recent", "", NAME)."""


@dataclass(frozen=True)
class Host:
    """One network namespace.

    Connected networks and 127.0.0.0/8, ::1 are known from the interfaces' addresses; `local_addresses` are more that
    are its own.  `listens` are the (protocol, port) pairs with a socket on every address, None when that isn't known.
    """

    interfaces: tuple[Interface, ...] = ()
    routes: tuple[Route, ...] = ()
    forward: bool = False
    local_addresses: tuple[str, ...] = ()
    policy_rules: tuple[PolicyRule, ...] = ()
    route_localnet: bool = False
    listens: frozenset[tuple[str, int]] | None = None
    memory: Memory = field(default_factory=dict)

    def remembering(self, remembers: tuple[tuple[str, str, str, object, object], ...]) -> Host:
        """The namespace after a packet that left these entries in dynamic sets (`Prediction.remembers`)."""
        memory = {key: dict(entries) for key, entries in self.memory.items()}
        for family, table, name, key, value in remembers:
            memory.setdefault((family, table, name), {})[key] = value
        return replace(self, memory=memory)

    @cached_property
    def owned(self) -> Mapping[tuple[int, int], str]:
        """(version, number) of each own address -> its interface's name ("lo" for those without one)."""
        found: dict[tuple[int, int], str] = {address_number(each): "lo" for each in self.local_addresses}
        for each in self.interfaces:
            for text in each.addresses:
                found[address_number(text.partition("/")[0])] = each.name
        return found

    @cached_property
    def connected(self) -> tuple[tuple[int, int, int, str], ...]:
        """(version, network, mask, interface) of each network on a link."""
        found: list[tuple[int, int, int, str]] = []
        for each in self.interfaces:
            for text in each.addresses:
                link = ipaddress.ip_interface(text).network
                found.append((link.version, int(link.network_address), int(link.netmask), each.name))
            if each.point_to_point:
                version, number = address_number(each.point_to_point)
                found.append((version, number, prefix_mask(version, 32 if version == 4 else 128), each.name))
        return tuple(found)

    @cached_property
    def networks(self) -> tuple[tuple[int, int, int, Route], ...]:
        """(version, network, mask, route) of each route in `routes`; a default route's family is its gateway's."""
        found: list[tuple[int, int, int, Route]] = []
        for route in self.routes:
            if route.destination == "default":
                found.append((6 if ":" in route.via else 4, 0, 0, route))
            else:
                found.append((*network(route.destination), route))
        return tuple(found)

    @cached_property
    def by_name(self) -> Mapping[str, Interface]:
        """Interfaces by name."""
        return {each.name: each for each in self.interfaces}
