"""The Pod's row of `kubectl get pods`: how the states of containers become one word.

The STATUS column is no field: it is the phase, unless a container waits or has ended with a
reason, an init container is still at work, or the pod is being deleted.
Source: printPod in pkg/printers/internalversion/printers.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from hoplab.api.ages import age
from hoplab.api.columns import NONE, Cell, Column, Document

COLUMNS = (
    *(Column(name) for name in ("Name", "Ready", "Status", "Restarts", "Age")),
    *(Column(name, priority=1) for name in ("IP", "Node", "Nominated Node", "Readiness Gates")),
)


def cells(document: Document, now: datetime) -> list[Cell]:
    """One row."""
    spec, state, metadata = document.get("spec") or {}, document.get("status") or {}, document["metadata"]
    initial = {each.get("name"): each for each in spec.get("initContainers") or ()}
    sidecars = {name for name, each in initial.items() if each.get("restartPolicy") == "Always"}
    conditions = {each.get("type"): each for each in state.get("conditions") or ()}
    word = state.get("reason") or state.get("phase") or ""
    if conditions.get("PodScheduled", {}).get("reason") == "SchedulingGated":
        word = "SchedulingGated"
    initializing, started, restarts = _initializing(state, sidecars, len(initial))
    statuses = state.get("containerStatuses") or ()
    ready = started
    if not initializing or conditions.get("Initialized", {}).get("status") == "True":
        word, running = _word(word, statuses)
        ready += sum(1 for each in statuses if each.get("ready") and "running" in (each.get("state") or {}))
        restarts = [each for each in restarts if each.get("name") in sidecars] + list(statuses)
        if word == "Completed" and running:
            word = "Running" if conditions.get("Ready", {}).get("status") == "True" else "NotReady"
    else:
        word = initializing
    if metadata.get("deletionTimestamp"):
        if state.get("reason") == "NodeLost":
            word = "Unknown"
        elif state.get("phase") not in ("Succeeded", "Failed"):
            word = "Terminating"
    total = len(spec.get("containers") or ()) + len(sidecars)
    return [
        metadata["name"],
        f"{ready}/{total}",
        word,
        _restarts(restarts, now),
        age(metadata.get("creationTimestamp"), now),
        next((each.get("ip") for each in state.get("podIPs") or ()), None) or state.get("podIP") or NONE,
        spec.get("nodeName") or NONE,
        state.get("nominatedNodeName") or NONE,
        _gates(spec, conditions),
    ]


def _initializing(
    state: Mapping[str, Any], sidecars: set[Any], number: int
) -> tuple[str, int, list[Mapping[str, Any]]]:
    """The word while init containers are at work ('' afterwards), how many sidecars are ready, all statuses so far."""
    ready, seen = 0, []
    for place, each in enumerate(state.get("initContainerStatuses") or ()):
        seen.append(each)
        now = each.get("state") or {}
        ended, waiting = now.get("terminated"), now.get("waiting") or {}
        if ended is not None and ended.get("exitCode") == 0:
            continue
        if each.get("name") in sidecars and each.get("started"):
            ready += bool(each.get("ready"))
            continue
        if ended is not None:
            return f"Init:{_ended(ended)}", ready, seen
        if waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}", ready, seen
        return f"Init:{place}/{number}", ready, seen
    return "", ready, seen


def _ended(ended: Mapping[str, Any]) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _word(word: str, statuses: Any) -> tuple[str, bool]:
    running = False
    for each in reversed(statuses):
        state = each.get("state") or {}
        if (state.get("waiting") or {}).get("reason"):
            word = state["waiting"]["reason"]
        elif state.get("terminated") is not None:
            word = _ended(state["terminated"])
        elif each.get("ready") and "running" in state:
            running = True
    return word, running


def _restarts(statuses: list[Mapping[str, Any]], now: datetime) -> str:
    number = sum(each.get("restartCount", 0) for each in statuses)
    ends = [((each.get("lastState") or {}).get("terminated") or {}).get("finishedAt") for each in statuses]
    last = max((each for each in ends if each), default="")
    return f"{number} ({age(last, now)} ago)" if number and last else str(number)


def _gates(spec: Mapping[str, Any], conditions: Mapping[Any, Mapping[str, Any]]) -> str:
    gates = spec.get("readinessGates") or ()
    true = sum(1 for each in gates if conditions.get(each.get("conditionType"), {}).get("status") == "True")
    return f"{true}/{len(gates)}" if gates else NONE
