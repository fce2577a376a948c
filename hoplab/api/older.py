"""Objects in the words of the API version that a request speaks: from what is stored, and to it.

Everything is stored in its current version.  Most older versions differ by their name
only; Ingress, EndpointSlice and the events of events.k8s.io have fields of other names or
places.  The way in is hoplab.kube.versions' for what a manifest may hold as well; the way
out, and both ways for events, are here.  Source: the API's conversion functions
(pkg/apis/{networking,discovery,events}/v1beta1/conversion.go, pkg/apis/events/v1/conversion.go).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hoplab.api.resources import Resource, of_kind
from hoplab.kube.versions import modernize

_Doc = dict[str, Any]


def stored_version(resource: Resource) -> str:
    """The apiVersion under which objects of this kind are stored."""
    return of_kind(resource.kind).group_version


def to_stored(document: Mapping[str, Any], resource: Resource) -> _Doc:
    """A document in the resource's version, as it is stored."""
    if resource.group == "events.k8s.io":
        return _core_event(dict(document))
    return modernize(document).document


def from_stored(document: Mapping[str, Any], resource: Resource) -> _Doc:
    """A stored document in the resource's version; the given one is not changed."""
    made = {**document, "apiVersion": resource.group_version}
    if resource.group_version != stored_version(resource):
        converter = _OUT.get(resource.kind)
        if converter is not None:
            converter(made)
    return made


def _old_ingress(document: _Doc) -> None:
    spec = dict(document.get("spec") or {})
    if "defaultBackend" in spec:
        spec["backend"] = _old_backend(spec.pop("defaultBackend"))
    if "rules" in spec:
        spec["rules"] = [_old_rule(rule) for rule in spec["rules"]]
    document["spec"] = spec


def _old_rule(rule: Mapping[str, Any]) -> Mapping[str, Any]:
    http = rule.get("http")
    if not http:
        return rule
    paths = [{**path, "backend": _old_backend(path.get("backend") or {})} for path in http.get("paths", ())]
    return {**rule, "http": {**http, "paths": paths}}


def _old_backend(backend: Mapping[str, Any]) -> _Doc:
    made = {key: value for key, value in backend.items() if key != "service"}
    service = backend.get("service")
    if service:
        made["serviceName"] = service.get("name", "")
        port = service.get("port") or {}
        made["servicePort"] = port.get("name") or port.get("number") or 0
    return made


def _old_slice(document: _Doc) -> None:
    endpoints = []
    for each in document.get("endpoints") or ():
        made = {key: value for key, value in each.items() if key not in ("deprecatedTopology", "zone")}
        topology = dict(each.get("deprecatedTopology") or {})
        if "zone" in each:
            topology["topology.kubernetes.io/zone"] = each["zone"]
        endpoints.append({**made, "topology": topology} if topology else made)
    document["endpoints"] = endpoints


_EVENT_FIELDS = (
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
)
"""Names in events.k8s.io/v1 and in the core group."""


def _new_event(document: _Doc) -> None:
    for new, core in _EVENT_FIELDS:
        if core in document:
            document[new] = document.pop(core)


def _core_event(document: _Doc) -> _Doc:
    for new, core in _EVENT_FIELDS:
        if new in document:
            document[core] = document.pop(new)
    return {**document, "apiVersion": "v1"}


_OUT: Mapping[str, Callable[[_Doc], None]] = {
    "Ingress": _old_ingress,
    "EndpointSlice": _old_slice,
    "Event": _new_event,
}
