"""One Service port in kube-proxy's nftables table: its chains, its affinity sets, its elements in the maps.

What is written depends on three questions.  Are there endpoints at all?  If not, every address of the Service is
rejected.  Does a traffic policy say Local, and has this node an endpoint?  If not, that kind of traffic is dropped
(except from pods and from the node itself, which may use all endpoints).  Where did the packet come from?  What may
have to leave this node again, or comes from outside the cluster, is masqueraded.

Source: kube-proxy 1.34, pkg/proxy/nftables/proxier.go (syncProxyRules, writeServiceToEndpointRules).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hoplab.dataplane.nft_text import Chain, Element, Rule, Set
from hoplab.dataplane.nftables_base import MARK_MASQUERADE, REJECT, Words
from hoplab.dataplane.nftables_names import endpoint_base, service_base
from hoplab.dataplane.view import Categories, EndpointInfo, ServicePortInfo

_MASQUERADE = f"jump {MARK_MASQUERADE}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all Services of a node share.

    `from_pod` and `not_from_pod` match traffic by its sender; both are empty without detection of local traffic.
    `node_address` is the node's primary address of the family, empty when it has none.
    """

    lang: Words
    from_pod: str
    not_from_pod: str
    masquerade_all: bool
    node_address: str


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What one Service port adds to the table; elements with the name of their set or map."""

    chains: tuple[Chain, ...]
    affinity_sets: tuple[Set, ...]
    elements: tuple[tuple[str, Element], ...]


class _Port:
    """One Service port while it is being written."""

    def __init__(self, around: Surroundings, info: ServicePortInfo, endpoints: Categories) -> None:
        self.around, self.info, self.endpoints = around, info, endpoints
        self.chains: list[Chain] = []
        self.affinity_sets: list[Set] = []
        self.elements: list[tuple[str, Element]] = []
        self.label = info.label
        self.protocol = info.protocol.lower()
        base = service_base(info.namespace, info.name, info.port_name, self.protocol)
        self.cluster, self.local = f"service-{base}", f"local-{base}"
        self.external, self.firewall = f"external-{base}", f"firewall-{base}"
        self.names = {
            endpoint: endpoint_base(
                info.namespace, info.name, info.port_name, self.protocol, endpoint.address, endpoint.port
            )
            for endpoint in endpoints.reachable
        }
        self.has_internal = bool(endpoints.local) if info.internal_local else endpoints.has_any
        self.has_external = bool(endpoints.local) if info.external_local else endpoints.has_any
        self.internal_chain = self.local if info.internal_local else self.cluster
        # No endpoint anywhere: reject.  None here under policy Local: drop.
        self.refusal = "drop" if endpoints.has_any else f"goto {REJECT}"

    def chain(self, name: str, rules: Iterable[Rule], about: str = "") -> None:
        self.chains.append(Chain(name, tuple(rules), source=self.label, about=about or self.label))

    def element(self, collection: str, key: str, value: str = "", comment: str = "") -> None:
        self.elements.append((collection, Element(key, value, comment, self.label)))

    def key(self, address: str) -> str:
        """The Service port on this address, as the maps' keys have it."""
        return f"{address} . {self.protocol} . {self.info.port}"


def service_parts(around: Surroundings, info: ServicePortInfo, endpoints: Categories) -> ServiceParts:
    """What one Service port needs on a node with these surroundings."""
    port = _Port(around, info, endpoints)
    _internal_elements(port)
    _external_elements(port)
    _policy_chains(port)
    if endpoints.has_any and info.externally_accessible:
        port.chain(port.external, _external_rules(port))
    _firewall(port)
    _endpoint_chains(port)
    return ServiceParts(tuple(port.chains), tuple(port.affinity_sets), tuple(port.elements))


def _internal_elements(port: _Port) -> None:
    address = port.info.cluster_ip
    port.element("cluster-ips", address)
    if port.has_internal:
        port.element("service-ips", port.key(address), f"goto {port.internal_chain}")
    else:
        port.element("no-endpoint-services", port.key(address), port.refusal, port.label)


def _external_elements(port: _Port) -> None:
    """External IPs, load balancer addresses and the node port.

    With policy Local and no endpoint here an address is in both maps: `external-...` still serves pods and the node,
    the rest passes on and is dropped.
    """
    info = port.info
    for address in (*info.external_ips, *info.load_balancer_vips):
        if port.endpoints.has_any:
            port.element("service-ips", port.key(address), f"goto {port.external}")
        if not port.has_external:
            port.element("no-endpoint-services", port.key(address), port.refusal, port.label)
    if info.node_port:
        key = f"{port.protocol} . {info.node_port}"
        if port.endpoints.has_any:
            port.element("service-nodeports", key, f"goto {port.external}")
        if not port.has_external:
            port.element("no-endpoint-nodeports", key, port.refusal, port.label)


