"""Kubernetes' OpenAPI definitions: what fields an object has, how their lists and maps merge, and what each is for.

The definitions are data (openapi.json, made by tools/make_openapi.py from Kubernetes' own
document).  The older API versions that the lab serves have gone from that document; they
differ from their successors in a few places, which are written down here.  Patches and
server-side apply read the `x-kubernetes-*` words: a list of type `map` is a set of items
told apart by the keys it names, a list of type `set` one of values, anything else is replaced
as a whole; strategic merge patches have words of their own, patch-strategy and patch-merge-key.
Source: the OpenAPI document of Kubernetes 1.33, and the conversion functions for older versions.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hoplab.api.resources import RESOURCES, Resource

Schema = Mapping[str, Any]
GVK = "x-kubernetes-group-version-kind"
REF = "#/definitions/"
ANYTHING: Schema = {}
"""The schema of what no definition describes."""

_PACKAGES = {
    "": "core",
    "discovery.k8s.io": "discovery",
    "events.k8s.io": "events",
    "networking.k8s.io": "networking",
    "coordination.k8s.io": "coordination",
    "authorization.k8s.io": "authorization",
    "authentication.k8s.io": "authentication",
}
_INGRESS_V1BETA1: Mapping[str, Schema] = {
    "IngressBackend": {
        "description": "IngressBackend describes all endpoints for a given service and port.",
        "type": "object",
        "properties": {
            "serviceName": {"type": "string", "description": "Specifies the name of the referenced service."},
            "servicePort": {
                "$ref": f"{REF}io.k8s.apimachinery.pkg.util.intstr.IntOrString",
                "description": "Specifies the port of the referenced service.",
            },
            "resource": {"$ref": f"{REF}io.k8s.api.core.v1.TypedLocalObjectReference"},
        },
    },
    "HTTPIngressPath": {
        "description": "HTTPIngressPath associates a path with a backend.",
        "type": "object",
        "required": ["backend"],
        "properties": {
            "path": {"type": "string", "description": "Path is matched against the path of an incoming request."},
            "pathType": {"type": "string", "description": "PathType determines the interpretation of the Path."},
            "backend": {"$ref": f"{REF}@IngressBackend"},
        },
    },
}


def package(group: str, version: str) -> str:
    """Where definitions of a group and version are: io.k8s.api.apps.v1."""
    return f"io.k8s.api.{_PACKAGES.get(group, group)}.{version}"


def definition_name(group: str, version: str, kind: str) -> str:
    """io.k8s.api.apps.v1.Deployment"""
    return f"{package(group, version)}.{kind}"


@functools.cache
def definitions() -> Mapping[str, Schema]:
    """Name -> schema, of every served version."""
    text = Path(__file__).with_name("openapi.json").read_text(encoding="utf-8")
    found: dict[str, Schema] = json.loads(text)
    for resource in RESOURCES:
        if resource.deprecated:
            _add_older(resource, found)
    return found


def _add_older(resource: Resource, found: dict[str, Schema]) -> None:
    """The definitions of an older version of a resource, from those of the current one."""
    current = next(each for each in RESOURCES if each.kind == resource.kind and not each.deprecated)
    here, now = package(resource.group, resource.version), package(current.group, current.version)
    for kind in (resource.kind, f"{resource.kind}List"):
        schema = dict(found[f"{now}.{kind}"])
        schema[GVK] = [{"group": resource.group, "version": resource.version, "kind": kind}]
        if kind.endswith("List"):
            items = {"type": "array", "items": {"$ref": f"{REF}{here}.{resource.kind}"}}
            schema["properties"] = {**schema["properties"], "items": items}
        found[f"{here}.{kind}"] = schema
    if resource.kind == "Ingress":
        _add_ingress(here, now, found)
    elif resource.kind != "IngressClass" and f"{now}.{resource.kind}Spec" in found:
        # A missing selector meant the template's labels.
        spec = dict(found[f"{now}.{resource.kind}Spec"])
        spec["required"] = [name for name in spec.get("required", ()) if name != "selector"]
        found[f"{here}.{resource.kind}Spec"] = spec
        _point(found, f"{here}.{resource.kind}", "spec", f"{here}.{resource.kind}Spec")


def _add_ingress(here: str, now: str, found: dict[str, Schema]) -> None:
    for name, schema in _INGRESS_V1BETA1.items():
        found[f"{here}.{name}"] = json.loads(json.dumps(schema).replace(f"{REF}@", f"{REF}{here}."))
    for name in ("IngressSpec", "IngressRule", "HTTPIngressRuleValue"):
        found[f"{here}.{name}"] = json.loads(
            json.dumps(found[f"{now}.{name}"])
            .replace(f"{REF}{now}.HTTPIngressPath", f"{REF}{here}.HTTPIngressPath")
            .replace(f"{REF}{now}.HTTPIngressRuleValue", f"{REF}{here}.HTTPIngressRuleValue")
            .replace(f"{REF}{now}.IngressRule", f"{REF}{here}.IngressRule")
            .replace(f"{REF}{now}.IngressBackend", f"{REF}{here}.IngressBackend")
            .replace('"defaultBackend"', '"backend"')
        )
    _point(found, f"{here}.Ingress", "spec", f"{here}.IngressSpec")


def _point(found: dict[str, Schema], name: str, field: str, target: str) -> None:
    schema = found[name]
    field_schema = {**schema["properties"][field], "$ref": f"{REF}{target}"}
    found[name] = {**schema, "properties": {**schema["properties"], field: field_schema}}


def of_resource(resource: Resource) -> Schema:
    """The schema of a resource's objects."""
    return definitions()[definition_name(resource.group, resource.version, resource.kind)]


def resolve(schema: Schema) -> Schema:
    """What a reference refers to; words beside the reference (merge keys, list types) stay."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target = definitions()[reference.removeprefix(REF)]
    beside = {key: value for key, value in schema.items() if key.startswith("x-kubernetes-")}
    return {**target, **beside} if beside else target


def field(schema: Schema, name: str) -> Schema:
    """The schema of one field or map entry, ANYTHING where there is none; not resolved: it has words of its own."""
    properties = schema.get("properties")
    if properties is not None and name in properties:
        found: Schema = properties[name]
        return found
    extra = schema.get("additionalProperties")
    return extra if isinstance(extra, Mapping) else ANYTHING


def item(schema: Schema) -> Schema:
    """The schema of a list's items, resolved."""
    return resolve(schema.get("items") or ANYTHING)
