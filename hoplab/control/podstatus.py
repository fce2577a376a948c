"""A pod's status, from what its containers do: phase, conditions, container states.

The kubelet tells the API server what it sees; everything else (endpoints, controllers, kubectl)
believes that.  A pod is ready when all its containers are; a container without a readiness
probe is ready as soon as it runs.

Source: pkg/kubelet/kubelet_pods.go (getPhase, generateAPIPodStatus), pkg/kubelet/status/generate.go
(GenerateContainersReadyCondition, GeneratePodReadyCondition).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hoplab.control.plan import with_condition
from hoplab.kube.clock import timestamp
from hoplab.kube.objects import KubeObject

RUNTIME = "hoplab"
"""What stands before :// in container ids."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of a container ended; times in seconds since 1970."""

    exit_code: int
    reason: str
    started: float
    finished: float
    container_id: str
    signal: int = 0
    message: str = ""

    def document(self) -> dict[str, Any]:
        """The `terminated` of a container's state."""
        made: dict[str, Any] = {"exitCode": self.exit_code, "reason": self.reason}
        if self.signal:
            made["signal"] = self.signal
        if self.message:
            made["message"] = self.message
        made["startedAt"], made["finishedAt"] = timestamp(self.started), timestamp(self.finished)
        made["containerID"] = f"{RUNTIME}://{self.container_id}"
        return made


@dataclass(frozen=True, slots=True)
class ContainerRun:
    """A container as its node knows it."""

    name: str
    image: str
    container_id: str = ""
    state: Literal["waiting", "running", "terminated"] = "waiting"
    reason: str = "ContainerCreating"
    """Of the waiting state."""
    message: str = ""
    started: float = 0.0
    ended: Ended | None = None
    """Of the terminated state."""
    last: Ended | None = None
    """How the run before this one ended."""
    restarts: int = 0
    ready: bool = False
    passed_startup: bool = False

    def document(self) -> dict[str, Any]:
        """One of containerStatuses."""
        if self.state == "running":
            state: dict[str, Any] = {"running": {"startedAt": timestamp(self.started)}}
        elif self.state == "terminated" and self.ended is not None:
            state = {"terminated": self.ended.document()}
        else:
            state = {"waiting": {"reason": self.reason, **({"message": self.message} if self.message else {})}}
        return {
            "name": self.name,
            "state": state,
            "lastState": {"terminated": self.last.document()} if self.last else {},
            "ready": self.ready and self.state == "running",
            "started": self.passed_startup and self.state == "running",
            "restartCount": self.restarts,
            "image": self.image,
            "imageID": f"{RUNTIME}://{self.image}" if self.container_id else "",
            **({"containerID": f"{RUNTIME}://{self.container_id}"} if self.container_id else {}),
        }


def is_done(run: ContainerRun) -> bool:
    """Whether an init container has ended well."""
    return run.state == "terminated" and run.ended is not None and run.ended.exit_code == 0


def phase(runs: Sequence[ContainerRun], policy: str, before: str, initial: Sequence[ContainerRun] = ()) -> str:
    """Pending, Running, Succeeded or Failed; what has ended never begins again."""
    if before in ("Succeeded", "Failed"):
        return before
    if policy == "Never" and any(run.state == "terminated" and not is_done(run) for run in initial):
        return "Failed"
    if not all(map(is_done, initial)):
        return "Pending"
    if any(run.state == "waiting" and run.last is None for run in runs):
        return "Pending"
    if any(run.state != "terminated" for run in runs):
        return "Running"
    if policy == "Always":
        return "Running"
    good = all(run.ended is not None and run.ended.exit_code == 0 for run in runs)
    if good:
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


_IN_ORDER = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def _place(condition: Mapping[str, Any]) -> int:
    """Where a kubelet writes a condition; those of others stand behind its own."""
    kind = str(condition.get("type"))
    return _IN_ORDER.index(kind) if kind in _IN_ORDER else len(_IN_ORDER)


def status(
    pod: KubeObject,
    runs: Sequence[ContainerRun],
    ips: Sequence[str],
    host_ips: Sequence[str],
    now: float,
    *,
    started: float,
    over: bool = False,
    initial: Sequence[ContainerRun] = (),
) -> Mapping[str, Any]:
    """The pod's whole status.

    `over`: all its containers were ended because it is being deleted.  `initial`: its init containers.
    """
    before = pod.status
    policy = str(pod.spec.get("restartPolicy", "Always"))
    now_phase = phase(runs, policy, str(before.get("phase") or "Pending"), initial)
    if over and now_phase not in ("Succeeded", "Failed"):
        good = all(run.ended is None or run.ended.exit_code == 0 for run in runs)
        now_phase = "Succeeded" if good else "Failed"
    unready = [run.name for run in runs if not (run.ready and run.state == "running")]
    ended = now_phase == "Succeeded"
    reason = ("PodCompleted" if ended else "ContainersNotReady") if unready else ""
    text = f"containers with unready status: [{' '.join(unready)}]" if unready and not ended else ""
    conditions = list(before.get("conditions") or ())
    conditions = with_condition(conditions, "PodReadyToStartContainers", not over, now)
    incomplete = [run.name for run in initial if not is_done(run)]
    if incomplete:
        told = f"containers with incomplete status: [{' '.join(incomplete)}]"
        conditions = with_condition(conditions, "Initialized", False, now, "ContainersNotInitialized", told)
    else:
        conditions = with_condition(conditions, "Initialized", True, now, "PodCompleted" if ended else "")
    conditions = with_condition(conditions, "Ready", not unready, now, reason, text)
    conditions = with_condition(conditions, "ContainersReady", not unready, now, reason, text)
    conditions = with_condition(conditions, "PodScheduled", True, now)
    made: dict[str, Any] = {
        "phase": now_phase,
        "conditions": [{"lastProbeTime": None, **each} for each in sorted(conditions, key=_place)],
        "hostIP": host_ips[0],
        "hostIPs": [{"ip": ip} for ip in host_ips],
        "podIP": ips[0],
        "podIPs": [{"ip": ip} for ip in ips],
        "startTime": timestamp(started),
        "containerStatuses": [run.document() for run in runs],
        "qosClass": before.get("qosClass") or "BestEffort",
    }
    if initial:
        # An init container is ready when it has ended well.
        made["initContainerStatuses"] = [{**run.document(), "ready": is_done(run)} for run in initial]
    return {**{key: value for key, value in before.items() if key not in made}, **made}
