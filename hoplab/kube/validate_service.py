"""Services and the endpoints behind them, as the API server validates them.

kube-proxy trusts what it reads: every assumption of the rules it writes (one node port
one Service, no endpoint on 127.0.0.1) is kept by these checks.  Source:
pkg/apis/core/validation/validation.go (ValidateService, ValidateEndpoints) and
pkg/apis/discovery/validation/validation.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hoplab.kube import formats
from hoplab.kube.formats import PROTOCOLS, REQUIRED, Finding, duplicate, each_invalid, enum, forbidden, invalid
from hoplab.kube.problems import Path

_Doc = Mapping[str, Any]
_SPEC: Path = ("spec",)

TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
FAMILIES = ("IPv4", "IPv6")
FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
POLICIES = ("Cluster", "Local")
AFFINITIES = ("ClientIP", "None")
DISTRIBUTIONS = ("PreferClose", "PreferSameNode", "PreferSameZone")
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
HINTS, MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"
LONGEST_AFFINITY_S = 86400
MOST_ENDPOINTS, MOST_ADDRESSES, MOST_PORTS = 1000, 100, 100
"""Of one EndpointSlice, of one endpoint, of one EndpointSlice."""


def service(document: _Doc) -> Iterator[Finding]:
    """Everything that ValidateService looks at."""
    spec: _Doc = document.get("spec") or {}
    kind = spec.get("type") or "ClusterIP"
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    if HINTS in annotations and MODE in annotations and annotations[HINTS] != annotations[MODE]:
        message = f"must match annotations[{HINTS}] when both are specified"
        yield ("metadata", "annotations", MODE), invalid(annotations[MODE], message)
    yield from enum((*_SPEC, "type"), kind, TYPES)
    ports = spec.get("ports") or ()
    if not ports and not _headless(spec) and kind != "ExternalName":
        yield (*_SPEC, "ports"), REQUIRED
    if kind == "ExternalName":
        yield from _external_name(spec)
    else:
        yield from _cluster_ips(spec, kind)
    yield from _ports(ports, kind)
    yield from formats.labels(spec.get("selector"), (*_SPEC, "selector"))
    yield from _affinity(spec)
    for number, address in enumerate(spec.get("externalIPs") or ()):
        yield from each_invalid((*_SPEC, "externalIPs", number), address, formats.unspecial_ip(address))
    yield from _load_balancer(spec, kind, annotations)
    yield from _traffic_policies(spec, kind)
    yield from enum((*_SPEC, "trafficDistribution"), spec.get("trafficDistribution"), DISTRIBUTIONS)
    yield from _status(document, kind)


def given_ips(spec: _Doc) -> list[str]:
    """The cluster IPs that a Service asks for, from either field."""
    if spec.get("clusterIPs"):
        return list(spec["clusterIPs"])
    return [spec["clusterIP"]] if spec.get("clusterIP") else []


def _headless(spec: _Doc) -> bool:
    return given_ips(spec) == ["None"]


def _external_name(spec: _Doc) -> Iterator[Finding]:
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field):
            yield (*_SPEC, field), forbidden("may not be set for ExternalName services")
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        yield (*_SPEC, "externalName"), REQUIRED
    else:
        yield from each_invalid((*_SPEC, "externalName"), spec["externalName"], formats.dns_subdomain(name))


def _ports(ports: Sequence[_Doc], kind: str) -> Iterator[Finding]:
    names: set[str] = set()
    numbers: set[tuple[int, str]] = set()
    node_ports: set[tuple[int, str]] = set()
    for number, port in enumerate(ports):
        at: Path = (*_SPEC, "ports", number)
        protocol = port.get("protocol") or "TCP"
        yield from _port_name(port.get("name") or "", len(ports) > 1, names, (*at, "name"))
        yield from each_invalid((*at, "port"), port["port"], formats.port_number(port["port"]))
        yield from enum((*at, "protocol"), protocol, PROTOCOLS)
        target = port.get("targetPort")
        if target not in (None, 0, ""):
            yield from each_invalid((*at, "targetPort"), target, formats.port_number_or_name(target))
        if port.get("appProtocol") is not None:
            yield from each_invalid(
                (*at, "appProtocol"), port["appProtocol"], formats.qualified_name(port["appProtocol"])
            )
        if (port["port"], protocol) in numbers:
            yield at, duplicate({"port": port["port"], "protocol": protocol})
        numbers.add((port["port"], protocol))
        node_port = port.get("nodePort") or 0
        if not node_port:
            continue
        if kind not in ("NodePort", "LoadBalancer"):
            yield (*at, "nodePort"), forbidden(f"may not be used when `type` is '{kind}'")
        yield from each_invalid((*at, "nodePort"), node_port, formats.port_number(node_port))
        if (node_port, protocol) in node_ports:
            yield (*at, "nodePort"), duplicate(node_port)
        node_ports.add((node_port, protocol))


def _port_name(name: str, needed: bool, names: set[str], at: Path) -> Iterator[Finding]:
    if not name:
        if needed:
            yield at, REQUIRED
        return
    yield from each_invalid(at, name, formats.dns_label(name))
    if name in names:
        yield at, duplicate(name)
    names.add(name)


def _cluster_ips(spec: _Doc, kind: str) -> Iterator[Finding]:
    """ValidateServiceClusterIPsRelatedFields; what was written as clusterIP is told there."""
    ips = given_ips(spec)
    several = bool(spec.get("clusterIPs"))
    whole: Path = (*_SPEC, "clusterIPs" if several else "clusterIP")
    families = spec.get("ipFamilies") or []
    if several and not spec.get("clusterIP"):
        yield whole, invalid(ips, "must be empty when `clusterIP` is not specified")
    elif several and ips[0] != spec["clusterIP"]:
        yield whole, invalid(ips, "first value must match `clusterIP`")
    seen: set[str] = set()
    for number, family in enumerate(families):
        at: Path = (*_SPEC, "ipFamilies", number)
        yield from enum(at, family, FAMILIES)
        if family in seen:
            yield at, duplicate(family)
        seen.add(family)
    policy = spec.get("ipFamilyPolicy")
    yield from enum((*_SPEC, "ipFamilyPolicy"), policy, FAMILY_POLICIES)
    broken = False
    for number, address in enumerate(ips):
        if number == 0 and address == "None":
            if len(ips) > 1:
                broken = True
                yield whole, invalid(ips, "'None' must be the first and only value")
            elif kind in ("LoadBalancer", "NodePort"):
                yield whole, invalid("None", f"may not be set to 'None' for {kind} services")
            continue
        complaints = formats.ip(address)
        broken = broken or bool(complaints)
        yield from each_invalid((*whole, number) if several else whole, address, complaints)
    if len(ips) > 2:
        yield whole, invalid(ips, "may only hold up to 2 values")
    if broken:
        return
    found = ["IPv6" if ":" in address else "IPv4" for address in ips if address != "None"]
    if len(set(found)) < len(found):
        yield whole, invalid(ips, "may specify no more than one IP for each IP family")
    for number, (family, wanted) in enumerate(zip(found, families, strict=False)):
        if family != wanted and wanted in FAMILIES:
            message = f"expected an {wanted} value as indicated by `ipFamilies[{number}]`"
            yield (*whole, number) if several else whole, invalid(ips[number], message)
    if policy in (None, "", "SingleStack") and not (_headless(spec) and not spec.get("selector")):
        for held, what in ((ips, "cluster IPs"), (families, "IP families")):
            if len(held) == 2:
                message = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                yield (*_SPEC, "ipFamilyPolicy"), invalid(policy or "SingleStack", message)


def _affinity(spec: _Doc) -> Iterator[Finding]:
    affinity = spec.get("sessionAffinity") or "None"
    yield from enum((*_SPEC, "sessionAffinity"), affinity, AFFINITIES)
    config = spec.get("sessionAffinityConfig")
    if config is None:
        return
    at: Path = (*_SPEC, "sessionAffinityConfig")
    if affinity == "None":
        yield at, forbidden("must not be set when session affinity is None")
    timeout = (config.get("clientIP") or {}).get("timeoutSeconds")
    if affinity == "ClientIP" and timeout is not None and not 0 < timeout <= LONGEST_AFFINITY_S:
        message = f"must be greater than 0 and less than {LONGEST_AFFINITY_S}"
        yield (*at, "clientIP", "timeoutSeconds"), invalid(timeout, message)


def _load_balancer(spec: _Doc, kind: str, annotations: Mapping[str, str]) -> Iterator[Finding]:
    balanced = kind == "LoadBalancer"
    only = forbidden("may only be used when `type` is 'LoadBalancer'")
    ranges = spec.get("loadBalancerSourceRanges") or []
    at: Path = (*_SPEC, "loadBalancerSourceRanges")
    if ranges:
        if not balanced:
            yield at, only
        for number, text in enumerate(ranges):
            # Spaces around a range are allowed: an accident of history that the API server keeps.
            yield from each_invalid((*at, number), text, formats.cidr(text.strip()))
    elif SOURCE_RANGES in annotations:
        at = ("metadata", "annotations", SOURCE_RANGES)
        if not balanced:
            yield at, only
        for text in annotations[SOURCE_RANGES].split(",") if annotations[SOURCE_RANGES].strip() else ():
            yield from each_invalid(at, text, formats.cidr(text.strip()))
    if spec.get("allocateLoadBalancerNodePorts") is not None and not balanced:
        yield (*_SPEC, "allocateLoadBalancerNodePorts"), only
    balancer_class = spec.get("loadBalancerClass")
    if balancer_class is not None:
        if balanced:
            at = (*_SPEC, "loadBalancerClass")
            yield from each_invalid(at, balancer_class, formats.qualified_name(balancer_class))
        else:
            yield (*_SPEC, "loadBalancerClass"), only
    if spec.get("loadBalancerIP"):
        # The API server leaves this to the cloud; here the balancer itself must own the address.
        yield from each_invalid((*_SPEC, "loadBalancerIP"), spec["loadBalancerIP"], formats.ip(spec["loadBalancerIP"]))


def _traffic_policies(spec: _Doc, kind: str) -> Iterator[Finding]:
    external = kind in ("LoadBalancer", "NodePort") or (kind == "ClusterIP" and spec.get("externalIPs"))
    policy = spec.get("externalTrafficPolicy") or ""
    at: Path = (*_SPEC, "externalTrafficPolicy")
    if external:
        yield from enum(at, policy, POLICIES)
    elif policy:
        yield at, invalid(policy, "may only be set for externally-accessible services")
    yield from enum((*_SPEC, "internalTrafficPolicy"), spec.get("internalTrafficPolicy"), POLICIES)
    check = spec.get("healthCheckNodePort") or 0
    at = (*_SPEC, "healthCheckNodePort")
    if check and not (kind == "LoadBalancer" and policy == "Local"):
        message = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield at, invalid(check, message)
    elif check:
        yield from each_invalid(at, check, formats.port_number(check))


def _status(document: _Doc, kind: str) -> Iterator[Finding]:
    """ValidateLoadBalancerStatus."""
    ingress = ((document.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    at: Path = ("status", "loadBalancer", "ingress")
    if ingress and kind != "LoadBalancer":
        yield at, forbidden("may only be used when `spec.type` is 'LoadBalancer'")
        return
    for number, each in enumerate(ingress):
        address, mode, host = each.get("ip"), each.get("ipMode"), each.get("hostname")
        if address:
            yield from each_invalid((*at, number, "ip"), address, formats.ip(address))
            yield from enum((*at, number, "ipMode"), mode, ("Proxy", "VIP"))
        elif mode:
            yield (*at, number, "ipMode"), forbidden("may not be specified when `ip` is not set")
        if host:
            yield from each_invalid((*at, number, "hostname"), host, formats.dns_subdomain(host))
            if formats.parsed_ip(host):
                yield (*at, number, "hostname"), invalid(host, "must be a DNS name, not an IP address")


def endpoint_slice(document: _Doc) -> Iterator[Finding]:
    """ValidateEndpointSlice."""
    kind = document.get("addressType")
    if not kind:
        yield ("addressType",), REQUIRED
    yield from enum(("addressType",), kind, ("FQDN", *FAMILIES))
    endpoints = document.get("endpoints") or ()
    if len(endpoints) > MOST_ENDPOINTS:
        yield ("endpoints",), formats.too_many(len(endpoints), MOST_ENDPOINTS)
    for number, endpoint in enumerate(endpoints[:MOST_ENDPOINTS]):
        at: Path = ("endpoints", number)
        addresses = endpoint.get("addresses") or ()
        if not addresses:
            yield (*at, "addresses"), f"{REQUIRED}: must contain at least 1 address"
        elif len(addresses) > MOST_ADDRESSES:
            yield (*at, "addresses"), formats.too_many(len(addresses), MOST_ADDRESSES)
        for place, address in enumerate(addresses):
            yield from each_invalid((*at, "addresses", place), address, _address_faults(address, kind))
        yield from _endpoint_extras(endpoint, at)
    ports = document.get("ports") or ()
    if len(ports) > MOST_PORTS:
        yield ("ports",), formats.too_many(len(ports), MOST_PORTS)
    names: set[str] = set()
    for number, port in enumerate(ports[:MOST_PORTS]):
        name = port.get("name") or ""
        if name in names:
            yield ("ports", number, "name"), duplicate(name)
        names.add(name)
        yield from _endpoint_port(port, ("ports", number))


def _address_faults(address: str, kind: str | None) -> list[str]:
    if kind == "FQDN":
        return formats.domain_name(address)
    parsed = formats.parsed_ip(address)
    if kind in FAMILIES and (parsed is None or f"IPv{parsed.version}" != kind):
        return [f"must be a valid {kind} address"]
    return formats.unspecial_ip(address)


def _endpoint_extras(endpoint: _Doc, at: Path) -> Iterator[Finding]:
    if endpoint.get("hostname"):
        yield from each_invalid((*at, "hostname"), endpoint["hostname"], formats.dns_label(endpoint["hostname"]))
    if endpoint.get("nodeName"):
        yield from each_invalid((*at, "nodeName"), endpoint["nodeName"], formats.dns_subdomain(endpoint["nodeName"]))


def endpoints(document: _Doc) -> Iterator[Finding]:
    """ValidateEndpoints."""
    for number, subset in enumerate(document.get("subsets") or ()):
        at: Path = ("subsets", number)
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield at, f"{REQUIRED}: must specify `addresses` or `notReadyAddresses`"
        for group in ("addresses", "notReadyAddresses"):
            for place, address in enumerate(subset.get(group) or ()):
                here: Path = (*at, group, place)
                yield from each_invalid((*here, "ip"), address["ip"], formats.unspecial_ip(address["ip"]))
                yield from _endpoint_extras(address, here)
        ports = subset.get("ports") or ()
        names: set[str] = set()
        for place, port in enumerate(ports):
            yield from _port_name(port.get("name") or "", len(ports) > 1, names, (*at, "ports", place, "name"))
            yield from _endpoint_port(port, (*at, "ports", place), named=True)


def _endpoint_port(port: _Doc, at: Path, *, named: bool = False) -> Iterator[Finding]:
    if port.get("name") and not named:
        yield from each_invalid((*at, "name"), port["name"], formats.dns_label(port["name"]))
    if port.get("port") is not None:
        yield from each_invalid((*at, "port"), port["port"], formats.port_number(port["port"]))
    yield from enum((*at, "protocol"), port.get("protocol"), PROTOCOLS)
    if port.get("appProtocol"):
        yield from each_invalid((*at, "appProtocol"), port["appProtocol"], formats.qualified_name(port["appProtocol"]))
