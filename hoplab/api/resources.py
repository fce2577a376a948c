"""What the API serves, in one table: groups, versions, resources and subresources with names, verbs, selectable fields.

A *kind* is what an object says it is (Deployment); a *resource* is what a path says
(/apis/apps/v1/.../deployments).  One kind can be served in several versions: objects are
stored once, in the version that is current (hoplab.kube.versions), and are converted on the
way in and out (hoplab.api.older).
Source: the API reference, `kubectl api-resources`, and the deprecation guide for the versions
that Kubernetes itself serves no more.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE_ONLY = ("create",)


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind as one group and version serves it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    deprecated: str = ""
    """The warning for those who use this version, empty for a current one."""

    @property
    def group_version(self) -> str:
        """apps/v1, v1"""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        """deployment; the same word as the plural where the kind ends in s."""
        return self.kind.lower()

    @property
    def qualified(self) -> str:
        """deployments.apps, as error messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def virtual(self) -> bool:
        """A review: answered, never stored."""
        return self.verbs == CREATE_ONLY


def _current(
    group: str,
    version: str,
    plural: str,
    kind: str,
    short: str = "",
    subresources: str = "",
    *,
    namespaced: bool = True,
    all_: bool = False,
    verbs: tuple[str, ...] = VERBS,
) -> Resource:
    categories = ("all",) if all_ else ()
    return Resource(
        *(group, version, plural, kind, namespaced),
        *(tuple(short.split()), categories, tuple(subresources.split()), verbs),
    )


def _old(group: str, version: str, names: str, since: str, until: str, now: str) -> Iterator[Resource]:
    """Resources of a version that Kubernetes no longer serves, by the current ones of the same kind."""
    for current in CURRENT:
        if current.plural in names.split() and current.group_version == now:
            gone = f"is deprecated in v{since}+, unavailable in v{until}+; use {now} {current.kind}"
            warning = f"{group}/{version} {current.kind} {gone}"
            yield Resource(
                group,
                version,
                current.plural,
                current.kind,
                current.namespaced,
                # Short names are the current version's: kubectl would warn that they might mean this one.
                current.short_names if group in ("apps", "networking.k8s.io") else (),
                (),
                current.subresources,
                VERBS,
                warning,
            )


