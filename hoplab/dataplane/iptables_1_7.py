"""kube-proxy's iptables mode as Kubernetes 1.7 wrote it (2017): the listing that older books and articles show.

What differs from today: a port without a name keeps its colon ("default/web:", also in the hashes of chain names);
KUBE-SERVICES masquerades and decides by itself, without KUBE-EXT-; policy Local has a chain KUBE-XLB- that drops by a
second mark, which the kubelet's chains turn into a drop; the mark is not taken off again; only the ready endpoints
count, policy Local is known for external traffic only, and there is no IPv6.

Source: kube-proxy 1.7, pkg/proxy/iptables/proxier.go (syncProxyRules); pkg/kubelet/kubelet_network.go
(syncNetworkUtil).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from hoplab.dataplane import iptables_names as names
from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.iptables_text import Frame, Part, Rule, Tables
from hoplab.dataplane.view import EndpointInfo, ServicePortInfo, View

SERVICES = "KUBE-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQUERADE = "KUBE-MARK-MASQ"
MARK_DROP = "KUBE-MARK-DROP"
KUBELET_FIREWALL = "KUBE-FIREWALL"
DROP_MARK = "0x00008000/0x00008000"
"""The kubelet's iptables-drop-bit 15."""


def build_from_view(seen: View, config: ProxyConfig) -> Tables:
    """The ruleset of release 1.7 for IPv4; for IPv6 tables without any rule, as that release left them alone."""
    if seen.family == "IPv6":
        empty = Frame((), (), (), ())
        return Tables(seen.family, empty, empty, (), partial=False)
    return Tables(
        family=seen.family,
        filter=_FILTER,
        nat=_nat_frame(config),
        parts=tuple(_part(seen, config, port) for port in seen.ports),
        partial=False,
    )


def _jump(chain: str, spec: str) -> Rule:
    return Rule(chain, spec, "jump")


_PORTALS = f'-m comment --comment "kubernetes service portals" -j {SERVICES}'
_FILTER = Frame(
    chains=(SERVICES,),
    jumps=(
        _jump("OUTPUT", f"-j {KUBELET_FIREWALL}"),
        _jump("INPUT", f"-j {KUBELET_FIREWALL}"),
        _jump("INPUT", _PORTALS),
        _jump("OUTPUT", _PORTALS),
    ),
    head=(),
    tail=(),
    linked=(KUBELET_FIREWALL,),
    linked_rules=(
        Rule(
            KUBELET_FIREWALL,
            '-m comment --comment "kubernetes firewall for dropping marked packets" '
            f"-m mark --mark {DROP_MARK} -j DROP",
            "drop what is marked for drop",
        ),
    ),
)


def _nat_frame(config: ProxyConfig) -> Frame:
    mark = f"0x{config.masquerade_mark:08x}"
    comment = '-m comment --comment "kubernetes service traffic requiring SNAT"'
    note = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
    return Frame(
        chains=(SERVICES, NODE_PORTS, POSTROUTING, MARK_MASQUERADE),
        jumps=(
            _jump("OUTPUT", _PORTALS),
            _jump("PREROUTING", _PORTALS),
            _jump("POSTROUTING", f'-m comment --comment "kubernetes postrouting rules" -j {POSTROUTING}'),
        ),
        head=(
            Rule(POSTROUTING, f"{comment} -m mark --mark {mark}/{mark} -j MASQUERADE", "masquerade"),
            Rule(MARK_MASQUERADE, f"-j MARK --set-xmark {mark}/{mark}", "mark for masquerade"),
        ),
        tail=(
            Rule(SERVICES, f'-m comment --comment "{note}" -m addrtype --dst-type LOCAL -j {NODE_PORTS}', "node ports"),
        ),
        linked=(MARK_DROP,),
        linked_rules=(Rule(MARK_DROP, f"-j MARK --set-xmark {DROP_MARK}", "mark for drop"),),
    )


