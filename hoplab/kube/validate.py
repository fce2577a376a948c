"""What the API server would refuse, object by object: values that have the right type and make no sense.

Messages are those of the API server ("Invalid value: 70000: must be between 1 and
65535, inclusive").  Source: pkg/apis/core/validation/validation.go (ValidateService,
validateServicePort, validateEndpointAddress) and the discovery and apimachinery
validations that it calls.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from hoplab.kube.problems import Path

Finding = tuple[Path, str]
_Doc = Mapping[str, Any]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
_QUALIFIED = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?\Z")
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")

PROTOCOLS = ("TCP", "UDP", "SCTP")
SERVICE_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
POLICIES = ("Cluster", "Local")


def invalid(value: Any, why: str) -> str:
    """The API server's words for a value that it does not take."""
    return f"Invalid value: {json.dumps(value)}: {why}"


def unsupported(value: Any, allowed: Collection[str]) -> str:
    """The API server's words for a value that is none of the known ones."""
    listed = ", ".join(f'"{each}"' for each in allowed)
    return f"Unsupported value: {json.dumps(value)}: supported values: {listed}"


REQUIRED = "Required value"


def _port(value: Any) -> str:
    good = isinstance(value, int) and 1 <= value <= 65535
    return "" if good else invalid(value, "must be between 1 and 65535, inclusive")


def _name_fault(value: str, pattern: re.Pattern[str], longest: int, what: str) -> str:
    if len(value) > longest:
        return invalid(value, f"must be no more than {longest} characters")
    return "" if pattern.match(value) else invalid(value, f"must be {what}")


def metadata(document: _Doc) -> Iterator[Finding]:
    """Names, labels and annotations, of any kind."""
    meta = document.get("metadata") or {}
    name = meta.get("name")
    at: Path = ("metadata", "name")
    if not name:
        yield at, f"{REQUIRED}: name or generateName is required"
    elif document.get("kind") == "Service":
        # A Service's name is a DNS label: it becomes one in the cluster's DNS.
        fault = _name_fault(name, _SERVICE_NAME, 63, "a DNS label: lower case letters, digits and '-', a letter first")
        if fault:
            yield at, fault
    elif fault := _name_fault(name, _SUBDOMAIN, 253, "a DNS name: lower case letters, digits, '-' and '.'"):
        yield at, fault
    namespace = meta.get("namespace")
    if namespace and (fault := _name_fault(namespace, _LABEL, 63, "a DNS label: lower case letters, digits and '-'")):
        yield ("metadata", "namespace"), fault
    yield from labels(meta.get("labels"), ("metadata", "labels"))
    yield from _strings(meta.get("annotations"), ("metadata", "annotations"))


def labels(value: Any, path: Path) -> Iterator[Finding]:
    """Label keys and values."""
    for key, text in (value or {}).items():
        if not _QUALIFIED.match(key) or len(key.rpartition("/")[2]) > 63:
            yield (*path, key), invalid(key, "a label's key is [prefix/]name of letters, digits, '-', '_' and '.'")
        if not isinstance(text, str):
            yield (*path, key), f"expected a string, found {json.dumps(text)} (quote it)"
        elif len(text) > 63 or not _LABEL_VALUE.match(text):
            yield (*path, key), invalid(text, "a label's value has at most 63 letters, digits, '-', '_' and '.'")


def _strings(value: Any, path: Path) -> Iterator[Finding]:
    for key, text in (value or {}).items():
        if not isinstance(text, str):
            yield (*path, key), f"expected a string, found {json.dumps(text)} (quote it)"


