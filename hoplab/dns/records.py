"""From Services, EndpointSlices and pods to DNS records: which names a cluster has.

A Service has a name below its namespace, `web.default.svc.cluster.local`.  What the name
means depends on the Service: one address of its own (cluster IP), the addresses of its
ready endpoints (headless), or another name (ExternalName).  Named ports have SRV records,
and an endpoint of a headless Service has a name of its own: the pod's hostname where
hostname and subdomain say so, else its address with dashes.

Source: Kubernetes DNS-Based Service Discovery, specification 1.1.0
(github.com/kubernetes/dns, docs/specification.md); section numbers are its own.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hoplab.kube.types import Endpoint, EndpointSlice, Service, ServicePort

DOMAIN = "cluster.local"
"""The zone: kubeadm's and minikube's clusterDomain."""
SCHEMA = "1.1.0"
"""What dns-version tells (section 2.2)."""


@dataclass(frozen=True, slots=True, order=True)
class Record:
    """One record; names are absolute and end with a dot, `data` is written as in a master file (RFC 1035 5)."""

    name: str
    type: str
    data: str


@dataclass(frozen=True, slots=True)
class PodAddresses:
    """A pod as far as DNS knows it: its namespace and addresses."""

    namespace: str
    ips: tuple[str, ...]


def records(
    services: Sequence[Service],
    slices: Sequence[EndpointSlice],
    pods: Iterable[PodAddresses] = (),
    domain: str = DOMAIN,
) -> tuple[Record, ...]:
    """Every record of the cluster but SOA and NS, forward and reverse, sorted, each once."""
    found = {Record(f"dns-version.{domain}.", "TXT", f'"{SCHEMA}"')}
    by_service: dict[tuple[str, str], list[EndpointSlice]] = {}
    for piece in slices:
        by_service.setdefault((piece.meta.namespace, piece.service), []).append(piece)
    for service in services:
        name = service_name(service, domain)
        if service.type == "ExternalName":
            if service.external_name:
                found.add(Record(name, "CNAME", f"{service.external_name.rstrip('.')}."))
        elif service.headless:
            found |= _headless(name, service, by_service.get((service.meta.namespace, service.meta.name), ()))
        else:
            found |= _with_cluster_ip(name, service)
    for pod in pods:
        # Section 2.6 calls these deprecated; kubeadm's CoreDNS still answers them (`pods insecure`).
        found |= {_address(f"{dashed(ip)}.{pod.namespace}.pod.{domain}.", ip) for ip in pod.ips}
    return tuple(sorted(found))


def service_name(service: Service, domain: str = DOMAIN) -> str:
    """The Service's name, absolute."""
    return f"{service.meta.name}.{service.meta.namespace}.svc.{domain}."


def dashed(address: str) -> str:
    """An address as one label: 10.1.2.3 -> 10-1-2-3."""
    return address.replace(".", "-").replace(":", "-")


def _with_cluster_ip(name: str, service: Service) -> set[Record]:
    """Section 2.3: an address, SRV for its named ports, and the way back."""
    found = set()
    for ip in service.cluster_ips:
        found |= {_address(name, ip), _pointer(ip, name)}
    if service.cluster_ips:
        found |= {_srv(name, port.name, port.protocol, port.port, name) for port in service.ports if port.name}
    return found


def _headless(name: str, service: Service, slices: Sequence[EndpointSlice]) -> set[Record]:
    """Section 2.4: an address for each ready endpoint, a name for each, SRV for each of its named ports."""
    found = set()
    for piece in slices:
        if piece.address_type == "FQDN":
            continue
        for endpoint in piece.endpoints:
            if not (endpoint.ready or service.publish_not_ready_addresses):
                continue
            for ip in endpoint.addresses:
                own = f"{endpoint_label(endpoint, ip)}.{name}"
                found |= {_address(name, ip), _address(own, ip), _pointer(ip, own)}
                found |= {_srv(name, port.name, port.protocol, port.port, own) for port in piece.ports if port.name}
    return found


def endpoint_label(endpoint: Endpoint, address: str) -> str:
    """What an endpoint is called below its Service: its hostname, else its address."""
    return endpoint.hostname or dashed(address)


def _address(name: str, ip: str) -> Record:
    return Record(name, "AAAA" if ":" in ip else "A", ip)


def _srv(name: str, port_name: str, protocol: ServicePort | str, port: int, target: str) -> Record:
    """Priority and weight say nothing here; every target counts the same (RFC 2782)."""
    return Record(f"_{port_name}._{str(protocol).lower()}.{name}", "SRV", f"0 50 {port} {target}")


def _pointer(ip: str, name: str) -> Record:
    return Record(reverse_name(ip), "PTR", name)


def reverse_name(ip: str) -> str:
    """The name under which an address is looked up, absolute (RFC 1035 3.5, RFC 3596 2.5)."""
    return f"{ipaddress.ip_address(ip).reverse_pointer}."
