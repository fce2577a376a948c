"""Cluster IPs, node ports and balancer addresses: what the API server and a cloud controller hand out.

Pure and repeatable: random numbers come from the caller.  What Services ask for is
taken first, also outside the default ranges (kube-proxy takes any); then the others
get theirs.  Source: pkg/registry/core/service/storage/alloc.go with the allocators in
ipallocator and portallocator; balancer addresses are ours, in order, easy to remember.
"""

from __future__ import annotations

import bisect
import ipaddress
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NoReturn

from hoplab.kube.formats import Network, invalid
from hoplab.kube.problems import ManifestError, Problem
from hoplab.kube.types import IPFamily, LoadBalancerIngress, Service, ServicePort

FIRST_VIP = 10
"""Balancer addresses are handed out from .10 of their network on."""
LARGEST_RANGE = 1 << 16
"""Addresses of a service CIDR that are used at most; an IPv6 range has far more."""
RESERVED = 2
"""The network's own address and its first one, which is the API server's own Service."""


def allocate(
    services: Sequence[Service],
    *,
    service_cidrs: Sequence[str],
    node_ports: range,
    vips: str | Sequence[str],
    chance: random.Random,
    taken_ips: Collection[str] = (),
    taken_ports: Collection[tuple[int, str]] = (),
) -> tuple[Service, ...]:
    """The Services with every address and port that they need; those that have all come back as they are.

    `vips` is the balancer's network, or one for each family.  `taken_ips` (cluster IPs and
    balancer addresses) and `taken_ports` (number, protocol) belong to somebody else.
    Raises ManifestError, in the API server's words, for what is asked for twice and for
    ranges that are full.
    """
    networks = [vips] if isinstance(vips, str) else list(vips)
    desk = _Desk(service_cidrs, node_ports, networks, chance, taken_ips, taken_ports)
    for service in services:
        desk.claim(service)
    return tuple(desk.filled(service) for service in services)


def keeping(before: Service, now: Service) -> Service:
    """A changed Service with the addresses and ports that it had, where its new text asks for none (pure).

    As an update does in the API server: pkg/registry/core/service/storage/alloc.go and
    strategy.go (patchAllocatedValues).
    """
    if before.type == "ExternalName" or now.type == "ExternalName" or before.headless or now.headless:
        return now
    kept = replace(now, cluster_ips=now.cluster_ips or before.cluster_ips[: max(1, len(now.ip_families))])
    if now.type in ("NodePort", "LoadBalancer"):
        had = {(port.port, port.protocol): port.node_port for port in before.ports}
        ports = tuple(
            port if port.node_port else replace(port, node_port=had.get((port.port, port.protocol), 0))
            for port in now.ports
        )
        kept = replace(kept, ports=ports)
    if now.type == "LoadBalancer" and before.type == "LoadBalancer":
        local = now.external_traffic_policy == "Local"
        kept = replace(
            kept,
            load_balancer_ingress=now.load_balancer_ingress
            or (() if now.load_balancer_ip else before.load_balancer_ingress),
            health_check_node_port=now.health_check_node_port or (before.health_check_node_port if local else 0),
        )
    return kept


def _refuse(service: Service, field: str, message: str) -> NoReturn:
    raise ManifestError([Problem(service.origin.file, service.origin.line, field, message)])


class _Ports:
    """Node ports in use, for each protocol: who has them, and which of the range are gone."""

    def __init__(self, ports: range, taken: Collection[tuple[int, str]]) -> None:
        self._range = ports
        self._holders: dict[tuple[int, str], str] = {}
        self._gone: dict[str, list[int]] = {}
        for number, protocol in sorted(taken):
            self.take(number, protocol, "something else")

    def holder(self, number: int, protocol: str) -> str | None:
        return self._holders.get((number, protocol))

    def take(self, number: int, protocol: str, holder: str) -> None:
        self._holders[number, protocol] = holder
        if number in self._range:
            bisect.insort(self._gone.setdefault(protocol, []), number)

    def free(self, protocol: str, chance: random.Random) -> int | None:
        """A random one of those that are left, None when there is none."""
        gone = self._gone.get(protocol, [])
        left = len(self._range) - len(gone)
        if left <= 0:
            return None
        number = self._range[chance.randrange(left)]
        for used in gone:
            if used > number:
                break
            number += self._range.step
        return number


