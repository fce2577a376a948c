"""Old API versions: what manifests of 2017 say, in the words of today.

Kubernetes served extensions/v1beta1 and apps/v1beta1 until 1.16 and 1.22 and
converted them on the way in; this does the same for the kinds that the lab serves.
Source: the deprecation guide and the conversion functions of these API groups.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hoplab.kube.problems import Path

CURRENT: Mapping[tuple[str, str], str] = {
    **{
        (version, kind): "apps/v1"
        for version in ("extensions/v1beta1", "apps/v1beta1", "apps/v1beta2")
        for kind in ("Deployment", "DaemonSet", "ReplicaSet", "StatefulSet")
    },
    ("extensions/v1beta1", "Ingress"): "networking.k8s.io/v1",
    ("networking.k8s.io/v1beta1", "Ingress"): "networking.k8s.io/v1",
    ("networking.k8s.io/v1beta1", "IngressClass"): "networking.k8s.io/v1",
    ("extensions/v1beta1", "NetworkPolicy"): "networking.k8s.io/v1",
    ("discovery.k8s.io/v1beta1", "EndpointSlice"): "discovery.k8s.io/v1",
    ("coordination.k8s.io/v1beta1", "Lease"): "coordination.k8s.io/v1",
}


@dataclass(frozen=True, slots=True)
class Modern:
    """A document in the current version of its API."""

    document: dict[str, Any]
    warning: str = ""
    """What its writer should know, empty when it was current already."""
    moved: Mapping[Path, Path] = field(default_factory=dict)
    """Where fields that have a new place were written: new path -> old path."""


def modernize(document: Mapping[str, Any]) -> Modern:
    """The document in today's words.  Parts that have the wrong type are left as they are, for validation to find."""
    version, kind = str(document.get("apiVersion", "")), str(document.get("kind", ""))
    current = CURRENT.get((version, kind))
    made = dict(document)
    if current is None:
        return Modern(made)
    made["apiVersion"] = current
    moved: dict[Path, Path] = {}
    converter = _CONVERTERS.get(kind)
    if converter is not None:
        converter(made, moved)
    return Modern(
        made, f"{version} {kind} is deprecated and no longer served by Kubernetes; taken as {current} {kind}", moved
    )


def _default_selector(document: dict[str, Any], moved: dict[Path, Path]) -> None:
    """Before apps/v1 a missing selector meant the template's labels; rollbackTo and templateGeneration are gone."""
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        return
    gone = ("rollbackTo", "templateGeneration")
    spec = document["spec"] = {key: value for key, value in spec.items() if key not in gone}
    template = spec.get("template")
    metadata = template.get("metadata") if isinstance(template, Mapping) else None
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    if spec.get("selector") is None and isinstance(labels, Mapping):
        spec["selector"] = {"matchLabels": dict(labels)}
        for key in labels:
            moved["spec", "selector", "matchLabels", key] = ("spec", "template", "metadata", "labels", key)


def _modern_ingress(document: dict[str, Any], moved: dict[Path, Path]) -> None:
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        return
    spec = document["spec"] = dict(spec)
    if "backend" in spec and "defaultBackend" not in spec:
        spec["defaultBackend"] = _backend(spec.pop("backend"), ("spec", "defaultBackend"), ("spec", "backend"), moved)
    rules = spec.get("rules")
    if isinstance(rules, list):
        spec["rules"] = [_rule(rule, ("spec", "rules", number), moved) for number, rule in enumerate(rules)]


def _rule(rule: Any, at: Path, moved: dict[Path, Path]) -> Any:
    http = rule.get("http") if isinstance(rule, Mapping) else None
    if not isinstance(http, Mapping) or not isinstance(http.get("paths"), list):
        return rule
    paths = []
    for number, path in enumerate(http["paths"]):
        if isinstance(path, Mapping):
            here: Path = (*at, "http", "paths", number, "backend")
            path = {"pathType": "ImplementationSpecific", **path}
            if "backend" in path:
                path["backend"] = _backend(path["backend"], here, here, moved)
        paths.append(path)
    return {**rule, "http": {**http, "paths": paths}}


def _backend(backend: Any, at: Path, was: Path, moved: dict[Path, Path]) -> Any:
    if at != was:
        moved[at] = was
    if not isinstance(backend, Mapping) or not {"serviceName", "servicePort"} & backend.keys():
        return backend
    rest = {key: value for key, value in backend.items() if key not in ("serviceName", "servicePort")}
    service: dict[str, Any] = {}
    if "serviceName" in backend:
        service["name"] = backend["serviceName"]
        moved[*at, "service", "name"] = (*was, "serviceName")
    port = backend.get("servicePort")
    if port is not None:
        field_name = "name" if isinstance(port, str) else "number"
        service["port"] = {field_name: port}
        moved[*at, "service", "port", field_name] = (*was, "servicePort")
    moved[*at, "service", "port"] = (*was, "servicePort")
    return {**rest, "service": service}


def _modern_slice(document: dict[str, Any], moved: dict[Path, Path]) -> None:
    """v1beta1 endpoints carried node name and zone in `topology`."""
    endpoints = document.get("endpoints")
    if not isinstance(endpoints, list):
        return
    made = []
    for number, endpoint in enumerate(endpoints):
        topology = endpoint.get("topology") if isinstance(endpoint, Mapping) else None
        if isinstance(topology, Mapping):
            at: Path = ("endpoints", number)
            endpoint = {key: value for key, value in endpoint.items() if key != "topology"}
            for old, new in (("kubernetes.io/hostname", "nodeName"), ("topology.kubernetes.io/zone", "zone")):
                if old in topology:
                    endpoint.setdefault(new, topology[old])
                    moved[*at, new] = (*at, "topology", old)
            rest = {key: value for key, value in topology.items() if key not in ("topology.kubernetes.io/zone",)}
            endpoint["deprecatedTopology"] = rest
            moved[*at, "deprecatedTopology"] = (*at, "topology")
        made.append(endpoint)
    document["endpoints"] = made


_CONVERTERS: Mapping[str, Callable[[dict[str, Any], dict[Path, Path]], None]] = {
    **dict.fromkeys(("Deployment", "DaemonSet", "ReplicaSet", "StatefulSet"), _default_selector),
    "Ingress": _modern_ingress,
    "EndpointSlice": _modern_slice,
}
