"""The simulated cloud load balancer: which node gets a flow, as `nft -f` text (see `haproxy` for mode proxy).

A cloud's balancer knows nodes, not pods: it spreads new flows over the nodes that pass its health check and keeps
every flow on its node.  Here it is a router between the outside and the node network; what it would do in its
fabric is done by nftables in its prerouting hook.  Three modes exist in the clouds: `nat` rewrites the destination
to a node's address and port, `passthrough` hands the packet unchanged to a node, which answers the client directly
(direct server return), `proxy` ends the client's connection and opens another one to the node.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from hoplab.dataplane.nft_text import Chain, Element, Family, Rule, Set, Table, changes
from hoplab.kube.types import Protocol

Algorithm = Literal["hash", "round-robin"]
Mode = Literal["nat", "passthrough", "proxy"]

TABLE = "balancer"
HASH_SEED = 0x686F706C
"""Fixed, so that a tuple meets the same node in every run."""
FLOW_TIMEOUT_S = 600
"""How long passthrough remembers an idle flow: ten minutes, as GCE's connection tracking table does by default."""
FLOWS_MAX = 65536
"""Flows that passthrough remembers for one frontend."""
_TYPE: Mapping[Family, str] = MappingProxyType({"ip": "ipv4_addr", "ip6": "ipv6_addr"})


@dataclass(frozen=True, slots=True)
class Backend:
    """A node that may get flows, and where on it they go (node port, or the frontend's own port).

    `check`: the port on which a proxying balancer asks the node itself for its health (HTTP, /healthz); 0 where
    somebody else has asked.
    """

    node: str
    address: str
    port: int
    check: int = 0


@dataclass(frozen=True, slots=True)
class Frontend:
    """One forwarding rule of the balancer; `service` is namespace/name[:port name], `backends` only candidates."""

    vip: str
    port: int
    protocol: Protocol
    service: str
    backends: tuple[Backend, ...] = ()


@dataclass(frozen=True, slots=True)
class Balancer:
    """The balancer's whole configuration.

    `inside`: networks of the cluster; a flow from there that is balanced back into it is masqueraded, because the
    node would else answer past the balancer (mode nat only).
    `no_candidates`: what happens to a new flow when no node passes the health check.  "drop" is what balancers that
    only forward packets do (they never send packets of their own: GCE's "drop traffic when unhealthy", Maglev);
    "reject" is what a client of a terminating balancer sees (refused).
    """

    algorithm: Algorithm = "hash"
    mode: Mode = "nat"
    frontends: tuple[Frontend, ...] = ()
    inside: tuple[str, ...] = ()
    no_candidates: Literal["drop", "reject"] = "drop"


@dataclass(frozen=True, slots=True)
class Preset:
    """What a provider's balancer does: in the lab by default, and in reality."""

    algorithm: Algorithm
    mode: Mode
    real_mode: Mode


PROVIDERS: Mapping[str, Preset] = MappingProxyType(
    {
        "gce": Preset("hash", "nat", real_mode="passthrough"),
        "aws": Preset("round-robin", "nat", real_mode="proxy"),
        "aws-nlb": Preset("hash", "nat", real_mode="nat"),
    }
)
"""Provider -> preset.  The lab's mode is `nat` for all unless the user asks for another, because every step of the
way and its undoing can be seen then.  In reality GCE's external passthrough balancer (hash over the 5-tuple) keeps
the address and the node answers directly; the classic ELB of AWS (round robin) is a TCP proxy; AWS' NLB (flow hash)
rewrites the destination and keeps the client's address."""


class BalancerError(ValueError):
    """The configuration asks for something that this kind of balancer does not do."""


@dataclass(frozen=True, slots=True)
class PolicyRoute:
    """For passthrough: `ip rule add fwmark MARK lookup TABLE` and `ip route add default via VIA table TABLE`."""

    mark: int
    table: int
    via: str


def balancer_tables(balancer: Balancer) -> tuple[Table, ...]:
    """The nftables tables of the balancer: IPv4 and IPv6, empty ones for mode proxy (HAProxy does its work).

    Both are always given, so that `balancer_changes` can go on from any earlier state.
    Raises BalancerError when two Services want one address, protocol and port.
    """
    _check_unique(balancer.frontends)
    if balancer.mode == "proxy":
        return (Table("ip", TABLE), Table("ip6", TABLE))
    return (_table(balancer, "ip"), _table(balancer, "ip6"))


def balancer_text(balancer: Balancer) -> str:
    """The whole configuration as one `nft -f` transaction; forgets remembered flows and counters."""
    return "".join(table.text() for table in balancer_tables(balancer))


def balancer_changes(previous: Balancer | None, now: Balancer) -> str:
    """The smallest `nft -f` transaction from `previous` to `now`, empty when nothing differs.

    Existing flows keep their node (conntrack in mode nat, the flow maps in mode passthrough); round robin goes on
    counting in every frontend whose candidates did not change.
    """
    if previous is None:
        return balancer_text(now)
    pairs = zip(balancer_tables(previous), balancer_tables(now), strict=True)
    return "".join(changes(before, after) for before, after in pairs)