def _policy_chains(port: _Port) -> None:
    """`service-...` for policy Cluster and `local-...` for policy Local, each when something may go there."""
    info, endpoints = port.info, port.endpoints
    if endpoints.cluster and info.uses_cluster_endpoints:
        port.chain(port.cluster, (*_internal_masquerade(port, port.cluster), *_choice(port, endpoints.cluster)))
    if endpoints.local and info.uses_local_endpoints:
        port.chain(port.local, (*_internal_masquerade(port, port.local), *_choice(port, endpoints.local)))


def _internal_masquerade(port: _Port, chain: str) -> Iterable[Rule]:
    """Cluster IP traffic from outside the cluster may have been routed to any node: it must come back here."""
    around = port.around
    if not port.has_internal or chain != port.internal_chain:
        return
    to_cluster_ip = f"{around.lang.ip} daddr {port.info.cluster_ip}"
    if around.masquerade_all:
        yield Rule(f"{to_cluster_ip} {_MASQUERADE}", source=port.label)
    elif around.not_from_pod:
        yield Rule(f"{to_cluster_ip} {around.not_from_pod} {_MASQUERADE}", source=port.label)


def _choice(port: _Port, endpoints: Sequence[EndpointInfo]) -> Iterable[Rule]:
    """Known clients go to their endpoint, all others to a random one."""
    names = [port.names[endpoint] for endpoint in endpoints]
    if port.info.affinity_timeout:
        ip = port.around.lang.ip
        for name in names:
            yield Rule(f"{ip} saddr @affinity-{name} goto endpoint-{name}", source=port.label)
    ways = " , ".join(f"{index} : goto endpoint-{name}" for index, name in enumerate(names))
    yield Rule(f"numgen random mod {len(names)} vmap {{ {ways} }}", source=port.label)


def _external_rules(port: _Port) -> Iterable[Rule]:
    label, around = port.label, port.around
    if not port.info.external_local:
        # The endpoint may be on another node, whose answer has to pass here to be undone.
        yield Rule(_MASQUERADE, source=label)
    else:
        if around.from_pod:
            yield Rule(f"{around.from_pod} goto {port.cluster}", "short-circuit pod traffic", label)
        yield Rule(f"fib saddr type local {_MASQUERADE}", "masquerade local traffic", label)
        yield Rule(f"fib saddr type local goto {port.cluster}", "short-circuit local traffic", label)
    if port.has_external:
        yield Rule(f"goto {port.local if port.info.external_local else port.cluster}", source=label)


def _firewall(port: _Port) -> None:
    """loadBalancerSourceRanges: load balancer addresses take their senders only (node ports take all)."""
    info = port.info
    if not info.load_balancer_vips or not info.source_ranges:
        return
    sources = list(info.source_ranges)
    node = port.around.node_address
    if node and any(ipaddress.ip_address(node) in ipaddress.ip_network(each, strict=False) for each in sources):
        # A node that has the load balancer's address itself sends from it.
        sources += info.load_balancer_vips
    rule = Rule(f"{port.around.lang.ip} saddr != {{ {' , '.join(sources)} }} drop", source=port.label)
    port.chain(port.firewall, (rule,))
    for address in info.load_balancer_vips:
        port.element("firewall-ips", port.key(address), f"goto {port.firewall}")


def _endpoint_chains(port: _Port) -> None:
    lang, label, timeout = port.around.lang, port.label, port.info.affinity_timeout
    for endpoint, name in port.names.items():
        hairpin = Rule(f"{lang.ip} saddr {endpoint.address} {_MASQUERADE}", source=label)
        dnat = Rule(f"meta l4proto {port.protocol} dnat to {endpoint.text}", source=label)
        rules: tuple[Rule, ...] = (hairpin, dnat)
        if timeout:
            spec = f"type {lang.address_type} ; flags dynamic,timeout ; timeout {timeout}s"
            port.affinity_sets.append(Set(f"affinity-{name}", spec, dynamic=True, source=label))
            rules = (hairpin, Rule(f"update @affinity-{name} {{ {lang.ip} saddr }}", source=label), dnat)
        pod = f" (pod {endpoint.target_ref})" if endpoint.target_ref else ""
        port.chain(f"endpoint-{name}", rules, f"endpoint {endpoint.text}{pod} of {label}")
