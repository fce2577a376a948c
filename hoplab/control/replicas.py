"""ReplicaSet and ReplicationController: so many pods of one template, no more and no less.

A set counts the pods that it owns and that are neither over nor on their way out; pods that
its selector picks and that nobody owns become its own.  Too few: it makes some.  Too many: it
deletes those that are missed least.

Source: pkg/controller/replicaset/{replica_set,replica_set_utils}.go; pkg/controller/replication is a shell around it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from hoplab.control import pods as podlib
from hoplab.control.plan import Draft, Plan, fresh_name
from hoplab.kube.labels import Selector
from hoplab.kube.objects import KubeObject

BURST = 500
"""Pods that are made or deleted at once."""


def selector_of(owner: KubeObject) -> Selector:
    """A workload's selector; a ReplicationController's is the map itself."""
    given = owner.spec.get("selector") or {}
    return Selector.from_map(given) if owner.kind == "ReplicationController" else Selector.from_document(given)


def sync(owner: KubeObject, pods: podlib.Owned, now: float, chance: random.Random) -> Plan:
    """What the set does now; `pods` are all pods there are."""
    draft = Draft()
    claimed = podlib.claim(owner, selector_of(owner), pods.by(owner), pods.orphans(owner.meta.namespace))
    draft.update += [*claimed.adopted, *claimed.released]
    active = [pod for pod in claimed.mine if podlib.is_active(pod)]
    if not owner.deleting:
        _manage(owner, active, pods.names(owner.meta.namespace), chance, draft)
    status = _status(owner, active, now, draft)
    if status != owner.status:
        draft.update.append(owner.changed(status=status))
    return draft.done()


def _manage(
    owner: KubeObject, active: Sequence[KubeObject], names: set[str], chance: random.Random, draft: Draft
) -> None:
    wanted = int(owner.spec.get("replicas", 1))
    for _number in range(min(wanted - len(active), BURST)):
        name = fresh_name(f"{owner.meta.name}-", names, chance)
        names.add(name)
        draft.create.append(podlib.pod_from(owner, name, generate=f"{owner.meta.name}-"))
        draft.note(owner, "SuccessfulCreate", f"Created pod: {name}")
    if len(active) > wanted:
        gone = podlib.deletion_order(active)[: min(len(active) - wanted, BURST)]
        draft.delete += gone
        for pod in gone:
            draft.note(owner, "SuccessfulDelete", f"Deleted pod: {pod.meta.name}")


def _status(owner: KubeObject, active: Sequence[KubeObject], now: float, draft: Draft) -> Mapping[str, Any]:
    minimum = int(owner.spec.get("minReadySeconds") or 0)
    labels = (owner.spec["template"].get("metadata") or {}).get("labels") or {}
    full = Selector.from_map(labels)
    ready = [pod for pod in active if podlib.is_ready(pod)]
    available = 0
    for pod in ready:
        left = podlib.available_in(pod, minimum, now)
        available += left == 0.0
        draft.wake(left or None)
    counts = {
        "fullyLabeledReplicas": sum(full.matches(pod.meta.labels) for pod in active),
        "readyReplicas": len(ready),
        "availableReplicas": available,
    }
    # Zero is left out, as Go's omitempty does it; `replicas` is always told.
    kept = {key: value for key, value in owner.status.items() if key == "conditions"}
    found = {key: value for key, value in counts.items() if value}
    return {"replicas": len(active), **found, "observedGeneration": owner.metadata["generation"], **kept}
