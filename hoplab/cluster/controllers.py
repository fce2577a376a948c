"""Runs the controllers on the store: looks, has them decide, writes what they decided.

Each looks again only when an object of its kinds changed, or when it said that time alone
would change something.  A write that meets somebody else's is dropped: the change that it met
makes its controller look again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hoplab.cluster.recorder import Recorder
from hoplab.control.placing import Board
from hoplab.control.plan import Plan, with_condition
from hoplab.control.pods import Owned
from hoplab.kube.admit import new_pod
from hoplab.kube.deletion import delete
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import Conflict, NotFound, Store, StoreError

Clock = Callable[[], float]


@dataclass(slots=True)
class _Controller:
    """One of them: what it is called, what it works on, what else it looks at, and how it decides."""

    name: str
    kind: str
    watches: tuple[str, ...]
    decide: Callable[[KubeObject], Plan]
    seen: int = -1
    wake_at: float | None = None
    settles_at: float | None = None


class Controllers:
    """The controller manager and the scheduler, over one store."""

    def __init__(self, store: Store, recorder: Recorder, chance: random.Random, clock: Clock) -> None:
        self._store, self._recorder, self._chance, self._clock = store, recorder, chance, clock
        self._owned: dict[str, tuple[tuple[KubeObject, ...], Owned]] = {}
        self.forgiving = False
        """Tell of an object that can't be worked on by an Event, instead of raising."""
        self._collected = 0
        self._nodes: set[str] = set()
        self._nodes_seen = -1
        self._scheduled = -1
        self._all = (
            _Controller("deployment-controller", "Deployment", ("ReplicaSet", "Pod"), self._deployment),
            _Controller("replicaset-controller", "ReplicaSet", ("Pod",), self._replicas),
            _Controller("replication-controller", "ReplicationController", ("Pod",), self._replicas),
            _Controller("daemonset-controller", "DaemonSet", ("Pod", "Node", "ControllerRevision"), self._daemon_set),
            _Controller("statefulset-controller", "StatefulSet", ("Pod", "ControllerRevision"), self._stateful_set),
            _Controller("job-controller", "Job", ("Pod",), self._job),
        )

    def run(self) -> bool:
        """One round of all of them; whether anything was written."""
        before = self._store.version
        if self.forgiving:
            self._abandon()
        self._collect()
        for controller in self._all:
            self._run(controller)
        self._schedule()
        return self._store.version != before

    def wake_in(self) -> float | None:
        """Seconds until one of them wants to look again, None when only changes matter."""
        return self._until(each.wake_at for each in self._all)

    def settles_in(self) -> float | None:
        """Seconds until one of them goes on by itself, None when all have settled (deadlines aside)."""
        return self._until(each.settles_at for each in self._all)

    def _until(self, times: Iterable[float | None]) -> float | None:
        known = [at for at in times if at is not None]
        return max(0.0, min(known) - self._clock()) if known else None

    # Most labs have no object of most of these kinds, and need not wait for what decides about them.

    def _deployment(self, owner: KubeObject) -> Plan:
        from hoplab.control import deployment

        return deployment.sync(owner, self._by_owner("ReplicaSet"), self._by_owner("Pod"), self._clock())

    def _daemon_set(self, owner: KubeObject) -> Plan:
        from hoplab.control import daemonset

        nodes = self._store.each("Node")
        pods, revisions = self._by_owner("Pod"), self._by_owner("ControllerRevision")
        return daemonset.sync(owner, pods, revisions, nodes, self._clock(), self._chance)

    def _stateful_set(self, owner: KubeObject) -> Plan:
        from hoplab.control import statefulset

        return statefulset.sync(owner, self._by_owner("Pod"), self._by_owner("ControllerRevision"), self._clock())

    def _job(self, owner: KubeObject) -> Plan:
        from hoplab.control import job

        return job.sync(owner, self._by_owner("Pod"), self._clock(), self._chance)

    def _replicas(self, owner: KubeObject) -> Plan:
        from hoplab.control import replicas

        return replicas.sync(owner, self._by_owner("Pod"), self._clock(), self._chance)

    def _by_owner(self, kind: str) -> Owned:
        objects = self._store.each(kind)
        had = self._owned.get(kind)
        if had is None or had[0] is not objects:
            had = self._owned[kind] = (objects, Owned(objects))
        return had[1]

    def _run(self, controller: _Controller) -> None:
        objects = self._store.each(controller.kind)
        version = self._store.version_of(controller.kind, *controller.watches)
        due = controller.wake_at is not None and controller.wake_at <= self._clock()
        if not objects or (version == controller.seen and not due):
            controller.seen = version
            return
        controller.seen, controller.wake_at, controller.settles_at = version, None, None
        for obj in objects:
            plan = self._decided(controller, obj)
            if plan:
                self._carry_out(plan)
            for note in plan.notes:
                self._recorder.note(note, controller.name)
            now = self._clock()
            controller.wake_at = _sooner(controller.wake_at, now, plan.again_in)
            controller.settles_at = _sooner(controller.settles_at, now, plan.settles_in)

    def _decided(self, controller: _Controller, obj: KubeObject) -> Plan:
        if not self.forgiving:
            return controller.decide(obj)
        try:
            return controller.decide(obj)
        except Exception as error:
            # A defect that one strange object brings to light must not stop the controllers of all others.
            message = f"{type(error).__name__}: {error}"
            self._recorder.event(obj, "FailedSync", message, controller.name, warning=True)
            return Plan()

    def _carry_out(self, plan: Plan) -> None:
        for obj in plan.create:
            if obj.kind == "Pod":
                obj = new_pod(obj)
            # Somebody else made one of that name: it is looked at again with the others.
            with suppress(StoreError):
                self._store.create(obj)
        self._update(plan.update)
        self._delete(plan.delete)

    def _update(self, objects: Sequence[KubeObject]) -> None:
        for obj in objects:
            with suppress(Conflict, NotFound):
                self._store.update(obj)

    def _delete(self, objects: Sequence[KubeObject], *, foreground: bool = False, grace: int | None = None) -> None:
        for obj in objects:
            with suppress(Conflict, NotFound):
                delete(
                    self._store,
                    *(obj.kind, obj.meta.name, obj.meta.namespace),
                    now=self._clock(),
                    grace=grace,
                    propagation="Foreground" if foreground else "Background",
                    uid=obj.meta.uid,
                )

    def _collect(self) -> None:
        """The garbage collector and the namespace controller: only a deletion gives them work."""
        if self._collected == self._store.deletions:
            return
        from hoplab.control import garbage

        while self._collected != self._store.deletions:
            self._collected = self._store.deletions
            objects = [obj for kind in self._store.kinds() for obj in self._store.each(kind)]
            found = garbage.collect(objects)
            self._update(found.update)
            self._delete(found.foreground, foreground=True)
            self._delete(found.delete)
            for namespace in garbage.empty_namespaces(objects):
                with suppress(Conflict, NotFound):
                    self._store.delete("Namespace", namespace.meta.name, "", uid=namespace.meta.uid)
            if found.update:
                # An owner that was taken out of its dependents can go now, and none of these writes is a deletion.
                self._collected = -1

    def _abandon(self) -> None:
        """Pods of a node that is no more go (pkg/controller/podgc, gcOrphaned).

        At once: a cluster waits for 40 seconds, since a node might come back, and here none does.
        """
        version = self._store.version_of("Node")
        if version == self._nodes_seen:
            return
        there = {node.meta.name for node in self._store.each("Node")}
        for name in self._nodes - there:
            for pod in self._store.each("Pod"):
                if pod.spec.get("nodeName") == name:
                    self._delete([pod], grace=0)
        self._nodes_seen, self._nodes = version, there

    def _schedule(self) -> None:
        """Pods without a node get one, in the order of their creation."""
        version = self._store.version_of("Pod", "Node")
        if version == self._scheduled:
            return
        pods = self._store.each("Pod")
        waiting = [pod for pod in pods if not pod.spec.get("nodeName") and not pod.deleting]
        if waiting:
            nodes = self._store.each("Node")
            over = ("Succeeded", "Failed")
            board = Board(nodes, [pod for pod in pods if pod.status.get("phase") not in over])
            for pod in waiting:
                self._place(pod, *board.place(pod))
        self._scheduled = self._store.version_of("Pod", "Node")

    def _place(self, pod: KubeObject, node: str, why: str) -> None:
        conditions = list(pod.status.get("conditions") or ())
        now = self._clock()
        if node:
            conditions = with_condition(conditions, "PodScheduled", True, now)
            placed = pod.changed(spec={**pod.spec, "nodeName": node}, status={**pod.status, "conditions": conditions})
            self._update([placed])
            message = f"Successfully assigned {pod.meta.namespace}/{pod.meta.name} to {node}"
            self._recorder.event(pod, "Scheduled", message, "default-scheduler")
            return
        conditions = with_condition(conditions, "PodScheduled", False, now, "Unschedulable", why)
        self._update([pod.changed(status={**pod.status, "conditions": conditions})])
        self._recorder.event(pod, "FailedScheduling", why, "default-scheduler", warning=True)


def _sooner(at: float | None, now: float, seconds: float | None) -> float | None:
    if seconds is None:
        return at
    return now + seconds if at is None else min(at, now + seconds)
