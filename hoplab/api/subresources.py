"""The subresources that are views or commands: scale, binding, eviction, and a namespace's finalize.

A Scale is a small object of its own that shows one field of a workload; kubectl scale and
autoscalers write it, and so need to know nothing of the workload's kind.
Source: pkg/registry/apps/deployment/storage (ScaleREST), pkg/registry/core/pod/storage/{storage,eviction}.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hoplab.api import deleting, status
from hoplab.api.bodies import Body
from hoplab.api.columns import label_selector, labels
from hoplab.api.discovery import scale_version
from hoplab.api.managed import Manager
from hoplab.api.registry import Answer, Registry, Target, WriteOptions, patched
from hoplab.kube.objects import KubeObject


def scale_of(obj: KubeObject, target: Target) -> dict[str, Any]:
    """The Scale of a workload."""
    group, version = scale_version(target.resource)
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    selector = obj.spec.get("selector") or {}
    text = labels(selector) if obj.kind == "ReplicationController" else label_selector(selector, "")
    return {
        "kind": "Scale",
        "apiVersion": f"{group}/{version}",
        "metadata": {key: obj.metadata[key] for key in shown if key in obj.metadata},
        "spec": {"replicas": obj.spec.get("replicas", 1)},
        "status": {"replicas": obj.status.get("replicas", 0), "selector": text},
    }


def write_scale(registry: Registry, target: Target, body: Body, media: str, options: WriteOptions) -> Answer:
    """PUT (media "") or PATCH of a Scale."""
    current = scale_of(registry.get(target), target)
    scale = patched(current, body.data, media, target.resource) if media else body.data
    if not isinstance(scale, Mapping) or not isinstance(scale.get("spec"), Mapping):
        raise status.bad_request("expected a Scale with a spec")
    wanted = scale["spec"].get("replicas", 0)
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        raise status.bad_request(f"Scale: spec.replicas: expected a whole number, found {wanted!r}")
    if wanted < 0:
        problem = ("spec.replicas", f"Invalid value: {wanted}: must be greater than or equal to 0")
        raise status.invalid("Scale", "autoscaling", target.name, [problem])
    version = (scale.get("metadata") or {}).get("resourceVersion") or ""

    def edit(document: dict[str, Any]) -> None:
        if version:
            document["metadata"]["resourceVersion"] = version
        document["spec"] = {**document["spec"], "replicas": wanted}

    manager = Manager(options.manager, "Update", target.resource.group_version, "scale")
    return Answer(200, scale_of(registry.change(target, options, edit, manager), target))


def bind(registry: Registry, target: Target, body: Body, options: WriteOptions) -> Answer:
    """POST of a Binding: the pod is to run on the node that it names."""
    node = (body.data.get("target") or {}).get("name") if isinstance(body.data, Mapping) else None
    if not isinstance(node, str) or not node:
        raise status.invalid("Binding", "", target.name, [("target.name", "Required value")])

    def edit(document: dict[str, Any]) -> None:
        spec = document["spec"]
        if spec.get("nodeName"):
            why = f'pod {target.name} is already assigned to node "{spec["nodeName"]}"'
            raise status.conflict(replace(target.about, resource="pods/binding"), why)
        document["spec"] = {**spec, "nodeName": node}

    registry.change(target, options, edit)
    return Answer(201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})


def evict(registry: Registry, target: Target, body: Body, query: Mapping[str, str]) -> Answer:
    """POST of an Eviction: a deletion that a disruption budget might refuse; the lab keeps none."""
    data = body.data if isinstance(body.data, Mapping) else {}
    options = deleting.options(Body(data.get("deleteOptions") or {}), query)
    deleting.delete(registry, target, options)
    return Answer(201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})


def finalize(registry: Registry, target: Target, body: Body, options: WriteOptions) -> Answer:
    """PUT of a Namespace's finalizers; one that is being deleted goes with the last of them."""
    spec = body.data.get("spec") if isinstance(body.data, Mapping) else None
    finalizers = list((spec or {}).get("finalizers") or ())

    def edit(document: dict[str, Any]) -> None:
        document["spec"] = {"finalizers": finalizers} if finalizers else {}

    return Answer(200, dict(registry.change(target, options, edit).document))
