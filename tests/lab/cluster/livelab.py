"""A lab that follows its store, in a sandbox of its own: what tests of the controllers work on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.lab.scenario.labrun import in_sandbox


def in_lab(use: Callable[[Any], Any], **options: Any) -> Any:
    """What `use(live)` returns, called in process 1 of a fresh sandbox; its exception is raised here."""

    def inside() -> Any:
        from hoplab.net.zygote import Zygote

        zygote = Zygote()
        from hoplab.cluster.cluster import Cluster
        from hoplab.cluster.options import ClusterOptions

        cluster = Cluster(zygote, ClusterOptions(**options))
        cluster.build()
        return use(Live(cluster))

    return in_sandbox(inside)


class Live:
    """The cluster, and the few words that tests say to it."""

    def __init__(self, cluster: Any) -> None:
        self.cluster, self.store = cluster, cluster.store

    def apply(self, text: str) -> None:
        """Objects as an API server would store them."""
        from hoplab.kube.load import load

        for obj in load(text, "test").objects:
            with self.store.lock:
                before = self.store.find(obj.kind, obj.meta.name, obj.meta.namespace)
                if before is None:
                    self.store.create(self.cluster.admit(obj))
                else:
                    self.cluster.apply([obj])

    def delete(self, kind: str, name: str, grace: int | None = None) -> None:
        self.cluster.delete([(kind, "default", name)], grace=grace)

    def until(self, what: str, condition: Callable[[], Any], deadline_s: float = 15.0) -> float:
        """Run the loop until the condition holds; how long that took."""
        started = time.monotonic()
        self.cluster.loop.run_until(lambda: bool(condition()), deadline_s, what)
        return time.monotonic() - started

    def run_for(self, seconds: float) -> None:
        """Let the loop run; for what must not happen meanwhile."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.cluster.loop.poll(left)

    def settle(self, deadline_s: float = 60.0) -> None:
        """Run the loop until nothing changes any more, and nothing is under way that will."""
        end = time.monotonic() + deadline_s
        while True:
            version = self.store.version
            self.run_for(0.05)
            why = self.cluster.kubelets.unsettled
            if version == self.store.version and not why and self.cluster.controllers.settles_in() is None:
                return
            assert time.monotonic() < end, f"still waiting for {why or 'the controllers'}"

    def pods(self, prefix: str = "") -> list[Any]:
        return [pod for pod in self.store.each("Pod") if pod.meta.name.startswith(prefix)]

    def ready(self, prefix: str) -> int:
        from hoplab.control.pods import is_ready

        return sum(is_ready(pod) for pod in self.pods(prefix) if not pod.deleting)

    def status(self, name: str) -> Any:
        return self.store.get("Pod", name).status

    def container(self, name: str) -> Any:
        return self.status(name)["containerStatuses"][0]

    def reasons(self, name: str) -> list[str]:
        """Reasons of the Events about an object, in order."""
        found = [e.document for e in self.store.each("Event") if e.document["involvedObject"]["name"] == name]
        return [event["reason"] for event in found]

    def endpoints(self, service: str) -> list[tuple[bool, bool, bool]]:
        """ready, serving, terminating of each endpoint."""
        slices = [p for p in self.cluster.slices if p.service == service]
        return [(e.ready, e.serving, e.terminating) for piece in slices for e in piece.endpoints]

    def answer(self, service: str) -> str:
        """The name of the pod that answers one request of node1 to the Service's cluster IP, '' for none."""
        ip = self.store.get("Service", service).spec["clusterIP"]
        argv = ["curl", "-s", "-o", "/dev/null", "-D", "-", "--max-time", "1", f"http://{ip}/"]
        said = self.cluster.nodes["node1"].namespace.run(argv, check=False).stdout.splitlines()
        found = [line.partition(":")[2].strip() for line in said if line.lower().startswith("x-hoplab-pod:")]
        return found[0] if found else ""
