"""What the API server adds to an object, or refuses it for, before it is stored: admission and allocation.

A valid object may still be refused because of others: its namespace is not there, its
node port or cluster IP belongs to another Service or lies outside the ranges.  And some
fields are filled in only now: cluster IPs and node ports, a pod's first status, the labels
by which a Job finds its pods.  Pure but for reading the store.

Source: pkg/registry/core/service/storage/{storage,alloc}.go, pkg/registry/core/pod/strategy.go
(PrepareForCreate), pkg/registry/batch/job/strategy.go (generateSelector), pkg/apis/core/v1/helper/qos,
apiserver's plugin/namespace/lifecycle/admission.go.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hoplab.kube.allocate import allocate, keeping
from hoplab.kube.convert import as_service
from hoplab.kube.defaults import CLUSTER_SCOPED
from hoplab.kube.formats import invalid
from hoplab.kube.objects import KubeObject
from hoplab.kube.problems import ManifestError, Problem, field_name
from hoplab.kube.store import Forbidden, NotFound, Store, resource_of
from hoplab.kube.together import held, outside, problem_at
from hoplab.kube.types import Service

LOST_NODES = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
"""Taints of a node that does not answer; a pod bears them for a while unless it says otherwise."""
PATIENCE_S = 300


@dataclass(frozen=True, slots=True)
class Ranges:
    """What the API server hands out: --service-cluster-ip-range (one a family) and --service-node-port-range."""

    service_cidrs: tuple[str, ...]
    node_ports: range


def admit(obj: KubeObject, store: Store, ranges: Ranges, chance: random.Random) -> KubeObject:
    """The object as it is to be stored, created or updated, with what the API server fills in.

    `obj` is valid and defaulted (hoplab.kube.load).  Hold `store.lock` from here to the write, so
    that nobody gets the same address.  Raises ManifestError with the API server's words for what
    is asked for and can't be had, NotFound for a namespace that is not there, Forbidden for one that ends.
    """
    before = store.find(*_name(obj))
    if obj.kind not in CLUSTER_SCOPED and before is None:
        _namespace_open(obj, store)
    if obj.kind == "Service":
        return _service(obj, before, store, ranges, chance)
    if before is None and obj.kind == "Pod":
        return new_pod(obj)
    if before is None and obj.kind == "Job":
        return _job(obj, store)
    if obj.kind == "Namespace":
        labels = {**obj.meta.labels, "kubernetes.io/metadata.name": obj.meta.name}
        kept = {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}, **obj.document}
        return obj.changed(**kept).relabelled(labels=labels)
    return obj


def _name(obj: KubeObject) -> tuple[str, str, str]:
    return obj.kind, obj.meta.name, obj.meta.namespace


def _namespace_open(obj: KubeObject, store: Store) -> None:
    namespace = store.find("Namespace", obj.meta.namespace, "")
    if namespace is None:
        raise NotFound(f'namespaces "{obj.meta.namespace}" not found')
    if namespace.deleting:
        raise Forbidden(
            f'{resource_of(obj.kind)} "{obj.meta.name}" is forbidden: unable to create new content in namespace'
            f" {obj.meta.namespace} because it is being terminated"
        )


def _job(obj: KubeObject, store: Store) -> KubeObject:
    """A Job with the labels and the selector by which it finds its pods, unless it selects by hand."""
    if obj.spec.get("manualSelector"):
        return obj
    uid = obj.meta.uid or store.new_uid()
    name = obj.meta.name
    own = {"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": name}
    template = obj.spec["template"]
    metadata = template.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), **own, "controller-uid": uid, "job-name": name}
    spec = {
        **obj.spec,
        "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}},
        "template": {**template, "metadata": {**metadata, "labels": labels}},
    }
    return obj.changed(spec=spec).relabelled(uid=uid)


def new_pod(obj: KubeObject) -> KubeObject:
    """A pod as every API server stores a new one: with an account, a priority and the patience for lost nodes.

    Source: the admission plugins ServiceAccount, Priority and DefaultTolerationSeconds.
    """
    spec = dict(obj.spec)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = account
    spec.setdefault("priority", 0)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    given = list(spec.get("tolerations") or ())
    spec["tolerations"] = given + [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": PATIENCE_S}
        for key in LOST_NODES
        if not any(each.get("key") in (key, None, "") for each in given)
    ]
    return obj.changed(spec=spec, status={"phase": "Pending", "qosClass": qos_class(spec), **obj.status})


def qos_class(spec: Mapping[str, Any]) -> str:
    """Guaranteed, Burstable or BestEffort, by the containers' requests and limits of cpu and memory."""
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    found = []
    for container in containers:
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            found.append((limits.get(name), requests.get(name, limits.get(name))))
    if not any(limit or request for limit, request in found):
        return "BestEffort"
    return "Guaranteed" if all(limit and limit == request for limit, request in found) else "Burstable"


