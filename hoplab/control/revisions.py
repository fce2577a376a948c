"""The history of a DaemonSet or StatefulSet: each template that it had, kept as a ControllerRevision.

`kubectl rollout history` lists them, `kubectl rollout undo` patches an earlier one's data into the set.  A
template that comes back is no new revision: its old one gets the next number.  Of those that no pod has any
more, the last revisionHistoryLimit are kept.

Source: pkg/controller/history/controller_history.go, pkg/controller/daemon/update.go (constructHistory,
cleanupHistory) and pkg/controller/statefulset/stateful_set_control.go (getStatefulSetRevisions, truncateHistory).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from hoplab.control import pods as podlib
from hoplab.control.plan import Draft, owner_reference, template_hash
from hoplab.control.replicas import selector_of
from hoplab.kube.objects import KubeObject, object_of

HASH = "controller-revision-hash"
LABELS = {"DaemonSet": HASH, "StatefulSet": "controller.kubernetes.io/hash"}
"""Where a revision has its template's hash."""
KEPT = 10
"""Of a set that does not say how many."""


def keep(owner: KubeObject, revisions: podlib.Owned, live: Collection[str], draft: Draft) -> None:
    """Have the set's history written: its template under the highest number, no more old ones than it wants.

    `revisions` are all ControllerRevisions there are, `live` the hashes that its pods have.
    """
    claimed = podlib.claim(owner, selector_of(owner), revisions.by(owner), revisions.orphans(owner.meta.namespace))
    draft.update += [*claimed.adopted, *claimed.released]
    if owner.deleting:
        return
    history = sorted(claimed.mine, key=_number)
    data = data_of(owner)
    same = [each for each in history if each.document.get("data") == data]
    highest = _number(history[-1]) if history else 0
    if not same:
        draft.create.append(_revision(owner, data, highest + 1))
    elif _number(same[-1]) < highest:
        draft.update = [each for each in draft.update if each.meta.uid != same[-1].meta.uid]
        draft.update.append(same[-1].changed(revision=highest + 1))
    _forget(owner, [each for each in history if each not in same[-1:]], live, draft)


def data_of(owner: KubeObject) -> dict[str, Any]:
    """The patch that gives the set its present template.

    kubectl makes the same from a set and compares the bytes, to see whether there is anything to undo: keys in
    order, and the null that Go writes for a template's time (getPatch in both controllers).
    """
    template = owner.spec["template"]
    metadata = {"creationTimestamp": None, **(template.get("metadata") or {})}
    written = json.dumps({**template, "metadata": metadata, "$patch": "replace"}, sort_keys=True)
    return {"spec": {"template": json.loads(written)}}


def _number(revision: KubeObject) -> int:
    return int(revision.document.get("revision") or 0)


def _revision(owner: KubeObject, data: dict[str, Any], number: int) -> KubeObject:
    template = owner.spec["template"]
    digest = template_hash(template)
    metadata: dict[str, Any] = {
        "name": f"{owner.meta.name}-{digest}",
        "namespace": owner.meta.namespace,
        "labels": {**((template.get("metadata") or {}).get("labels") or {}), LABELS[owner.kind]: digest},
        "ownerReferences": [owner_reference(owner)],
    }
    if owner.meta.annotations:
        metadata["annotations"] = dict(owner.meta.annotations)
    made = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata}
    return object_of({**made, "data": data, "revision": number}, owner.origin)


def _forget(owner: KubeObject, old: Sequence[KubeObject], live: Collection[str], draft: Draft) -> None:
    """Delete the oldest of those that no pod has."""
    limit = owner.spec.get("revisionHistoryLimit")
    label = LABELS[owner.kind]
    unused = [each for each in old if each.meta.labels.get(label) not in live and not each.deleting]
    draft.delete += unused[: max(0, len(unused) - (KEPT if limit is None else int(limit)))]
