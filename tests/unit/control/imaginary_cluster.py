"""A cluster without nodes' processes: a store, the controllers, and a kubelet that only writes statuses."""

from __future__ import annotations

import itertools
import random
from typing import Any

from hoplab.cluster import standing
from hoplab.cluster.controllers import Controllers
from hoplab.cluster.recorder import Recorder
from hoplab.control.plan import with_condition
from hoplab.kube.admit import Ranges, admit
from hoplab.kube.clock import timestamp
from hoplab.kube.deletion import delete
from hoplab.kube.load import load_document
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import Store
from hoplab.kube.types import Node

RANGES = Ranges(("10.0.0.0/16",), range(30000, 32768))


def template(image: str = "nginx:1", labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": labels or {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image}], **spec},
    }


def workload(kind: str, image: str = "nginx:1", name: str = "web", **spec: Any) -> KubeObject:
    group = {"Job": "batch/v1", "ReplicationController": "v1"}.get(kind, "apps/v1")
    pod = template(image, restartPolicy="Never") if kind == "Job" else template(image)
    selector: Any = {"app": "web"} if kind == "ReplicationController" else {"matchLabels": {"app": "web"}}
    given = {"template": pod, **spec}
    if kind != "Job":
        given["selector"] = selector
    if kind == "StatefulSet":
        given.setdefault("serviceName", "web")
    document = {"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": given}
    return load_document(document, "test")


class Imaginary:
    """`ready` says of a pod whether it becomes ready; time passes only when `later` is called."""

    def __init__(self, nodes: int = 2, seed: int = 1) -> None:
        self.now = 1_700_000_000.0
        numbers = itertools.count(1)
        self.store = Store(lambda: f"uid-{next(numbers)}", 100_000, now=lambda: timestamp(self.now))
        self.controllers = Controllers(
            self.store, Recorder(self.store, lambda: self.now), random.Random(seed), lambda: self.now
        )
        self.ready: Any = lambda _pod: True
        self.ends: Any = lambda _pod: None
        """Exit code of a pod's container, None while it runs."""
        for name in standing.NAMESPACES:
            self.store.create(standing.namespace(name))
        for number in range(1, nodes + 1):
            self.store.create(standing.node(Node(f"node{number}", (f"10.240.0.1{number}",)), self.now))

    def apply(self, obj: KubeObject) -> KubeObject:
        made = admit(obj, self.store, RANGES, random.Random(1))
        if (before := self.store.find(obj.kind, obj.meta.name, obj.meta.namespace)) is None:
            return self.store.create(made)
        return self.store.update(made.changed(status=before.status).relabelled(annotations=before.meta.annotations))

    def delete(self, kind: str, name: str, **how: Any) -> None:
        delete(self.store, kind, name, now=self.now, **how)

    def step(self) -> bool:
        """Controllers first, then what happened on the nodes meanwhile."""
        changed = self.controllers.run()
        before = self.store.version
        for pod in self.store.each("Pod"):
            if pod.deleting:
                self.store.delete("Pod", pod.meta.name)
            elif pod.spec.get("nodeName") and pod.status.get("phase") not in ("Succeeded", "Failed"):
                code = self.ends(pod)
                phase = "Running" if code is None else ("Failed" if code else "Succeeded")
                good = code is None and bool(self.ready(pod))
                conditions = with_condition(pod.status.get("conditions") or (), "Ready", good, self.now)
                status = {**pod.status, "phase": phase, "conditions": conditions}
                if code is not None:
                    ended = {"terminated": {"exitCode": code, "finishedAt": timestamp(self.now)}}
                    status["containerStatuses"] = [{"name": "c", "restartCount": 0, "state": ended}]
                self.store.update(pod.changed(status=status))
        return changed or self.store.version != before

    def settle(self, most: int = 200) -> None:
        for _round in range(most):
            if not self.step():
                return
        raise AssertionError(f"still changing after {most} rounds")

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.settle()

    def pods(self) -> list[KubeObject]:
        return [pod for pod in self.store.each("Pod") if not pod.deleting]

    def get(self, kind: str, name: str = "web") -> KubeObject:
        return self.store.get(kind, name)

    def reasons(self) -> list[str]:
        return [str(event.document["reason"]) for event in self.store.each("Event")]
