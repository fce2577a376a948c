"""How the API deletes: at once, after a grace period, or when everybody who asked to be waited for is done.

A pod gets a deletionTimestamp and goes when its kubelet says so.  An object with
finalizers stays, marked, until the last of them is taken away.  What it owns follows by
the propagation policy: afterwards (Background), before it (Foreground), or not at all
(Orphan); the last two are finalizers too, which the garbage collector honours.

Source: apiserver's pkg/registry/generic/registry/store.go (deletionFinalizersForGarbageCollection,
Delete), pkg/registry/rest/delete.go (BeforeDelete), pkg/registry/core/pod/strategy.go (CheckGracefulDelete).
"""

from __future__ import annotations

from typing import Literal

from hoplab.kube.clock import timestamp
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import Store

Propagation = Literal["Background", "Foreground", "Orphan"]
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
ORPHANED_BY_DEFAULT = ("ReplicationController", "Job")
"""Kinds whose dependents stay when nobody says otherwise, as in their first API versions; kubectl always says."""


def delete(
    store: Store,
    kind: str,
    name: str,
    namespace: str = "default",
    *,
    now: float,
    grace: int | None = None,
    propagation: Propagation | None = None,
    uid: str = "",
    resource_version: str = "",
) -> tuple[KubeObject, bool]:
    """Delete as the API does; the object as it is afterwards, and whether it is gone.

    `now` in seconds since 1970, `grace` in seconds (None: what the pod says; 0: at once,
    without waiting for its kubelet).  Raises NotFound, Conflict.
    """
    with store.lock:
        obj = store.get(kind, name, namespace)
        marked = _finalizers(obj, propagation)
        seconds = _grace(obj, grace)
        if kind == "Namespace" and obj.spec.get("finalizers"):
            marked = marked.changed(status={**obj.status, "phase": "Terminating"})
        waits = bool(marked.metadata.get("finalizers")) or (kind == "Namespace" and bool(obj.spec.get("finalizers")))
        if not seconds and not waits:
            return store.delete(kind, name, namespace, uid=uid, resource_version=resource_version), True
        if not obj.deleting:
            marked = marked.relabelled(deletionTimestamp=timestamp(now + seconds), deletionGracePeriodSeconds=seconds)
        elif seconds < obj.metadata.get("deletionGracePeriodSeconds", 0):
            # A second request can only make it shorter.
            shorter = timestamp(now + seconds)
            marked = marked.relabelled(deletionTimestamp=shorter, deletionGracePeriodSeconds=seconds)
        conditions = {"uid": uid or obj.meta.uid, "resourceVersion": resource_version or None}
        return store.update(marked.relabelled(**conditions)), False


def _grace(obj: KubeObject, wanted: int | None) -> int:
    """Seconds that a pod is given; other kinds need none."""
    if obj.kind != "Pod":
        return 0
    given = obj.spec.get("terminationGracePeriodSeconds", 30) if wanted is None else wanted
    # Nobody has to be told of the end of a pod that never began, or has ended.
    if not obj.spec.get("nodeName") or obj.status.get("phase") in ("Succeeded", "Failed"):
        return 0
    return 1 if given < 0 else int(given)


def _finalizers(obj: KubeObject, propagation: Propagation | None) -> KubeObject:
    """The object with the finalizer that its propagation policy stands for."""
    had = list(obj.metadata.get("finalizers") or ())
    others = [each for each in had if each not in (FOREGROUND, ORPHAN)]
    if propagation is None:
        kept = [each for each in had if each in (FOREGROUND, ORPHAN)]
        own = kept or ([ORPHAN] if obj.kind in ORPHANED_BY_DEFAULT else [])
    else:
        own = {"Foreground": [FOREGROUND], "Orphan": [ORPHAN], "Background": []}[propagation]
    wanted = [*others, *own]
    return obj if wanted == had else obj.relabelled(finalizers=wanted or None)
