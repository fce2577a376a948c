"""From Services and pods to EndpointSlices, as the endpoint slice controller makes them.

Pure.  A Service with a selector gets the addresses of all pods whose labels match,
in its own namespace; a named target port is looked up in each pod by itself, so
pods that disagree end in different slices.  A Service without a selector gets
nothing: its slices are written by hand.

Source: Kubernetes' staging/src/k8s.io/endpointslice (reconciler.go, utils.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hoplab.control.plan import stable_suffix
from hoplab.kube.types import (
    Container,
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IPFamily,
    ObjectMeta,
    Pod,
    Service,
    ServicePort,
)

MOST_ENDPOINTS = 100
"""Endpoints in one slice: the controller's default of --max-endpoints-per-slice."""


@dataclass(frozen=True, slots=True)
class RunningPod:
    """A pod with what its node reports of it."""

    pod: Pod
    ips: tuple[str, ...]
    ready: bool = True
    terminating: bool = False
    serving: bool | None = None
    """None: the same as ready, as for every pod that does not terminate."""
    zone: str = ""


def matches(selector: Iterable[tuple[str, str]], pod: Pod) -> bool:
    """Whether a Service's selector (equality of every label) picks the pod."""
    return all(pod.meta.labels.get(key) == value for key, value in selector)


def slices(services: Sequence[Service], pods: Sequence[RunningPod]) -> list[EndpointSlice]:
    """EndpointSlices of every Service that has a selector, in the order of the Services."""
    by_label: dict[tuple[str, str, str], list[RunningPod]] = {}
    made: list[EndpointSlice] = []
    for running in pods:
        for label in running.pod.meta.labels.items():
            by_label.setdefault((running.pod.meta.namespace, *label), []).append(running)
    for service in services:
        if not service.selector or service.type == "ExternalName":
            continue
        wanted = service.selector.items()
        # Any one label leaves few candidates, however many pods there are.
        first = (service.meta.namespace, *next(iter(wanted)))
        chosen = [r for r in by_label.get(first, []) if matches(wanted, r.pod)]
        for family in service.ip_families or ("IPv4",):
            made += _of_family(service, family, chosen)
    return made


def placeholder(service: Service, family: IPFamily) -> EndpointSlice:
    """The slice of a Service that nobody serves: the controller keeps one, empty (newPlaceholderSlice)."""
    return _slice(service, family, (), [], 0)


def _of_family(service: Service, family: IPFamily, pods: Sequence[RunningPod]) -> list[EndpointSlice]:
    groups: dict[tuple[EndpointPort, ...], list[Endpoint]] = {}
    for running in pods:
        address = next((ip for ip in running.ips if (":" in ip) == (family == "IPv6")), None)
        if address is None:
            continue
        ports = tuple(p for p in (_port(port, running.pod) for port in service.ports) if p is not None)
        if service.ports and not ports:
            continue
        serving = running.ready if running.serving is None else running.serving
        zones, nodes = _hints(service, running)
        groups.setdefault(ports, []).append(
            Endpoint(
                addresses=(address,),
                ready=(running.ready and not running.terminating) or service.publish_not_ready_addresses,
                serving=serving or service.publish_not_ready_addresses,
                terminating=running.terminating,
                node_name=running.pod.node_name,
                zone=running.zone,
                zone_hints=zones,
                node_hints=nodes,
                target_ref=f"{running.pod.meta.namespace}/{running.pod.meta.name}",
                # A name of its own in DNS, where the pod names this Service as its subdomain.
                hostname=running.pod.hostname if running.pod.subdomain == service.meta.name else "",
            )
        )
    found: list[EndpointSlice] = []
    for ports, endpoints in groups.items():
        for at in range(0, len(endpoints), MOST_ENDPOINTS):
            found.append(_slice(service, family, ports, endpoints[at : at + MOST_ENDPOINTS], len(found)))
    return found


def _hints(service: Service, running: RunningPod) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Zones and nodes whose clients trafficDistribution sends to a ready pod (endpointslice/trafficdist)."""
    distribution, ready = service.traffic_distribution, running.ready and not running.terminating
    if not distribution or not ready:
        return (), ()
    node = running.pod.node_name if distribution == "PreferSameNode" else ""
    return (running.zone,) if running.zone else (), (node,) if node else ()


def _slice(
    service: Service, family: IPFamily, ports: tuple[EndpointPort, ...], endpoints: list[Endpoint], number: int
) -> EndpointSlice:
    suffix = stable_suffix(f"{service.key}/{family}/{number}")
    labels = {
        "kubernetes.io/service-name": service.meta.name,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    return EndpointSlice(
        ObjectMeta(f"{service.meta.name}-{suffix}", service.meta.namespace, "", labels),
        service.meta.name,
        family,
        tuple(endpoints),
        ports,
        service.origin,
    )


def _port(port: ServicePort, pod: Pod) -> EndpointPort | None:
    """The pod's own number for a Service's target port; None when it declares no port of that name."""
    if isinstance(port.target_port, int):
        return EndpointPort(port.target_port or port.port, port.protocol, port.name)
    for container in pod.containers:
        number = declared_port(container, port.target_port)
        if number is not None:
            return EndpointPort(number, port.protocol, port.name)
    return None


def declared_port(container: Container, name: str) -> int | None:
    """The number of a container's port by its name, None when it declares none of that name."""
    return next((port.port for port in container.ports if port.name == name), None)
