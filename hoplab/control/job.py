"""Job: pods that are meant to end, until enough of them have ended well.

`parallelism` of them run at once; a pod that failed is replaced, after a pause that doubles,
until backoffLimit failures; then the Job has failed and its running pods go.

Source: pkg/controller/job/job_controller.go (syncJob, manageJob), backoff_utils.go.  The pause begins
at one second here, where the real one begins at ten.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hoplab.control import pods as podlib
from hoplab.control.plan import Draft, Plan, condition, fresh_name, with_condition, without_condition
from hoplab.control.replicas import selector_of
from hoplab.kube.clock import seconds, timestamp
from hoplab.kube.objects import KubeObject

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


def sync(owner: KubeObject, pods: podlib.Owned, now: float, chance: random.Random) -> Plan:
    """What the Job does now."""
    draft = Draft()
    claimed = podlib.claim(owner, selector_of(owner), pods.by(owner), pods.orphans(owner.meta.namespace))
    draft.update += [*claimed.adopted, *claimed.released]
    if finished(owner):
        _sweep(owner, now, draft)
        return draft.done()
    active = [pod for pod in claimed.mine if podlib.is_active(pod)]
    succeeded = [pod for pod in claimed.mine if pod.status.get("phase") == "Succeeded"]
    failed = [pod for pod in claimed.mine if pod.status.get("phase") == "Failed"]
    status: dict[str, Any] = dict(owner.status)
    suspended = bool(owner.spec.get("suspend"))
    if not suspended:
        status.setdefault("startTime", timestamp(now))
    conditions = list(status.get("conditions") or ())
    why = _failure(owner, claimed.mine, failed, status, now, draft)
    if why is not None:
        _end(owner, active, draft)
        conditions = with_condition(conditions, "FailureTarget", True, now, *why)
        conditions = with_condition(conditions, "Failed", True, now, *why)
        draft.note(owner, why[0], why[1], warning=True)
        active = []
    elif _complete(owner, active, succeeded):
        _end(owner, active, draft)
        for kind in ("SuccessCriteriaMet", "Complete"):
            reason, message = "CompletionsReached", "Reached expected number of succeeded pods"
            conditions = with_condition(conditions, kind, True, now, reason, message)
        status["completionTime"] = timestamp(now)
        draft.note(owner, "Completed", "Job completed")
        active = []
    elif suspended:
        _end(owner, active, draft)
        if condition(conditions, "Suspended") is None:
            draft.note(owner, "Suspended", "Job suspended")
        conditions = with_condition(conditions, "Suspended", True, now, "JobSuspended", "Job suspended")
        status.pop("startTime", None)
        active = []
    else:
        conditions = without_condition(conditions, "Suspended")
        active = _manage(owner, active, succeeded, failed, pods.names(owner.meta.namespace), now, chance, draft)
    for field, count in (("active", len(active)), ("succeeded", len(succeeded)), ("failed", len(failed))):
        status.pop(field, None)
        if count:
            status[field] = count
    status["ready"] = sum(podlib.is_ready(pod) for pod in active)
    status.setdefault("uncountedTerminatedPods", {})
    status["terminating"] = sum(pod.deleting for pod in claimed.mine)
    if conditions:
        status["conditions"] = conditions
    else:
        status.pop("conditions", None)
    if status != owner.status:
        draft.update.append(owner.changed(status=status))
    return draft.done()


def finished(owner: KubeObject) -> bool:
    """Whether the Job is Complete or Failed."""
    found = owner.status.get("conditions") or ()
    return any(each.get("type") in ("Complete", "Failed") and each.get("status") == "True" for each in found)


def _sweep(owner: KubeObject, now: float, draft: Draft) -> None:
    """ttlSecondsAfterFinished (pkg/controller/ttlafterfinished)."""
    ttl = owner.spec.get("ttlSecondsAfterFinished")
    if ttl is None or owner.deleting:
        return
    ended = max(seconds(each.get("lastTransitionTime")) for each in owner.status["conditions"])
    if ended + ttl <= now:
        draft.delete.append(owner)
    else:
        draft.wake(ended + ttl - now, deadline=True)


def _failure(
    owner: KubeObject,
    mine: Sequence[KubeObject],
    failed: Sequence[KubeObject],
    status: dict[str, Any],
    now: float,
    draft: Draft,
) -> tuple[str, str] | None:
    """Reason and message when the Job has failed."""
    limit = int(owner.spec.get("backoffLimit", 6))
    # Containers that were restarted in place count as well (pastBackoffLimitOnFailure).
    again = sum(podlib.restarts(pod) for pod in mine if pod.spec.get("restartPolicy") == "OnFailure")
    if len(failed) > limit or (again and again >= limit):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    deadline = owner.spec.get("activeDeadlineSeconds")
    if deadline is not None and status.get("startTime"):
        left = seconds(status["startTime"]) + deadline - now
        if left <= 0:
            return "DeadlineExceeded", "Job was active longer than specified deadline"
        draft.wake(left, deadline=True)
    return None


def _complete(owner: KubeObject, active: Sequence[KubeObject], succeeded: Sequence[KubeObject]) -> bool:
    wanted = owner.spec.get("completions")
    if wanted is None:
        return bool(succeeded) and not active
    return len(succeeded) >= int(wanted)


def _end(owner: KubeObject, active: Sequence[KubeObject], draft: Draft) -> None:
    for pod in active:
        draft.delete.append(pod)
        draft.note(owner, "SuccessfulDelete", f"Deleted pod: {pod.meta.name}")


def _manage(
    owner: KubeObject,
    active: list[KubeObject],
    succeeded: Sequence[KubeObject],
    failed: Sequence[KubeObject],
    names: set[str],
    now: float,
    chance: random.Random,
    draft: Draft,
) -> list[KubeObject]:
    """Make or end pods; the active ones afterwards."""
    parallel, wanted = int(owner.spec.get("parallelism", 1)), owner.spec.get("completions")
    alone = len(active) if succeeded else parallel
    want = alone if wanted is None else min(parallel, int(wanted) - len(succeeded))
    if len(active) > want:
        gone = podlib.deletion_order(active)[: len(active) - max(0, want)]
        _end(owner, gone, draft)
        return [pod for pod in active if pod not in gone]
    pause = _pause(failed, now)
    if len(active) < want and pause > 0:
        draft.wake(pause)
        return active
    made = []
    for _number in range(want - len(active)):
        name = fresh_name(f"{owner.meta.name}-", names, chance)
        names.add(name)
        made.append(podlib.pod_from(owner, name, generate=f"{owner.meta.name}-"))
        draft.note(owner, "SuccessfulCreate", f"Created pod: {name}")
    draft.create += made
    return [*active, *made]


def _pause(failed: Sequence[KubeObject], now: float) -> float:
    """Seconds until the next pod may be made."""
    if not failed:
        return 0.0
    ends = [
        seconds((each.get("state", {}).get("terminated") or {}).get("finishedAt"))
        for pod in failed
        for each in pod.status.get("containerStatuses") or ()
    ]
    delay = min(FIRST_PAUSE_S * 2.0 ** (len(failed) - 1), LONGEST_PAUSE_S)
    return max(0.0, max(ends, default=0.0) + delay - now)