def _part(seen: View, config: ProxyConfig, info: ServicePortInfo) -> Part:
    endpoints = tuple(each for each in seen.endpoints.get(info.key, ()) if each.ready)
    port = _Port(info, endpoints, config.cluster_cidr("IPv4"), config.masquerade_all)
    return Part(
        key=info.key,
        seen=(info, endpoints),
        filter=tuple(port.refusals()),
        top=tuple(port.shared_rules()),
        chains=tuple(port.own_chains()),
        rules=tuple(port.own_rules(config.node_ip(seen.node, "IPv4"))),
    )


class _Port:
    """One Service port while its rules are written."""

    def __init__(
        self, info: ServicePortInfo, endpoints: Sequence[EndpointInfo], pods: str, masquerade_all: bool
    ) -> None:
        self.info, self.endpoints, self.pods, self.masquerade_all = info, endpoints, pods, masquerade_all
        self.label = label = f"{info.service}:{info.port_name}"
        self.protocol = protocol = info.protocol.lower()
        self.service = names.service_chain(names.SERVICE, label, protocol)
        self.balanced = names.service_chain(names.LOAD_BALANCER_1_7, label, protocol)
        self.firewall = names.service_chain(names.FIREWALL, label, protocol)
        self.external = self.balanced if info.external_local else self.service

    def rule(self, chain: str, spec: str, role: str, endpoint: EndpointInfo | None = None) -> Rule:
        if endpoint is None:
            return Rule(chain, spec, role, self.label)
        return Rule(chain, spec, role, self.label, endpoint.text, endpoint.target_ref)

    def to(self, address: str, comment: str) -> str:
        where = f"-m {self.protocol} -p {self.protocol} -d {address}/32 --dport {self.info.port}"
        return f'-m comment --comment "{self.label} {comment}" {where}'

    @property
    def to_node_port(self) -> str:
        return f"-m {self.protocol} -p {self.protocol} --dport {self.info.node_port}"

    def shared_rules(self) -> Iterator[Rule]:
        info, masquerade = self.info, f"-j {MARK_MASQUERADE}"
        to = self.to(info.cluster_ip, "cluster IP")
        if self.masquerade_all:
            yield self.rule(SERVICES, f"{to} {masquerade}", "masquerade to cluster IP")
        if self.pods:
            yield self.rule(SERVICES, f"{to} ! -s {self.pods} {masquerade}", "masquerade to cluster IP")
        yield self.rule(SERVICES, f"{to} -j {self.service}", "cluster IP")
        for address in info.external_ips:
            to = self.to(address, "external IP")
            yield self.rule(SERVICES, f"{to} {masquerade}", "masquerade external traffic")
            outside = "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL"
            yield self.rule(SERVICES, f"{to} {outside} -j {self.service}", "external IP from outside")
            yield self.rule(SERVICES, f"{to} -m addrtype --dst-type LOCAL -j {self.service}", "external IP of the node")
        for address in info.load_balancer_vips:
            yield self.rule(SERVICES, f"{self.to(address, 'loadbalancer IP')} -j {self.firewall}", "load balancer IP")
        if info.node_port:
            to = f"-m comment --comment {self.label} {self.to_node_port}"
            if not info.external_local:
                yield self.rule(NODE_PORTS, f"{to} {masquerade}", "masquerade external traffic")
            yield self.rule(NODE_PORTS, f"{to} -j {self.external}", "node port")

    def refusals(self) -> Iterator[Rule]:
        """REJECT in the filter table for a Service port without ready endpoints (load balancer addresses: none)."""
        if self.endpoints:
            return
        info, role = self.info, "no endpoints"
        for address in info.external_ips:
            yield self.rule(SERVICES, f"{self.to(address, 'has no endpoints')} -j REJECT", role)
        if info.node_port:
            comment = f'-m comment --comment "{self.label} has no endpoints" -m addrtype --dst-type LOCAL'
            yield self.rule(SERVICES, f"{comment} {self.to_node_port} -j REJECT", role)
        yield self.rule(SERVICES, f"{self.to(info.cluster_ip, 'has no endpoints')} -j REJECT", role)

    def own_chains(self) -> Iterator[str]:
        yield self.service
        if self.info.external_local:
            yield self.balanced
        if self.info.load_balancer_vips:
            yield self.firewall
        for endpoint in self.endpoints:
            yield self.endpoint_chain(endpoint)

    def own_rules(self, node_address: str) -> Iterator[Rule]:
        for address in self.info.load_balancer_vips:
            yield from self.firewall_rules(address, node_address)
        if not self.endpoints:
            return
        comment = f"-m comment --comment {self.label}"
        for endpoint in self.endpoints if self.info.affinity_timeout else ():
            target = self.endpoint_chain(endpoint)
            known = f"-m recent --name {target} --rcheck --seconds {self.info.affinity_timeout} --reap"
            yield self.rule(self.service, f"{comment} {known} -j {target}", "affinity to", endpoint)
        for index, endpoint in enumerate(self.endpoints):
            target, chance = self.endpoint_chain(endpoint), _chance(len(self.endpoints) - index)
            yield self.rule(self.service, f"{comment} {chance}-j {target}", "choose", endpoint)
            hairpin = f"{comment} -s {endpoint.address}/32 -j {MARK_MASQUERADE}"
            yield self.rule(target, hairpin, "masquerade hairpin of", endpoint)
            remember = f"-m recent --name {target} --set " if self.info.affinity_timeout else ""
            dnat = f"-m {self.protocol} -p {self.protocol} -j DNAT --to-destination {endpoint.text}"
            yield self.rule(target, f"{comment} {remember}{dnat}", "DNAT to", endpoint)
        if self.info.external_local:
            yield from self.balanced_rules()

    def firewall_rules(self, address: str, node_address: str) -> Iterator[Rule]:
        """KUBE-FW-: always made for a load balancer's address; who does not pass is marked for drop."""
        intro = f'-m comment --comment "{self.label} loadbalancer IP"'
        if not self.info.external_local:
            yield self.rule(self.firewall, f"{intro} -j {MARK_MASQUERADE}", "masquerade external traffic")
        sources = list(self.info.source_ranges)
        if node_address and any(ipaddress.ip_address(node_address) in ipaddress.ip_network(each) for each in sources):
            sources.append(f"{address}/32")
        if not sources:
            yield self.rule(self.firewall, f"{intro} -j {self.external}", "load balancer IP")
        for cidr in sources:
            yield self.rule(self.firewall, f"{intro} -s {cidr} -j {self.external}", "source range")
        yield self.rule(self.firewall, f"{intro} -j {MARK_DROP}", "source range")

    def balanced_rules(self) -> Iterator[Rule]:
        """KUBE-XLB-: pods go to the whole Service, all others to the endpoints of this node, or nowhere."""
        chain = self.balanced
        if self.pods:
            comment = '-m comment --comment "Redirect pods trying to reach external loadbalancer VIP to clusterIP"'
            yield self.rule(chain, f"{comment} -s {self.pods} -j {self.service}", "short-circuit pod traffic")
        local = [each for each in self.endpoints if each.is_local]
        if not local:
            spec = f'-m comment --comment "{self.label} has no local endpoints" -j {MARK_DROP}'
            yield self.rule(chain, spec, "no local endpoints")
        for index, endpoint in enumerate(local):
            comment = f'-m comment --comment "Balancing rule {index} for {self.label}"'
            chance = _chance(len(local) - index)
            yield self.rule(chain, f"{comment} {chance}-j {self.endpoint_chain(endpoint)}", "choose", endpoint)

    def endpoint_chain(self, endpoint: EndpointInfo) -> str:
        return names.endpoint_chain(self.label, self.protocol, endpoint.text)


def _chance(remaining: int) -> str:
    """The statistic match for one of `remaining`, with the blank behind it; 1.7 wrote five digits."""
    return f"-m statistic --mode random --probability {1 / remaining:.5f} " if remaining > 1 else ""
