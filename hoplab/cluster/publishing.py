"""Writes who serves each Service: EndpointSlices and Endpoints by selector, and slices that mirror Endpoints.

What the slices say is decided in hoplab.cluster.endpoints; here they become objects, and only
those are written that changed.

Source: staging/src/k8s.io/endpointslice (reconciler.go, utils.go), pkg/controller/endpoint
(endpoints_controller.go), pkg/controller/endpointslicemirroring (reconciler.go, utils.go).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from hoplab.cluster import endpoints
from hoplab.cluster.typed import Key, Typed
from hoplab.control.plan import owner_reference
from hoplab.control.pods import is_ready
from hoplab.kube import convert
from hoplab.kube.objects import KubeObject, object_of
from hoplab.kube.store import Conflict, NotFound, Store, StoreError
from hoplab.kube.types import Endpoint, EndpointPort, EndpointSlice

SERVICE = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
OWN, MIRRORED = "endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"
ENDPOINTS_MANAGED_BY = "endpoints.kubernetes.io/managed-by"
SKIP_MIRROR = "endpointslice.kubernetes.io/skip-mirror"
HEADLESS = "service.kubernetes.io/headless"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An object that shall be there: what it follows from, and how to write it."""

    signature: tuple[Any, ...]
    build: Callable[[], dict[str, Any]]


class Publisher:
    """The endpoints, endpointslice and endpointslicemirroring controllers over one store."""

    def __init__(self, store: Store, typed: Typed) -> None:
        self._store, self._typed = store, typed
        self._seen = -1
        self._written: dict[tuple[str, str, str], tuple[Any, KubeObject]] = {}
        """What was written last, and what it was made from: of thousands of Services few change at a time."""

    def run(self) -> bool:
        """One round; whether anything was written."""
        version = self._store.version_of("Service", "Pod", "Node", "EndpointSlice", "Endpoints")
        if version == self._seen:
            return False
        before = self._store.version
        services = {(obj.meta.namespace, obj.meta.name): obj for obj in self._store.each("Service")}
        zones = {obj.meta.name: convert.as_node(obj).zone for obj in self._store.each("Node")}
        uids = {(obj.meta.namespace, obj.meta.name): obj.meta.uid for obj in self._store.each("Pod")}
        typed = tuple(self._typed.services.values())
        made = endpoints.slices(typed, list(self._running(zones)))
        served = {(piece.meta.namespace, piece.service, piece.address_type) for piece in made}
        made += [
            endpoints.placeholder(service, family)
            for service in typed
            if service.selector and service.type != "ExternalName"
            for family in service.ip_families
            if (service.meta.namespace, service.meta.name, family) not in served
        ]
        wanted: dict[Key, _Wanted] = {}
        by_service: dict[Key, list[EndpointSlice]] = {}
        for piece in made:
            owner = services[piece.meta.namespace, piece.service]
            key = (piece.meta.namespace, piece.meta.name)
            signature = (piece, owner, tuple(uids.get(_key(e.target_ref)) for e in piece.endpoints))
            wanted[key] = _Wanted(signature, partial(_own_slice, piece, owner, uids))
            by_service.setdefault((piece.meta.namespace, piece.service), []).append(piece)
        wanted |= self._mirrors(services)
        self._write("EndpointSlice", wanted, lambda obj: obj.meta.labels.get(MANAGED_BY) in (OWN, MIRRORED))
        legacy = {}
        for key, owner in services.items():
            if owner.spec.get("selector") and owner.spec.get("type") != "ExternalName":
                mine = by_service.get(key, [])
                made_from = (owner, *(wanted[piece.meta.namespace, piece.meta.name].signature for piece in mine))
                legacy[key] = _Wanted(made_from, partial(_endpoints_document, owner, mine, uids))
        self._write("Endpoints", legacy, lambda obj: ENDPOINTS_MANAGED_BY in obj.meta.labels)
        self._seen = self._store.version_of("Service", "Pod", "Node", "EndpointSlice", "Endpoints")
        return self._store.version != before

    def _running(self, zones: Mapping[str, str]) -> Iterable[endpoints.RunningPod]:
        typed = self._typed.pods
        for obj in self._store.each("Pod"):
            ips = tuple(each["ip"] for each in obj.status.get("podIPs") or ())
            if ips and obj.status.get("phase") not in ("Succeeded", "Failed"):
                pod = typed[obj.meta.namespace, obj.meta.name]
                zone = zones.get(pod.node_name, "")
                yield endpoints.RunningPod(pod, ips, is_ready(obj), obj.deleting, zone=zone)

    def _mirrors(self, services: Mapping[Key, KubeObject]) -> dict[Key, _Wanted]:
        """Slices for Endpoints that somebody wrote by hand."""
        found: dict[Key, _Wanted] = {}
        for obj in self._store.each("Endpoints"):
            service = services.get((obj.meta.namespace, obj.meta.name))
            own = ENDPOINTS_MANAGED_BY in obj.meta.labels or obj.meta.labels.get(SKIP_MIRROR) == "true"
            if own or (service is not None and service.spec.get("selector")) or obj.deleting:
                continue
            for piece in convert.as_endpoint_slices(obj):
                labels = {**obj.meta.labels, **piece.meta.labels}
                build = partial(_slice_document, piece, labels, obj, {})
                found[piece.meta.namespace, piece.meta.name] = _Wanted((piece, obj), build)
        return found

    def _write(self, kind: str, wanted: Mapping[Key, _Wanted], mine: Callable[[KubeObject], bool]) -> None:
        have = {(obj.meta.namespace, obj.meta.name): obj for obj in self._store.each(kind)}
        for key, one in wanted.items():
            before = have.get(key)
            known = self._written.get((kind, *key))
            if known is not None and known[1] is before and known[0] == one.signature:
                continue
            with suppress(StoreError):
                document = one.build()
                if before is None:
                    now = self._store.create(object_of(document, self._origin(document)))
                elif mine(before) or kind == "Endpoints":
                    # Endpoints written by hand for a Service that has got a selector since are the controller's now.
                    now = self._store.update(_renewed(before, document))
                else:
                    continue
                self._written[kind, *key] = (one.signature, now)
        for key, obj in have.items():
            if key not in wanted and mine(obj) and not obj.deleting:
                self._written.pop((kind, *key), None)
                with suppress(NotFound, Conflict):
                    self._store.delete(kind, obj.meta.name, obj.meta.namespace, uid=obj.meta.uid)

    def _origin(self, document: Mapping[str, Any]) -> Any:
        metadata = document["metadata"]
        name = (metadata.get("labels") or {}).get(SERVICE, metadata["name"])
        for kind in ("Service", "Endpoints"):
            owner = self._store.find(kind, name, metadata["namespace"])
            if owner is not None:
                return owner.origin
        raise NotFound(f'services "{name}" not found')


