"""What the API server would refuse, object by object: values that have the right type and make no sense.

Messages are in the API server's words ("Invalid value: 70000: must be between 1 and
65535, inclusive"); the rules of each kind are in the validate_* files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hoplab.kube import formats
from hoplab.kube.formats import REQUIRED, Finding, each_invalid
from hoplab.kube.validate_other import config_map, ingress, network_policy, node, secret
from hoplab.kube.validate_pod import pod, workload
from hoplab.kube.validate_service import endpoint_slice, endpoints, service

_Doc = Mapping[str, Any]

BY_KIND: Mapping[str, Callable[[_Doc], Iterator[Finding]]] = {
    "Service": service,
    "EndpointSlice": endpoint_slice,
    "Endpoints": endpoints,
    "Pod": pod,
    "Node": node,
    "Ingress": ingress,
    "NetworkPolicy": network_policy,
    "ConfigMap": config_map,
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
    name = meta.get("name")
    if name:
        check_name = _NAMES.get(str(document.get("kind")), formats.dns_subdomain)
        yield from each_invalid(("metadata", "name"), name, check_name(name))
    elif meta.get("generateName"):
        yield ("metadata", "name"), f"{REQUIRED}: the lab makes no names from generateName, give one"
    else:
        yield ("metadata", "name"), REQUIRED
    if meta.get("namespace"):
        yield from each_invalid(("metadata", "namespace"), meta["namespace"], formats.dns_label(meta["namespace"]))
    yield from formats.labels(meta.get("labels"), ("metadata", "labels"))
    for key in meta.get("annotations") or ():
        yield from each_invalid(("metadata", "annotations", key), key, formats.qualified_name(key.lower()))
