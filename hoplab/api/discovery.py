"""Discovery: which groups, versions and resources there are, told step by step or all at once.

Old clients walk /api, /apis and each group and version; newer ones ask for the aggregated
document, which has all of it at once and tells by an ETag whether it changed.
Source: the aggregated discovery API (apidiscovery.k8s.io/v2) and meta/v1's APIGroupList and APIResourceList.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from hoplab.api.resources import RESOURCES, SUBRESOURCE_KINDS, Resource, groups, of_version


def scale_version(resource: Resource) -> tuple[str, str]:
    """Group and version of what a resource's scale subresource exchanges."""
    if resource.group == "extensions" or resource.version.startswith("v1beta"):
        return resource.group, resource.version
    return "autoscaling", "v1"


def _subresource(resource: Resource, name: str) -> tuple[str, str, str, tuple[str, ...]]:
    """Group, version and kind of what is exchanged, and verbs."""
    group, version, kind, verbs = SUBRESOURCE_KINDS[name]
    if name == "scale":
        group, version = scale_version(resource)
    return group, version, kind or resource.kind, verbs


def _plain(resource: Resource) -> list[dict[str, Any]]:
    """An APIResource for the resource and each of its subresources."""
    own: dict[str, Any] = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        own["shortNames"] = list(resource.short_names)
    if resource.categories:
        own["categories"] = list(resource.categories)
    found = [own]
    for name in resource.subresources:
        group, version, kind, verbs = _subresource(resource, name)
        each: dict[str, Any] = {
            "name": f"{resource.plural}/{name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind,
            "verbs": list(verbs),
        }
        if group:
            each |= {"group": group, "version": version}
        found.append(each)
    return found


def resource_list(group: str, version: str) -> dict[str, Any]:
    """The document of one group and version.  Raises KeyError for one that is not served."""
    found = of_version(group, version)
    if not found:
        raise KeyError(version)
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": found[0].group_version,
        "resources": [each for resource in found for each in _plain(resource)],
    }


def _versions(group: str) -> list[dict[str, str]]:
    return [{"groupVersion": f"{group}/{version}", "version": version} for version in groups()[group]]


def group(name: str) -> dict[str, Any]:
    """The document of one group.  Raises KeyError."""
    versions = _versions(name)
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": versions, "preferredVersion": versions[0]}


def group_list() -> dict[str, Any]:
    """The document of /apis."""
    found = [group(name) for name in groups() if name]
    plain = [{key: value for key, value in each.items() if key not in ("kind", "apiVersion")} for each in found]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": plain}


def core_versions(address: str) -> dict[str, Any]:
    """The document of /api; `address` is host and port as the client wrote them."""
    server = {"clientCIDR": "0.0.0.0/0", "serverAddress": address}
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [server]}


def _aggregated_resource(resource: Resource) -> dict[str, Any]:
    made: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        made["shortNames"] = list(resource.short_names)
    if resource.categories:
        made["categories"] = list(resource.categories)
    inner = []
    for name in resource.subresources:
        group_, version, kind, verbs = _subresource(resource, name)
        kind_ = {"group": group_ or resource.group, "version": version or resource.version, "kind": kind}
        inner.append({"subresource": name, "responseKind": kind_, "verbs": list(verbs)})
    return {**made, "subresources": inner} if inner else made


@functools.cache
def aggregated(core: bool, version: str) -> tuple[Mapping[str, Any], str]:
    """The aggregated document of /api (core) or /apis, in apidiscovery's `version` (v2, v2beta1), and its ETag."""
    items = []
    for name in groups():
        if (name == "") == core:
            versions = [
                {
                    "version": each,
                    "freshness": "Current",
                    "resources": [_aggregated_resource(resource) for resource in of_version(name, each)],
                }
                for each in groups()[name]
            ]
            items.append({"metadata": {"name": name} if name else {}, "versions": versions})
    document = {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": items,
    }
    return document, hashlib.sha256(json.dumps(document).encode()).hexdigest().upper()


CUSTOM_RESOURCES = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def no_custom_resources() -> dict[str, Any]:
    """The list of custom resource definitions, which is empty.

    kubectl asks for it when it meets a kind that it finds nowhere else (cli-runtime's pkg/resource/crd_finder.go), and
    without it fails with words that name neither the object nor its kind.
    """
    return {
        "kind": "CustomResourceDefinitionList",
        "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"resourceVersion": "1"},
        "items": [],
    }


def root_paths() -> dict[str, Any]:
    """The document of /: every path that leads on."""
    paths = ["/api", "/api/v1", "/apis"]
    for each in RESOURCES:
        for path in (f"/apis/{each.group}", f"/apis/{each.group_version}") if each.group else ():
            if path not in paths:
                paths.append(path)
    return {"paths": [*paths, "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"]}