def local_addresses(balancer: Balancer) -> tuple[str, ...]:
    """The addresses that the balancer's router must have itself: all VIPs in mode proxy, else none.

    In the other modes they must not be local, or the router would answer for them.
    """
    if balancer.mode != "proxy":
        return ()
    return tuple(dict.fromkeys(each.vip for each in ordered(balancer.frontends)))


def policy_route(node_address: str) -> PolicyRoute:
    """How the router hands a packet unchanged to this node (mode passthrough).

    Wanted for every node of the cluster, candidate or not: a remembered flow goes on to a node that fails its check.
    """
    mark = _mark(node_address)
    return PolicyRoute(mark=mark, table=mark, via=node_address)


def policy_routes(node_addresses: Iterable[str]) -> tuple[PolicyRoute, ...]:
    """`policy_route` for each address, each once, in the order of the marks."""
    return tuple(policy_route(address) for address in sorted(set(node_addresses), key=_mark))


def _table(balancer: Balancer, family: Family) -> Table:
    frontends = [each for each in ordered(balancer.frontends) if _family(each.vip) == family]
    parts = _nat_parts if balancer.mode == "nat" else _passthrough_parts
    sets, chains = parts(balancer, family, frontends)
    vips = tuple(Element(vip) for vip in dict.fromkeys(each.vip for each in frontends))
    vip_set = Set("vips", f"type {_TYPE[family]}", elements=vips, comment="addresses that the balancer answers for")
    return Table(family, TABLE, "the simulated load balancer", (vip_set, *sets), tuple(chains))


def _nat_parts(balancer: Balancer, family: Family, frontends: list[Frontend]) -> tuple[list[Set], list[Chain]]:
    """Frontends with candidates are served in the nat hook, the others refused after it.

    (nft takes a reject in a nat prerouting chain, but on Linux 6.18 its answer never arrives.)
    """
    served = [each for each in frontends if each.backends]
    unserved = [each for each in frontends if not each.backends]
    sets = [
        _dispatch("frontends", family, served, "frontend", "one chain for each address, protocol and port"),
        _dispatch("unavailable", family, unserved, "unavailable", "frontends for which no node passes its check"),
    ]
    ports = f"{family} daddr . meta l4proto . th dport"
    refuse = (Rule(f"{ports} vmap @unavailable"), _no_frontend(family))
    chains = [
        Chain("prerouting", (Rule(f"{ports} vmap @frontends"),), "type nat hook prerouting priority -100"),
        Chain("unbalanced", refuse, "type filter hook prerouting priority -90"),
        Chain("postrouting", _hairpin(balancer, family), "type nat hook postrouting priority 100"),
        *(
            Chain(frontend_name("frontend", each), (_nat_rule(balancer, family, each),), source=each.service)
            for each in served
        ),
        *(
            Chain(frontend_name("unavailable", each), (_refusal(balancer, each),), source=each.service)
            for each in unserved
        ),
    ]
    return sets, chains


def _passthrough_parts(balancer: Balancer, family: Family, frontends: list[Frontend]) -> tuple[list[Set], list[Chain]]:
    # nft 1.0.6 aborts when the key of an updated map is longer than 16 bytes: for IPv6 the key is a hash of it.
    key = "ipv4_addr . inet_service" if family == "ip" else "mark"
    flows = f"type {key} : mark ; flags dynamic,timeout ; timeout {FLOW_TIMEOUT_S}s ; size {FLOWS_MAX}"
    sets = [
        _dispatch("frontends", family, frontends, "frontend", "one chain for each address, protocol and port"),
        *(Set(frontend_name("flows", each), flows, "map", dynamic=True, source=each.service) for each in frontends),
    ]
    dispatch = (Rule(f"{family} daddr . meta l4proto . th dport vmap @frontends"), _no_frontend(family))
    # The balancer sees only one direction of a flow; conntrack would call its later packets invalid.
    untracked = (Rule(f"{family} daddr @vips notrack", "only one direction of a flow passes here"),)
    chains = [
        Chain("untracked", untracked, "type filter hook prerouting priority -300"),
        Chain("prerouting", dispatch, "type filter hook prerouting priority -150"),
        *(
            Chain(frontend_name("frontend", each), _passthrough_rules(balancer, family, each), source=each.service)
            for each in frontends
        ),
    ]
    return sets, chains


def _dispatch(name: str, family: Family, frontends: list[Frontend], chain: str, comment: str) -> Set:
    """The verdict map from address, protocol and port to the frontend's chain."""
    elements = tuple(
        Element(
            f"{each.vip} . {each.protocol.lower()} . {each.port}",
            f"goto {frontend_name(chain, each)}",
            each.service,
            each.service,
        )
        for each in frontends
    )
    return Set(name, f"type {_TYPE[family]} . inet_proto . inet_service : verdict", "map", elements, comment)


