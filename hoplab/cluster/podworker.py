"""One pod on its node, from the start of its containers to their end: what the kubelet does for it.

A container that ends is started again as its pod's restartPolicy says, after a pause that grows.
A pod that is deleted gets its grace: preStop hooks run first, then SIGTERM, and SIGKILL when the
time is over.  All waiting is done by the lab's loop.

Source: pkg/kubelet/kuberuntime/{kuberuntime_manager,kuberuntime_container}.go (killContainer,
executePreStopHook, doBackOff), pkg/kubelet/lifecycle/handlers.go.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from hoplab.cluster.containers import ignored, kind_of, stop_signal
from hoplab.cluster.images import program
from hoplab.cluster.node import NodeAgent, PodOnNode
from hoplab.cluster.podtools import Tools
from hoplab.control import podstatus, restarts
from hoplab.control.podstatus import ContainerRun, Ended
from hoplab.kube.objects import KubeObject
from hoplab.kube.store import Conflict, NotFound
from hoplab.kube.types import Container
from hoplab.net.timers import Timer
from hoplab.net.zygote import SpawnFailed

if TYPE_CHECKING:
    from hoplab.cluster.handlers import Handling
    from hoplab.cluster.probing import Prober

LEAST_AFTER_HOOK_S = 2.0
"""What a container gets between SIGTERM and SIGKILL when its preStop hook took all of the grace."""


class PodWorker:
    """The life of one pod."""

    def __init__(self, agent: NodeAgent, running: PodOnNode, obj: KubeObject, tools: Tools) -> None:
        self.agent, self.running, self.uid = agent, running, obj.meta.uid
        self.obj = obj
        """The pod's object as it was looked at last."""
        self.grace = 0.0
        """Seconds that it was given to end."""
        self._tools = tools
        self._name = (obj.meta.name, obj.meta.namespace)
        self._started = tools.clock()
        self._pids: dict[str, int] = {}
        """Container name -> the process whose end is the container's."""
        pod = running.pod
        self._initial = [each.name for each in pod.init_containers]
        self._containers = {each.name: each for each in (*pod.init_containers, *pod.containers)}
        reason = "PodInitializing" if self._initial else "ContainerCreating"
        self.runs = {name: ContainerRun(name, each.image, reason=reason) for name, each in self._containers.items()}
        self._ends: dict[str, list[tuple[float, float]]] = {name: [] for name in self._containers}
        self._timers: dict[str, Timer] = {}
        self._hooks: dict[str, Handling] = {}
        self._told_to_end: set[str] = set()
        self._probers: dict[str, Prober] = {}
        self.stopping = False
        self.warnings: list[str] = []

    # What it is like

    @property
    def over(self) -> bool:
        """Whether every container has ended for good."""
        if self.stopping:
            return not self._hooks and all(run.state != "running" for run in self.runs.values())
        policy = str(self._object().spec.get("restartPolicy", "Always"))
        return podstatus.phase(self._main_runs, policy, "", self._init_runs) in ("Succeeded", "Failed")

    @property
    def _init_runs(self) -> list[ContainerRun]:
        return [self.runs[name] for name in self._initial]

    @property
    def _main_runs(self) -> list[ContainerRun]:
        return [run for name, run in self.runs.items() if name not in self._initial]

    @property
    def unsettled(self) -> str:
        """What will change by itself soon, '' when nothing will."""
        if self.stopping and not self.over:
            return f"pod {self._name[1]}/{self._name[0]} to end"
        waiting = [name for name, prober in self._probers.items() if not prober.decided]
        return f"the probes of pod {self._name[1]}/{self._name[0]}" if waiting and not self.stopping else ""

    def _object(self) -> KubeObject:
        found = self._tools.store.find("Pod", *self._name)
        if found is None or found.meta.uid != self.uid:
            raise NotFound(f'pods "{self._name[0]}" not found')
        return found

    # Starting

    def start(self) -> None:
        """Start the first init container, or else all containers; `report` then says so."""
        waiting = [name for name in self._initial if not podstatus.is_done(self.runs[name])]
        if not any(run.restarts or run.last or run.ended for run in self.runs.values()):
            for text, container in ignored(self.running.pod):
                self._warn(text, container)
        for name in waiting[:1] or [name for name in self._containers if name not in self._initial]:
            container = self._containers[name]
            self._event("Pulled", f'Container image "{container.image}" already present on machine', container)
            self._start(container)

    def _start_initial(self, container: Container, run: ContainerRun) -> None:
        """An init container is a command; what only stands in for a program has nothing to do, and has done it."""
        self.runs[container.name] = run
        if kind_of(container) == "command":
            try:
                self.agent.start_container(self.running, container)
            except SpawnFailed as error:
                self._event("Failed", f"Error: {error}", container, warning=True)
                self.ended(container.name, 128, reason="StartError", message=str(error))
                return
            pid = self.agent.process(self.running, container.name)
            if pid is not None:
                self._pids[container.name] = pid
            self._event("Started", f"Started container {container.name}", container)
            return
        self._warn(f"init container {container.name}: its image {container.image!r} is not run here", container)
        self.ended(container.name, 0)

    def _start(self, container: Container) -> None:
        name, now = container.name, self._tools.clock()
        run = self.runs[name]
        number = run.restarts + (run.last is not None)
        identity = hashlib.sha256(f"{self.uid}/{name}/{number}".encode()).hexdigest()
        probes = [each for each in ("readinessProbe", "startupProbe") if container.document.get(each)]
        run = replace(
            run,
            container_id=identity,
            image=container.image,
            state="running",
            started=now,
            ended=None,
            restarts=number,
            ready=not probes,
            passed_startup="startupProbe" not in probes,
        )
        self._event("Created", f"Created container: {name}", container)
        if name in self._initial:
            self._start_initial(container, run)
            return
        warning = program(container).warning
        if warning and not number and kind_of(container) == "stand-in":
            self._warn(warning, container)
        try:
            self.agent.start_container(self.running, container)
        except SpawnFailed as error:
            self._event("Failed", f"Error: {error}", container, warning=True)
            self.runs[name] = run
            self.ended(name, 128, reason="StartError", message=str(error))
            return
        self._event("Started", f"Started container {name}", container)
        pid = self.agent.process(self.running, name)
        if pid is not None:
            self._pids[name] = pid
        self.runs[name] = run
        if any(container.document.get(each) for each in ("readinessProbe", "livenessProbe", "startupProbe")):
            from hoplab.cluster.probing import Prober

            self._probers[name] = Prober(self, container, self._tools.handlers(), self._tools.timers)

    def watch(self) -> None:
        """Look whether a process of the pod has ended."""
        for name, run in list(self.runs.items()):
            if name not in self._pids and kind_of(self._containers[name]) == "ingress":
                # Its nginx starts later, with its first configuration.
                self._process(name)
            pid = self._pids.get(name)
            if pid is None or run.state != "running" or self.agent.process(self.running, name) != pid:
                continue  # A lesson may have stopped it: then it stays so.
            code = self.agent.ended(pid)
            if code is not None:
                self._pids.pop(name)
                # With a container's first process go all others: nginx' workers would serve on.
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                self.ended(name, code if code >= 0 else 128 - code, signal_number=max(0, -code))

    def ended(self, name: str, code: int, *, signal_number: int = 0, reason: str = "", message: str = "") -> None:
        """A container's process has ended: start it again, or not."""
        run, now, container = self.runs[name], self._tools.clock(), self._containers[name]
        if run.state != "running":
            return
        self._drop(name)
        word = reason or ("Completed" if code == 0 else "Error")
        ended = Ended(code, word, run.started, now, run.container_id, signal_number, message)
        self._ends[name].append((run.started, now))
        self.runs[name] = replace(run, state="terminated", ended=ended, ready=False, passed_startup=False)
        policy = self._policy()
        if name in self._initial and not self.stopping:
            if code == 0:
                self.start()
                self.agent.settle()
            policy = "Never" if policy == "Never" else "OnFailure"
        if not self.stopping and restarts.restarted(policy, code):
            pause = restarts.pause(self._ends[name])
            if pause:
                text = (
                    f"back-off {pause:g}s restarting failed container={name}"
                    f" pod={self._name[0]}_{self._name[1]}({self.uid})"
                )
                self.runs[name] = replace(
                    self.runs[name],
                    state="waiting",
                    reason="CrashLoopBackOff",
                    message=text,
                    last=ended,
                )
                message = (
                    f"Back-off restarting failed container {name} in pod {self._name[0]}_{self._name[1]}({self.uid})"
                )
                self._event("BackOff", message, container, warning=True)
                self._timers[name] = self._tools.timers.after(pause, lambda: self._again(name))
            else:
                self._again(name)
        self.report()
        self._tools.changed()

    def _policy(self) -> str:
        try:
            return str(self._object().spec.get("restartPolicy", "Always"))
        except NotFound:
            return "Never"

    def _again(self, name: str) -> None:
        if self.stopping:
            return
        run = self.runs[name]
        self.runs[name] = replace(run, last=run.ended or run.last)
        self._start(self._containers[name])
        self.agent.settle()
        self.report()

    def _drop(self, name: str) -> None:
        """Forget timers and probes of a run that is over."""
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        prober = self._probers.pop(name, None)
        if prober is not None:
            prober.stop()
        self._told_to_end.discard(name)

    def update(self, pod_containers: Mapping[str, Container]) -> None:
        """Containers whose image was changed are started anew with it."""
        for name, container in pod_containers.items():
            before = self._containers.get(name)
            if before is None or before == container:
                continue
            self._containers[name] = container
            if before.image != container.image and self.runs[name].state == "running":
                message = f"Container {name} definition changed, will be restarted"
                self._event("Killing", message, container)
                self.restart(name)

    # What probes say

    def set_ready(self, name: str, ready: bool) -> None:
        """A readiness probe's word."""
        self.runs[name] = replace(self.runs[name], ready=ready)
        self.report()

    def set_started(self, name: str) -> None:
        """A startup probe's word."""
        ready = not self._containers[name].document.get("readinessProbe")
        self.runs[name] = replace(self.runs[name], passed_startup=True, ready=ready)
        self.report()

    def unhealthy(self, name: str, kind: str, message: str, *, restart: bool) -> None:
        """A probe failed; `restart`: often enough for the container to be killed."""
        container = self._containers[name]
        self._event("Unhealthy", f"{kind.capitalize()} probe failed: {message}", container, warning=True)
        if restart and not self.stopping:
            self._event("Killing", f"Container {name} failed {kind} probe, will be restarted", container)
            self.restart(name)

    # Ending

    def restart(self, name: str) -> None:
        """End a container within its grace; what its pod's policy says comes next."""
        if name in self._told_to_end:
            return
        self._terminate(name, float(self.running.pod.termination_grace_period))

    def stop(self, grace: float) -> None:
        """End the pod within so many seconds; said again with fewer, it goes faster."""
        first = not self.stopping
        self.stopping = True
        if first:
            for name, run in list(self.runs.items()):
                if run.state == "waiting":
                    # Nothing runs that would have to end.
                    self._drop(name)
                    last = run.last or Ended(0, "Completed", self._started, self._tools.clock(), run.container_id)
                    self.runs[name] = replace(run, state="terminated", ended=last)
                elif run.state == "running":
                    self._event("Killing", f"Stopping container {name}", self._containers[name])
                    self._with_hook(name, grace)
        for name in [name for name, run in self.runs.items() if run.state == "running"]:
            timer = self._timers.pop(name, None)
            if timer is not None:
                timer.cancel()
            self._timers[name] = self._tools.timers.after(grace, lambda name=name: self._out_of_time(name))  # type: ignore[misc]
        if self.over:
            self._tools.changed()

    def _with_hook(self, name: str, grace: float) -> None:
        lifecycle = self._containers[name].document.get("lifecycle")
        hook = lifecycle.get("preStop") if isinstance(lifecycle, Mapping) else None
        if not hook or grace <= 0:
            self._terminate(name, grace)
            return

        def done(good: bool, told: str) -> None:
            self._hooks.pop(name, None)
            if not good:
                self._event("FailedPreStopHook", f"PreStopHook failed: {told}", self._containers[name], warning=True)
            if self.runs[name].state == "running":
                self._terminate(name, None)
            self._tools.changed()

        handling = self._tools.handlers().run(self, self._containers[name], hook, grace, done)
        if handling is not None and self.runs[name].state == "running" and name not in self._told_to_end:
            self._hooks[name] = handling

    def _terminate(self, name: str, grace: float | None) -> None:
        """SIGTERM, or its image's own signal, and SIGKILL after the grace (None: somebody else's timer does that)."""
        self._told_to_end.add(name)
        pid = self._process(name)
        if pid is None:
            self.ended(name, 0)
            return
        with suppress(ProcessLookupError):
            os.kill(pid, stop_signal(self._containers[name]))
        if grace is not None and name not in self._timers:
            self._timers[name] = self._tools.timers.after(grace, lambda: self._out_of_time(name))

    def _process(self, name: str) -> int | None:
        """The process to end; one that was started behind our back (an ingress controller's) counts too."""
        pid = self.agent.process(self.running, name)
        if pid is None or self.agent.ended(pid) is not None:
            return None
        self._pids[name] = pid
        return pid

    def _out_of_time(self, name: str) -> None:
        self._timers.pop(name, None)
        hook = self._hooks.pop(name, None)
        if hook is not None:
            hook.give_up()
        if self.runs[name].state != "running":
            return
        if name not in self._told_to_end:
            self._terminate(name, LEAST_AFTER_HOOK_S)
            return
        self._kill(name)

    def _kill(self, name: str) -> None:
        pid = self._process(name)
        if pid is None:
            self.ended(name, 137, signal_number=9)
            return
        with suppress(ProcessLookupError):
            if os.getpgid(pid) == pid:
                os.killpg(pid, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)

    def abandon(self) -> None:
        """Forget everything: the node ends what still runs when the pod's namespaces go."""
        self.stopping = True
        for name in list(self.runs):
            self._drop(name)
        for hook in self._hooks.values():
            hook.give_up()
        self._hooks.clear()

    # Telling

    def report(self) -> None:
        """Write the pod's status, when there is news."""
        hosts = self.agent.node.addresses
        for _try in range(3):
            try:
                obj = self._object()
                status = podstatus.status(
                    obj,
                    self._main_runs,
                    self.running.ips,
                    hosts,
                    self._tools.clock(),
                    started=self._started,
                    over=self.stopping and self.over,
                    initial=self._init_runs,
                )
                self._tools.store.update(obj.changed(status=status))
                return
            except Conflict:
                continue
            except NotFound:
                return

    def _warn(self, text: str, container: Container) -> None:
        """Tell of what is otherwise here than in a cluster: at the end of a run, and where kubectl shows it."""
        self.warnings.append(text)
        self._event("StandIn", text, container, warning=True)

    def _event(self, reason: str, message: str, container: Container, *, warning: bool = False) -> None:
        with suppress(NotFound):
            field = f"spec.containers{{{container.name}}}"
            self._tools.recorder.event(
                self._object(), reason, message, "kubelet", self.agent.name, warning=warning, field=field
            )
