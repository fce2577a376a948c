"""What a Deployment says about itself: is it available, does it get on, has it taken too long.

Source: pkg/controller/deployment/progress.go and util/deployment_util.go (DeploymentProgressing,
DeploymentTimedOut, NewDeploymentCondition).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hoplab.control.plan import condition, with_condition
from hoplab.kube.clock import seconds, timestamp
from hoplab.kube.objects import KubeObject


@dataclass(frozen=True, slots=True)
class Told:
    """Conditions, and after how many seconds the deadline for progress passes."""

    conditions: tuple[Mapping[str, Any], ...]
    again_in: float | None


def conditions(
    deployment: KubeObject,
    counts: Mapping[str, int],
    *,
    least: int,
    complete: bool,
    newest: KubeObject | None,
    made: bool,
    now: float,
) -> Told:
    """Available and Progressing (pure).  `least`: pods that must be available; `made`: `newest` was made just now."""
    found = list(deployment.status.get("conditions") or ())
    good = counts["availableReplicas"] >= least
    found = with_condition(
        found,
        "Available",
        good,
        now,
        "MinimumReplicasAvailable" if good else "MinimumReplicasUnavailable",
        f"Deployment {'has' if good else 'does not have'} minimum availability.",
        lastUpdateTime=_updated(found, "Available", good, now),
    )
    deadline = deployment.spec.get("progressDeadlineSeconds")
    if deadline is None:
        return Told(tuple(found), None)
    paused = bool(deployment.spec.get("paused"))
    before = condition(found, "Progressing")
    name = f'ReplicaSet "{newest.meta.name}"' if newest is not None else f'Deployment "{deployment.meta.name}"'
    if paused != (before is not None and before.get("reason") == "DeploymentPaused") and (paused or before):
        word = "paused" if paused else "resumed"
        found = _progress(found, "Unknown", f"Deployment{word.capitalize()}", f"Deployment is {word}", now)
        return Told(tuple(found), None)
    if paused:
        return Told(tuple(found), None)
    if complete:
        if before is None or before.get("reason") != "NewReplicaSetAvailable":
            found = _progress(found, True, "NewReplicaSetAvailable", f"{name} has successfully progressed.", now)
        return Told(tuple(found), None)
    if made:
        text = f'Created new replica set "{newest.meta.name if newest else ""}"'
        return Told(tuple(_progress(found, True, "NewReplicaSetCreated", text, now)), float(deadline))
    if _progressed(deployment.status, counts) or before is None or before.get("reason") == "NewReplicaSetAvailable":
        return Told(tuple(_progress(found, True, "ReplicaSetUpdated", f"{name} is progressing.", now)), float(deadline))
    if before.get("reason") == "ProgressDeadlineExceeded":
        return Told(tuple(found), None)
    left = seconds(before.get("lastUpdateTime")) + deadline - now
    if left <= 0:
        text = f"{name} has timed out progressing."
        return Told(tuple(_progress(found, False, "ProgressDeadlineExceeded", text, now)), None)
    return Told(tuple(found), left)


def _updated(found: list[Mapping[str, Any]], kind: str, good: bool, now: float) -> str:
    before = condition(found, kind)
    if before is not None and before.get("status") == ("True" if good else "False"):
        return str(before.get("lastUpdateTime") or timestamp(now))
    return timestamp(now)


def _progress(
    found: list[Mapping[str, Any]], status: bool | str, reason: str, message: str, now: float
) -> list[Mapping[str, Any]]:
    return with_condition(found, "Progressing", status, now, reason, message, lastUpdateTime=timestamp(now))


def _progressed(before: Mapping[str, Any], now: Mapping[str, int]) -> bool:
    """Whether anything got better since the status was written last (DeploymentProgressing)."""

    def old(status: Mapping[str, Any]) -> int:
        return int(status.get("replicas") or 0) - int(status.get("updatedReplicas") or 0)

    return (
        now["updatedReplicas"] > int(before.get("updatedReplicas") or 0)
        or old(now) < old(before)
        or now["readyReplicas"] > int(before.get("readyReplicas") or 0)
        or now["availableReplicas"] > int(before.get("availableReplicas") or 0)
    )
