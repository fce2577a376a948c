"""Makes a `Host` of what iproute2 says about a namespace, so that the evaluator knows what the kernel knows.

The texts are those of `ip -d -j address`, `ip -j route show table all` and `ip -j rule`, read in the namespace; who
has the same facts from elsewhere makes a `Host` directly.

Source: ip-address(8), ip-route(8), ip-rule(8); iproute2 ip/iproute.c, ip/iprule.c (the JSON's names).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

from hoplab.model.packet import DEFAULT, LOCAL, MAIN, Host, Interface, PolicyRule, Route

_TABLES = {"local": LOCAL, "main": MAIN, "default": DEFAULT}
_KINDS = frozenset(("unicast", "local", "blackhole", "unreachable", "prohibit", "throw"))
_IGNORED = frozenset(("broadcast", "anycast", "multicast"))
"""Routes that the evaluator derives from addresses by itself."""
_DETAILED = "promiscuity"
"""A word that only `ip -d` prints."""
_RULE_WORDS = frozenset(
    ("priority", "src", "srclen", "dst", "dstlen", "fwmark", "fwmask", "iif", "table", "protocol", "iif_detached")
)


def host_of(
    addresses: str,
    routes: str = "[]",
    rules: str = "[]",
    rules6: str = "[]",
    *,
    forward: bool = False,
    route_localnet: bool = False,
    bridge_netfilter: bool = True,
    listens: Iterable[tuple[str, int]] | None = None,
) -> Host:
    """The namespace that these JSON texts describe; `rules6` is from `ip -6 -j rule`.

    With `ip -d -j address` it is known which interfaces are bridges; `bridge_netfilter` is the sysctl
    net.bridge.bridge-nf-call-iptables.

    `forward` and `route_localnet` are the sysctls net.ipv4.ip_forward and net.ipv4.conf.all.route_localnet.  Raises
    ValueError for what the evaluator can't decide: a route with several next hops, a rule with other selectors.
    """
    interfaces = tuple(_interface(each, bridge_netfilter) for each in json.loads(addresses))
    found = tuple(
        _route(each) for each in json.loads(routes) if each.get("type") not in _IGNORED and "cache" not in each["flags"]
    )
    policy = [_policy_rule(each, 4) for each in json.loads(rules)] + [
        _policy_rule(each, 6) for each in json.loads(rules6)
    ]
    return Host(
        interfaces=interfaces,
        routes=found,
        forward=forward,
        policy_rules=tuple(each for each in policy if each.priority > 0),
        route_localnet=route_localnet,
        listens=None if listens is None else frozenset(listens),
    )


def _interface(given: dict[str, Any], bridge_netfilter: bool) -> Interface:
    addresses = tuple(f"{each['local']}/{each['prefixlen']}" for each in given["addr_info"])
    peers = [each["address"] for each in given["addr_info"] if "address" in each]
    bridge = None
    if _DETAILED in given:
        bridge = bridge_netfilter and given.get("linkinfo", {}).get("info_kind") == "bridge"
    return Interface(given["ifname"], addresses, bridge=bridge, point_to_point=peers[0] if peers else "")


def _route(given: dict[str, Any]) -> Route:
    kind = given.get("type", "unicast")
    if "nexthops" in given:
        raise ValueError(
            f"the route to {given['dst']} has several next hops: which one is taken can't be foretold here"
        )
    if kind not in _KINDS:
        raise ValueError(f"a route of type {kind} (to {given['dst']}) is not known here")
    via = given.get("gateway", "") or given.get("via", {}).get("host", "")
    destination = given["dst"]
    if destination == "default":
        destination = "::/0" if ":" in via else "0.0.0.0/0"
    return Route(
        destination, given.get("dev", ""), via, _table(given.get("table", "main")), given.get("metric", 0), kind,
        given.get("prefsrc", ""),
    )  # fmt: skip


def _policy_rule(given: dict[str, Any], version: Literal[4, 6]) -> PolicyRule:
    unknown = given.keys() - _RULE_WORDS
    if unknown or "table" not in given:
        words = ", ".join(sorted(unknown)) or "no table"
        raise ValueError(f"the routing rule of priority {given['priority']} has {words}: that is not known here")
    mark = int(given["fwmark"], 0) if "fwmark" in given else None
    return PolicyRule(
        given["priority"], _table(given["table"]), mark, int(given.get("fwmask", "0xffffffff"), 0),
        _network(given, "src"), _network(given, "dst"), given.get("iif", ""), version,
    )  # fmt: skip


def _network(given: dict[str, Any], side: str) -> str:
    address = given.get(side, "all")
    if address == "all":
        return ""
    return f"{address}/{given[side + 'len']}" if side + "len" in given else str(address)


def _table(name: str | int) -> int:
    return _TABLES[name] if name in _TABLES else int(name)
