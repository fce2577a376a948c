"""Old API versions: what manifests of 2017 say, in the words of today.

Kubernetes served extensions/v1beta1 and apps/v1beta1 until 1.16 and 1.22 and
converted them on the way in; this does the same for the kinds that the lab serves.
Source: the deprecation guide and the conversion functions of these API groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    ("batch/v1beta1", "Job"): "batch/v1",
}


def modernize(document: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The document in the current version of its API, and a warning when it was in an old one."""
    version, kind = str(document.get("apiVersion", "")), str(document.get("kind", ""))
    current = CURRENT.get((version, kind))
    made = dict(document)
    if current is None:
        return made, ""
    made["apiVersion"] = current
    if kind in ("Deployment", "DaemonSet", "ReplicaSet", "StatefulSet"):
        _default_selector(made)
    elif kind == "Ingress":
        _modern_ingress(made)
    elif kind == "EndpointSlice":
        _modern_slice(made)
    return made, f"{version} {kind} is deprecated and no longer served by Kubernetes; taken as {current} {kind}"


def _default_selector(document: dict[str, Any]) -> None:
    """Before apps/v1 a missing selector meant the template's labels; rollbackTo has no successor."""
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        return
    spec = document["spec"] = {key: value for key, value in spec.items() if key != "rollbackTo"}
    template = spec.get("template")
    metadata = template.get("metadata") if isinstance(template, Mapping) else None
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    if "selector" not in spec and isinstance(labels, Mapping):
        spec["selector"] = {"matchLabels": dict(labels)}


def _modern_ingress(document: dict[str, Any]) -> None:
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        return
    spec = document["spec"] = dict(spec)
    if "backend" in spec:
        spec["defaultBackend"] = _backend(spec.pop("backend"))
    rules = []
    for rule in spec.get("rules") or []:
        http = rule.get("http") if isinstance(rule, Mapping) else None
        if isinstance(http, Mapping) and isinstance(http.get("paths"), list):
            paths = [
                {"pathType": "ImplementationSpecific", **path, "backend": _backend(path.get("backend"))}
                if isinstance(path, Mapping)
                else path
                for path in http["paths"]
            ]
            rule = {**rule, "http": {**http, "paths": paths}}
        rules.append(rule)
    if rules:
        spec["rules"] = rules


def _backend(backend: Any) -> Any:
    if not isinstance(backend, Mapping) or "serviceName" not in backend:
        return backend
    port = backend.get("servicePort")
    inner = {"number": port} if isinstance(port, int) else {"name": port}
    rest = {key: value for key, value in backend.items() if key not in ("serviceName", "servicePort")}
    return {**rest, "service": {"name": backend["serviceName"], "port": inner}}


def _modern_slice(document: dict[str, Any]) -> None:
    """v1beta1 endpoints carried nodeName and zone in `topology`."""
    endpoints = []
    for endpoint in document.get("endpoints") or []:
        if isinstance(endpoint, Mapping) and isinstance(endpoint.get("topology"), Mapping):
            topology = endpoint["topology"]
            endpoint = {key: value for key, value in endpoint.items() if key != "topology"}
            for old, new in (("kubernetes.io/hostname", "nodeName"), ("topology.kubernetes.io/zone", "zone")):
                if old in topology:
                    endpoint.setdefault(new, topology[old])
        endpoints.append(endpoint)
    if endpoints:
        document["endpoints"] = endpoints
