"""Deployment: replaces one ReplicaSet by another, a few pods at a time.

Each pod template has its own ReplicaSet, named by the template's hash.  A rollout scales the
new one up as far as maxSurge lets it, and the old ones down as far as maxUnavailable lets it
while enough pods are available; Recreate ends all old pods first.  A rollback is only a
template that was there before: its ReplicaSet is still there, and is scaled up again.

Source: pkg/controller/deployment/{sync,rolling,recreate,progress}.go and util/deployment_util.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hoplab.control import pods as podlib
from hoplab.control.plan import Draft, Plan, amount, owner_reference, template_hash, written_number
from hoplab.control.replicas import selector_of
from hoplab.control.rollout import conditions
from hoplab.kube.objects import KubeObject, object_of

HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MOST = "deployment.kubernetes.io/max-replicas"
NOT_COPIED = (
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    "deployment.kubernetes.io/revision-history",
    DESIRED,
    MOST,
    "deprecated.deployment.rollback.to",
)
"""Annotations of a Deployment that its ReplicaSets do not get (skipCopyAnnotation)."""


@dataclass(slots=True)
class _Set:
    """A ReplicaSet in the making: how many replicas it shall have, and what else was changed about it."""

    obj: KubeObject
    new: bool = False

    @property
    def replicas(self) -> int:
        return int(self.obj.spec.get("replicas", 1))

    @property
    def available(self) -> int:
        return int(self.obj.status.get("availableReplicas") or 0)

    def scale(self, count: int) -> None:
        self.obj = self.obj.changed(spec={**self.obj.spec, "replicas": count})


def sync(deployment: KubeObject, sets: podlib.Owned, pods: podlib.Owned, now: float) -> Plan:
    """What the Deployment does now; `sets` are all ReplicaSets, `pods` all pods."""
    draft = Draft()
    claimed = podlib.claim(
        deployment, selector_of(deployment), sets.by(deployment), sets.orphans(deployment.meta.namespace)
    )
    draft.update += claimed.released
    before = {obj.key: obj for obj in (*sets.by(deployment), *sets.orphans(deployment.meta.namespace))}
    mine = sorted((_Set(obj) for obj in claimed.mine), key=lambda s: _age(s.obj))
    if deployment.deleting:
        return draft.done()
    state = _Rollout(deployment, mine, pods, now, draft)
    state.run()
    for each in mine:
        if each.new and each.obj.key not in before:
            draft.create.append(each.obj)
        elif each.obj != before[each.obj.key]:
            draft.update.append(each.obj)
    draft.update += [obj for obj in (state.written(),) if obj is not None]
    return draft.done()


def _age(obj: KubeObject) -> tuple[str, str]:
    return obj.metadata.get("creationTimestamp") or "~", obj.meta.name


def _same_template(obj: KubeObject, template: Mapping[str, Any]) -> bool:
    """EqualIgnoreHash."""
    theirs = obj.spec["template"]
    metadata = theirs.get("metadata") or {}
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key != HASH}
    mine = template.get("metadata") or {}
    return bool(
        {**metadata, "labels": labels} == {**mine, "labels": mine.get("labels") or {}}
        and theirs.get("spec") == template.get("spec")
    )


class _Rollout:
    """One look at one Deployment."""

    def __init__(self, deployment: KubeObject, sets: list[_Set], pods: podlib.Owned, now: float, draft: Draft) -> None:
        self.deployment, self.sets, self.pods, self.now, self.draft = deployment, sets, pods, now, draft
        spec = deployment.spec
        self.wanted = int(spec.get("replicas", 1))
        strategy = spec.get("strategy") or {}
        self.rolling = strategy.get("type", "RollingUpdate") == "RollingUpdate"
        limits = strategy.get("rollingUpdate") or {}
        self.surge = amount(limits.get("maxSurge", "25%"), self.wanted, up=True) if self.rolling else 0
        self.unavailable = amount(limits.get("maxUnavailable", "25%"), self.wanted, up=False) if self.rolling else 0
        if self.rolling and not self.surge and not self.unavailable:
            # Both rounded to nothing: without one of them nothing could ever move (ResolveFenceposts).
            self.unavailable = 1
        self.unavailable = min(self.unavailable, self.wanted)
        template = spec["template"]
        self.current = next((each for each in sets if _same_template(each.obj, template)), None)
        self.annotations = dict(deployment.meta.annotations)

    @property
    def old(self) -> list[_Set]:
        return [each for each in self.sets if each is not self.current]

    def run(self) -> None:
        paused = bool(self.deployment.spec.get("paused"))
        if paused or self._scaling():
            self._revise()
            self._scale_all()
        elif self.rolling:
            self._make_new()
            if not self._grow():
                self._shrink()
        else:
            self._recreate()
        if not paused and self.current is not None and self._complete():
            self._forget_old()
        for each in self.sets:
            self._annotate(each)

    # Which ReplicaSet is the new one

    def _revise(self) -> None:
        """Give the new ReplicaSet the highest revision, when it lacks it."""
        if self.current is None:
            return
        newest = max((_revision(each.obj) for each in self.old), default=0) + 1
        if _revision(self.current.obj) < newest:
            had = self.current.obj.meta.annotations
            self.current.obj = self.current.obj.relabelled(annotations={**had, REVISION: str(newest)})
            history = had.get(REVISION)
            if history:
                earlier = had.get("deployment.kubernetes.io/revision-history")
                text = f"{earlier},{history}" if earlier else history
                kept = {**self.current.obj.meta.annotations, "deployment.kubernetes.io/revision-history": text}
                self.current.obj = self.current.obj.relabelled(annotations=kept)
        self.annotations[REVISION] = self.current.obj.meta.annotations.get(REVISION, str(newest))

    def _make_new(self) -> None:
        """The ReplicaSet of the present template, made when there is none."""
        if self.current is not None:
            self._revise()
            return
        template = self.deployment.spec["template"]
        collisions = int(self.deployment.status.get("collisionCount") or 0)
        taken = {each.obj.meta.name for each in self.sets}
        while True:
            number = template_hash(template, collisions)
            name = f"{self.deployment.meta.name}-{number}"
            if name not in taken:
                break
            collisions += 1
        metadata = template.get("metadata") or {}
        labels = {**(metadata.get("labels") or {}), HASH: number}
        selector = dict(self.deployment.spec.get("selector") or {})
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH: number}
        spec: dict[str, Any] = {
            "replicas": 0,
            "selector": selector,
            "template": {**template, "metadata": {**metadata, "labels": labels}},
        }
        if self.deployment.spec.get("minReadySeconds"):
            spec["minReadySeconds"] = self.deployment.spec["minReadySeconds"]
        document = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": self.deployment.meta.namespace,
                "labels": labels,
                "ownerReferences": [owner_reference(self.deployment)],
            },
            "spec": spec,
            "status": {"replicas": 0},
        }
        self.current = _Set(object_of(document, self.deployment.origin), new=True)
        self.sets.append(self.current)
        self._revise()

    # How many pods each has

    def _scaled(self, each: _Set, count: int) -> None:
        if count == each.replicas:
            return
        way = "up" if count > each.replicas else "down"
        message = f"Scaled {way} replica set {each.obj.meta.name} from {each.replicas} to {count}"
        each.scale(count)
        self.draft.note(self.deployment, "ScalingReplicaSet", message)

    def _grow(self) -> bool:
        """Bring the new set towards what is wanted (reconcileNewReplicaSet); whether it changed."""
        assert self.current is not None
        before = self.current.replicas
        if before > self.wanted:
            self._scaled(self.current, self.wanted)
        elif before < self.wanted:
            most = self.wanted + self.surge
            total = sum(each.replicas for each in self.sets)
            if total < most:
                self._scaled(self.current, before + min(most - total, self.wanted - before))
        return self.current.replicas != before

    def _shrink(self) -> None:
        """Take old pods away as far as enough stay available (reconcileOldReplicaSets)."""
        assert self.current is not None
        least = self.wanted - self.unavailable
        missing = self.current.replicas - self.current.available
        allowed = sum(each.replicas for each in self.sets) - least - missing
        if allowed <= 0 or not any(each.replicas for each in self.old):
            return
        cleaned = 0
        for each in self.old:
            # Pods that never became available are missed by nobody.
            sick = min(allowed - cleaned, each.replicas - each.available)
            if sick > 0:
                self._scaled(each, each.replicas - sick)
                cleaned += sick
        spare = sum(each.available for each in self.sets) - least
        for each in self.old:
            gone = min(spare, each.replicas)
            if gone > 0:
                self._scaled(each, each.replicas - gone)
                spare -= gone

    def _recreate(self) -> None:
        if any(each.replicas for each in self.old):
            for each in self.old:
                self._scaled(each, 0)
            return
        if any(
            pod.status.get("phase") not in ("Succeeded", "Failed")
            for each in self.old
            for pod in self.pods.by(each.obj)
        ):
            return  # Old pods are still ending.
        self._make_new()
        assert self.current is not None
        self._scaled(self.current, self.wanted)

    def _scaling(self) -> bool:
        """Whether replicas were changed and nothing else (isScalingEvent)."""
        active = [each for each in self.sets if each.replicas]
        desired = [each.obj.meta.annotations.get(DESIRED) for each in active]
        return any(text is not None and written_number(text) != self.wanted for text in desired)

    def _scale_all(self) -> None:
        """Scale what is there, in proportion where there is more than one (sync.go, scale)."""
        active = [each for each in self.sets if each.replicas]
        if len(active) == 1 or not active:
            only = active[0] if active else self.current
            if only is not None:
                self._scaled(only, self.wanted)
            return
        if self.current is not None and self.current.replicas >= self.wanted and self._saturated():
            for each in self.old:
                self._scaled(each, 0)
            return
        if not self.rolling:
            return
        total = sum(each.replicas for each in active)
        allowed = self.wanted + self.surge if self.wanted else 0
        left = allowed - total
        order = sorted(active, key=lambda s: (-s.replicas if left < 0 else s.replicas, _age(s.obj)), reverse=left > 0)
        counts = {id(each): each.replicas for each in active}
        added = 0
        for each in order:
            if left:
                most = written_number(each.obj.meta.annotations.get(MOST)) or total
                # To the nearest whole number, halves up: Go's rounding, and not Python's.
                share = int(each.replicas * allowed / most + 0.5) - each.replicas
                room = left - added
                share = min(share, room) if left > 0 else max(share, room)
                counts[id(each)] += share
                added += share
        counts[id(order[0])] = max(0, counts[id(order[0])] + left - added)
        for each in active:
            self._scaled(each, counts[id(each)])

    def _saturated(self) -> bool:
        """Whether the new set has all that is wanted, available (IsSaturated)."""
        each = self.current
        return each is not None and each.replicas == self.wanted == each.available

    # What is told

    def _annotate(self, each: _Set) -> None:
        had = each.obj.meta.annotations
        wanted = dict(had)
        if each is self.current:
            wanted |= {k: v for k, v in self.deployment.meta.annotations.items() if k not in NOT_COPIED}
        if each.replicas or each.new:
            wanted |= {DESIRED: str(self.wanted), MOST: str(self.wanted + self.surge)}
        if wanted != had:
            each.obj = each.obj.relabelled(annotations=wanted)

    def _forget_old(self) -> None:
        """Delete ReplicaSets beyond revisionHistoryLimit, the oldest revisions first."""
        limit = self.deployment.spec.get("revisionHistoryLimit", 10)
        idle = [each for each in self.old if not each.replicas and not each.obj.status.get("replicas")]
        idle = [each for each in idle if not each.obj.deleting]
        for each in sorted(idle, key=lambda s: _revision(s.obj))[: max(0, len(self.old) - limit)]:
            self.draft.delete.append(each.obj)

    def _counts(self) -> dict[str, int]:
        def total(field: str, sets: Sequence[_Set]) -> int:
            return sum(int(each.obj.status.get(field) or 0) for each in sets)

        present = total("replicas", self.sets)
        available = total("availableReplicas", self.sets)
        return {
            "replicas": present,
            "updatedReplicas": total("replicas", [self.current] if self.current else []),
            "readyReplicas": total("readyReplicas", self.sets),
            "availableReplicas": available,
            "unavailableReplicas": max(0, sum(each.replicas for each in self.sets) - available),
        }

    def _complete(self) -> bool:
        counts = self._counts()
        return (
            counts["updatedReplicas"] == self.wanted
            and counts["replicas"] == self.wanted
            and counts["availableReplicas"] == self.wanted
        )

    def written(self) -> KubeObject | None:
        """The Deployment with its new status and annotations, None when nothing is new about it."""
        counts = self._counts()
        told = conditions(
            self.deployment,
            counts,
            least=self.wanted - self.unavailable,
            complete=self._complete(),
            newest=self.current.obj if self.current else None,
            made=bool(self.current and self.current.new),
            now=self.now,
        )
        self.draft.wake(told.again_in, deadline=True)
        status: dict[str, Any] = {"observedGeneration": self.deployment.metadata["generation"]}
        status |= {key: value for key, value in counts.items() if value}
        status["conditions"] = list(told.conditions)
        if self.deployment.status.get("collisionCount"):
            status["collisionCount"] = self.deployment.status["collisionCount"]
        written = self.deployment
        if status != written.status:
            written = written.changed(status=status)
        if self.annotations != written.meta.annotations:
            written = written.relabelled(annotations=self.annotations)
        return None if written is self.deployment else replace(written)


def _revision(obj: KubeObject) -> int:
    return written_number(obj.meta.annotations.get(REVISION))
