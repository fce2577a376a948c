"""The kernel's routing decision, as far as a rule evaluator needs it: where a packet goes, and who may have sent it.

First the local table says whether an address is the host's own, then policy rules choose tables, in which the longest
prefix wins and then the lowest metric.  A packet from outside also has its source address judged.

Source: kernel net/ipv4/route.c (ip_route_input_slow), net/ipv4/fib_frontend.c (fib_validate_source), ip-rule(8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hoplab.model.packet import DEFAULT, LOCAL, MAIN, Host, PolicyRule, Route
from hoplab.model.state import State, address_number, address_text, network

LOOPBACK4 = (127 << 24, 0xFF000000)


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a packet goes.  `next_hop` is the gateway, or the destination itself on a link."""

    kind: Literal["local", "forward", "no route", "prohibited", "blackhole", "martian", "not forwarding"]
    interface: str = ""
    next_hop: str = ""
    reason: str = ""


def address_type(host: Host, version: int, number: int, interface: str = "") -> str:
    """local, broadcast, multicast, anycast, unspec or unicast, as `fib ... type` and addrtype see it.

    With `interface` only that interface's addresses are local (nft's `fib daddr . iif`, addrtype's --limit-iface-in).
    """
    owner = _local_interface(host, version, number)
    if owner and (not interface or owner in ("lo", interface)):
        return "local"
    if version == 4:
        if number == 0xFFFFFFFF:
            return "broadcast"
        if number >> 28 == 0xE:
            return "multicast"
        for net_version, net, mask, name in host.connected:
            wide = mask.bit_count() <= 30
            if net_version == 4 and wide and number == net | (mask ^ 0xFFFFFFFF) and interface in ("", name):
                return "broadcast"
        if number == 0:
            return "broadcast"
    elif number >> 120 == 0xFF:
        return "multicast"
    return "unicast"


def incoming(state: State) -> Decision:
    """The decision for a packet that came in by an interface, its source judged first."""
    host, version = state.host, state.version
    martian = _martian(state)
    if martian:
        return Decision("martian", reason=martian)
    if _local_interface(host, version, state.dst):
        return Decision("local")
    if address_type(host, version, state.dst) != "unicast":
        return Decision("local", reason="broadcast or multicast")
    if not host.forward:
        return Decision("not forwarding", reason=f"{state.endpoint} is not an own address and forwarding is off")
    return _decide(state)


def outgoing(state: State) -> Decision:
    """The decision for a packet that the host itself makes."""
    if _local_interface(state.host, state.version, state.dst):
        return Decision("local", "lo", address_text(state.version, state.dst))
    return _decide(state)


def preferred_source(host: Host, version: int, interface: str, next_hop: str) -> int | None:
    """The address that masquerade takes: the one in the next hop's network, else the interface's first, else any.

    Source: kernel net/ipv4/devinet.c (inet_select_addr), net/netfilter/nf_nat_masquerade.c.
    """
    towards = address_number(next_hop)[1] if next_hop else 0
    chosen = host.by_name.get(interface)
    for text in chosen.addresses if chosen else ():
        net_version, net, mask = network(text)
        if net_version == version and towards & mask == net and interface != "lo":
            return address_number(text.partition("/")[0])[1]
    candidates = [each for each in (chosen, *host.interfaces) if each is not None and each.name != "lo"]
    for each in candidates:
        for text in each.addresses:
            found, number = address_number(text.partition("/")[0])
            link_local = (number >> 118 == 0x3FA) if found == 6 else (number >> 16 == 0xA9FE)
            if found == version and not link_local:
                return number
    return None


def has_way_back(state: State, interface: str = "") -> bool:
    """Whether there is a route to the packet's source (by `interface` when given).

    A source that is the host's own counts as none.  Source: kernel net/ipv4/netfilter/nft_fib_ipv4.c, ipt_rpfilter.c.
    """
    if _local_interface(state.host, state.version, state.src):
        return False
    found = _lookup(state.host, state.version, state.src, state.dst, 0, "")
    return found is not None and found.kind == "unicast" and interface in ("", found.interface)


