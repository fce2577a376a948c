"""kube-proxy's own view of Services and endpoints: one family at a time, one entry per Service port.

The API has documents; the proxy modes need answers: which addresses lead to this port, which endpoints may this node
use for traffic under policy Cluster and under policy Local.  Both modes write their rules from this view alone.
Everything here is sorted by name, so that the same objects in any order give the same view.

Source: kube-proxy, pkg/proxy/serviceport.go, servicechangetracker.go, endpoint.go, endpointslicecache.go, topology.go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import NamedTuple

from hoplab.dataplane.config import family_of
from hoplab.kube.types import Endpoint, EndpointSlice, IPFamily, Node, Protocol, Service, ServicePort

PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"
"""Objects with one of these labels belong to somebody else (pkg/proxy's informers leave them out)."""


class PortKey(NamedTuple):
    """kube-proxy's ServicePortName: what joins a Service port with its endpoints.  Sorts as the rules are written."""

    namespace: str
    name: str
    port_name: str
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class ServicePortInfo:
    """One port of a Service in one family, with every address that leads to it.

    `affinity_timeout` is in seconds, 0 without session affinity.  `load_balancer_vips` are the status addresses of
    ipMode VIP only: in mode Proxy the balancer itself answers, so no node catches them.  `health_check_node_port` is 0
    unless the Service is a LoadBalancer under policy Local.
    """

    key: PortKey
    label: str
    """namespace/name:port as comments have it; without colon for a port without name."""
    cluster_ip: str
    port: int
    node_port: int = 0
    external_ips: tuple[str, ...] = ()
    load_balancer_vips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()
    affinity_timeout: int = 0
    external_local: bool = False
    internal_local: bool = False
    health_check_node_port: int = 0

    @property
    def namespace(self) -> str:
        """The Service's namespace."""
        return self.key.namespace

    @property
    def name(self) -> str:
        """The Service's name."""
        return self.key.name

    @property
    def port_name(self) -> str:
        """The port's name, empty when it has none."""
        return self.key.port_name

    @property
    def protocol(self) -> Protocol:
        """The port's protocol in upper case."""
        return self.key.protocol

    @property
    def service(self) -> str:
        """namespace/name of the Service."""
        return f"{self.key.namespace}/{self.key.name}"

    @property
    def externally_accessible(self) -> bool:
        """Whether anything but the cluster IP leads here."""
        return bool(self.node_port or self.load_balancer_vips or self.external_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        """Whether any traffic goes by policy Cluster; under external policy Local that of pods and the node does."""
        return not self.internal_local or self.externally_accessible

    @property
    def uses_local_endpoints(self) -> bool:
        """Whether any traffic goes by policy Local."""
        return self.internal_local or (self.external_local and self.externally_accessible)


@dataclass(frozen=True, slots=True)
class EndpointInfo:
    """One address and port that can answer for a Service port, as this node sees it.

    `ready` excludes terminating endpoints (unless the Service publishes not-ready addresses); `serving` does not care.
    """

    address: str
    port: int
    is_local: bool = False
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zone_hints: frozenset[str] = frozenset()
    node_hints: frozenset[str] = frozenset()
    node_name: str = ""
    target_ref: str = ""
    """namespace/name of the pod behind it, empty when there is none."""

    @property
    def text(self) -> str:
        """address:port, with brackets around an IPv6 address: by this kube-proxy knows and sorts endpoints."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


Endpoints = tuple[EndpointInfo, ...]
_Name = tuple[str, str]
"""Namespace and name of a Service."""


class Categories(NamedTuple):
    """A Service port's endpoints as a node may use them.

    `cluster` and `local` are those for the two policies (empty when the port never uses that policy), `reachable` is
    the union of both, `has_any` tells whether any endpoint exists in the whole cluster.
    """

    cluster: Endpoints
    local: Endpoints
    reachable: Endpoints
    has_any: bool


@dataclass(frozen=True, slots=True)
class View:
    """Everything that kube-proxy on one node knows of one family.

    `of_services` and `of_slices` keep what each object came to, by name, so that the next view can take it over.
    """

    node: Node
    family: IPFamily
    ports: tuple[ServicePortInfo, ...]
    endpoints: Mapping[PortKey, Endpoints]
    of_services: Mapping[_Name, tuple[Service, tuple[ServicePortInfo, ...]]] = field(repr=False, compare=False)
    of_slices: Mapping[_Name, tuple[tuple[EndpointSlice, ...], Mapping[PortKey, Endpoints]]] = field(
        repr=False, compare=False
    )

    def categories(self, port: ServicePortInfo) -> Categories:
        """The endpoints of one Service port, by policy."""
        return categorize_endpoints(self.endpoints.get(port.key, ()), port, self.node)


def view(
    services: Iterable[Service],
    slices: Iterable[EndpointSlice],
    node: Node,
    family: IPFamily,
    previous: View | None = None,
) -> View:
    """The view of `node` in one family.

    `previous`, the view before a change, saves the work for objects that are the same values still.
    """
    if previous and (previous.node.name, previous.family) != (node.name, family):
        previous = None
    of_services = {}
    for service in services:
        name = (service.meta.namespace, service.meta.name)
        known = previous.of_services.get(name) if previous else None
        of_services[name] = known if known and known[0] is service else (service, _ports_of(service, family))
    of_slices: dict[_Name, tuple[tuple[EndpointSlice, ...], Mapping[PortKey, Endpoints]]] = {}
    for name, group in _by_service(slices, family).items():
        before = previous.of_slices.get(name) if previous else None
        if before is None or len(before[0]) != len(group) or not all(map(is_, before[0], group)):
            before = (tuple(group), _merged(group, node))
        of_slices[name] = before
    return View(
        node,
        family,
        ports=tuple(sorted((info for _, infos in of_services.values() for info in infos), key=_by_key)),
        endpoints={key: each for _, merged in of_slices.values() for key, each in merged.items()},
        of_services=of_services,
        of_slices=of_slices,
    )


def service_ports(services: Iterable[Service], family: IPFamily) -> list[ServicePortInfo]:
    """The Service ports that kube-proxy serves in one family, sorted by namespace, name, port name and protocol.

    Left out: headless and ExternalName Services, those without an address of the family, and those that a label gives
    to another proxy.
    """
    return sorted((info for service in services for info in _ports_of(service, family)), key=_by_key)


def endpoints_of(slices: Iterable[EndpointSlice], node: Node, family: IPFamily) -> dict[PortKey, Endpoints]:
    """The endpoints of every Service port of one family, each sorted by `EndpointInfo.text`.

    An address and port in two slices counts once: one that says "on this node" wins, else the first slice by name.
    """
    groups = _by_service(slices, family).values()
    return {key: each for group in groups for key, each in _merged(group, node).items()}


def _ports_of(service: Service, family: IPFamily) -> tuple[ServicePortInfo, ...]:
    cluster_ip = next((ip for ip in service.cluster_ips if ip != "None" and family_of(ip) == family), "")
    if not cluster_ip or service.headless or service.type == "ExternalName" or _foreign(service.meta.labels):
        return ()
    return tuple(_port_info(service, port, cluster_ip, family) for port in service.ports)


def _by_service(slices: Iterable[EndpointSlice], family: IPFamily) -> dict[_Name, list[EndpointSlice]]:
    """The slices that count, by namespace and name of their Service, each group sorted by the slices' names."""
    groups: dict[_Name, list[EndpointSlice]] = {}
    for each in slices:
        if each.address_type == family and each.service and not _foreign(each.meta.labels):
            groups.setdefault((each.meta.namespace, each.service), []).append(each)
    for group in groups.values():
        if len(group) > 1:
            group.sort(key=lambda each: each.meta.name)
    return groups


def _merged(slices: Iterable[EndpointSlice], node: Node) -> dict[PortKey, Endpoints]:
    """The endpoints of one Service's slices, by port."""
    found: dict[PortKey, dict[tuple[str, int], EndpointInfo]] = {}
    for each in slices:
        for port in sorted(each.ports, key=lambda item: item.port):
            if not port.port:
                continue
            known = found.setdefault(PortKey(each.meta.namespace, each.service, port.name, port.protocol), {})
            for endpoint in each.endpoints:
                if not endpoint.addresses or family_of(endpoint.addresses[0]) != each.address_type:
                    continue
                info = _endpoint_info(endpoint, port.port, node)
                if info.is_local or (info.address, info.port) not in known:
                    known[info.address, info.port] = info
    return {key: _sorted(known.values()) for key, known in found.items() if known}


def _endpoint_info(endpoint: Endpoint, port: int, node: Node) -> EndpointInfo:
    return EndpointInfo(
        endpoint.addresses[0],
        port,
        bool(node.name) and endpoint.node_name == node.name,
        endpoint.ready,
        endpoint.serving,
        endpoint.terminating,
        frozenset(endpoint.zone_hints),
        frozenset(endpoint.node_hints),
        endpoint.node_name,
        endpoint.target_ref,
    )


def _by_key(info: ServicePortInfo) -> PortKey:
    return info.key


def categorize_endpoints(endpoints: Sequence[EndpointInfo], port: ServicePortInfo, node: Node) -> Categories:
    """Which endpoints this node uses for policy Cluster and for policy Local.

    Usable is what is ready; when nothing is, what terminates but still serves (for each policy by itself).  Topology
    hints narrow policy Cluster only, and only while every ready endpoint has a hint and one is meant for this node or
    zone.  Source: pkg/proxy/topology.go (CategorizeEndpoints).
    """
    cluster: Endpoints = ()
    local: Endpoints = ()
    has_any = False
    topology = ""
    if not endpoints:
        return Categories(cluster, local, (), False)
    if port.uses_cluster_endpoints:
        topology = topology_mode(endpoints, node)
        cluster = tuple(each for each in endpoints if each.ready and _available(each, topology, node))
        if not cluster:
            cluster = tuple(each for each in endpoints if each.serving and each.terminating)
        has_any = bool(cluster)
    if not port.uses_local_endpoints:
        return Categories(cluster, local, cluster, has_any)
    has_any = has_any or any(each.ready or (each.serving and each.terminating) for each in endpoints)
    local = tuple(each for each in endpoints if each.is_local and each.ready)
    if not local:
        local = tuple(each for each in endpoints if each.is_local and each.serving and each.terminating)
    if not port.uses_cluster_endpoints:
        return Categories(cluster, local, local, has_any)
    return Categories(cluster, local, _sorted(dict.fromkeys((*cluster, *local))), has_any)


def topology_mode(endpoints: Iterable[EndpointInfo], node: Node) -> str:
    """'PreferSameNode', 'PreferSameZone' or '' (hints don't apply), from the hints of the ready endpoints.

    Source: pkg/proxy/topology.go (topologyModeFromHints).
    """
    ready = [each for each in endpoints if each.ready]
    if not ready:
        return ""
    if all(each.node_hints for each in ready) and any(node.name in each.node_hints for each in ready):
        return "PreferSameNode"
    if all(each.zone_hints for each in ready) and any(node.zone in each.zone_hints for each in ready):
        return "PreferSameZone"
    return ""


def _available(endpoint: EndpointInfo, topology: str, node: Node) -> bool:
    if topology == "PreferSameNode":
        return node.name in endpoint.node_hints
    if topology == "PreferSameZone":
        return node.zone in endpoint.zone_hints
    return True


def _foreign(labels: Mapping[str, str]) -> bool:
    return PROXY_NAME_LABEL in labels or HEADLESS_LABEL in labels


def _port_info(service: Service, port: ServicePort, cluster_ip: str, family: IPFamily) -> ServicePortInfo:
    meta = service.meta
    external = service.type in ("NodePort", "LoadBalancer") or (service.type == "ClusterIP" and service.external_ips)
    external_local = service.external_traffic_policy == "Local" and bool(external)
    return ServicePortInfo(
        key=PortKey(meta.namespace, meta.name, port.name, port.protocol),
        label=f"{meta.namespace}/{meta.name}:{port.name}" if port.name else f"{meta.namespace}/{meta.name}",
        cluster_ip=canonical(cluster_ip),
        port=port.port,
        node_port=port.node_port,
        external_ips=tuple(canonical(ip) for ip in service.external_ips if family_of(ip) == family),
        load_balancer_vips=tuple(
            canonical(each.ip)
            for each in service.load_balancer_ingress
            if each.ip and each.ip_mode == "VIP" and family_of(each.ip) == family
        ),
        source_ranges=tuple(_networks(service.load_balancer_source_ranges, family)),
        affinity_timeout=service.session_affinity_timeout if service.session_affinity == "ClientIP" else 0,
        external_local=external_local,
        internal_local=service.internal_traffic_policy == "Local",
        health_check_node_port=service.health_check_node_port
        if external_local and service.type == "LoadBalancer"
        else 0,
    )


def canonical(address: str) -> str:
    """An IPv6 address as Go's net.IP prints it (RFC 5952), so that one address has one spelling; IPv4 as it is."""
    return str(ipaddress.IPv6Address(address)) if ":" in address else address


def _networks(cidrs: Iterable[str], family: IPFamily) -> Iterator[str]:
    """Source ranges with their host bits cleared, as Go's net.IPNet prints them.

    The API lets blanks around them pass.  One that is no network is passed over, as kube-proxy does
    (pkg/proxy/util/utils.go, MapCIDRsByIPFamily): the API server has refused it already.
    """
    for cidr in cidrs:
        try:
            network = ipaddress.ip_network(cidr.strip(), strict=False)
        except ValueError:
            continue
        if family_of(str(network)) == family:
            yield str(network)


def _sorted(endpoints: Iterable[EndpointInfo]) -> Endpoints:
    return tuple(sorted(endpoints, key=lambda each: each.text))
