"""The defaults that the API server writes into an object before anybody else sees it.

What kubectl shows, and what controllers and kube-proxy read, is the defaulted object.
Cluster IPs, node ports and families are no defaults: they are allocated
(hoplab.kube.allocate).  Source: pkg/apis/{core,apps,batch,discovery}/v1/defaults.go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

CLUSTER_SCOPED = ("Namespace", "Node", "IngressClass")
AFFINITY_TIMEOUT_S = 10800
_STRING_MAPS = frozenset(
    (
        *("labels", "annotations", "matchLabels", "selector", "nodeSelector"),
        *("data", "binaryData", "stringData", "deprecatedTopology"),
    )
)
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_Doc = dict[str, Any]


def defaulted(document: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a valid document of a current API version with nulls dropped and defaults filled in."""
    made: _Doc = _pruned(document, "")
    kind = made["kind"]
    if kind == "ControllerRevision":
        made["data"] = document.get("data")  # A patch, kept to the byte: nulls mean something in it.
    if kind not in CLUSTER_SCOPED:
        made["metadata"].setdefault("namespace", "default")
    fill = _BY_KIND.get(kind)
    if fill is not None:
        fill(made)
    return made


def _pruned(value: Any, name: str) -> Any:
    """A deep copy without nulls: in JSON they mean that a field is not there, in a map of strings the empty string."""
    if isinstance(value, Mapping):
        kept = value.items()
        if name in _STRING_MAPS:
            return {key: "" if inner is None else _pruned(inner, "") for key, inner in kept}
        return {key: _pruned(inner, key) for key, inner in kept if inner is not None}
    if isinstance(value, (list, tuple)):
        return [_pruned(inner, "") for inner in value]
    return value


def _default(document: _Doc, **values: Any) -> None:
    """Fill fields that are missing, or empty where the API takes the empty string for missing."""
    for key, value in values.items():
        if document.get(key) in (None, ""):
            document[key] = value


def _service(document: _Doc) -> None:
    spec = document.setdefault("spec", {})
    _default(spec, sessionAffinity="None", type="ClusterIP")
    if spec["sessionAffinity"] == "ClientIP":
        _default(
            spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {}), timeoutSeconds=AFFINITY_TIMEOUT_S
        )
    kind = spec["type"]
    for port in spec.get("ports", ()):
        _default(port, protocol="TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port["port"]
    if kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs")):
        _default(spec, externalTrafficPolicy="Cluster")
    if kind != "ExternalName":
        _default(spec, internalTrafficPolicy="Cluster")
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIPs"] = [spec["clusterIP"]]
    if kind == "LoadBalancer":
        _default(spec, allocateLoadBalancerNodePorts=True)
    for ingress in document.get("status", {}).get("loadBalancer", {}).get("ingress", ()):
        if ingress.get("ip"):
            _default(ingress, ipMode="VIP")


def _pod(document: _Doc) -> None:
    _pod_spec(document.setdefault("spec", {}))


def _pod_spec(spec: _Doc) -> None:
    _default(
        spec,
        restartPolicy="Always",
        dnsPolicy="ClusterFirst",
        terminationGracePeriodSeconds=30,
        schedulerName="default-scheduler",
        securityContext={},
        enableServiceLinks=True,
    )
    for group in ("initContainers", "containers"):
        for container in spec.get(group, ()):
            _container(container, bool(spec.get("hostNetwork")))


def _container(container: _Doc, host_network: bool) -> None:
    image = container.get("image", "")
    tag = image.rpartition("/")[2].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    _default(
        container,
        imagePullPolicy="Always" if latest else "IfNotPresent",
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        resources={},
    )
    for port in container.get("ports", ()):
        _default(port, protocol="TCP")
        if host_network:
            _default(port, hostPort=port["containerPort"])
    for name in _PROBES:
        probe = container.get(name)
        if probe is not None:
            for field, value in (
                ("timeoutSeconds", 1),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("failureThreshold", 3),
            ):
                probe[field] = probe.get(field) or value
            if probe.get("httpGet") is not None:
                _default(probe["httpGet"], path="/", scheme="HTTP")


def _template(document: _Doc) -> _Doc:
    """Default the pod template; returns the workload's spec."""
    spec: _Doc = document["spec"]
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    _pod_spec(template.setdefault("spec", {}))
    return spec


def _controller(document: _Doc) -> None:
    spec = _template(document)
    labels = spec["template"]["metadata"].get("labels") or {}
    _default(spec, replicas=1)
    if not spec.get("selector"):
        spec["selector"] = dict(labels)
    if not document["metadata"].get("labels") and labels:
        document["metadata"]["labels"] = dict(labels)


def _replica_set(document: _Doc) -> None:
    _default(_template(document), replicas=1)


def _deployment(document: _Doc) -> None:
    spec = _template(document)
    _default(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec.setdefault("strategy", {})
    _default(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _default(strategy.setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")


def _daemon_set(document: _Doc) -> None:
    spec = _template(document)
    _default(spec, revisionHistoryLimit=10)
    strategy = spec.setdefault("updateStrategy", {})
    _default(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _default(strategy.setdefault("rollingUpdate", {}), maxUnavailable=1, maxSurge=0)


def _stateful_set(document: _Doc) -> None:
    spec = _template(document)
    _default(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    strategy = spec.setdefault("updateStrategy", {})
    _default(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _default(strategy.setdefault("rollingUpdate", {}), partition=0)


def _job(document: _Doc) -> None:
    spec = _template(document)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        _default(spec, completions=1)
    _default(spec, parallelism=1, backoffLimit=6, completionMode="NonIndexed", suspend=False)


def _endpoints(document: _Doc) -> None:
    for subset in document.get("subsets", ()):
        for port in subset.get("ports", ()):
            _default(port, protocol="TCP")


def _endpoint_slice(document: _Doc) -> None:
    for port in document.get("ports", ()):
        _default(port, protocol="TCP", name="")


def _node(document: _Doc) -> None:
    spec = document.setdefault("spec", {})
    if spec.get("podCIDR") and not spec.get("podCIDRs"):
        spec["podCIDRs"] = [spec["podCIDR"]]


def _network_policy(document: _Doc) -> None:
    spec = document.setdefault("spec", {})
    for direction in ("ingress", "egress"):
        for rule in spec.get(direction, ()):
            for port in rule.get("ports", ()):
                _default(port, protocol="TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


_BY_KIND: Mapping[str, Callable[[_Doc], None]] = {
    "Service": _service,
    "Pod": _pod,
    "ReplicationController": _controller,
    "ReplicaSet": _replica_set,
    "Deployment": _deployment,
    "DaemonSet": _daemon_set,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "Endpoints": _endpoints,
    "EndpointSlice": _endpoint_slice,
    "Node": _node,
    "NetworkPolicy": _network_policy,
}
