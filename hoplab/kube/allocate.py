"""Cluster IPs, node ports and balancer addresses: what the API server and a cloud controller hand out.

Pure and repeatable: random numbers come from the caller.  What a Service asks for is
taken first, also outside the default ranges (kube-proxy takes any); then the others
get theirs.  Source: pkg/registry/core/service/{ipallocator,portallocator}.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hoplab.kube.problems import ManifestError, Problem
from hoplab.kube.types import LoadBalancerIngress, Service, ServicePort

FIRST_VIP = 10
"""Balancer addresses are handed out in order from .10 of their network, easy to remember."""


def allocate(
    services: Sequence[Service],
    *,
    service_cidrs: Sequence[str],
    node_ports: range,
    vips: str,
    chance: random.Random,
) -> tuple[Service, ...]:
    """The Services with every address and port that they need.  Raises ManifestError for one that is taken."""
    taken = _Taken(services)
    return tuple(_filled(service, taken, service_cidrs, node_ports, vips, chance) for service in services)


class _Taken:
    """What is in use; asking for it twice is a conflict."""

    def __init__(self, services: Sequence[Service]) -> None:
        self.ips: dict[str, Service] = {}
        self.ports: dict[tuple[int, str], Service] = {}
        self.vips: dict[str, Service] = {}
        for service in services:
            for ip in service.cluster_ips:
                if ip != "None":
                    self._claim(self.ips, ip, service, "spec.clusterIP", f"provided IP is already allocated: {ip}")
            for number, port in enumerate(service.ports):
                if port.node_port:
                    message = f"Invalid value: {port.node_port}: provided port is already allocated"
                    where = f"spec.ports[{number}].nodePort"
                    self._claim(self.ports, (port.node_port, port.protocol), service, where, message)
            if service.health_check_node_port:
                key = (service.health_check_node_port, "TCP")
                message = f"Invalid value: {key[0]}: provided port is already allocated"
                self._claim(self.ports, key, service, "spec.healthCheckNodePort", message)
            for ingress in service.load_balancer_ingress:
                self.vips.setdefault(ingress.ip, service)

    @staticmethod
    def _claim(held: dict[Any, Service], key: Any, service: Service, field: str, message: str) -> None:
        holder = held.setdefault(key, service)
        if holder is not service:
            origin = service.origin
            words = f"{message} (by Service {holder.key})"
            raise ManifestError([Problem(origin.file, origin.line, field, words)])


def _filled(
    service: Service, taken: _Taken, cidrs: Sequence[str], node_ports: range, vips: str, chance: random.Random
) -> Service:
    if service.type == "ExternalName" or service.headless:
        return service
    if not service.cluster_ips:
        service = replace(service, cluster_ips=_cluster_ips(service, taken, cidrs, chance))
    balanced = service.type == "LoadBalancer"
    if service.type == "NodePort" or (balanced and service.allocate_load_balancer_node_ports):
        ports = tuple(_with_node_port(service, port, taken, node_ports, chance) for port in service.ports)
        service = replace(service, ports=ports)
    if balanced and service.external_traffic_policy == "Local" and not service.health_check_node_port:
        service = replace(service, health_check_node_port=_free_port(service, "TCP", taken, node_ports, chance))
    if balanced and not service.load_balancer_ingress:
        service = replace(service, load_balancer_ingress=(LoadBalancerIngress(_vip(service, taken, vips)),))
    return service


def _cluster_ips(service: Service, taken: _Taken, cidrs: Sequence[str], chance: random.Random) -> tuple[str, ...]:
    found: list[str] = []
    for family in service.ip_families or ("IPv4",):
        cidr = next((c for c in cidrs if (":" in c) == (family == "IPv6")), None)
        if cidr is None:
            if service.ip_family_policy == "PreferDualStack" and found:
                continue
            message = f'Invalid value: "{family}": not configured on this cluster'
            raise ManifestError([Problem(service.origin.file, service.origin.line, "spec.ipFamilies", message)])
        network = ipaddress.ip_network(cidr)
        # Not the network's own address, not its first one (the API server's), not the broadcast address.
        last = min(network.num_addresses - 2, 1 << 16)
        for _attempt in range(10 * last):
            ip = str(network[chance.randrange(2, last + 1)])
            if ip not in taken.ips:
                taken.ips[ip] = service
                found.append(ip)
                break
        else:
            message = f"failed to allocate an IP: range {cidr} is full"
            raise ManifestError([Problem(service.origin.file, service.origin.line, "spec.clusterIP", message)])
    return tuple(found)


def _with_node_port(
    service: Service, port: ServicePort, taken: _Taken, node_ports: range, chance: random.Random
) -> ServicePort:
    if port.node_port:
        return port
    # One number serves all protocols of a port, as the API server does it for TCP and UDP of the same Service port.
    twin = next((p.node_port for p in service.ports if p.port == port.port and p.node_port), 0)
    if twin and (twin, port.protocol) not in taken.ports:
        taken.ports[twin, port.protocol] = service
        return replace(port, node_port=twin)
    return replace(port, node_port=_free_port(service, port.protocol, taken, node_ports, chance))


def _free_port(service: Service, protocol: str, taken: _Taken, node_ports: range, chance: random.Random) -> int:
    free = [port for port in node_ports if (port, protocol) not in taken.ports]
    if not free:
        message = "failed to allocate a nodePort: range is full"
        raise ManifestError([Problem(service.origin.file, service.origin.line, "spec.ports", message)])
    port = chance.choice(free)
    taken.ports[port, protocol] = service
    return port


def _vip(service: Service, taken: _Taken, vips: str) -> str:
    if service.load_balancer_ip:
        taken.vips.setdefault(service.load_balancer_ip, service)
        return service.load_balancer_ip
    network = ipaddress.ip_network(vips)
    for number in range(FIRST_VIP, network.num_addresses - 1):
        ip = str(network[number])
        if ip not in taken.vips:
            taken.vips[ip] = service
            return ip
    message = f"no balancer address is left in {vips}"
    raise ManifestError([Problem(service.origin.file, service.origin.line, "status.loadBalancer", message)])
