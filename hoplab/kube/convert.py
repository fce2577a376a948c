"""From documents to the typed values that everything else decides on, with the API's defaults applied.

The documents are valid already (hoplab.kube.load saw to it), so nothing is checked
here.  Defaults: pkg/apis/core/v1/defaults.go and the discovery/v1 API's field docs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hoplab.kube.defaults import AFFINITY_TIMEOUT_S
from hoplab.kube.objects import KubeObject
from hoplab.kube.types import (
    Container,
    ContainerPort,
    DnsConfig,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IPFamily,
    LoadBalancerIngress,
    Node,
    ObjectMeta,
    Pod,
    Service,
    ServicePort,
    Workload,
)

WORKLOADS = ("ReplicationController", "ReplicaSet", "Deployment", "DaemonSet", "StatefulSet")
_Doc = Mapping[str, Any]


def _of(document: Any, *path: str) -> _Doc:
    for key in path:
        document = (document or {}).get(key)
    return document or {}


def family(address: str) -> IPFamily:
    """The family of an address."""
    return "IPv6" if ":" in address else "IPv4"


def as_service(obj: KubeObject) -> Service:
    """A core/v1 Service."""
    spec = _of(obj.document, "spec")
    ips = tuple(spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []))
    families: tuple[IPFamily, ...] = tuple(spec.get("ipFamilies") or ())
    kind: Any = spec.get("type") or "ClusterIP"
    selectorless = ips == ("None",) and not spec.get("selector")
    policy = spec.get("ipFamilyPolicy") or ("RequireDualStack" if selectorless else "SingleStack")
    if kind != "ExternalName":
        # The order is the writer's; what is missing is inferred from the addresses, then from the policy.
        families = tuple(dict.fromkeys((*families, *(family(ip) for ip in ips if ip != "None")))) or ("IPv4",)
        if policy != "SingleStack":
            families = tuple(dict.fromkeys((*families, "IPv4", "IPv6")))
    status = _of(obj.document, "status", "loadBalancer").get("ingress") or ()
    client_ip = _of(spec, "sessionAffinityConfig", "clientIP")
    return Service(
        meta=obj.meta,
        type=kind,
        cluster_ips=() if kind == "ExternalName" else ips,
        ports=tuple(_service_port(port) for port in spec.get("ports") or ()),
        selector=dict(spec.get("selector") or {}),
        ip_families=families,
        ip_family_policy=policy,
        external_ips=tuple(spec.get("externalIPs") or ()),
        external_name=spec.get("externalName") or "",
        external_traffic_policy=spec.get("externalTrafficPolicy") or "Cluster",
        internal_traffic_policy=spec.get("internalTrafficPolicy") or "Cluster",
        session_affinity=spec.get("sessionAffinity") or "None",
        session_affinity_timeout=client_ip.get("timeoutSeconds") or AFFINITY_TIMEOUT_S,
        load_balancer_ip=spec.get("loadBalancerIP") or "",
        load_balancer_class=spec.get("loadBalancerClass") or "",
        load_balancer_source_ranges=tuple(each.strip() for each in spec.get("loadBalancerSourceRanges") or ()),
        load_balancer_ingress=tuple(
            LoadBalancerIngress(each["ip"], each.get("ipMode") or "VIP") for each in status if each.get("ip")
        ),
        allocate_load_balancer_node_ports=spec.get("allocateLoadBalancerNodePorts") is not False,
        health_check_node_port=spec.get("healthCheckNodePort") or 0,
        publish_not_ready_addresses=bool(spec.get("publishNotReadyAddresses")),
        traffic_distribution=spec.get("trafficDistribution") or "",
        origin=obj.origin,
    )


def _service_port(port: _Doc) -> ServicePort:
    return ServicePort(
        port=port["port"],
        protocol=port.get("protocol") or "TCP",
        name=port.get("name") or "",
        target_port=port.get("targetPort") or port["port"],
        node_port=port.get("nodePort") or 0,
        app_protocol=port.get("appProtocol") or "",
    )


def as_endpoint_slices(obj: KubeObject) -> tuple[EndpointSlice, ...]:
    """An EndpointSlice as it is; an Endpoints object mirrored, one slice a subset and family."""
    if obj.kind == "EndpointSlice":
        return (_slice(obj),)
    found = []
    for number, subset in enumerate(obj.document.get("subsets") or ()):
        ports = tuple(_endpoint_port(port) for port in subset.get("ports") or ())
        ready, waiting = subset.get("addresses") or (), subset.get("notReadyAddresses") or ()
        for which in ("IPv4", "IPv6"):
            endpoints = [_mirrored(a, good) for good, group in ((True, ready), (False, waiting)) for a in group]
            mine = tuple(e for e in endpoints if family(e.addresses[0]) == which)
            if mine:
                meta = ObjectMeta(
                    f"{obj.meta.name}-mirror-{number}-{which.lower()}",
                    obj.meta.namespace,
                    labels={
                        "kubernetes.io/service-name": obj.meta.name,
                        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
                    },
                )
                found.append(EndpointSlice(meta, obj.meta.name, which, mine, ports, obj.origin))
    return tuple(found)


def _mirrored(address: _Doc, ready: bool) -> Endpoint:
    return Endpoint(
        (address["ip"],),
        ready,
        ready,
        False,
        address.get("nodeName") or "",
        target_ref=_target(address.get("targetRef")),
        hostname=address.get("hostname") or "",
    )


def _target(reference: Any) -> str:
    if not isinstance(reference, Mapping) or reference.get("kind") != "Pod":
        return ""
    return f"{reference.get('namespace') or 'default'}/{reference.get('name') or ''}"


def _slice(obj: KubeObject) -> EndpointSlice:
    return EndpointSlice(
        obj.meta,
        obj.meta.labels.get("kubernetes.io/service-name", ""),
        obj.document.get("addressType") or "IPv4",
        tuple(_endpoint(each) for each in obj.document.get("endpoints") or ()),
        tuple(_endpoint_port(each) for each in obj.document.get("ports") or ()),
        obj.origin,
    )


def _endpoint(endpoint: _Doc) -> Endpoint:
    conditions = _of(endpoint, "conditions")
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    hints = _of(endpoint, "hints")
    return Endpoint(
        addresses=tuple(endpoint["addresses"]),
        ready=ready,
        serving=ready if serving is None else serving,
        terminating=conditions.get("terminating") is True,
        node_name=endpoint.get("nodeName") or "",
        zone=endpoint.get("zone") or "",
        zone_hints=tuple(zone["name"] for zone in hints.get("forZones") or ()),
        node_hints=tuple(node["name"] for node in hints.get("forNodes") or ()),
        target_ref=_target(endpoint.get("targetRef")),
        hostname=endpoint.get("hostname") or "",
    )


def _endpoint_port(port: _Doc) -> EndpointPort:
    return EndpointPort(port.get("port") or 0, port.get("protocol") or "TCP", port.get("name") or "")


def as_node(obj: KubeObject) -> Node:
    """A core/v1 Node."""
    spec = _of(obj.document, "spec")
    addresses = _of(obj.document, "status").get("addresses") or ()
    return Node(
        obj.meta.name,
        tuple(a["address"] for a in addresses if a.get("type") == "InternalIP"),
        pod_cidrs=tuple(spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else ())),
        labels=obj.meta.labels,
    )


def as_pod(obj: KubeObject) -> Pod:
    """A core/v1 Pod."""
    return _pod(obj.meta, _of(obj.document, "spec"), obj)


def _pod(meta: ObjectMeta, spec: _Doc, obj: KubeObject) -> Pod:
    grace = spec.get("terminationGracePeriodSeconds")
    return Pod(
        meta=meta,
        containers=tuple(_container(each) for each in spec.get("containers") or ()),
        init_containers=tuple(_container(each) for each in spec.get("initContainers") or ()),
        node_name=spec.get("nodeName") or "",
        host_network=bool(spec.get("hostNetwork")),
        hostname=spec.get("hostname") or "",
        subdomain=spec.get("subdomain") or "",
        dns_policy=spec.get("dnsPolicy") or "ClusterFirst",
        dns_config=_dns_config(spec.get("dnsConfig") or {}),
        host_aliases=tuple(
            (each["ip"], tuple(each.get("hostnames") or ())) for each in spec.get("hostAliases") or () if each.get("ip")
        ),
        termination_grace_period=30 if grace is None else grace,
        volumes=tuple(spec.get("volumes") or ()),
        origin=obj.origin,
    )


def _dns_config(given: _Doc) -> DnsConfig:
    options = (
        f"{each['name']}:{each['value']}" if each.get("value") else each["name"]
        for each in given.get("options") or ()
        if each.get("name")
    )
    return DnsConfig(tuple(given.get("nameservers") or ()), tuple(given.get("searches") or ()), tuple(options))


def _container(container: _Doc) -> Container:
    return Container(
        name=container["name"],
        image=container.get("image") or "",
        command=tuple(container.get("command") or ()),
        args=tuple(container.get("args") or ()),
        ports=tuple(
            ContainerPort(port["containerPort"], port.get("protocol") or "TCP", port.get("name") or "")
            for port in container.get("ports") or ()
        ),
        env={each["name"]: each.get("value") or "" for each in container.get("env") or ()},
        document=container,
    )


def as_workload(obj: KubeObject) -> Workload:
    """A ReplicationController, ReplicaSet, Deployment, DaemonSet or StatefulSet."""
    spec = _of(obj.document, "spec")
    template = _of(spec, "template")
    labels = dict(_of(template, "metadata").get("labels") or {})
    selector = spec.get("selector") or labels
    replicas = spec.get("replicas")
    return Workload(
        kind=obj.kind,
        meta=obj.meta,
        replicas=1 if replicas is None else replicas,
        selector=dict(selector.get("matchLabels") or {}) if "matchLabels" in selector else _plain(selector, labels),
        template=_pod(_template_meta(obj, template, labels), _of(template, "spec"), obj),
        document=obj.document,
        origin=obj.origin,
    )


def _plain(selector: _Doc, labels: Mapping[str, str]) -> Mapping[str, str]:
    """A ReplicationController's selector is the map itself."""
    return dict(labels) if "matchExpressions" in selector else dict(selector)


def _template_meta(obj: KubeObject, template: _Doc, labels: Mapping[str, str]) -> ObjectMeta:
    annotations = _of(template, "metadata").get("annotations") or {}
    return ObjectMeta(obj.meta.name, obj.meta.namespace, "", labels, dict(annotations))


def services(objects: Sequence[KubeObject]) -> list[Service]:
    """Every Service among the objects."""
    return [as_service(each) for each in objects if each.kind == "Service"]


def endpoint_slices(objects: Sequence[KubeObject]) -> list[EndpointSlice]:
    """Every EndpointSlice and Endpoints among the objects."""
    return [
        piece for each in objects if each.kind in ("EndpointSlice", "Endpoints") for piece in as_endpoint_slices(each)
    ]
