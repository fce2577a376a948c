"""Pods as their controllers see them: active, ready, available; whose they are; which of them goes first.

Source: pkg/api/v1/pod/util.go (IsPodAvailable), pkg/controller/controller_utils.go (ActivePodsWithRanks,
IsPodActive), pkg/controller/controller_ref_manager.go (ClaimPods).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any

from hoplab.control.plan import condition, controller_of, owner_reference, written_number
from hoplab.kube.clock import seconds
from hoplab.kube.labels import Selector
from hoplab.kube.objects import KubeObject, object_of

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def is_active(pod: KubeObject) -> bool:
    """Neither over nor on its way out."""
    return pod.status.get("phase") not in ("Succeeded", "Failed") and not pod.deleting


def is_ready(pod: KubeObject) -> bool:
    """Its condition Ready."""
    found = condition(pod.status.get("conditions") or (), "Ready")
    return found is not None and found.get("status") == "True"


def ready_since(pod: KubeObject) -> float:
    """When it became ready (seconds since 1970), 0 when it is not."""
    found = condition(pod.status.get("conditions") or (), "Ready")
    return seconds(found.get("lastTransitionTime")) if found and found.get("status") == "True" else 0.0


def available_in(pod: KubeObject, min_ready: int, now: float) -> float | None:
    """Seconds until the pod counts as available: 0 when it does, None while it is not ready."""
    if not is_ready(pod):
        return None
    return max(0.0, ready_since(pod) + min_ready - now) if min_ready else 0.0


def is_available(pod: KubeObject, min_ready: int, now: float) -> bool:
    """Ready for at least minReadySeconds."""
    return available_in(pod, min_ready, now) == 0.0


def restarts(pod: KubeObject) -> int:
    """The most restarts of any of its containers."""
    return max((each.get("restartCount", 0) for each in pod.status.get("containerStatuses") or ()), default=0)


def deletion_order(pods: Sequence[KubeObject], related: Iterable[KubeObject] = ()) -> list[KubeObject]:
    """The pods, the first to go first (ActivePodsWithRanks).

    Without a node before those with one, pending before running, not ready before ready, cheap before
    dear, crowded nodes first (`related`: all pods that share a Service, of whatever ReplicaSet), later
    ready first, more restarts first, younger first.
    """
    crowd = Counter(pod.spec.get("nodeName") for pod in related or pods)

    def compare(a: KubeObject, b: KubeObject) -> int:
        for key in (
            lambda p: bool(p.spec.get("nodeName")),
            lambda p: _PHASES.get(p.status.get("phase", "Pending"), 2),
            is_ready,
            lambda p: written_number(p.meta.annotations.get(DELETION_COST)),
            lambda p: -crowd[p.spec.get("nodeName")],
        ):
            if key(a) != key(b):
                return -1 if key(a) < key(b) else 1
        if is_ready(a) and is_ready(b) and ready_since(a) != ready_since(b):
            return -1 if ready_since(a) > ready_since(b) else 1
        if restarts(a) != restarts(b):
            return -1 if restarts(a) > restarts(b) else 1
        return -1 if _age_key(a) > _age_key(b) else 1

    return sorted(pods, key=cmp_to_key(compare))


def _age_key(pod: KubeObject) -> tuple[str, int]:
    """Later ones are larger; of one second the resourceVersion tells."""
    return pod.metadata.get("creationTimestamp") or "", int(pod.metadata.get("resourceVersion") or 0)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What belongs to a controller, as it is and will be after `adopted` and `released` were written."""

    mine: tuple[KubeObject, ...]
    adopted: tuple[KubeObject, ...]
    released: tuple[KubeObject, ...]


def claim(
    owner: KubeObject,
    selector: Selector,
    owned: Sequence[KubeObject],
    orphans: Sequence[KubeObject],
) -> Claimed:
    """Keep what is owned and selected, let go what is owned and not selected, take what nobody owns and is selected.

    `orphans` are objects of the owner's namespace without a controller.  An owner that is being
    deleted takes and lets go nothing.
    """
    mine, adopted, released = [], [], []
    for obj in owned:
        if selector.matches(obj.meta.labels):
            mine.append(obj)
        elif not owner.deleting:
            kept = [r for r in obj.metadata["ownerReferences"] if r.get("uid") != owner.meta.uid]
            released.append(obj.relabelled(ownerReferences=kept or None))
    for obj in orphans:
        if selector.matches(obj.meta.labels) and not (obj.deleting or owner.deleting):
            references = [*(obj.metadata.get("ownerReferences") or ()), owner_reference(owner)]
            adopted.append(obj.relabelled(ownerReferences=references))
            mine.append(adopted[-1])
    return Claimed(tuple(mine), tuple(adopted), tuple(released))


class Owned:
    """Objects by the uid of their controller, and those of each namespace that have none."""

    def __init__(self, objects: Iterable[KubeObject]) -> None:
        self._by_owner: dict[str, list[KubeObject]] = {}
        self._orphans: dict[str, list[KubeObject]] = {}
        self._names: dict[str, set[str]] = {}
        for obj in objects:
            reference = controller_of(obj)
            if reference is None:
                self._orphans.setdefault(obj.meta.namespace, []).append(obj)
            else:
                self._by_owner.setdefault(reference["uid"], []).append(obj)
            self._names.setdefault(obj.meta.namespace, set()).add(obj.meta.name)

    def by(self, owner: KubeObject) -> Sequence[KubeObject]:
        """What it controls."""
        return self._by_owner.get(owner.meta.uid, ())

    def orphans(self, namespace: str) -> Sequence[KubeObject]:
        """What nobody controls there."""
        return self._orphans.get(namespace, ())

    def names(self, namespace: str) -> set[str]:
        """Every name that is taken there."""
        return self._names.setdefault(namespace, set())


def pod_from(
    owner: KubeObject,
    name: str,
    *,
    generate: str = "",
    labels: Mapping[str, str] | None = None,
    node: str = "",
    **spec: Any,
) -> KubeObject:
    """A pod of the owner's template (GetPodFromTemplate)."""
    template = owner.spec["template"]
    written = template.get("metadata") or {}
    metadata: dict[str, Any] = {"name": name, "namespace": owner.meta.namespace}
    if generate:
        metadata["generateName"] = generate
    merged = {**(written.get("labels") or {}), **(labels or {})}
    if merged:
        metadata["labels"] = merged
    for key in ("annotations", "finalizers"):
        if written.get(key):
            metadata[key] = written[key]
    metadata["ownerReferences"] = [owner_reference(owner)]
    full = {**template["spec"], **spec}
    if node:
        full["nodeName"] = node
    made = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": full, "status": {"phase": "Pending"}}
    return object_of(made, owner.origin)