CURRENT: tuple[Resource, ...] = (
    _current("", "v1", "namespaces", "Namespace", "ns", "finalize status", namespaced=False),
    _current("", "v1", "nodes", "Node", "no", "status", namespaced=False),
    _current(
        *("", "v1", "pods", "Pod", "po"),
        "attach binding eviction exec log portforward status",
        all_=True,
    ),
    _current("", "v1", "services", "Service", "svc", "status", all_=True),
    _current("", "v1", "endpoints", "Endpoints", "ep"),
    _current("", "v1", "replicationcontrollers", "ReplicationController", "rc", "scale status", all_=True),
    _current("", "v1", "configmaps", "ConfigMap", "cm"),
    _current("", "v1", "secrets", "Secret"),
    _current("", "v1", "serviceaccounts", "ServiceAccount", "sa"),
    _current("", "v1", "events", "Event", "ev"),
    _current("events.k8s.io", "v1", "events", "Event", "ev"),
    _current("apps", "v1", "deployments", "Deployment", "deploy", "scale status", all_=True),
    _current("apps", "v1", "replicasets", "ReplicaSet", "rs", "scale status", all_=True),
    _current("apps", "v1", "daemonsets", "DaemonSet", "ds", "status", all_=True),
    _current("apps", "v1", "statefulsets", "StatefulSet", "sts", "scale status", all_=True),
    _current("apps", "v1", "controllerrevisions", "ControllerRevision"),
    _current("batch", "v1", "jobs", "Job", "", "status", all_=True),
    _current("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    _current("networking.k8s.io", "v1", "ingresses", "Ingress", "ing", "status"),
    _current("networking.k8s.io", "v1", "ingressclasses", "IngressClass", namespaced=False),
    _current("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", "netpol"),
    _current("coordination.k8s.io", "v1", "leases", "Lease"),
    *(
        _current("authorization.k8s.io", "v1", f"{kind.lower()}s", kind, namespaced=False, verbs=CREATE_ONLY)
        for kind in ("SelfSubjectAccessReview", "SelfSubjectRulesReview")
    ),
    _current(
        "authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=CREATE_ONLY
    ),
)

_WORKLOADS = "deployments replicasets daemonsets statefulsets"
RESOURCES: tuple[Resource, ...] = (
    *CURRENT,
    *_old("apps", "v1beta2", _WORKLOADS, "1.9", "1.16", "apps/v1"),
    *_old("apps", "v1beta1", "deployments statefulsets", "1.8", "1.16", "apps/v1"),
    *_old("discovery.k8s.io", "v1beta1", "endpointslices", "1.21", "1.25", "discovery.k8s.io/v1"),
    *_old("networking.k8s.io", "v1beta1", "ingresses ingressclasses", "1.19", "1.22", "networking.k8s.io/v1"),
    *_old("coordination.k8s.io", "v1beta1", "leases", "1.19", "1.22", "coordination.k8s.io/v1"),
    *_old("extensions", "v1beta1", "deployments replicasets daemonsets", "1.8", "1.16", "apps/v1"),
    *_old("extensions", "v1beta1", "ingresses", "1.14", "1.22", "networking.k8s.io/v1"),
    *_old("extensions", "v1beta1", "networkpolicies", "1.9", "1.16", "networking.k8s.io/v1"),
)
"""Groups stand in the order in which discovery tells them: kubectl takes a bare name in the first that has it."""

SUBRESOURCE_KINDS: Mapping[str, tuple[str, str, str, tuple[str, ...]]] = {
    "scale": ("autoscaling", "v1", "Scale", ("get", "patch", "update")),
    "binding": ("", "", "Binding", ("create",)),
    "eviction": ("policy", "v1", "Eviction", ("create",)),
    "exec": ("", "", "PodExecOptions", ("create", "get")),
    "attach": ("", "", "PodAttachOptions", ("create", "get")),
    "portforward": ("", "", "PodPortForwardOptions", ("create", "get")),
    "log": ("", "", "Pod", ("get",)),
    "status": ("", "", "", ("get", "patch", "update")),
    "finalize": ("", "", "", ("update",)),
}
"""Subresource -> group and version of what is exchanged ('' where the parent's), kind ('': the parent's), verbs."""

COUNTED = frozenset(
    (
        *("Deployment", "ReplicaSet", "ReplicationController", "DaemonSet", "StatefulSet", "Job"),
        *("Ingress", "IngressClass", "NetworkPolicy", "EndpointSlice"),
    )
)
"""Kinds whose metadata.generation a client sees; the store counts it for all."""

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "Pod": (
        *("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName"),
        *("spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName"),
    ),
    "Event": (
        *(
            f"involvedObject.{key}"
            for key in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
        ),
        *("reason", "reportingComponent", "source", "type"),
    ),
    "Namespace": ("status.phase",),
    "Node": ("spec.unschedulable",),
    "Secret": ("type",),
    "Job": ("status.successful",),
    "ReplicationController": ("status.replicas",),
    "ReplicaSet": ("status.replicas",),
    "Service": ("spec.clusterIP", "spec.type"),
}


def selectable(kind: str) -> tuple[str, ...]:
    """The fields that a --field-selector can name for objects of this kind."""
    return ("metadata.name", "metadata.namespace", *_FIELDS.get(kind, ()))


@functools.cache
def by_path() -> Mapping[tuple[str, str, str], Resource]:
    """(group, version, plural) -> resource."""
    return {(each.group, each.version, each.plural): each for each in RESOURCES}


@functools.cache
def groups() -> Mapping[str, tuple[str, ...]]:
    """Group -> its versions, the preferred one first; the core group is ''."""
    found: dict[str, list[str]] = {}
    for each in RESOURCES:
        versions = found.setdefault(each.group, [])
        if each.version not in versions:
            versions.append(each.version)
    return {group: tuple(versions) for group, versions in found.items()}


def of_version(group: str, version: str) -> list[Resource]:
    """The resources of one group and version, by name."""
    return sorted((each for each in RESOURCES if (each.group, each.version) == (group, version)), key=_by_name)


def _by_name(resource: Resource) -> str:
    return resource.plural


def of_kind(kind: str) -> Resource:
    """The resource of a kind in its current version.  Raises KeyError."""
    for each in CURRENT:
        if each.kind == kind:
            return each
    raise KeyError(kind)
