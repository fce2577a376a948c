"""On which node a pod may run, and on which it runs best.

A pod that names its node gets it.  Any other needs a node that takes new pods, has the labels
that it asks for and no taint that it can't bear; of those it gets the one with the fewest pods
of the same owner, then the fewest pods at all, then the first by name, which is what the real
scheduler's spreading comes to when nodes are equal.

Source: pkg/scheduler/framework/plugins/{nodeunschedulable,nodeaffinity,tainttoleration}, and
component-helpers' scheduling/corev1/nodeaffinity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hoplab.control.plan import controller_of
from hoplab.kube.labels import Requirement
from hoplab.kube.objects import KubeObject

UNSCHEDULABLE = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


def fits(spec: Mapping[str, Any], node: KubeObject, *, daemon: bool = False) -> str:
    """Why a pod with this spec can't run on the node, in the scheduler's words; '' when it can.

    Pods of DaemonSets bear a cordoned node, as their controller has them do.
    """
    tolerations = list(spec.get("tolerations") or ())
    if daemon:
        tolerations.append({"key": UNSCHEDULABLE["key"], "operator": "Exists", "effect": "NoSchedule"})
    if node.spec.get("unschedulable") and not _tolerated(UNSCHEDULABLE, tolerations):
        return "node(s) were unschedulable"
    for taint in node.spec.get("taints") or ():
        if taint.get("effect") in ("NoSchedule", "NoExecute") and not _tolerated(taint, tolerations):
            value = taint.get("value") or ""
            return f"node(s) had untolerated taint {{{taint['key']}: {value}}}"
    if not _selected(spec, node):
        return "node(s) didn't match Pod's node affinity/selector"
    return ""


def _tolerated(taint: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    for each in tolerations:
        if each.get("effect") and each["effect"] != taint.get("effect"):
            continue
        if each.get("key") and each["key"] != taint.get("key"):
            continue
        if each.get("operator", "Equal") == "Exists":
            return True
        if each.get("key") and (each.get("value") or "") == (taint.get("value") or ""):
            return True
    return False


def _selected(spec: Mapping[str, Any], node: KubeObject) -> bool:
    labels = node.meta.labels
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    terms = affinity.get("nodeSelectorTerms") or ()
    return not terms or any(_term(term, node) for term in terms)


def _term(term: Mapping[str, Any], node: KubeObject) -> bool:
    """All expressions of a term; a term without any selects nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    return all(_requirement(each).matches(node.meta.labels) for each in expressions) and all(
        _requirement(each).matches({"metadata.name": node.meta.name}) for each in fields
    )


def _requirement(expression: Mapping[str, Any]) -> Requirement:
    return Requirement(expression["key"], expression["operator"], tuple(expression.get("values") or ()))


class Board:
    """Who runs where: pods a node, and pods of one owner a node."""

    def __init__(self, nodes: Sequence[KubeObject], pods: Iterable[KubeObject]) -> None:
        self._nodes = tuple(nodes)
        self._per_node: Counter[str] = Counter()
        self._per_owner: Counter[tuple[str, str]] = Counter()
        for pod in pods:
            if pod.spec.get("nodeName"):
                self._count(pod, pod.spec["nodeName"])

    def _count(self, pod: KubeObject, node: str) -> None:
        self._per_node[node] += 1
        owner = controller_of(pod)
        if owner is not None:
            self._per_owner[node, owner["uid"]] += 1

    def place(self, pod: KubeObject) -> tuple[str, str]:
        """The pod's node and '', or '' and why there is none: '0/2 nodes are available: ...'."""
        if not self._nodes:
            return "", "no nodes available to schedule pods"
        reasons = Counter(fits(pod.spec, node) for node in self._nodes)
        fitting = [node.meta.name for node in self._nodes if not fits(pod.spec, node)]
        if not fitting:
            told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
            return "", f"0/{len(self._nodes)} nodes are available: {told}."
        owner = controller_of(pod)
        uid = owner["uid"] if owner else ""

        def cost(node: str) -> tuple[int, int, int]:
            return self._per_owner[node, uid] if uid else 0, self._per_node[node], fitting.index(node)

        best = min(fitting, key=cost)
        self._count(pod, best)
        return best, ""
