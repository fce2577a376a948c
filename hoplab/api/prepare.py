"""What the API server writes into an object of its own accord, kind by kind, and what an update may not change.

These are the API's strategies: a client writes no status, a Secret's stringData becomes data, and some
fields are fixed once they are there.
What is allocated or depends on other objects is hoplab.kube.admit's.
Source: pkg/registry/*/*/strategy.go, pkg/apis/{core,apps,batch}/validation (ValidateXUpdate).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hoplab.kube.formats import forbidden, invalid

_Doc = dict[str, Any]


def created(document: Mapping[str, Any]) -> _Doc:
    """A new object of a client, before validation.  Its metadata has name and uid already."""
    made: _Doc = dict(document)
    if made["kind"] != "Node" and "status" in made:
        del made["status"]
    if made["kind"] == "Namespace":
        made.pop("spec", None)  # Its finalizers are the API's own.
    prepare = _CREATE.get(made["kind"])
    if prepare is not None:
        prepare(made)
    return made


def _secret(made: _Doc) -> None:
    if not made.get("type"):
        made["type"] = "Opaque"
    plain = made.get("stringData")
    readable = isinstance(made.get("data") or {}, Mapping)
    if readable and isinstance(plain, Mapping) and all(isinstance(value, str) for value in plain.values()):
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        made["data"] = {**(made.get("data") or {}), **encoded}
        del made["stringData"]


def _status(value: Mapping[str, Any]) -> Callable[[_Doc], None]:
    def prepare(made: _Doc) -> None:
        made["status"] = json.loads(json.dumps(value))

    return prepare


_SCHEDULED = ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady")
_CREATE: Mapping[str, Callable[[_Doc], None]] = {
    "Job": _status({}),
    "Secret": _secret,
    "Service": _status({"loadBalancer": {}}),
    "Ingress": _status({"loadBalancer": {}}),
    "Deployment": _status({}),
    "ReplicaSet": _status({"replicas": 0}),
    "ReplicationController": _status({"replicas": 0}),
    "StatefulSet": _status({"replicas": 0, "availableReplicas": 0}),
    "DaemonSet": _status(dict.fromkeys(_SCHEDULED, 0)),
}


def updated(before: Mapping[str, Any], after: Mapping[str, Any]) -> _Doc:
    """An update, before validation: what was allocated stays where the client left it out."""
    made: _Doc = dict(after)
    if made["kind"] == "Secret":
        _secret(made)
    elif made["kind"] == "Service":
        _drop_node_ports(before.get("spec") or {}, made)
        if isinstance(made.get("spec"), Mapping) and made["spec"].get("type") != "LoadBalancer" and made.get("status"):
            made["status"] = {**made["status"], "loadBalancer": {}}
    elif made["kind"] == "Namespace":
        made["spec"] = before.get("spec") or {}
    return made


def _drop_node_ports(old: Mapping[str, Any], made: _Doc) -> None:
    """A Service that is no longer reached by nodes gives its ports back, unless the client wrote others."""
    spec = made.get("spec")
    if not isinstance(spec, Mapping) or not isinstance(spec.get("ports"), list):
        return
    kind, was = spec.get("type") or "ClusterIP", old.get("type") or "ClusterIP"
    reached = ("NodePort", "LoadBalancer")
    had = [port.get("nodePort") for port in old.get("ports") or ()]
    if was in reached and kind not in reached and [_node_port(port) for port in spec["ports"]] == had:
        spec = {key: value for key, value in spec.items() if key not in _OF_NODE_PORTS}
        ports = [{key: value for key, value in port.items() if key != "nodePort"} for port in spec["ports"]]
        made["spec"] = {**spec, "ports": ports}
    if was == "LoadBalancer" and kind != was:
        made["spec"] = {key: value for key, value in made["spec"].items() if key != "allocateLoadBalancerNodePorts"}


def _node_port(port: Any) -> Any:
    return port.get("nodePort") if isinstance(port, Mapping) else None


_OF_NODE_PORTS = ("externalTrafficPolicy", "healthCheckNodePort")
IMMUTABLE = "field is immutable"
_STATEFUL = (
    *("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit"),
    *("persistentVolumeClaimRetentionPolicy", "minReadySeconds"),
)
_POD_FREE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")


def forbidden_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, message in the API server's words) of what an update changes and may not; both documents defaulted."""
    kind, old, new = after["kind"], before.get("spec") or {}, after.get("spec") or {}
    if before["metadata"].get("deletionTimestamp"):
        added = set(after["metadata"].get("finalizers") or ()) - set(before["metadata"].get("finalizers") or ())
        if added:
            shown = ", ".join(json.dumps(each) for each in sorted(added))
            why = "no new finalizers can be added if the object is being deleted, found new finalizers"
            yield "metadata.finalizers", forbidden(f"{why} []string{{{shown}}}")
    if kind in ("Deployment", "ReplicaSet", "DaemonSet"):
        yield from _fixed(old, new, "selector")
    elif kind == "StatefulSet" and _rest(old, _STATEFUL) != _rest(new, _STATEFUL):
        told = ", ".join(f"'{name}'" for name in _STATEFUL[:-1])
        which = f"{told} and '{_STATEFUL[-1]}'"
        yield "spec", forbidden(f"updates to statefulset spec for fields other than {which} are forbidden")
    elif kind == "Job":
        yield from _fixed(old, new, "selector", "template", "completions", "completionMode")
    elif kind == "Pod" and _pod_rest(old) != _pod_rest(new):
        names = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`"
        more = "`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds`"
        last = "(allow it to be set to 1 if it was previously negative)"
        yield "spec", forbidden(f"pod updates may not change fields other than {names},{more} {last}")
    elif kind == "ControllerRevision" and before.get("data") != after.get("data"):
        yield "data", invalid(after.get("data"), IMMUTABLE)
    elif kind == "IngressClass":
        yield from _fixed(old, new, "controller")
    elif kind == "EndpointSlice" and before.get("addressType") != after.get("addressType"):
        yield "addressType", invalid(after.get("addressType"), IMMUTABLE)
    elif kind == "Node" and old.get("podCIDRs") and old.get("podCIDRs") != new.get("podCIDRs"):
        yield "spec.podCIDRs", forbidden('node updates may not change podCIDR except from "" to valid')
    elif kind in ("Secret", "ConfigMap"):
        if before.get("type") != after.get("type"):
            yield "type", invalid(after.get("type"), IMMUTABLE)
        if before.get("immutable"):
            if not after.get("immutable"):
                yield "immutable", forbidden("field is immutable when `immutable` is set")
            for name in ("data", "binaryData"):
                if before.get(name) != after.get(name):
                    yield name, forbidden("field is immutable when `immutable` is set")


def _fixed(old: Mapping[str, Any], new: Mapping[str, Any], *names: str) -> Iterator[tuple[str, str]]:
    for name in names:
        if old.get(name) != new.get(name):
            yield f"spec.{name}", invalid(new.get(name), IMMUTABLE)


def _rest(spec: Mapping[str, Any], free: tuple[str, ...]) -> _Doc:
    return {key: value for key, value in spec.items() if key not in free}


def _pod_rest(spec: Mapping[str, Any]) -> _Doc:
    made = _rest(spec, _POD_FREE)
    for name in ("containers", "initContainers"):
        if name in made:
            made[name] = [_rest(each, ("image", "imagePullPolicy")) for each in made[name]]
    return made
