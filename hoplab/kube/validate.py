"""What the API server would refuse, object by object: values that have the right type and make no sense.

Messages are in the API server's words ("Invalid value: 70000: must be between 1 and
65535, inclusive"); the rules of each kind are in the validate_* files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hoplab.kube import formats
from hoplab.kube.formats import REQUIRED, Finding, each_invalid, invalid
from hoplab.kube.problems import Path
from hoplab.kube.validate_other import config_map, controller_revision, ingress, network_policy, node, secret
from hoplab.kube.validate_pod import pod, workload
from hoplab.kube.validate_service import endpoint_slice, endpoints, service

_Doc = Mapping[str, Any]
MOST_ANNOTATIONS_B = 256 * 1024
FINALIZERS = ("foregroundDeletion", "kubernetes", "orphan")
"""Those that need no domain."""

BY_KIND: Mapping[str, Callable[[_Doc], Iterator[Finding]]] = {
    "Service": service,
    "EndpointSlice": endpoint_slice,
    "Endpoints": endpoints,
    "Pod": pod,
    "Node": node,
    "Ingress": ingress,
    "NetworkPolicy": network_policy,
    "ConfigMap": config_map,
    "ControllerRevision": controller_revision,
    "Secret": secret,
    **dict.fromkeys(("ReplicationController", "ReplicaSet", "Deployment", "DaemonSet", "StatefulSet", "Job"), workload),
}
_NAMES: Mapping[str, Callable[[str], list[str]]] = {
    "Service": formats.dns_1035_label,
    "Namespace": formats.dns_label,
}


def check(document: _Doc) -> Iterator[Finding]:
    """What is wrong with a document whose fields have the right types."""
    yield from metadata(document)
    validator = BY_KIND.get(str(document.get("kind")))
    if validator is not None:
        yield from validator(document)


def metadata(document: _Doc) -> Iterator[Finding]:
    """Names, labels and annotations, of any kind (ValidateObjectMeta)."""
    meta = document.get("metadata") or {}
    name, generate = meta.get("name"), meta.get("generateName")
    check_name = _NAMES.get(str(document.get("kind")), formats.dns_subdomain)
    if generate:
        # What is generated goes on where this ends: a last hyphen is fine (maskTrailingDash).
        shown = f"{generate[:-2]}a" if len(generate) > 1 and generate.endswith("-") else generate
        yield from each_invalid(("metadata", "generateName"), generate, check_name(shown))
    if name:
        yield from each_invalid(("metadata", "name"), name, check_name(name))
    elif generate:
        yield ("metadata", "name"), f"{REQUIRED}: the lab makes no names from generateName, give one"
    else:
        yield ("metadata", "name"), REQUIRED
    if meta.get("namespace"):
        yield from each_invalid(("metadata", "namespace"), meta["namespace"], formats.dns_label(meta["namespace"]))
    yield from formats.labels(meta.get("labels"), ("metadata", "labels"))
    for key in meta.get("annotations") or ():
        yield from each_invalid(("metadata", "annotations", key), key, formats.qualified_name(key.lower()))
    if _size(meta.get("annotations") or {}) > MOST_ANNOTATIONS_B:
        yield ("metadata", "annotations"), formats.too_long(MOST_ANNOTATIONS_B)
    yield from _owners(meta.get("ownerReferences") or ())
    for number, finalizer in enumerate(meta.get("finalizers") or ()):
        yield from each_invalid(("metadata", "finalizers"), finalizer, formats.qualified_name(finalizer))
        if "/" not in finalizer and finalizer not in FINALIZERS:
            at: Path = ("metadata", "finalizers", number)
            yield at, invalid(finalizer, "name is neither a standard finalizer name nor is it fully qualified")


def _owners(references: Sequence[_Doc]) -> Iterator[Finding]:
    """ValidateOwnerReferences."""
    controller = ""
    at: Path = ("metadata", "ownerReferences")
    for number, each in enumerate(references):
        if not each["apiVersion"].rpartition("/")[2]:
            yield (*at, number, "apiVersion"), invalid(each["apiVersion"], "version must not be empty")
        for field in ("kind", "name", "uid"):
            if not each[field]:
                yield (*at, number, field), invalid(each[field], "must not be empty")
        if each.get("controller"):
            me = f"{each['kind']}/{each['name']}"
            if controller:
                only = 'Only one reference can have Controller set to true. Found "true" in references for'
                yield at, invalid(list(references), f"{only} {controller} and {me}")
            controller = controller or me


def _size(annotations: _Doc) -> int:
    return sum(len(key.encode()) + len((value or "").encode()) for key, value in annotations.items())
