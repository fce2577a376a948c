"""Nodes, Ingresses, NetworkPolicies, ConfigMaps and Secrets, as the API server validates them.

Source: pkg/apis/core/validation/validation.go (ValidateNode, ValidateConfigMap,
ValidateSecret) and pkg/apis/networking/validation/validation.go.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Mapping
from typing import Any

from hoplab.kube import formats
from hoplab.kube.formats import PROTOCOLS, REQUIRED, Finding, duplicate, each_invalid, enum, invalid
from hoplab.kube.labels import selector_findings
from hoplab.kube.problems import Path

_Doc = Mapping[str, Any]

ADDRESS_TYPES = ("ExternalDNS", "ExternalIP", "Hostname", "InternalDNS", "InternalIP")
PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
POLICY_TYPES = ("Egress", "Ingress")
MOST_DATA_B = 1024 * 1024
"""Of one ConfigMap or Secret."""
BASIC_AUTH, ACCOUNT_TOKEN = "kubernetes.io/basic-auth", "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
SECRET_KEYS: Mapping[str, tuple[str, ...]] = {
    BASIC_AUTH: ("username", "password"),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
"""Keys that a Secret of a type must have."""
NOT_IN_PATHS = ("//", "/./", "/../", "%2f", "%2F")
NOT_AT_END = ("/..", "/.")


def node(document: _Doc) -> Iterator[Finding]:
    """Pod subnets, addresses and taints of a Node."""
    spec = document.get("spec") or {}
    one, several = spec.get("podCIDR"), spec.get("podCIDRs") or ()
    if one:
        yield from each_invalid(("spec", "podCIDR"), one, formats.cidr(one))
        if several and several[0] != one:
            yield ("spec", "podCIDRs"), invalid(several, "first value must match `podCIDR`")
    for number, text in enumerate(several):
        yield from each_invalid(("spec", "podCIDRs", number), text, formats.cidr(text))
    families = [":" in text for text in several]
    if len(several) > 2 or len(set(families)) < len(families):
        yield ("spec", "podCIDRs"), invalid(several, "may specify no more than one CIDR for each IP family")
    for number, address in enumerate((document.get("status") or {}).get("addresses") or ()):
        at: Path = ("status", "addresses", number)
        yield from enum((*at, "type"), address["type"], ADDRESS_TYPES)
        if address["type"] in ("InternalIP", "ExternalIP"):
            yield from each_invalid((*at, "address"), address["address"], formats.ip(address["address"]))


def ingress(document: _Doc) -> Iterator[Finding]:
    """ValidateIngress."""
    spec = document.get("spec") or {}
    at: Path = ("spec",)
    if not spec.get("rules") and not spec.get("defaultBackend"):
        yield at, invalid({}, "either `defaultBackend` or `rules` must be specified")
    if spec.get("ingressClassName"):
        name = spec["ingressClassName"]
        yield from each_invalid((*at, "ingressClassName"), name, formats.dns_subdomain(name))
    if spec.get("defaultBackend") is not None:
        yield from _backend(spec["defaultBackend"], (*at, "defaultBackend"))
    for number, rule in enumerate(spec.get("rules") or ()):
        here: Path = (*at, "rules", number)
        yield from _host(rule.get("host") or "", (*here, "host"))
        for place, path in enumerate((rule.get("http") or {}).get("paths") or ()):
            yield from _path(path, (*here, "http", "paths", place))
    for number, tls in enumerate(spec.get("tls") or ()):
        for place, host in enumerate(tls.get("hosts") or ()):
            yield from _host(host, (*at, "tls", number, "hosts", place))


def _host(host: str, at: Path) -> Iterator[Finding]:
    if not host:
        return
    if formats.parsed_ip(host):
        yield at, invalid(host, "must be a DNS name, not an IP address")
    elif "*" in host:
        # One leading label may be a star: *.example.com.
        good = host.startswith("*.") and not formats.dns_subdomain(host.removeprefix("*."))
        yield from each_invalid(at, host, [] if good else [formats.SAY_WILDCARD])
    else:
        yield from each_invalid(at, host, formats.dns_subdomain(host))


def _path(path: _Doc, at: Path) -> Iterator[Finding]:
    kind, text = path.get("pathType"), path.get("path") or ""
    yield from enum((*at, "pathType"), kind, PATH_TYPES)
    if (kind != "ImplementationSpecific" or text) and not text.startswith("/"):
        yield (*at, "path"), invalid(text, "must be an absolute path")
    elif kind in ("Exact", "Prefix"):
        for part in NOT_IN_PATHS:
            if part in text:
                yield (*at, "path"), invalid(text, f"must not contain '{part}'")
        for end in NOT_AT_END:
            if text.endswith(end):
                yield (*at, "path"), invalid(text, f"cannot end with '{end}'")
    yield from _backend(path["backend"], (*at, "backend"))


def _backend(backend: _Doc, at: Path) -> Iterator[Finding]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        yield at, invalid("", "cannot set both resource and service backends")
    elif service is None and resource is None:
        yield at, f"{REQUIRED}: resource or service backend is required"
    if service is None:
        return
    name, port = service.get("name") or "", service.get("port") or {}
    if not name:
        yield (*at, "service", "name"), REQUIRED
    else:
        yield from each_invalid((*at, "service", "name"), name, formats.dns_1035_label(name))
    number, port_name = port.get("number") or 0, port.get("name") or ""
    if number and port_name:
        yield (*at, "service", "port"), invalid("", "cannot set both port name & port number")
    elif number:
        yield from each_invalid((*at, "service", "port", "number"), number, formats.port_number(number))
    elif port_name:
        yield from each_invalid((*at, "service", "port", "name"), port_name, formats.port_name(port_name))
    else:
        yield (*at, "service", "port"), f"{REQUIRED}: port name or number is required"


def network_policy(document: _Doc) -> Iterator[Finding]:
    """ValidateNetworkPolicy."""
    spec = document.get("spec") or {}
    yield from selector_findings(spec.get("podSelector"), ("spec", "podSelector"))
    types = spec.get("policyTypes") or ()
    for number, kind in enumerate(types):
        yield from enum(("spec", "policyTypes", number), kind, POLICY_TYPES)
        if kind in types[:number]:
            yield ("spec", "policyTypes", number), duplicate(kind)
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for number, rule in enumerate(spec.get(direction) or ()):
            at: Path = ("spec", direction, number)
            for place, port in enumerate(rule.get("ports") or ()):
                yield from _policy_port(port, (*at, "ports", place))
            for place, peer in enumerate(rule.get(peers) or ()):
                yield from _peer(peer, (*at, peers, place))


def _policy_port(port: _Doc, at: Path) -> Iterator[Finding]:
    yield from enum((*at, "protocol"), port.get("protocol"), PROTOCOLS)
    first, last = port.get("port"), port.get("endPort")
    if first is not None:
        yield from each_invalid((*at, "port"), first, formats.port_number_or_name(first))
    if last is None:
        return
    if not isinstance(first, int):
        why = "must be specified as a number when `endPort` is specified"
        yield (*at, "port"), f"{REQUIRED}: {why}" if first is None else invalid(first, why)
    elif last < first:
        yield (*at, "endPort"), invalid(last, "must be greater than or equal to `port`")
    yield from each_invalid((*at, "endPort"), last, formats.port_number(last))


def _peer(peer: _Doc, at: Path) -> Iterator[Finding]:
    given = [field for field in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(field) is not None]
    if not given:
        yield at, f"{REQUIRED}: must specify a peer"
    if "ipBlock" in given and len(given) > 1:
        yield at, "Forbidden: may not specify both ipBlock and another peer"
    for field in given[: None if "ipBlock" not in given else 0]:
        yield from selector_findings(peer[field], (*at, field))
    if "ipBlock" not in given:
        return
    block = peer["ipBlock"]
    whole = formats.parsed_cidr(block["cidr"])
    yield from each_invalid((*at, "ipBlock", "cidr"), block["cidr"], formats.cidr(block["cidr"]))
    for number, text in enumerate(block.get("except") or ()):
        here: Path = (*at, "ipBlock", "except", number)
        part = formats.parsed_cidr(text)
        yield from each_invalid(here, text, formats.cidr(text))
        if whole and part and not (_inside(part, whole) and part.prefixlen > whole.prefixlen):
            yield here, invalid(text, "must be a strict subset of `cidr`")


def _inside(part: formats.Network, whole: formats.Network) -> bool:
    return part.version == whole.version and part.network_address in whole and part.broadcast_address in whole


def config_map(document: _Doc) -> Iterator[Finding]:
    """ValidateConfigMap."""
    data, binary = document.get("data") or {}, document.get("binaryData") or {}
    for field, entries in (("data", data), ("binaryData", binary)):
        for key in entries:
            yield from each_invalid((field, key), key, formats.config_key(key))
    for key in binary:
        if key in data:
            yield ("binaryData", key), invalid(key, "duplicate of key present in data")
    yield from _base64(binary, ("binaryData",))
    if sum(len((text or "").encode()) for text in data.values()) + sum(map(_bytes, binary.values())) > MOST_DATA_B:
        # The whole object's field has no name.
        yield ("",), formats.too_long(MOST_DATA_B)


def controller_revision(document: _Doc) -> Iterator[Finding]:
    """ValidateControllerRevision."""
    yield from formats.not_negative(("revision",), document.get("revision"))
    if document.get("data") is None:
        yield ("data",), f"{REQUIRED}: data is mandatory"


def secret(document: _Doc) -> Iterator[Finding]:
    """ValidateSecret."""
    data, plain = document.get("data") or {}, document.get("stringData") or {}
    for field, entries in (("data", data), ("stringData", plain)):
        for key in entries:
            yield from each_invalid((field, key), key, formats.config_key(key))
    yield from _base64(data, ("data",))
    if sum(map(_bytes, data.values())) + sum(len((text or "").encode()) for text in plain.values()) > MOST_DATA_B:
        yield ("data",), formats.too_long(MOST_DATA_B)
    needed, kind = SECRET_KEYS.get(document.get("type") or "", ()), document.get("type")
    missing = [key for key in needed if key not in data and key not in plain]
    if kind == BASIC_AUTH and len(missing) < len(needed):
        return  # One of the two will do.
    for key in missing:
        yield ("data", key), REQUIRED
    if kind == ACCOUNT_TOKEN and not ((document.get("metadata") or {}).get("annotations") or {}).get(ACCOUNT_NAME):
        yield ("metadata", "annotations", ACCOUNT_NAME), REQUIRED


def _bytes(text: str | None) -> int:
    """About how many bytes a base64 text stands for."""
    return len(text or "") * 3 // 4


def _base64(entries: Mapping[str, str | None], at: Path) -> Iterator[Finding]:
    for key, text in entries.items():
        try:
            binascii.a2b_base64("".join((text or "").split()), strict_mode=True)
        except (binascii.Error, ValueError) as error:
            yield (*at, key), f"expected base64, found a text that is none ({error}); plain text goes to stringData"
