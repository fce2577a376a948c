"""The nodes' kubelets: pods that the store says shall run on a node do run there, and no others.

Pods that come together are started together (namespaces, then CNI ADD for all at once, then their
containers), which is what makes a lab with a hundred pods come up in a second.  What happens to one
pod afterwards is hoplab.cluster.podworker's.

Source: pkg/kubelet/kubelet.go (syncLoop, SyncPod, SyncTerminatingPod), pkg/kubelet/status/status_manager.go
(the last deletion, with no grace left, when everything of the pod is gone).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from hoplab.cluster.node import NodeAgent, PodOnNode, PodSandbox, attach
from hoplab.cluster.podtools import Tools
from hoplab.cluster.podworker import PodWorker
from hoplab.cluster.recorder import Recorder
from hoplab.errors import InputError
from hoplab.kube.convert import as_pod
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import Conflict, NotFound, Store
from hoplab.net.cni import CniError
from hoplab.net.loop import Loop
from hoplab.net.timers import Timers
from hoplab.net.zygote import Zygote

if TYPE_CHECKING:
    from hoplab.cluster.handlers import Handlers

OVER = ("Succeeded", "Failed")
AGAIN_S = 1.0
"""After how long a pod whose network failed is tried again."""


class Kubelets:
    """All kubelets of the lab.

    `forgiving`: a pod that can't be is told by Events and tried again, as a cluster does it;
    otherwise its fault is raised, as somebody who runs a file wants it.
    """

    def __init__(
        self,
        agents: Mapping[str, NodeAgent],
        store: Store,
        recorder: Recorder,
        loop: Loop,
        timers: Timers,
        zygote: Zygote,
        clock: Callable[[], float],
    ) -> None:
        self._agents, self._store, self._recorder = agents, store, recorder
        self._timers, self._zygote = timers, zygote
        self.forgiving = False
        self.started: Callable[[PodOnNode], None] = lambda _running: None
        """Called for each pod that came, before its containers start."""
        self.warnings: list[str] = []
        self._workers: dict[str, PodWorker] = {}
        self._refused: dict[str, float] = {}
        """uid -> when (monotonic) a pod that failed may be tried again."""
        self.news = True
        """Whether something happened that `sync` has to look at."""
        self._seen = self._ended = -1
        self.wake: Callable[[], None] = lambda: None
        """Called when that comes true."""
        self._loop = loop
        self._handlers: Handlers | None = None
        self._tools = Tools(store, timers, self._actions, recorder, clock, self._changed)
        loop.register(zygote.fileno(), self._look)

    def _actions(self) -> Handlers:
        from hoplab.cluster.handlers import Handlers

        if self._handlers is None:
            self._handlers = Handlers(self._loop, self._timers)
        return self._handlers

    def _changed(self) -> None:
        self.news = True
        self.wake()

    def _look(self) -> None:
        self._zygote.hear()
        for worker in list(self._workers.values()):
            worker.watch()

    @property
    def unsettled(self) -> str:
        """What will change by itself soon, '' when nothing will."""
        return next((why for worker in self._workers.values() if (why := worker.unsettled)), "")

    def sync(self) -> bool:
        """Bring every node to what the store says; whether anything was done.

        Raises (unless forgiving) InputError for a pod that can't be.
        """
        version = self._store.version_of("Pod")
        if version == self._seen and not self.news:
            return False
        before, self.news = self._store.version, False
        pods = self._placed()
        gone = self._sweep(pods)
        new = [pod for pod in pods.values() if self._wanted(pod)]
        if new:
            self._start(new)
        self._update(pods)
        self._seen = self._store.version_of("Pod")
        return bool(new or gone) or self._store.version != before

    def begin_ends(self) -> bool:
        """Tell pods that were marked for deletion to end; whether anything is new.

        A step of its own, before rules are decided on: what has ended leaves its Services first, and only then
        does `sync` take its network away, as a kubelet does that reports before it cleans up.
        """
        self._look()
        before = self._store.version
        if self._store.version_of("Pod") != self._ended:
            pods = self._placed()
            for uid, worker in list(self._workers.items()):
                pod = pods.get(uid)
                if pod is not None and pod.deleting:
                    self._end(worker, pod)
            self._ended = self._store.version_of("Pod")
        return self._store.version != before

    def _placed(self) -> dict[str, KubeObject]:
        return {pod.meta.uid: pod for pod in self._store.each("Pod") if pod.spec.get("nodeName")}

    # Ending

    def _end(self, worker: PodWorker, pod: KubeObject) -> None:
        grace = float(pod.metadata.get("deletionGracePeriodSeconds", 30))
        if not worker.stopping or grace < worker.grace:
            worker.grace = grace
            worker.stop(grace)

    def _sweep(self, pods: Mapping[str, KubeObject]) -> bool:
        """Take away what has ended, or what nobody wants any more; whether there was something."""
        going: dict[str, list[PodWorker]] = {}
        for uid, worker in list(self._workers.items()):
            if uid not in pods:
                worker.abandon()
            elif not worker.over:
                continue
            going.setdefault(worker.agent.name, []).append(self._workers.pop(uid))
        for name, workers in going.items():
            for worker in workers:
                worker.report()
            self._agents[name].detach([(w.running.pod.meta.namespace, w.running.pod.meta.name) for w in workers])
        for uid, pod in pods.items():
            if pod.deleting and uid not in self._workers:
                with suppress(NotFound, Conflict):
                    if pod.metadata.get("finalizers"):
                        # The node has done its part; who put them there has not.
                        self._store.update(pod.relabelled(deletionGracePeriodSeconds=0))
                        continue
                    self._store.delete("Pod", pod.meta.name, pod.meta.namespace, uid=uid)
        for uid in [uid for uid in self._refused if uid not in pods]:
            del self._refused[uid]
        return bool(going)

    # Starting

    def _wanted(self, pod: KubeObject) -> bool:
        if pod.meta.uid in self._workers or pod.deleting or pod.status.get("phase") in OVER:
            return False
        if pod.spec["nodeName"] in self._agents:
            return self._refused.get(pod.meta.uid, 0.0) <= time.monotonic()
        if not self.forgiving:
            raise InputError(
                f"{pod.origin}: pod {pod.meta.namespace}/{pod.meta.name}: spec.nodeName: the lab has no node"
                f" {pod.spec['nodeName']!r}; its nodes are {', '.join(self._agents)}"
            )
        return False

    def _start(self, pods: Sequence[KubeObject]) -> None:
        ipv6 = any(":" in cidr for agent in self._agents.values() for cidr in agent.node.pod_cidrs)
        by_uid = {pod.meta.uid: pod for pod in pods}
        sandboxes: list[PodSandbox] = []
        for name, agent in self._agents.items():
            here = [as_pod(pod) for pod in pods if pod.spec["nodeName"] == name]
            sandboxes += agent.sandboxes(here, ipv6=ipv6)
        # Who asks for an address comes first: another pod might be given it meanwhile.
        asking = [sandbox for sandbox in sandboxes if sandbox.pod.requested_ip]
        content = [sandbox for sandbox in sandboxes if not sandbox.pod.requested_ip]
        for some in (asking, content):
            started, failed = attach(some)
            for sandbox, error in failed:
                self._refuse(by_uid[sandbox.pod.meta.uid], error)
            workers = [self._run(running, by_uid[running.pod.meta.uid]) for running in started]
            for agent in {id(worker.agent): worker.agent for worker in workers}.values():
                agent.settle()
            for worker in workers:
                worker.report()

    def _refuse(self, pod: KubeObject, error: CniError | InputError) -> None:
        if not self.forgiving:
            raise error if isinstance(error, InputError) else InputError(str(error)) from error
        message = f"Failed to create pod sandbox: {error}"
        self._recorder.event(pod, "FailedCreatePodSandBox", message, "kubelet", pod.spec["nodeName"], warning=True)
        self._refused[pod.meta.uid] = time.monotonic() + AGAIN_S
        self._timers.after(AGAIN_S, self._changed)

    def _run(self, running: PodOnNode, pod: KubeObject) -> PodWorker:
        agent = self._agents[running.pod.node_name]
        self.started(running)
        worker = self._workers[pod.meta.uid] = PodWorker(agent, running, pod, self._tools)
        worker.start()
        self.warnings += [f"{pod.origin}: pod {pod.meta.name}: {warning}" for warning in worker.warnings]
        return worker

    def _update(self, pods: Mapping[str, KubeObject]) -> None:
        for uid, worker in self._workers.items():
            pod = pods.get(uid)
            if pod is not None and pod is not worker.obj:
                worker.obj = pod
                now = as_pod(pod)
                worker.update({each.name: each for each in (*now.init_containers, *now.containers)})
