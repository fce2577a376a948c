"""One Service port in kube-proxy's iptables mode: the rules it adds to shared chains, and its own chains.

The way of a packet through them: KUBE-SERVICES (or KUBE-NODEPORTS) knows the address.  A cluster IP leads to
KUBE-SVC-, or to KUBE-SVL- under internal policy Local; everything that comes from outside leads to KUBE-EXT-, which
decides about masquerade and then goes on to KUBE-SVC- or KUBE-SVL-; a load balancer's address with source ranges leads
there by KUBE-FW-.  KUBE-SVC- and KUBE-SVL- choose an endpoint by chance (the n-th of the remaining ones with 1/n),
KUBE-SEP- does the DNAT.  What finds no endpoint is not rewritten, and so meets the rules of the filter table: REJECT
where no endpoint exists at all, DROP where policy Local finds none here.

Source: kube-proxy 1.34, pkg/proxy/iptables/proxier.go (syncProxyRules, writeServiceToEndpointRules).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hoplab.dataplane import iptables_names as names
from hoplab.dataplane.iptables_text import Part, Rule
from hoplab.dataplane.view import Categories, EndpointInfo, Endpoints, ServicePortInfo, categorize_endpoints
from hoplab.kube.types import Node

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
MARK_MASQUERADE = "KUBE-MARK-MASQ"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"

_MASQUERADE = f"-j {MARK_MASQUERADE}"
LOCALHOST_COUNTER = "localhost_nps_accepted_pkts"
"""kube-proxy's nfacct counter of packets that node ports took on loopback."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all Services of a node share.

    `node` decides about local endpoints and topology; `pods` is the cluster CIDR, empty without detection of local
    traffic; `node_address` the node's primary address, empty when it has none; `count_localhost` counts what node ports
    take on loopback, by nfacct.  `large` leaves out the comments that large clusters can't afford; a cluster that grows
    large keeps the comments it has until the next full sync, so they make no difference between two parts.
    """

    node: Node
    pods: str
    masquerade_all: bool
    node_address: str
    large: bool = field(default=False, compare=False)
    count_localhost: bool = False


def service_part(around: Surroundings, info: ServicePortInfo, endpoints: Endpoints) -> Part:
    """All that one Service port adds to the tables, given all its endpoints."""
    port = _Port(around, info, categorize_endpoints(endpoints, info, around.node))
    return Part(
        key=info.key,
        seen=(around, info, endpoints),
        filter=tuple(port.filter_rules()),
        top=tuple(port.shared_rules()),
        chains=tuple(port.own_chains()),
        rules=tuple(port.own_rules()),
    )


def probability(choices: int) -> str:
    """One of `choices`, as kube-proxy writes it for the statistic match (computeProbability)."""
    return f"{1 / choices:.10f}"


class _Port:
    """One Service port while its rules are written."""

    def __init__(self, around: Surroundings, info: ServicePortInfo, endpoints: Categories) -> None:
        self.around, self.info, self.endpoints = around, info, endpoints
        self.label = label = info.label
        self.protocol = protocol = info.protocol.lower()
        self.match = f"-m {protocol} -p {protocol}"
        self.cluster = names.service_chain(names.SERVICE, label, protocol)
        self.local = names.service_chain(names.LOCAL, label, protocol)
        self.external = names.service_chain(names.EXTERNAL, label, protocol)
        self.firewall = names.service_chain(names.FIREWALL, label, protocol)
        self.has_internal = bool(endpoints.local) if info.internal_local else endpoints.has_any
        self.has_external = bool(endpoints.local) if info.external_local else endpoints.has_any
        self.internal = self.local if info.internal_local else self.cluster
        self.uses_external = endpoints.has_any and info.externally_accessible
        self.uses_firewall = endpoints.has_any and bool(info.load_balancer_vips and info.source_ranges)

    def rule(self, chain: str, spec: str, role: str, endpoint: EndpointInfo | None = None) -> Rule:
        if endpoint is None:
            return Rule(chain, spec, role, self.label)
        return Rule(chain, spec, role, self.label, endpoint.text, endpoint.target_ref)

    def comment(self, text: str) -> str:
        """A comment that stays in large clusters; kube-proxy quotes those with blanks only."""
        return f'-m comment --comment "{text}"' if " " in text else f"-m comment --comment {text}"

    def spare_comment(self, text: str) -> str:
        """A comment that large clusters do without, with the blank behind it."""
        return "" if self.around.large else f"{self.comment(text)} "

    def to(self, address: str) -> str:
        """The match for an address of the Service with its port."""
        return f"{self.match} -d {address} --dport {self.info.port}"

    def shared_rules(self) -> Iterator[Rule]:
        """The rules in KUBE-SERVICES and KUBE-NODEPORTS of the nat table."""
        info, label = self.info, self.label
        if self.has_internal:
            spec = f"{self.comment(f'{label} cluster IP')} {self.to(info.cluster_ip)} -j {self.internal}"
            yield self.rule(SERVICES, spec, "cluster IP")
        if not self.endpoints.has_any:
            return
        for address in info.external_ips:
            spec = f"{self.comment(f'{label} external IP')} {self.to(address)} -j {self.external}"
            yield self.rule(SERVICES, spec, "external IP")
        balanced = self.firewall if self.uses_firewall else self.external
        for address in info.load_balancer_vips:
            spec = f"{self.comment(f'{label} loadbalancer IP')} {self.to(address)} -j {balanced}"
            yield self.rule(SERVICES, spec, "load balancer IP")
        if info.node_port:
            intro, port = f"{self.comment(label)} {self.match}", f"--dport {info.node_port}"
            if self.around.count_localhost:
                count = f"-m nfacct --nfacct-name {LOCALHOST_COUNTER}"
                spec = f"{intro} -d 127.0.0.0/8 {port} {count} -j {self.external}"
                yield self.rule(NODE_PORTS, spec, "node port on loopback")
            yield self.rule(NODE_PORTS, f"{intro} {port} -j {self.external}", "node port")

    def filter_rules(self) -> Iterator[Rule]:
        """The rules of the filter table: refusal, firewall, health check."""
        info = self.info
        if not self.has_internal:
            spec = f"{self.refusal()} {self.to(info.cluster_ip)} -j {self.verdict()}"
            yield self.rule(SERVICES, spec, self.refusal_role())
        if not self.has_external:
            for address in info.external_ips:
                spec = f"{self.refusal()} {self.to(address)} -j {self.verdict()}"
                yield self.rule(EXTERNAL_SERVICES, spec, self.refusal_role())
        if self.uses_firewall:
            text = self.comment(f"{self.label} traffic not accepted by {self.firewall}")
            for address in info.load_balancer_vips:
                yield self.rule(PROXY_FIREWALL, f"{text} {self.to(address)} -j DROP", "source range")
        if not self.has_external:
            for address in info.load_balancer_vips:
                spec = f"{self.refusal()} {self.to(address)} -j {self.verdict()}"
                yield self.rule(EXTERNAL_SERVICES, spec, self.refusal_role())
            if info.node_port:
                here = f"-m addrtype --dst-type LOCAL {self.match} --dport {info.node_port}"
                yield self.rule(EXTERNAL_SERVICES, f"{self.refusal()} {here} -j {self.verdict()}", self.refusal_role())
        if info.health_check_node_port:
            text = self.comment(f"{self.label} health check node port")
            spec = f"{text} -m tcp -p tcp --dport {info.health_check_node_port} -j ACCEPT"
            yield self.rule(NODE_PORTS, spec, "health check node port")

    def refusal(self) -> str:
        return self.comment(f"{self.label} has no {'local ' if self.endpoints.has_any else ''}endpoints")

    def verdict(self) -> str:
        """Nobody anywhere: tell the sender.  Nobody here under policy Local: be silent, the balancer knows."""
        return "DROP" if self.endpoints.has_any else "REJECT"

    def refusal_role(self) -> str:
        return "no local endpoints" if self.endpoints.has_any else "no endpoints"

    def own_chains(self) -> Iterator[str]:
        """The Service port's own chains, in the order of kube-proxy's text."""
        if self.uses_external:
            yield self.external
        if self.uses_firewall:
            yield self.firewall
        if self.endpoints.cluster and self.info.uses_cluster_endpoints:
            yield self.cluster
        if self.endpoints.local and self.info.uses_local_endpoints:
            yield self.local
        for endpoint in self.endpoints.reachable:
            yield self.endpoint_chain(endpoint)

    def own_rules(self) -> Iterator[Rule]:
        """The rules in the Service port's own chains."""
        if self.has_internal:
            yield from self.internal_masquerade()
        if self.uses_external:
            yield from self.external_rules()
        if self.uses_firewall:
            yield from self.firewall_rules()
        if self.endpoints.cluster and self.info.uses_cluster_endpoints:
            yield from self.choice(self.cluster, self.endpoints.cluster)
        if self.endpoints.local and self.info.uses_local_endpoints:
            yield from self.choice(self.local, self.endpoints.local)
        for endpoint in self.endpoints.reachable:
            yield from self.endpoint_rules(endpoint)

    def internal_masquerade(self) -> Iterator[Rule]:
        """Who is not a pod and uses a cluster IP may have been routed to any node: the answer must come back here."""
        around = self.around
        if not around.masquerade_all and not around.pods:
            return
        sender = "" if around.masquerade_all else f"! -s {around.pods} "
        spec = f"{self.comment(f'{self.label} cluster IP')} {self.to(self.info.cluster_ip)} {sender}{_MASQUERADE}"
        yield self.rule(self.internal, spec, "masquerade to cluster IP")

    def external_rules(self) -> Iterator[Rule]:
        """KUBE-EXT-: policy Cluster masquerades; policy Local keeps the sender, but pods and the node go anywhere."""
        chain, what = self.external, f"{self.label} external destinations"
        if not self.info.external_local:
            spec = f"{self.comment(f'masquerade traffic for {what}')} {_MASQUERADE}"
            yield self.rule(chain, spec, "masquerade external traffic")
        else:
            if self.around.pods:
                spec = f"{self.comment(f'pod traffic for {what}')} -s {self.around.pods} -j {self.cluster}"
                yield self.rule(chain, spec, "short-circuit pod traffic")
            here = "-m addrtype --src-type LOCAL"
            spec = f"{self.comment(f'masquerade LOCAL traffic for {what}')} {here} {_MASQUERADE}"
            yield self.rule(chain, spec, "masquerade the node's traffic")
            spec = f"{self.comment(f'route LOCAL traffic for {what}')} {here} -j {self.cluster}"
            yield self.rule(chain, spec, "short-circuit the node's traffic")
        if self.has_external:
            target = self.local if self.info.external_local else self.cluster
            yield self.rule(chain, f"-j {target}", "external traffic")

    def firewall_rules(self) -> Iterator[Rule]:
        """KUBE-FW-: who passes is DNATed; who doesn't reaches KUBE-PROXY-FIREWALL with the address unchanged."""
        intro, info = self.comment(f"{self.label} loadbalancer IP"), self.info
        for cidr in info.source_ranges:
            yield self.rule(self.firewall, f"{intro} -s {cidr} -j {self.external}", "source range")
        node = self.around.node_address
        if node and any(ipaddress.ip_address(node) in ipaddress.ip_network(cidr) for cidr in info.source_ranges):
            # A node that has the balancer's address as its own sends from that address.
            for address in info.load_balancer_vips:
                yield self.rule(self.firewall, f"{intro} -s {address} -j {self.external}", "source range of the node")
        text = self.comment(f"other traffic to {self.label} will be dropped by KUBE-PROXY-FIREWALL")
        yield self.rule(self.firewall, text, "note")

    def choice(self, chain: str, endpoints: Sequence[EndpointInfo]) -> Iterator[Rule]:
        """KUBE-SVC- or KUBE-SVL-: known clients to their endpoint, the others to one by chance."""
        if self.info.affinity_timeout:
            for endpoint in endpoints:
                target = self.endpoint_chain(endpoint)
                known = f"-m recent --name {target} --rcheck --seconds {self.info.affinity_timeout} --reap"
                spec = f"{self.spare_comment(f'{self.label} -> {endpoint.text}')}{known} -j {target}"
                yield self.rule(chain, spec, "affinity to", endpoint)
        for index, endpoint in enumerate(endpoints):
            remaining = len(endpoints) - index
            chance = f"-m statistic --mode random --probability {probability(remaining)} " if remaining > 1 else ""
            comment = self.spare_comment(f"{self.label} -> {endpoint.text}")
            yield self.rule(chain, f"{comment}{chance}-j {self.endpoint_chain(endpoint)}", "choose", endpoint)

    def endpoint_rules(self, endpoint: EndpointInfo) -> Iterator[Rule]:
        """KUBE-SEP-: an endpoint that reaches itself must be masqueraded, or it would answer itself directly."""
        chain = self.endpoint_chain(endpoint)
        comment = self.spare_comment(self.label)
        yield self.rule(chain, f"{comment}-s {endpoint.address} {_MASQUERADE}", "masquerade hairpin of", endpoint)
        remember = f"-m recent --name {chain} --set " if self.info.affinity_timeout else ""
        spec = f"{comment}{remember}{self.match} -j DNAT --to-destination {endpoint.text}"
        yield self.rule(chain, spec, "DNAT to", endpoint)

    def endpoint_chain(self, endpoint: EndpointInfo) -> str:
        return names.endpoint_chain(self.label, self.protocol, endpoint.text)
