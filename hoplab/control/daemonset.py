"""DaemonSet: one pod on each node that it fits.

A changed template replaces the pods node by node, so that never more than maxUnavailable
nodes are without an available one; OnDelete leaves that to whoever deletes them.

Source: pkg/controller/daemon/{daemon_controller,update}.go.  The pod's node is written into it at
once, where the real controller has the scheduler do it by an affinity to that one node.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from hoplab.control import pods as podlib
from hoplab.control.placing import fits
from hoplab.control.plan import Draft, Plan, amount, fresh_name, template_hash
from hoplab.control.replicas import selector_of
from hoplab.control.revisions import HASH, keep
from hoplab.kube.objects import KubeObject

BORNE = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)
"""Taints of nodes (below node.kubernetes.io/) that keep no daemon away."""


def sync(
    owner: KubeObject,
    pods: podlib.Owned,
    revisions: podlib.Owned,
    nodes: Sequence[KubeObject],
    now: float,
    chance: random.Random,
) -> Plan:
    """What the DaemonSet does now; `pods` and `revisions` are all that there are."""
    draft = Draft()
    claimed = podlib.claim(owner, selector_of(owner), pods.by(owner), pods.orphans(owner.meta.namespace))
    draft.update += [*claimed.adopted, *claimed.released]
    revision = template_hash(owner.spec["template"])
    suited = [node.meta.name for node in nodes if not fits(owner.spec["template"]["spec"], node, daemon=True)]
    by_node: dict[str, list[KubeObject]] = {}
    for pod in claimed.mine:
        by_node.setdefault(pod.spec.get("nodeName") or "", []).append(pod)
    keep(owner, revisions, {pod.meta.labels.get(HASH, "") for pod in claimed.mine}, draft)
    if not owner.deleting:
        _manage(owner, suited, by_node, revision, pods.names(owner.meta.namespace), chance, draft)
        strategy = owner.spec.get("updateStrategy") or {}
        if strategy.get("type", "RollingUpdate") == "RollingUpdate" and not any(
            each.kind == "Pod" for each in draft.create
        ):
            _roll(owner, strategy.get("rollingUpdate") or {}, suited, by_node, revision, now, draft)
    _status(owner, suited, by_node, revision, now, draft)
    return draft.done()


def _manage(
    owner: KubeObject,
    suited: Sequence[str],
    by_node: dict[str, list[KubeObject]],
    revision: str,
    names: set[str],
    chance: random.Random,
    draft: Draft,
) -> None:
    for node in suited:
        here = by_node.get(node, [])
        for pod in here:
            if pod.status.get("phase") == "Failed" and not pod.deleting:
                draft.delete.append(pod)
                draft.note(
                    owner, "FailedDaemonPod", f"Found failed daemon pod {pod.meta.name} on node {node}", warning=True
                )
        # A pod on its way out still holds its place: ports and addresses are free when it is gone.
        if not here:
            name = fresh_name(f"{owner.meta.name}-", names, chance)
            names.add(name)
            labels = {HASH: revision, "pod-template-generation": str(owner.metadata["generation"])}
            bears = _tolerations(owner.spec["template"]["spec"])
            made = podlib.pod_from(
                owner, name, generate=f"{owner.meta.name}-", labels=labels, node=node, tolerations=bears
            )
            draft.create.append(made)
            draft.note(owner, "SuccessfulCreate", f"Created pod: {name}")
        active = [pod for pod in here if podlib.is_active(pod)]
        for pod in active[1:]:
            draft.delete.append(pod)
            draft.note(owner, "SuccessfulDelete", f"Deleted pod: {pod.meta.name}")
    for node, here in by_node.items():
        if node not in suited:
            for pod in here:
                if not pod.deleting:
                    draft.delete.append(pod)
                    draft.note(owner, "SuccessfulDelete", f"Deleted pod: {pod.meta.name}")


def _tolerations(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a daemon's pod bears: whatever befalls its node, it stays (AddOrUpdateDaemonPodTolerations)."""
    taints = BORNE + ((("network-unavailable", "NoSchedule"),) if spec.get("hostNetwork") else ())
    return [
        *(spec.get("tolerations") or ()),
        *({"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": effect} for key, effect in taints),
    ]


def _roll(
    owner: KubeObject,
    limits: dict[str, int | str],
    suited: Sequence[str],
    by_node: dict[str, list[KubeObject]],
    revision: str,
    now: float,
    draft: Draft,
) -> None:
    """Delete old pods, the unavailable ones first (rollingUpdate with maxSurge 0)."""
    allowed = amount(limits.get("maxUnavailable", 1), len(suited), up=True) or 1
    minimum = int(owner.spec.get("minReadySeconds") or 0)
    unavailable, free, candidates = 0, [], []
    for node in suited:
        here = [pod for pod in by_node.get(node, []) if podlib.is_active(pod)]
        good = any(podlib.is_available(pod, minimum, now) for pod in here)
        old = [pod for pod in here if pod.meta.labels.get(HASH) != revision]
        if not good:
            unavailable += 1
            free += old
        else:
            candidates += old
    gone = free + candidates[: max(0, allowed - unavailable)]
    for pod in gone:
        draft.delete.append(pod)
        draft.note(owner, "SuccessfulDelete", f"Deleted pod: {pod.meta.name}")


def _status(
    owner: KubeObject,
    suited: Sequence[str],
    by_node: dict[str, list[KubeObject]],
    revision: str,
    now: float,
    draft: Draft,
) -> None:
    minimum = int(owner.spec.get("minReadySeconds") or 0)
    current = ready = available = updated = 0
    for node in suited:
        here = [pod for pod in by_node.get(node, []) if podlib.is_active(pod)]
        current += bool(here)
        if here:
            left = podlib.available_in(here[0], minimum, now)
            ready += left is not None
            available += left == 0.0
            draft.wake(left or None)
            updated += here[0].meta.labels.get(HASH) == revision
    wrong = sum(bool(here) for node, here in by_node.items() if node not in suited)
    status = {
        "currentNumberScheduled": current,
        "numberMisscheduled": wrong,
        "desiredNumberScheduled": len(suited),
        "numberReady": ready,
        "observedGeneration": owner.metadata["generation"],
    }
    counts = {"updatedNumberScheduled": updated, "numberAvailable": available}
    status |= {key: value for key, value in counts.items() if value}
    if len(suited) > available:
        status["numberUnavailable"] = len(suited) - available
    if status != owner.status:
        draft.update.append(owner.changed(status=status))
