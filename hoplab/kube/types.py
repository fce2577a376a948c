"""The Kubernetes objects the data plane decides on, as frozen values.

The API server keeps whole documents; kube-proxy, the controllers and the
scheduler look at a small part of them.  This file names that part once, with
the API's own field names in snake case, already defaulted and validated
(`hoplab.kube.load` makes these values from YAML).  Nothing here reads files or
talks to a kernel.

Source: the Kubernetes API reference (core/v1, discovery.k8s.io/v1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Protocol = Literal["TCP", "UDP", "SCTP"]
IPFamily = Literal["IPv4", "IPv6"]
TrafficPolicy = Literal["Cluster", "Local"]
EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an object was written: file name (or '<inline>') and 1-based line."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """The part of metadata that anything in the lab reads."""

    name: str
    namespace: str = "default"
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    annotations: Mapping[str, str] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One entry of Service.spec.ports; node_port 0 means none."""

    port: int
    protocol: Protocol = "TCP"
    name: str = ""
    target_port: int | str = 0
    node_port: int = 0
    app_protocol: str = ""


@dataclass(frozen=True, slots=True)
class LoadBalancerIngress:
    """One entry of Service.status.loadBalancer.ingress that carries an address."""

    ip: str
    ip_mode: Literal["VIP", "Proxy"] = "VIP"


@dataclass(frozen=True, slots=True)
class Service:
    """core/v1 Service, spec and the load balancer's status.

    `cluster_ips` is empty for ExternalName and ("None",) for headless Services.
    `session_affinity_timeout` is in seconds.
    """

    meta: ObjectMeta
    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    cluster_ips: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    ip_families: tuple[IPFamily, ...] = ()
    ip_family_policy: str = "SingleStack"
    external_ips: tuple[str, ...] = ()
    external_name: str = ""
    external_traffic_policy: TrafficPolicy = "Cluster"
    internal_traffic_policy: TrafficPolicy = "Cluster"
    session_affinity: Literal["None", "ClientIP"] = "None"
    session_affinity_timeout: int = 10800
    load_balancer_ip: str = ""
    load_balancer_class: str = ""
    load_balancer_source_ranges: tuple[str, ...] = ()
    load_balancer_ingress: tuple[LoadBalancerIngress, ...] = ()
    allocate_load_balancer_node_ports: bool = True
    health_check_node_port: int = 0
    publish_not_ready_addresses: bool = False
    traffic_distribution: str = ""
    origin: Origin = Origin("<inline>")

    @property
    def key(self) -> str:
        """namespace/name, as kube-proxy's comments have it."""
        return f"{self.meta.namespace}/{self.meta.name}"

    @property
    def headless(self) -> bool:
        """No virtual IP: kube-proxy leaves such a Service alone."""
        return self.cluster_ips[:1] == ("None",)


@dataclass(frozen=True, slots=True)
class EndpointPort:
    """One port of an EndpointSlice; `name` joins it to ServicePort.name."""

    port: int
    protocol: Protocol = "TCP"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of an EndpointSlice with its conditions, defaults applied.

    `ready` unset in the document means True; `serving` unset means the value of ready.
    """

    addresses: tuple[str, ...]
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    node_name: str = ""
    zone: str = ""
    zone_hints: tuple[str, ...] = ()
    node_hints: tuple[str, ...] = ()
    target_ref: str = ""
    """namespace/name of the pod behind it, empty when there is none."""
    hostname: str = ""
    """Its name below a headless Service in DNS, empty when it has none."""


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    """discovery.k8s.io/v1 EndpointSlice; also made from core/v1 Endpoints."""

    meta: ObjectMeta
    service: str
    """Name of the Service (label kubernetes.io/service-name), same namespace."""
    address_type: Literal["IPv4", "IPv6", "FQDN"] = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()
    origin: Origin = Origin("<inline>")


@dataclass(frozen=True, slots=True)
class Node:
    """core/v1 Node: what scheduling and kube-proxy need."""

    name: str
    addresses: tuple[str, ...]
    """InternalIPs; the first of each family is the node's primary address."""
    extra_addresses: tuple[str, ...] = ()
    """More addresses of its own that are not in the Node object."""
    pod_cidrs: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)

    @property
    def zone(self) -> str:
        """topology.kubernetes.io/zone, empty when the node has none."""
        return self.labels.get("topology.kubernetes.io/zone", "")


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A declared port of a container."""

    port: int
    protocol: Protocol = "TCP"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """The part of a container that the lab starts."""

    name: str
    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    document: Mapping[str, object] = field(default_factory=dict)
    """The whole container as written (probes, lifecycle, ... are read from here)."""


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """spec.dnsConfig: what is added to the resolver's configuration; options as resolv.conf has them (`ndots:2`)."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pod:
    """core/v1 Pod: what the scheduler and the node agent need."""

    meta: ObjectMeta
    containers: tuple[Container, ...] = ()
    node_name: str = ""
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""
    dns_policy: str = "ClusterFirst"
    dns_config: DnsConfig = DnsConfig()
    host_aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(address, names) for /etc/hosts."""
    termination_grace_period: int = 30
    volumes: tuple[Mapping[str, object], ...] = ()
    """spec.volumes as written."""
    owner: str = ""
    """kind/name of the controller that made it, empty for a bare pod."""
    init_containers: tuple[Container, ...] = ()
    origin: Origin = Origin("<inline>")

    @property
    def requested_ip(self) -> str:
        """Annotation hoplab.dev/ip: the fixed address that the pod asks for."""
        return self.meta.annotations.get("hoplab.dev/ip", "")


@dataclass(frozen=True, slots=True)
class Workload:
    """ReplicationController, ReplicaSet, Deployment, DaemonSet or StatefulSet."""

    kind: str
    meta: ObjectMeta
    replicas: int
    selector: Mapping[str, str]
    template: Pod
    document: Mapping[str, object] = field(default_factory=dict)
    origin: Origin = Origin("<inline>")
