"""What makes a store live in tests of the API alone: the lab's controllers' decisions, and kubelets that only pretend.

The decisions are hoplab.control's own; only carrying them out, and the life of a pod (it runs
as soon as it has a node, and goes as soon as it is asked to), are simplified here.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hoplab.control import daemonset, deployment, garbage, job, replicas, statefulset
from hoplab.control.plan import Note, Plan
from hoplab.control.pods import Owned
from hoplab.kube.clock import timestamp
from hoplab.kube.deletion import delete
from hoplab.kube.objects import KubeObject, object_of
from hoplab.kube.store import Store, StoreError

NODES = ("node1", "node2")


def node(name: str, number: int) -> KubeObject:
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "it is"}
    info = {"kubeletVersion": "v1.33.0+hoplab", "osImage": "Lab", "kernelVersion": "6", "containerRuntimeVersion": "x"}
    return object_of(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"podCIDR": f"10.1.{number}.0/24", "podCIDRs": [f"10.1.{number}.0/24"]},
            "status": {
                "addresses": [{"type": "InternalIP", "address": f"10.240.0.{10 + number}"}],
                "conditions": [ready],
                "nodeInfo": info,
            },
        }
    )


class StandIn:
    """Runs in a thread until closed; looks again whenever the store changed."""

    def __init__(self, store: Store) -> None:
        self.store, self._chance, self._news = store, random.Random(1), threading.Event()
        self._open, self._addresses, self._events = True, 3, 0
        for number, name in enumerate(NODES, 1):
            store.create(node(name, number))
        self._stop = store.subscribe(self._news.set)
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._open = False
        self._news.set()
        self._thread.join(5)
        self._stop()

    def _loop(self) -> None:
        again: float | None = None
        while self._open:
            self._news.wait(again)
            self._news.clear()
            with self.store.lock:
                again = self._round()

    def _round(self) -> float | None:
        now, found = time.time(), []
        self._garbage()
        for kind in ("Deployment", "ReplicaSet", "ReplicationController", "DaemonSet", "StatefulSet", "Job"):
            for obj in self.store.each(kind):
                plan = self._decided(obj, now)
                found.append(plan.again_in)
                self._carry_out(plan, now)
        for pod in self.store.each("Pod"):
            self._live(pod, now)
        self._endpoints()
        return min((each for each in found if each is not None), default=None)

    def _decided(self, obj: KubeObject, now: float) -> Plan:
        pods = Owned(self.store.each("Pod"))
        if obj.kind == "Deployment":
            return deployment.sync(obj, Owned(self.store.each("ReplicaSet")), pods, now)
        if obj.kind == "DaemonSet":
            revisions = Owned(self.store.each("ControllerRevision"))
            return daemonset.sync(obj, pods, revisions, self.store.each("Node"), now, self._chance)
        if obj.kind == "StatefulSet":
            return statefulset.sync(obj, pods, Owned(self.store.each("ControllerRevision")), now)
        if obj.kind == "Job":
            return job.sync(obj, pods, now, self._chance)
        return replicas.sync(obj, pods, now, self._chance)

    def _carry_out(self, plan: Plan, now: float) -> None:
        for obj in plan.create:
            with suppress(StoreError):
                self.store.create(obj)
        for obj in plan.update:
            with suppress(StoreError):
                self.store.update(obj)
        self._delete(plan.delete, now)
        for note in plan.notes:
            self._event(note, now)

    def _delete(self, objects: Sequence[KubeObject], now: float, propagation: Any = "Background") -> None:
        for obj in objects:
            with suppress(StoreError):
                delete(self.store, obj.kind, obj.meta.name, obj.meta.namespace, now=now, propagation=propagation)

    def _event(self, note: Note, now: float) -> None:
        self._events += 1
        about, when = note.about, timestamp(now)
        involved = {"kind": about.kind, "namespace": about.meta.namespace, "name": about.meta.name}
        document = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{about.meta.name}.{self._events:x}", "namespace": about.meta.namespace},
            "involvedObject": {**involved, "uid": about.meta.uid, "apiVersion": about.api_version},
            "reason": note.reason,
            "message": note.message,
            "type": "Warning" if note.warning else "Normal",
            "source": {"component": "stand-in"},
            "firstTimestamp": when,
            "lastTimestamp": when,
            "count": 1,
        }
        self.store.create(object_of(document))

    def _garbage(self) -> None:
        objects = [obj for kind in self.store.kinds() for obj in self.store.each(kind)]
        now = time.time()
        found = garbage.collect(objects)
        self._delete(found.delete, now)
        self._delete(found.foreground, now, "Foreground")
        for obj in found.update:
            with suppress(StoreError):
                self.store.update(obj)
        for obj in garbage.empty_namespaces(objects):
            with suppress(StoreError):
                self.store.delete("Namespace", obj.meta.name, "")

    def _live(self, pod: KubeObject, now: float) -> None:
        if pod.deleting:
            if not pod.metadata.get("finalizers"):
                self.store.delete("Pod", pod.meta.name, pod.meta.namespace)
        elif not pod.spec.get("nodeName"):
            name = NODES[sum(map(ord, pod.meta.name)) % len(NODES)]
            self.store.update(pod.changed(spec={**pod.spec, "nodeName": name}))
        elif pod.status.get("phase", "Pending") == "Pending":
            self._started(pod, now)

    def _started(self, pod: KubeObject, now: float) -> None:
        self._addresses += 1
        ip, when = f"10.1.0.{self._addresses % 250 + 1}", timestamp(now)
        once = pod.spec.get("restartPolicy") == "Never"
        state: dict[str, Any] = {"running": {"startedAt": when}}
        if once:
            state = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": when, "finishedAt": when}}
        statuses = [
            {
                "name": each["name"],
                "image": each.get("image", ""),
                "imageID": "",
                "ready": not once,
                "started": not once,
                "restartCount": 0,
                "state": state,
                "lastState": {},
            }
            for each in pod.spec["containers"]
        ]
        conditions = [
            {"type": kind, "status": "False" if once and "Ready" in kind else "True", "lastTransitionTime": when}
            for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
        ]
        status = {**pod.status, "phase": "Succeeded" if once else "Running", "podIP": ip, "podIPs": [{"ip": ip}]}
        more = {"startTime": when, "conditions": conditions, "containerStatuses": statuses, "hostIP": "10.240.0.11"}
        self.store.update(pod.changed(status={**status, **more}))

    def _endpoints(self) -> None:
        for service in self.store.each("Service"):
            selector, name, namespace = service.spec.get("selector"), service.meta.name, service.meta.namespace
            if not selector:
                continue
            addresses = sorted(
                pod.status["podIP"]
                for pod in self.store.each("Pod")
                if pod.meta.namespace == namespace
                and pod.status.get("podIP")
                and selector.items() <= pod.meta.labels.items()
            )
            ports = [
                {"name": port.get("name", ""), "port": port["targetPort"], "protocol": port["protocol"]}
                for port in service.spec.get("ports") or ()
                if isinstance(port["targetPort"], int)
            ]
            owner = {"apiVersion": "v1", "kind": "Service", "name": name, "uid": service.meta.uid}
            labels = {"kubernetes.io/service-name": name}
            metadata = {"name": f"{name}-x", "namespace": namespace, "labels": labels, "ownerReferences": [owner]}
            endpoints = [{"addresses": [each], "conditions": {"ready": True}} for each in addresses]
            wanted = object_of(
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": metadata,
                    "addressType": "IPv4",
                    "endpoints": endpoints,
                    "ports": ports,
                }
            )
            found = self.store.find("EndpointSlice", f"{name}-x", namespace)
            if found is None:
                self.store.create(wanted)
            elif found.document.get("endpoints") != endpoints or found.document.get("ports") != ports:
                self.store.update(found.changed(endpoints=endpoints, ports=ports))