def _renewed(before: KubeObject, document: Mapping[str, Any]) -> KubeObject:
    """The stored object with the wanted contents; what others wrote into its metadata stays."""
    metadata = {**before.metadata, **{k: document["metadata"].get(k) for k in ("labels", "ownerReferences")}}
    parts = {key: value for key, value in document.items() if key not in ("metadata", "apiVersion", "kind")}
    return before.changed(metadata={k: v for k, v in metadata.items() if v is not None}, **parts)


def _key(reference: str) -> Key:
    namespace, _, name = reference.partition("/")
    return namespace, name


def _own_slice(piece: EndpointSlice, owner: KubeObject, uids: Mapping[Key, str]) -> dict[str, Any]:
    labels = {**owner.meta.labels, SERVICE: piece.service, MANAGED_BY: OWN}
    if owner.spec.get("clusterIP") == "None":
        labels[HEADLESS] = ""
    return _slice_document(piece, labels, owner, uids)


def _slice_document(
    piece: EndpointSlice, labels: Mapping[str, str], owner: KubeObject, uids: Mapping[Key, str]
) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": piece.meta.name,
            "namespace": piece.meta.namespace,
            "generateName": f"{piece.service}-",
            "labels": dict(labels),
            "ownerReferences": [owner_reference(owner)],
        },
        "addressType": piece.address_type,
        "endpoints": [_endpoint(each, uids) for each in piece.endpoints],
        "ports": [{"name": port.name, "port": port.port, "protocol": port.protocol} for port in piece.ports],
    }


def _endpoint(endpoint: Endpoint, uids: Mapping[Key, str]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "addresses": list(endpoint.addresses),
        "conditions": {
            "ready": endpoint.ready,
            "serving": endpoint.serving,
            "terminating": endpoint.terminating,
        },
    }
    if endpoint.node_name:
        made["nodeName"] = endpoint.node_name
    if endpoint.zone:
        made["zone"] = endpoint.zone
    if endpoint.hostname:
        made["hostname"] = endpoint.hostname
    hints = {
        "forZones": [{"name": zone} for zone in endpoint.zone_hints],
        "forNodes": [{"name": node} for node in endpoint.node_hints],
    }
    if given := {key: each for key, each in hints.items() if each}:
        made["hints"] = given
    if endpoint.target_ref:
        made["targetRef"] = _target(endpoint.target_ref, uids)
    return made


def _target(reference: str, uids: Mapping[Key, str]) -> dict[str, str]:
    namespace, name = _key(reference)
    uid = uids.get((namespace, name), "")
    return {"kind": "Pod", "name": name, "namespace": namespace, **({"uid": uid} if uid else {})}


def _endpoints_document(
    service: KubeObject, pieces: Sequence[EndpointSlice], uids: Mapping[Key, str]
) -> dict[str, Any]:
    """Endpoints know neither families beyond the Service's first nor pods on their way out."""
    first = (service.spec.get("ipFamilies") or ["IPv4"])[0]
    published = bool(service.spec.get("publishNotReadyAddresses"))
    subsets: dict[tuple[EndpointPort, ...], dict[str, list[dict[str, Any]]]] = {}
    for piece in pieces:
        if piece.address_type != first:
            continue
        for endpoint in piece.endpoints:
            if endpoint.terminating and not published:
                continue
            entry: dict[str, Any] = {"ip": endpoint.addresses[0]}
            if endpoint.node_name:
                entry["nodeName"] = endpoint.node_name
            if endpoint.hostname:
                entry["hostname"] = endpoint.hostname
            if endpoint.target_ref:
                entry["targetRef"] = _target(endpoint.target_ref, uids)
            which = "addresses" if endpoint.ready else "notReadyAddresses"
            subsets.setdefault(piece.ports, {}).setdefault(which, []).append(entry)
    labels = {**service.meta.labels, ENDPOINTS_MANAGED_BY: "endpoint-controller"}
    if service.spec.get("clusterIP") == "None":
        labels[HEADLESS] = ""
    made: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": service.meta.name, "namespace": service.meta.namespace, "labels": labels},
    }
    if subsets:
        made["subsets"] = [
            {**found, "ports": [_legacy_port(port) for port in ports]} for ports, found in subsets.items()
        ]
    return made


def _legacy_port(port: EndpointPort) -> dict[str, Any]:
    return {**({"name": port.name} if port.name else {}), "port": port.port, "protocol": port.protocol}