def _no_frontend(family: Family) -> Rule:
    return Rule(f"{family} daddr @vips drop", "a balancer forwards the ports of its frontends only")


def _nat_rule(balancer: Balancer, family: Family, frontend: Frontend) -> Rule:
    backends = backends_of(frontend)
    targets = ", ".join(f"{index} : {each.address} . {each.port}" for index, each in enumerate(backends))
    number = _number(balancer.algorithm, family, len(backends))
    body = f"meta l4proto {frontend.protocol.lower()} dnat {family} to {number} map {{ {targets} }}"
    return Rule(body, frontend.service, frontend.service)


def _passthrough_rules(balancer: Balancer, family: Family, frontend: Frontend) -> tuple[Rule, ...]:
    service, flows = frontend.service, frontend_name("flows", frontend)
    known: tuple[Rule, ...]
    if family == "ip":
        key = "ip saddr . th sport"
        remember = f"update @{flows} {{ {key} : meta mark }} accept"
        known = (Rule(f"meta mark set {key} map @{flows} {remember}", f"{service}: known flow", service),)
    else:
        key = f"jhash ip6 saddr . th sport mod {0xFFFFFFFF} seed {HASH_SEED:#x}"
        remember = f"update @{flows} {{ {key} : meta mark }} accept"
        known = (
            Rule(f"meta mark set {key}", f"{service}: the flow's key", service),
            Rule(f"meta mark set meta mark map @{flows} {remember}", f"{service}: known flow", service),
        )
    backends = backends_of(frontend)
    if not backends:
        return (*known, _refusal(balancer, frontend))
    marks = ", ".join(f"{index} : {_mark(each.address):#010x}" for index, each in enumerate(backends))
    number = _number(balancer.algorithm, family, len(backends))
    return (*known, Rule(f"meta mark set {number} map {{ {marks} }} {remember}", f"{service}: new flow", service))


def _refusal(balancer: Balancer, frontend: Frontend) -> Rule:
    verdict: str = balancer.no_candidates
    if verdict == "reject" and frontend.protocol == "TCP":
        verdict += " with tcp reset"
    body = f"meta l4proto {frontend.protocol.lower()} {verdict}"
    return Rule(body, f"{frontend.service}: no node passes its check", frontend.service)


def _number(algorithm: Algorithm, family: Family, count: int) -> str:
    """The nft expression that gives a flow its index below `count`."""
    if algorithm == "round-robin":
        return f"numgen inc mod {count}"
    tuple5 = f"{family} saddr . {family} daddr . th sport . th dport . meta l4proto"
    return f"jhash {tuple5} mod {count} seed {HASH_SEED:#x}"


def _hairpin(balancer: Balancer, family: Family) -> tuple[Rule, ...]:
    networks = sorted(each for each in balancer.inside if _family(each) == family)
    if not networks:
        return ()
    inside = ", ".join(networks)
    return (
        Rule(f"{family} saddr {{ {inside} }} ct status dnat masquerade", "from the cluster, back into the cluster"),
    )


def _mark(address: str) -> int:
    """A firewall mark (32 bits) that stands for a node and does not depend on which other nodes there are.

    An IPv4 address is its own number, so `nft list` and `ip rule` show it; of an IPv6 address a hash is taken.
    """
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4:
        return int(parsed)
    return int.from_bytes(hashlib.sha256(parsed.packed).digest()[:4], "big") | 1


def _family(address: str) -> Family:
    return "ip6" if ":" in address else "ip"


def socket_text(address: str, port: int) -> str:
    """ADDRESS:PORT, with brackets for IPv6."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _check_unique(frontends: Iterable[Frontend]) -> None:
    taken: dict[tuple[str, Protocol, int], str] = {}
    for each in frontends:
        other = taken.setdefault((each.vip, each.protocol, each.port), each.service)
        if other != each.service:
            where = f"{socket_text(each.vip, each.port)}/{each.protocol.lower()}"
            raise BalancerError(f"{where} is wanted by {other} and {each.service}: give one of them another address")


def frontend_name(kind: str, frontend: Frontend) -> str:
    """What a frontend's chain, map or HAProxy section is called."""
    # Colons are not allowed in the name of a chain.
    return f"{kind}-{frontend.vip.replace(':', '.')}-{frontend.protocol.lower()}-{frontend.port}"


def backends_of(frontend: Frontend) -> list[Backend]:
    """Its backends, each once, in the order of their names."""
    return sorted(set(frontend.backends), key=lambda each: (each.node, each.address, each.port))


def ordered(frontends: Iterable[Frontend]) -> list[Frontend]:
    """In the order of addresses and ports, so that the text does not depend on the order of the objects."""
    return sorted(frontends, key=lambda each: (ipaddress.ip_address(each.vip).packed, each.protocol, each.port))