def _martian(state: State) -> str:
    host, src = state.host, address_text(state.version, state.src)
    if state.in_interface == "lo":
        return ""
    if state.version == 4 and not host.route_localnet:
        for each, side in ((state.src, "source"), (state.dst, "destination")):
            if each & LOOPBACK4[1] == LOOPBACK4[0]:
                return f"{side} {address_text(4, each)} came from outside and route_localnet is off"
    if state.version == 6 and (state.src == 1 or state.dst == 1):
        return "::1 came from outside"
    if state.version == 4 and _local_interface(host, 4, state.src):
        return f"the source {src} is the host's own address but came from outside"
    interface = host.by_name.get(state.in_interface)
    if state.version == 4 and interface is not None and interface.rp_filter:
        strict = state.in_interface if interface.rp_filter == 1 else ""
        if not has_way_back(state, strict):
            return f"reverse path filter: the way to {src} is not by {state.in_interface}"
    return ""


def _decide(state: State) -> Decision:
    found = _lookup(state.host, state.version, state.dst, state.src, state.mark, state.in_interface)
    target = address_text(state.version, state.dst)
    if found is None or found.kind == "unreachable":
        return Decision("no route", reason=f"no route to {target}")
    if found.kind == "prohibit":
        return Decision("prohibited", reason=f"the route to {target} is prohibited")
    if found.kind == "blackhole":
        return Decision("blackhole", reason=f"the route to {target} is a blackhole")
    if found.kind == "local":
        return Decision("local", "lo", target)
    return Decision("forward", found.interface, found.via or target)


def _local_interface(host: Host, version: int, number: int) -> str:
    """The interface that owns the address, "" when the host doesn't."""
    owner = host.owned.get((version, number), "")
    if owner:
        return owner
    if (version == 4 and number & LOOPBACK4[1] == LOOPBACK4[0]) or (version == 6 and number == 1):
        return "lo"
    for net_version, net, mask, route in host.networks:
        if route.kind == "local" and route.table == LOCAL and net_version == version and number & mask == net:
            return route.interface or "lo"
    return ""


def _lookup(host: Host, version: int, dst: int, src: int, mark: int, in_interface: str) -> Route | None:
    chosen = [rule for rule in host.policy_rules if rule.version == version and rule.priority > 0]
    given = {rule.table for rule in chosen if rule.mark is None and not rule.source and not rule.destination}
    for table, priority in ((MAIN, 32766), (DEFAULT, 32767)):
        if table not in given:
            chosen.append(PolicyRule(priority, table, version=4 if version == 4 else 6))
    for rule in sorted(chosen, key=lambda each: each.priority):
        if not _applies(rule, dst, src, mark, in_interface):
            continue
        found = _longest(host, version, dst, rule.table)
        if found is not None and found.kind != "throw":
            return found
    return None


def _applies(rule: PolicyRule, dst: int, src: int, mark: int, in_interface: str) -> bool:
    if rule.mark is not None and (mark & rule.mask) != rule.mark:
        return False
    if rule.in_interface and rule.in_interface != (in_interface or "lo"):
        return False
    for text, number in ((rule.source, src), (rule.destination, dst)):
        if text and text not in ("all", "default"):
            _, net, mask = network(text)
            if number & mask != net:
                return False
    return True


def _longest(host: Host, version: int, dst: int, table: int) -> Route | None:
    best: tuple[int, int, Route] | None = None
    if table == MAIN:
        for net_version, net, mask, name in host.connected:
            if net_version == version and dst & mask == net and name != "lo":
                best = _better(best, mask.bit_count(), Route("", name))
    for net_version, net, mask, route in host.networks:
        if route.table == table and net_version == version and dst & mask == net:
            best = _better(best, mask.bit_count(), route)
    return best[2] if best else None


def _better(best: tuple[int, int, Route] | None, length: int, route: Route) -> tuple[int, int, Route]:
    if best is None or (length, -route.metric) > (best[0], -best[1]):
        return (length, route.metric, route)
    return best
