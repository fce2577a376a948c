"""StatefulSet: pods with a number and a name that stays, made one after the other.

Pod N comes when all before it are ready, and goes when all behind it are gone; Parallel
does without that order.  A changed template replaces the pods from the highest number down
to `partition`, one at a time, each only when all others are well.

Source: pkg/controller/statefulset/{stateful_set_control,stateful_set_utils}.go.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hoplab.control import pods as podlib
from hoplab.control.plan import Draft, Plan, template_hash
from hoplab.control.replicas import selector_of
from hoplab.control.revisions import HASH, keep
from hoplab.kube.objects import KubeObject


def ordinal(pod: KubeObject, owner: KubeObject) -> int:
    """The pod's number, -1 for a name that is none of the set's."""
    match = re.fullmatch(rf"{re.escape(owner.meta.name)}-(\d+)", pod.meta.name)
    return int(match[1]) if match else -1


def sync(owner: KubeObject, pods: podlib.Owned, revisions: podlib.Owned, now: float) -> Plan:
    """What the StatefulSet does now; `pods` and `revisions` are all that there are."""
    draft = Draft()
    claimed = podlib.claim(owner, selector_of(owner), pods.by(owner), pods.orphans(owner.meta.namespace))
    draft.update += [*claimed.adopted, *claimed.released]
    update = f"{owner.meta.name}-{template_hash(owner.spec['template'])}"
    current = str(owner.status.get("currentRevision") or update)
    wanted = int(owner.spec.get("replicas", 1))
    have = {ordinal(pod, owner): pod for pod in claimed.mine if ordinal(pod, owner) >= 0}
    # Pods, and the set's status, name a revision by the set's name and the template's hash.
    live = {current, update, *(pod.meta.labels.get(HASH, "") for pod in claimed.mine)}
    keep(owner, revisions, {each.removeprefix(f"{owner.meta.name}-") for each in live}, draft)
    if not owner.deleting:
        _manage(owner, have, wanted, update, now, draft)
    _status(owner, have, wanted, current, update, now, draft)
    return draft.done()


def _well(pod: KubeObject) -> bool:
    return pod.status.get("phase") == "Running" and podlib.is_ready(pod) and not pod.deleting


def _manage(owner: KubeObject, have: dict[int, KubeObject], wanted: int, update: str, now: float, draft: Draft) -> None:
    monotonic = owner.spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
    minimum = int(owner.spec.get("minReadySeconds") or 0)
    for number in range(wanted):
        pod = have.get(number)
        if pod is None:
            draft.create.append(_pod(owner, number, update))
            name = f"{owner.meta.name}-{number}"
            draft.note(owner, "SuccessfulCreate", f"create Pod {name} in StatefulSet {owner.meta.name} successful")
            if monotonic:
                return
            continue
        if pod.status.get("phase") in ("Failed", "Succeeded") and not pod.deleting:
            draft.delete.append(pod)
            draft.note(
                owner,
                "RecreatingTerminatedPod",
                f"StatefulSet {owner.meta.name} is recreating terminated Pod {pod.meta.name}",
            )
            if monotonic:
                return
        elif monotonic:
            left = podlib.available_in(pod, minimum, now)
            draft.wake(left or None)
            if not _well(pod) or left != 0.0:
                return
    condemned = sorted((number for number in have if number >= wanted), reverse=True)
    for number in condemned:
        pod = have[number]
        if not pod.deleting:
            draft.delete.append(pod)
            draft.note(
                owner,
                "SuccessfulDelete",
                f"delete Pod {pod.meta.name} in StatefulSet {owner.meta.name} successful",
            )
        if monotonic:
            return
    _roll(owner, have, wanted, update, draft)


def _roll(owner: KubeObject, have: dict[int, KubeObject], wanted: int, update: str, draft: Draft) -> None:
    strategy = owner.spec.get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    for number in range(wanted - 1, partition - 1, -1):
        pod = have.get(number)
        if pod is None:
            return
        if pod.meta.labels.get(HASH) != update and not pod.deleting:
            draft.delete.append(pod)
            draft.note(
                owner,
                "SuccessfulDelete",
                f"delete Pod {pod.meta.name} in StatefulSet {owner.meta.name} successful",
            )
            return
        if not _well(pod):
            return


def _pod(owner: KubeObject, number: int, revision: str) -> KubeObject:
    name = f"{owner.meta.name}-{number}"
    labels = {
        HASH: revision,
        "statefulset.kubernetes.io/pod-name": name,
        "apps.kubernetes.io/pod-index": str(number),
    }
    more: dict[str, Any] = {"hostname": name}
    if owner.spec.get("serviceName"):
        more["subdomain"] = owner.spec["serviceName"]
    return podlib.pod_from(owner, name, generate=f"{owner.meta.name}-", labels=labels, **more)


def _status(
    owner: KubeObject,
    have: dict[int, KubeObject],
    wanted: int,
    current: str,
    update: str,
    now: float,
    draft: Draft,
) -> None:
    minimum = int(owner.spec.get("minReadySeconds") or 0)
    pods: Sequence[KubeObject] = list(have.values())
    ready = [pod for pod in pods if _well(pod)]
    updated = [pod for pod in pods if pod.meta.labels.get(HASH) == update and not pod.deleting]
    if len(updated) == wanted == len(pods) and len(ready) == wanted:
        current = update
    status: dict[str, Any] = {
        "observedGeneration": owner.metadata["generation"],
        "replicas": len(pods),
        "availableReplicas": sum(podlib.is_available(pod, minimum, now) for pod in ready),
        "collisionCount": 0,
        "currentRevision": current,
        "updateRevision": update,
    }
    counts = {
        "readyReplicas": len(ready),
        "currentReplicas": sum(pod.meta.labels.get(HASH) == current and not pod.deleting for pod in pods),
        "updatedReplicas": len(updated),
    }
    status |= {key: value for key, value in counts.items() if value}
    if status != owner.status:
        draft.update.append(owner.changed(status=status))
