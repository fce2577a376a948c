"""kube-proxy's nftables table as it stands before the first Service: hooks, dispatch maps, masquerade, checks.

One table holds everything (`ip kube-proxy`, `ip6 kube-proxy`).  Base chains hook into netfilter and jump to ordinary
chains; those look packets up in verdict maps, so a Service costs a few map elements and no rule on anybody's way.
The order of things on a packet's way is the hooks' priority: source ranges are checked before DNAT (-110), DNAT comes
at -100, rejection of what found no endpoint at 0, masquerade at +100.

Source: kube-proxy 1.34, pkg/proxy/nftables/proxier.go (setupNFTables) and proxier_test.go (baseRules).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hoplab.dataplane.nft_text import Chain, Element, Family, Rule, Set
from hoplab.kube.types import IPFamily

TABLE = "kube-proxy"
TABLE_COMMENT = "rules for kube-proxy"

MARK_MASQUERADE = "mark-for-masquerade"
REJECT = "reject-chain"


@dataclass(frozen=True, slots=True)
class Words:
    """How one address family is called in nft's language."""

    family: Family
    ip: str
    address_type: str
    not_localhost: str


IPV4 = Words("ip", "ip", "ipv4_addr", "ip daddr != 127.0.0.0/8")
IPV6 = Words("ip6", "ip6", "ipv6_addr", "ip6 daddr != ::1")


def words(family: IPFamily) -> Words:
    """The words for a Kubernetes family name."""
    return IPV4 if family == "IPv4" else IPV6


def base_chains(
    lang: Words, *, masquerade_mark: str, service_cidrs: Iterable[str], all_node_ports: bool
) -> tuple[Chain, ...]:
    """Base chains and the ordinary chains that they jump to.

    `all_node_ports`: every local address takes node ports (else the set nodeport-ips decides).
    """
    ip, mark = lang.ip, masquerade_mark
    address_and_port = f"{ip} daddr . meta l4proto . th dport"
    port = "meta l4proto . th dport"
    node_ports = f"fib daddr type local {lang.not_localhost}" if all_node_ports else f"{ip} daddr @nodeport-ips"
    node_port_check = lang.not_localhost if all_node_ports else f"{ip} daddr @nodeport-ips"
    firewall = "ct state new jump firewall-check"
    node_port_endpoints = "ct state new jump nodeport-endpoints-check"
    service_endpoints = "ct state new jump service-endpoints-check"
    cluster_ips = "ct state new jump cluster-ips-check"
    return (
        _base("filter-prerouting-pre-dnat", "filter hook prerouting priority -110", firewall),
        _base("filter-output-pre-dnat", "filter hook output priority -110", firewall),
        _base("filter-input", "filter hook input priority 0", node_port_endpoints, service_endpoints),
        _base("filter-forward", "filter hook forward priority 0", service_endpoints, cluster_ips),
        _base("filter-output", "filter hook output priority 0", service_endpoints, cluster_ips),
        _base("nat-prerouting", "nat hook prerouting priority -100", "jump services"),
        _base("nat-output", "nat hook output priority -100", "jump services"),
        _base("nat-postrouting", "nat hook postrouting priority 100", "jump masquerading"),
        _chain("nodeport-endpoints-check", f"{node_port_check} {port} vmap @no-endpoint-nodeports"),
        _chain("service-endpoints-check", f"{address_and_port} vmap @no-endpoint-services"),
        _chain("firewall-check", f"{address_and_port} vmap @firewall-ips"),
        _chain("services", f"{address_and_port} vmap @service-ips", f"{node_ports} {port} vmap @service-nodeports"),
        _chain("masquerading", f"mark and {mark} == 0 return", f"mark set mark xor {mark}", "masquerade fully-random"),
        Chain("cluster-ips-check", _cluster_ips_check(ip, service_cidrs)),
        _chain(MARK_MASQUERADE, f"mark set mark or {mark}"),
        Chain(REJECT, (Rule("reject"),), comment="helper for @no-endpoint-services / @no-endpoint-nodeports"),
    )


def base_sets(
    lang: Words, node_port_ips: Iterable[str] | None, elements: Mapping[str, Iterable[Element]]
) -> tuple[Set, ...]:
    """The sets and maps with the Services' elements (by set name); no set nodeport-ips when `node_port_ips` is None."""
    address = lang.address_type
    by_address = f"type {address} . inet_proto . inet_service : verdict"
    by_port = "type inet_proto . inet_service : verdict"

    def verdicts(name: str, spec: str, comment: str) -> Set:
        return Set(name, spec, "map", tuple(elements.get(name, ())), comment)

    node_ports = () if node_port_ips is None else (_node_port_ips(address, node_port_ips),)
    return (
        Set("cluster-ips", f"type {address}", "set", tuple(elements.get("cluster-ips", ())), "Active ClusterIPs"),
        *node_ports,
        verdicts("no-endpoint-services", by_address, "vmap to drop or reject packets to services with no endpoints"),
        verdicts(
            "no-endpoint-nodeports", by_port, "vmap to drop or reject packets to service nodeports with no endpoints"
        ),
        verdicts("firewall-ips", by_address, "destinations that are subject to LoadBalancerSourceRanges"),
        verdicts("service-ips", by_address, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
        verdicts("service-nodeports", by_port, "NodePort traffic"),
    )


def _cluster_ips_check(ip: str, service_cidrs: Iterable[str]) -> tuple[Rule, ...]:
    reject = Rule(f"{ip} daddr @cluster-ips reject", "Reject traffic to invalid ports of ClusterIPs")
    networks = ",".join(service_cidrs)
    if not networks:
        return (reject,)
    return (reject, Rule(f"{ip} daddr {{ {networks} }} drop", "Drop traffic to unallocated ClusterIPs"))


def _node_port_ips(address_type: str, addresses: Iterable[str]) -> Set:
    elements = tuple(Element(address) for address in addresses)
    return Set("nodeport-ips", f"type {address_type}", "set", elements, "IPs that accept NodePort traffic")


def _base(name: str, hook: str, *rules: str) -> Chain:
    return Chain(name, tuple(Rule(rule) for rule in rules), f"type {hook}")


def _chain(name: str, *rules: str) -> Chain:
    return Chain(name, tuple(Rule(rule) for rule in rules))
