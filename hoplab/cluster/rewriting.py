"""An object that is written anew keeps what the cluster knows of the one that it replaces.

What `kubectl replace` sends and an API server stores differ by what others wrote: status, owners,
what a Service was given, where a pod runs.
"""

from __future__ import annotations

from hoplab.kube.admit import with_allocation
from hoplab.kube.allocate import keeping
from hoplab.kube.convert import as_service
from hoplab.kube.objects import KubeObject


def rewritten(before: KubeObject, now: KubeObject) -> KubeObject:
    """A newly written object with what the cluster knows of the one that it replaces."""
    kept = {key: before.metadata[key] for key in ("ownerReferences", "finalizers") if key in before.metadata}
    controllers = {k: v for k, v in before.meta.annotations.items() if k.startswith("deployment.kubernetes.io/")}
    annotations = {**controllers, **now.meta.annotations}
    metadata = {**kept, **now.metadata, **({"annotations": annotations} if annotations else {})}
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        if key in before.metadata:
            metadata[key] = before.metadata[key]
    status = {**before.status, **now.status}
    if now.kind == "Node":
        metadata["labels"] = {**before.meta.labels, **now.meta.labels}
        status = dict(before.status)
    parts = {"status": status} if status else {}
    merged = now.changed(metadata=metadata, **parts)
    if now.kind == "Pod":
        # What the scheduler decided stays decided.
        node = before.spec.get("nodeName")
        return merged.changed(spec={**merged.spec, **({"nodeName": node} if node else {})})
    if now.kind == "Job":
        return merged.changed(spec={**merged.spec, **{k: before.spec[k] for k in ("selector", "template")}})
    if now.kind == "Node":
        return merged.changed(spec={**before.spec, **now.spec})
    return _kept_service(before, merged) if now.kind == "Service" else merged


def _kept_service(before: KubeObject, now: KubeObject) -> KubeObject:
    """A Service that was written anew, with the addresses and ports that it had and does not ask for."""
    old, new = as_service(before), as_service(now)
    if new.type != "LoadBalancer" and old.type == "LoadBalancer":
        now = now.changed(status={})
        new = as_service(now)
    kept = keeping(old, new)
    return now if kept == new else with_allocation(now, kept)