def _service(
    obj: KubeObject, before: KubeObject | None, store: Store, ranges: Ranges, chance: random.Random
) -> KubeObject:
    if before is not None:
        obj = _without_leftovers(before, obj)
    now = as_service(obj)
    if before is not None:
        old = as_service(before)
        virtual = now.type != "ExternalName" != old.type
        if virtual and now.cluster_ips[:1] and old.cluster_ips[:1] and now.cluster_ips[0] != old.cluster_ips[0]:
            _refuse(obj, ("spec", "clusterIPs", 0), invalid(list(now.cluster_ips), "may not change once set"))
        now = keeping(old, now)
    ips, ports = _taken(obj, store)
    for ip in now.cluster_ips:
        if ip in ips:
            why = "provided IP is already allocated"
        elif ip != "None" and not held(ip, ranges.service_cidrs):
            valid = ", ".join(ranges.service_cidrs)
            why = f"the provided IP ({ip}) is not in the valid range. The range of valid IPs is {valid}"
        else:
            continue
        _refuse(obj, ("spec", "clusterIPs"), invalid(list(now.cluster_ips), f"failed to allocate IP {ip}: {why}"))
    if problems := outside(obj, (), ranges.node_ports, ()):
        raise ManifestError(problems)
    for number, port in enumerate(now.ports):
        if port.node_port and (port.node_port, port.protocol) in ports:
            why = invalid(port.node_port, "provided port is already allocated")
            _refuse(obj, ("spec", "ports", number, "nodePort"), why)
    if now.health_check_node_port and (now.health_check_node_port, "TCP") in ports:
        why = invalid(now.health_check_node_port, "provided port is already allocated")
        _refuse(obj, ("spec", "healthCheckNodePort"), why)
    # The balancer's address is no business of the API server: the cloud's controller writes it.
    (given,) = allocate(
        (now,),
        service_cidrs=ranges.service_cidrs,
        node_ports=ranges.node_ports,
        vips=(),
        chance=chance,
        taken_ips=ips,
        taken_ports=ports,
    )
    return with_allocation(obj, replace(given, load_balancer_ingress=now.load_balancer_ingress))


def _without_leftovers(before: KubeObject, obj: KubeObject) -> KubeObject:
    """A Service of another type without what only its old type needed, where nobody asked for that anew.

    A client that patches the type sends the rest back as it was (dropTypeDependentFields).
    """
    old, new = before.spec.get("type"), obj.spec.get("type")
    if old == new:
        return obj
    spec, status = dict(obj.spec), obj.status

    def drop(*fields: str) -> None:
        for field in fields:
            if spec.get(field) == before.spec.get(field):
                spec.pop(field, None)

    if new == "ExternalName":
        drop("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    if new not in ("NodePort", "LoadBalancer"):
        had = [port.get("nodePort") for port in before.spec.get("ports") or ()]
        if had == [port.get("nodePort") for port in spec.get("ports") or ()]:
            spec["ports"] = [
                {key: value for key, value in port.items() if key != "nodePort"} for port in spec.get("ports") or ()
            ]
        if not spec.get("externalIPs"):
            drop("externalTrafficPolicy")
    if old == "LoadBalancer":
        drop("healthCheckNodePort", "allocateLoadBalancerNodePorts", "loadBalancerClass")
        status = {**status, "loadBalancer": {}}
    return obj.changed(spec=spec, status=status)


def _refuse(obj: KubeObject, path: tuple[str | int, ...], message: str) -> None:
    found = problem_at(obj, path, message)
    raise ManifestError([Problem(found.file, found.line, field_name(path), message)])


def _taken(obj: KubeObject, store: Store) -> tuple[set[str], set[tuple[int, str]]]:
    """Cluster IPs, and node ports with protocol, of every other Service."""
    ips: set[str] = set()
    ports: set[tuple[int, str]] = set()
    for other in store.each("Service"):
        if other.key != obj.key:
            ips.update(other.spec.get("clusterIPs") or ())
            ports.update(_ports(other.spec))
    ips.discard("None")
    return ips, ports


def _ports(spec: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    for port in spec.get("ports") or ():
        if port.get("nodePort"):
            yield port["nodePort"], port.get("protocol") or "TCP"
    if spec.get("healthCheckNodePort"):
        yield spec["healthCheckNodePort"], "TCP"


def with_allocation(obj: KubeObject, service: Service) -> KubeObject:
    """The Service's object with the addresses and ports that it was given."""
    spec = dict(obj.spec)
    if service.type != "ExternalName":
        spec["ipFamilies"] = list(service.ip_families)
        spec["ipFamilyPolicy"] = service.ip_family_policy
    if service.cluster_ips:
        spec["clusterIP"], spec["clusterIPs"] = service.cluster_ips[0], list(service.cluster_ips)
    if service.ports:
        spec["ports"] = [
            {**written, "nodePort": port.node_port} if port.node_port else written
            for written, port in zip(spec["ports"], service.ports, strict=True)
        ]
    if service.health_check_node_port:
        spec["healthCheckNodePort"] = service.health_check_node_port
    parts: dict[str, Any] = {"spec": spec}
    status = obj.status
    written = [each for each in (status.get("loadBalancer") or {}).get("ingress") or () if each.get("ip")]
    if [each["ip"] for each in written] != [each.ip for each in service.load_balancer_ingress]:
        ingress = [{"ip": each.ip, "ipMode": each.ip_mode} for each in service.load_balancer_ingress]
        status = {**status, "loadBalancer": {"ingress": ingress}}
    elif "loadBalancer" not in status:
        status = {**status, "loadBalancer": {}}
    parts["status"] = status
    return obj.changed(**parts)