class _Desk:
    """Hands out what is left of the ranges."""

    def __init__(
        self,
        cidrs: Sequence[str],
        node_ports: range,
        vips: Sequence[str],
        chance: random.Random,
        taken_ips: Collection[str],
        taken_ports: Collection[tuple[int, str]],
    ) -> None:
        self._cidrs: dict[IPFamily, str] = {}
        for cidr in cidrs:
            self._cidrs.setdefault("IPv6" if ":" in cidr else "IPv4", cidr)
        self._vip_networks = [ipaddress.ip_network(each) for each in vips]
        self._chance = chance
        self._ips: dict[str, str] = dict.fromkeys(taken_ips, "something else")
        self._vips: set[str] = set(taken_ips)
        self._ports = _Ports(node_ports, taken_ports)

    def claim(self, service: Service) -> None:
        """Enter what a Service has or asks for."""
        for ip in service.cluster_ips:
            if ip != "None":
                if ip in self._ips:
                    why = f"failed to allocate IP {ip}: provided IP is already allocated (by {self._ips[ip]})"
                    _refuse(service, "spec.clusterIPs", invalid(list(service.cluster_ips), why))
                self._ips[ip] = f"Service {service.key}"
        for number, port in enumerate(service.ports):
            if port.node_port:
                self._claim_port(service, port.node_port, port.protocol, f"spec.ports[{number}].nodePort")
        if service.health_check_node_port:
            self._claim_port(service, service.health_check_node_port, "TCP", "spec.healthCheckNodePort")
        self._vips.update(each.ip for each in service.load_balancer_ingress)
        if service.load_balancer_ip:
            self._vips.add(service.load_balancer_ip)

    def _claim_port(self, service: Service, number: int, protocol: str, field: str) -> None:
        holder = self._ports.holder(number, protocol)
        if holder is not None:
            _refuse(service, field, invalid(number, f"provided port is already allocated (by {holder})"))
        self._ports.take(number, protocol, f"Service {service.key}")

    def filled(self, service: Service) -> Service:
        """The Service with what it lacks."""
        if service.type == "ExternalName" or service.headless:
            return service
        service = self._with_cluster_ips(self._with_families(service))
        balanced = service.type == "LoadBalancer"
        if service.type == "NodePort" or (balanced and service.allocate_load_balancer_node_ports):
            service = self._with_node_ports(service)
        if balanced and service.external_traffic_policy == "Local" and not service.health_check_node_port:
            number = self._free_port(service, "TCP", "healthCheckNodePort")
            service = replace(service, health_check_node_port=number)
        if balanced and not service.load_balancer_ingress:
            service = replace(service, load_balancer_ingress=self._ingress(service))
        return service

    def _with_families(self, service: Service) -> Service:
        """The families that the cluster has; PreferDualStack is content with one."""
        families: tuple[IPFamily, ...] = service.ip_families or tuple(self._cidrs)[:1]
        if len(service.cluster_ips) >= len(families):
            return service
        if service.ip_family_policy == "RequireDualStack" and len(self._cidrs) < 2:
            why = "this cluster is not configured for dual-stack services"
            _refuse(service, "spec.ipFamilyPolicy", invalid(service.ip_family_policy, why))
        missing = [number for number, family in enumerate(families) if family not in self._cidrs]
        missing = [number for number in missing if number >= len(service.cluster_ips)]
        if missing and service.ip_family_policy == "PreferDualStack" and len(missing) < len(families):
            families = tuple(family for number, family in enumerate(families) if number not in missing)
        elif missing:
            field = f"spec.ipFamilies[{missing[0]}]"
            _refuse(service, field, invalid(families[missing[0]], "not configured on this cluster"))
        return service if families == service.ip_families else replace(service, ip_families=families)

    def _with_cluster_ips(self, service: Service) -> Service:
        lacking = service.ip_families[len(service.cluster_ips) :]
        if not lacking:
            return service
        fresh = tuple(self._cluster_ip(service, self._cidrs[family]) for family in lacking)
        return replace(service, cluster_ips=(*service.cluster_ips, *fresh))

    def _cluster_ip(self, service: Service, cidr: str) -> str:
        network = ipaddress.ip_network(cidr)
        # The last address is IPv4's broadcast address.
        end = min(network.num_addresses - (network.version == 4), LARGEST_RANGE)
        left = end - RESERVED
        if left > 0:
            start = self._chance.randrange(RESERVED, end)
            for step in range(left):
                # Random first, then the next ones: also the last free address of a range is found.
                number = start if step == 0 else RESERVED + (start - RESERVED + step) % left
                ip = str(network[number])
                if ip not in self._ips:
                    self._ips[ip] = f"Service {service.key}"
                    return ip
        _refuse(service, "spec.clusterIPs", f"failed to allocate a serviceIP: range is full ({cidr})")

    def _with_node_ports(self, service: Service) -> Service:
        ports: list[ServicePort] = list(service.ports)
        for number, port in enumerate(ports):
            if not port.node_port:
                ports[number] = replace(port, node_port=self._node_port(service, ports, port))
        return service if tuple(ports) == service.ports else replace(service, ports=tuple(ports))

    def _node_port(self, service: Service, ports: Sequence[ServicePort], port: ServicePort) -> int:
        # TCP and UDP of one Service port get one number (DNS is the reason).
        twin = next((each.node_port for each in ports if each.port == port.port and each.node_port), 0)
        if twin and self._ports.holder(twin, port.protocol) is None:
            self._ports.take(twin, port.protocol, f"Service {service.key}")
            return twin
        return self._free_port(service, port.protocol, "ports")

    def _free_port(self, service: Service, protocol: str, field: str) -> int:
        number = self._ports.free(protocol, self._chance)
        if number is None:
            _refuse(service, f"spec.{field}", "failed to allocate a nodePort: range is full")
        self._ports.take(number, protocol, f"Service {service.key}")
        return number

    def _ingress(self, service: Service) -> tuple[LoadBalancerIngress, ...]:
        """The wanted address, or one of each family that both the Service and the balancer have; none: it waits."""
        if service.load_balancer_ip:
            return (LoadBalancerIngress(service.load_balancer_ip),)
        versions = {4 if family == "IPv4" else 6 for family in service.ip_families}
        fitting = [network for network in self._vip_networks if network.version in versions]
        return tuple(LoadBalancerIngress(self._vip(service, network)) for network in fitting)

    def _vip(self, service: Service, network: Network) -> str:
        end = min(network.num_addresses - (network.version == 4), LARGEST_RANGE)
        for number in range(FIRST_VIP, end):
            ip = str(network[number])
            if ip not in self._vips:
                self._vips.add(ip)
                return ip
        _refuse(service, "status.loadBalancer", f"no balancer address is left in {network}")
