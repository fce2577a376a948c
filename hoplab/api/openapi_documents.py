"""The OpenAPI documents that clients ask for: version 2 as one, version 3 one for each group and version.

kubectl reads them to learn whether the server validates fields and knows dry runs (the
parameters of the patch operations), how to compute the patch of `kubectl apply` (merge keys),
and to print `kubectl explain`.  The paths are therefore few and short: those of each
resource's collection and of one object, with the operations' group, version and kind.
Source: the OpenAPI specifications 2.0 and 3.0, and apiserver's routes for /openapi/v2 and /openapi/v3.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hoplab.api import openapi
from hoplab.api.resources import RESOURCES, Resource, groups, of_version
from hoplab.api.version import GIT_VERSION

PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_PARAMETERS = {
    "get": ("pretty",),
    "list": ("continue", "fieldSelector", "labelSelector", "limit", "resourceVersion", "watch"),
    "create": ("dryRun", "fieldManager", "fieldValidation"),
    "update": ("dryRun", "fieldManager", "fieldValidation"),
    "patch": ("dryRun", "fieldManager", "fieldValidation", "force"),
    "delete": ("dryRun", "gracePeriodSeconds", "propagationPolicy"),
}
_METHODS = {"get": "get", "list": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
_INFO = {"title": "Kubernetes", "version": GIT_VERSION}
_V3_REF = "#/components/schemas/"


def collection_path(resource: Resource) -> str:
    """/apis/apps/v1/namespaces/{namespace}/deployments"""
    root = f"/apis/{resource.group_version}" if resource.group else f"/api/{resource.version}"
    return f"{root}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{root}/{resource.plural}"


def _operations(resource: Resource) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Path -> verb -> its query parameters."""
    path = collection_path(resource)
    if resource.virtual:
        return {path: {"create": _PARAMETERS["create"]}}
    return {
        path: {verb: _PARAMETERS[verb] for verb in ("list", "create")},
        f"{path}/{{name}}": {verb: _PARAMETERS[verb] for verb in ("get", "update", "patch", "delete")},
    }


def _kind(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "kind": resource.kind}


def _operation(resource: Resource, verb: str, parameters: tuple[str, ...], v3: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "responses": {"200": {"description": "OK"}},
        "parameters": [
            {"name": name, "in": "query", **({"schema": {"type": "string"}} if v3 else {"type": "string"})}
            for name in parameters
        ],
        "x-kubernetes-action": {"create": "post", "update": "put"}.get(verb, verb),
        openapi.GVK: _kind(resource),
    }
    if verb == "patch":
        if v3:
            body = {"$ref": f"{_V3_REF}io.k8s.apimachinery.pkg.apis.meta.v1.Patch"}
            made["requestBody"] = {"content": {each: {"schema": body} for each in PATCH_TYPES}}
        else:
            made["consumes"] = list(PATCH_TYPES)
    return made


def _paths(resources: list[Resource], v3: bool) -> dict[str, Any]:
    return {
        path: {_METHODS[verb]: _operation(each, verb, parameters, v3) for verb, parameters in verbs.items()}
        for each in resources
        for path, verbs in _operations(each).items()
    }


@functools.cache
def version_2() -> Mapping[str, Any]:
    """The document of /openapi/v2."""
    return {
        "swagger": "2.0",
        "info": _INFO,
        "paths": _paths(list(RESOURCES), v3=False),
        "definitions": openapi.definitions(),
    }


@functools.cache
def version_3(group: str, version: str) -> bytes:
    """The document of one group and version, as JSON.  Raises KeyError for one that is not served."""
    if version not in groups()[group]:
        raise KeyError(version)
    resources = of_version(group, version)
    names = [openapi.definition_name(group, version, each.kind) for each in resources]
    names += [f"{name}List" for name in names if f"{name}List" in openapi.definitions()]
    names += [f"io.k8s.apimachinery.pkg.apis.meta.v1.{each}" for each in ("DeleteOptions", "Status", "Patch")]
    names += ["io.k8s.api.autoscaling.v1.Scale"]
    if not group:
        names += ["io.k8s.api.policy.v1.Eviction", "io.k8s.api.core.v1.Binding"]
    schemas: dict[str, Any] = {}
    while names:
        name = names.pop()
        if name not in schemas:
            schemas[name] = _version_3(openapi.definitions()[name], names)
    document = {
        "openapi": "3.0.0",
        "info": _INFO,
        "paths": _paths(resources, v3=True),
        "components": {"schemas": dict(sorted(schemas.items()))},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _version_3(schema: Any, wanted: list[str]) -> Any:
    """A schema in version 3's words: a reference with words beside it stands in allOf, numbers may be of two types."""
    if isinstance(schema, list):
        return [_version_3(each, wanted) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {key: _version_3(value, wanted) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str):
        name = reference.removeprefix(openapi.REF)
        wanted.append(name)
        del made["$ref"]
        target = {"$ref": f"{_V3_REF}{name}"}
        return {**made, "allOf": [target]} if made else target
    if schema.get("format") == "int-or-string":
        del made["type"]
        made["oneOf"] = [{"type": "integer"}, {"type": "string"}]
    return made


@functools.cache
def index() -> Mapping[str, Any]:
    """The document of /openapi/v3: where the others are; the hash changes when they do."""
    paths = {}
    for group, versions in groups().items():
        for version in versions:
            name = f"apis/{group}/{version}" if group else f"api/{version}"
            digest = hashlib.sha512(version_3(group, version)).hexdigest().upper()
            paths[name] = {"serverRelativeURL": f"/openapi/v3/{name}?hash={digest}"}
    return {"paths": paths}