def _ip(value: Any) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return invalid(value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
    return ""


def _endpoint_ip(value: Any) -> str:
    """An address that an endpoint may have (ValidateEndpointIP)."""
    if fault := _ip(value):
        return fault
    address = ipaddress.ip_address(value)
    if address.is_unspecified:
        return invalid(value, "may not be unspecified (0.0.0.0 or ::)")
    if address.is_loopback:
        return invalid(value, "may not be in the loopback range (127.0.0.0/8, ::1/128)")
    if address.is_link_local:
        return invalid(value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")
    if address.is_multicast:
        return invalid(value, "may not be in the multicast range (224.0.0.0/4, ff00::/8)")
    return ""


def service(document: _Doc) -> Iterator[Finding]:
    """ValidateService."""
    spec = document.get("spec") or {}
    at: Path = ("spec",)
    kind = spec.get("type") or "ClusterIP"
    if kind not in SERVICE_TYPES:
        yield (*at, "type"), unsupported(kind, SERVICE_TYPES)
    external = kind in ("NodePort", "LoadBalancer")
    headless = spec.get("clusterIP") == "None"
    ports = spec.get("ports") or []
    if not ports and not headless and kind != "ExternalName":
        yield (*at, "ports"), REQUIRED
    yield from _service_ports(ports, external, (*at, "ports"))
    yield from labels(spec.get("selector"), (*at, "selector"))
    yield from _service_addresses(spec, kind, at)
    for field, allowed in (("externalTrafficPolicy", POLICIES), ("internalTrafficPolicy", POLICIES)):
        value = spec.get(field)
        if value is not None and value not in allowed:
            yield (*at, field), unsupported(value, allowed)
    if spec.get("externalTrafficPolicy") and not external and not spec.get("externalIPs"):
        yield (
            (*at, "externalTrafficPolicy"),
            invalid(spec["externalTrafficPolicy"], "may only be set for externally-accessible services"),
        )
    affinity = spec.get("sessionAffinity")
    if affinity is not None and affinity not in ("ClientIP", "None"):
        yield (*at, "sessionAffinity"), unsupported(affinity, ("ClientIP", "None"))
    timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if timeout is not None and not 0 < timeout <= 86400:
        where = (*at, "sessionAffinityConfig", "clientIP", "timeoutSeconds")
        yield where, invalid(timeout, "must be greater than 0 and less than or equal to 86400")
    if spec.get("sessionAffinityConfig") is not None and affinity != "ClientIP":
        yield (*at, "sessionAffinityConfig"), "Forbidden: must not be set when session affinity is None"
    check_port = spec.get("healthCheckNodePort")
    if check_port:
        if kind != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
            yield (
                (*at, "healthCheckNodePort"),
                invalid(
                    check_port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
                ),
            )
        elif fault := _port(check_port):
            yield (*at, "healthCheckNodePort"), fault
    yield from _source_ranges(spec, kind, at)


def _service_ports(ports: Any, external: bool, at: Path) -> Iterator[Finding]:
    names: set[str] = set()
    numbers: set[tuple[Any, Any]] = set()
    node_ports: set[tuple[Any, Any]] = set()
    for number, port in enumerate(ports):
        here = (*at, number)
        name = port.get("name") or ""
        if not name and len(ports) > 1:
            yield (*here, "name"), REQUIRED
        elif name:
            if fault := _name_fault(name, _LABEL, 63, "a DNS label: lower case letters, digits and '-'"):
                yield (*here, "name"), fault
            if name in names:
                yield (*here, "name"), f'Duplicate value: "{name}"'
            names.add(name)
        if fault := _port(port["port"]):
            yield (*here, "port"), fault
        protocol = port.get("protocol") or "TCP"
        if protocol not in PROTOCOLS:
            yield (*here, "protocol"), unsupported(protocol, sorted(PROTOCOLS))
        target = port.get("targetPort")
        if isinstance(target, int) and (fault := _port(target)):
            yield (*here, "targetPort"), fault
        elif isinstance(target, str) and (not _PORT_NAME.match(target) or len(target) > 15 or "--" in target):
            yield (
                (*here, "targetPort"),
                invalid(target, "must be a port number or a port name: at most 15 lower case letters, digits and '-'"),
            )
        key = (port["port"], protocol)
        if key in numbers:
            yield here, f'Duplicate value: {{"port": {port["port"]}, "protocol": "{protocol}"}}'
        numbers.add(key)
        node_port = port.get("nodePort")
        if node_port:
            if not external:
                yield (*here, "nodePort"), "Forbidden: may not be used when `type` is 'ClusterIP'"
            elif fault := _port(node_port):
                yield (*here, "nodePort"), fault
            elif (node_port, protocol) in node_ports:
                yield (*here, "nodePort"), f"Duplicate value: {node_port}"
            node_ports.add((node_port, protocol))


def _service_addresses(spec: _Doc, kind: str, at: Path) -> Iterator[Finding]:
    if kind == "ExternalName":
        name = spec.get("externalName") or ""
        if not name:
            yield (*at, "externalName"), REQUIRED
        elif fault := _name_fault(name.rstrip("."), _SUBDOMAIN, 253, "a DNS name"):
            yield (*at, "externalName"), fault
        if spec.get("clusterIP"):
            yield (*at, "clusterIP"), "Forbidden: may not be set for ExternalName services"
    cluster_ip = spec.get("clusterIP")
    ips = spec.get("clusterIPs") or ([cluster_ip] if cluster_ip else [])
    where: Path = (*at, "clusterIPs") if spec.get("clusterIPs") else (*at, "clusterIP")
    if spec.get("clusterIPs") and cluster_ip and ips[0] != cluster_ip:
        yield (*at, "clusterIPs"), invalid(ips, "first value must match `clusterIP`")
    if "None" in ips:
        if kind in ("NodePort", "LoadBalancer"):
            yield where, invalid("None", f"may not be set to 'None' for {kind} services")
        if len(ips) > 1:
            yield where, invalid(ips, "'None' must be the first and only value")
    for number, address in enumerate(ips):
        if address not in ("None", "") and (fault := _ip(address)):
            yield (*where, number) if spec.get("clusterIPs") else where, fault
    families = [("IPv6" if ":" in a else "IPv4") for a in ips if a not in ("None", "")]
    if len(ips) > 2 or len(set(families)) < len(families):
        yield where, invalid(ips, "may only hold up to 2 values, one of each IP family")
    asked = spec.get("ipFamilies") or []
    for number, each in enumerate(asked):
        if each not in ("IPv4", "IPv6"):
            yield (*at, "ipFamilies", number), unsupported(each, ("IPv4", "IPv6"))
    if len(set(asked)) < len(asked):
        yield (*at, "ipFamilies"), invalid(asked, "may only hold up to 2 values, one of each IP family")
    for number, (address, wanted) in enumerate(zip(families, asked, strict=False)):
        if address != wanted:
            yield (
                (*at, "clusterIPs", number),
                invalid(ips[number], f"expected an {wanted} value as indicated by `ipFamilies[{number}]`"),
            )
    policy = spec.get("ipFamilyPolicy")
    policies = ("PreferDualStack", "RequireDualStack", "SingleStack")
    if policy is not None and policy not in policies:
        yield (*at, "ipFamilyPolicy"), unsupported(policy, policies)
    if policy == "SingleStack" and max(len(asked), len(ips)) > 1:
        yield (*at, "ipFamilyPolicy"), invalid(policy, "may not be 'SingleStack' with two families")
    for number, address in enumerate(spec.get("externalIPs") or ()):
        if fault := _endpoint_ip(address):
            yield (*at, "externalIPs", number), fault
    if spec.get("loadBalancerIP") and (fault := _ip(spec["loadBalancerIP"])):
        yield (*at, "loadBalancerIP"), fault


def _source_ranges(spec: _Doc, kind: str, at: Path) -> Iterator[Finding]:
    ranges = spec.get("loadBalancerSourceRanges") or []
    if ranges and kind != "LoadBalancer":
        yield (*at, "loadBalancerSourceRanges"), "Forbidden: may only be used when `type` is 'LoadBalancer'"
    for number, text in enumerate(ranges):
        try:
            if "/" not in text:
                raise ValueError
            ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            where = (*at, "loadBalancerSourceRanges", number)
            yield where, invalid(text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")


def endpoint_slice(document: _Doc) -> Iterator[Finding]:
    """ValidateEndpointSlice."""
    kind = document.get("addressType")
    kinds = ("FQDN", "IPv4", "IPv6")
    if kind not in kinds:
        yield ("addressType",), unsupported(kind, kinds)
    for number, endpoint in enumerate(document.get("endpoints") or ()):
        addresses = endpoint.get("addresses") or []
        if not addresses:
            yield ("endpoints", number, "addresses"), "Required value: must contain at least 1 address"
        for place, address in enumerate(addresses):
            here: Path = ("endpoints", number, "addresses", place)
            if kind in ("IPv4", "IPv6"):
                fault = _endpoint_ip(address)
                if not fault and (":" in address) != (kind == "IPv6"):
                    fault = invalid(address, f"must be a valid {kind} address")
                if fault:
                    yield here, fault
    yield from _endpoint_ports(document.get("ports") or (), ("ports",))


def endpoints(document: _Doc) -> Iterator[Finding]:
    """ValidateEndpoints."""
    for number, subset in enumerate(document.get("subsets") or ()):
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield ("subsets", number), "Required value: must specify `addresses` or `notReadyAddresses`"
        for group in ("addresses", "notReadyAddresses"):
            for place, address in enumerate(subset.get(group) or ()):
                if fault := _endpoint_ip(address.get("ip")):
                    yield ("subsets", number, group, place, "ip"), fault
        yield from _endpoint_ports(subset.get("ports") or (), ("subsets", number, "ports"))


def _endpoint_ports(ports: Any, at: Path) -> Iterator[Finding]:
    names: set[str] = set()
    for number, port in enumerate(ports):
        name = port.get("name") or ""
        if name in names:
            yield (*at, number, "name"), f'Duplicate value: "{name}"' if name else REQUIRED
        names.add(name)
        if port.get("port") is not None and (fault := _port(port["port"])):
            yield (*at, number, "port"), fault
        if (port.get("protocol") or "TCP") not in PROTOCOLS:
            yield (*at, number, "protocol"), unsupported(port["protocol"], sorted(PROTOCOLS))


def pod(document: _Doc) -> Iterator[Finding]:
    """The parts of a Pod that the lab acts on."""
    yield from _pod_spec(document.get("spec") or {}, ("spec",))


def _pod_spec(spec: _Doc, at: Path) -> Iterator[Finding]:
    containers = spec.get("containers") or []
    if not containers:
        yield (*at, "containers"), REQUIRED
    names: set[str] = set()
    for number, container in enumerate(containers):
        here: Path = (*at, "containers", number)
        if container["name"] in names:
            yield (*here, "name"), f'Duplicate value: "{container["name"]}"'
        names.add(container["name"])
        if not container.get("image"):
            yield (*here, "image"), REQUIRED
        for place, port in enumerate(container.get("ports") or ()):
            if fault := _port(port["containerPort"]):
                yield (*here, "ports", place, "containerPort"), fault
            if (port.get("protocol") or "TCP") not in PROTOCOLS:
                yield (*here, "ports", place, "protocol"), unsupported(port["protocol"], sorted(PROTOCOLS))


def workload(document: _Doc) -> Iterator[Finding]:
    """ReplicationController, ReplicaSet, Deployment, DaemonSet, StatefulSet."""
    spec = document.get("spec") or {}
    replicas = spec.get("replicas")
    if replicas is not None and replicas < 0:
        yield ("spec", "replicas"), invalid(replicas, "must be greater than or equal to 0")
    template = spec.get("template") or {}
    template_labels = (template.get("metadata") or {}).get("labels") or {}
    selector = spec.get("selector") or {}
    wanted = selector.get("matchLabels") or {} if document["kind"] != "ReplicationController" else selector
    if document["kind"] != "ReplicationController" and not selector:
        yield ("spec", "selector"), REQUIRED
    yield from labels(template_labels, ("spec", "template", "metadata", "labels"))
    if any(template_labels.get(key) != value for key, value in wanted.items()):
        yield (
            ("spec", "template", "metadata", "labels"),
            invalid(template_labels, "`selector` does not match template `labels`"),
        )
    yield from _pod_spec(template.get("spec") or {}, ("spec", "template", "spec"))


def node(document: _Doc) -> Iterator[Finding]:
    """Pod CIDRs and addresses of a Node."""
    spec = document.get("spec") or {}
    for number, text in enumerate(spec.get("podCIDRs") or [spec["podCIDR"]] if spec.get("podCIDR") else []):
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            yield (
                ("spec", "podCIDR") if not spec.get("podCIDRs") else ("spec", "podCIDRs", number),
                invalid(text, f"must be a valid CIDR value ({error})"),
            )


BY_KIND: Mapping[str, Callable[[_Doc], Iterator[Finding]]] = {
    "Service": service,
    "EndpointSlice": endpoint_slice,
    "Endpoints": endpoints,
    "Pod": pod,
    "Node": node,
    **dict.fromkeys(("ReplicationController", "ReplicaSet", "Deployment", "DaemonSet", "StatefulSet"), workload),
}


def check(document: _Doc) -> Iterator[Finding]:
    """All of the above for a document whose types are right."""
    yield from metadata(document)
    validator = BY_KIND.get(str(document.get("kind")))
    if validator is not None:
        yield from validator(document)
