"""One pod's life, decided: phases, conditions, restarts and their pauses, what a row of probe answers means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hoplab.control.plan import condition
from hoplab.control.podstatus import ContainerRun, Ended, phase, status
from hoplab.control.probes import Timing, Verdict
from hoplab.control.restarts import pause, restarted
from hoplab.kube.objects import object_of

NOW = 1_700_000_000.0
RUNNING = ContainerRun("c", "nginx", "id", "running", started=NOW, ready=True, passed_startup=True)
WAITING = ContainerRun("c", "nginx")
GOOD = replace(RUNNING, state="terminated", ended=Ended(0, "Completed", NOW, NOW, "id"), ready=False)
BAD = replace(GOOD, ended=Ended(1, "Error", NOW, NOW, "id"))
CRASHING = replace(BAD, state="waiting", reason="CrashLoopBackOff", last=BAD.ended)


@pytest.mark.parametrize(
    ("runs", "policy", "expected"),
    [
        ([WAITING], "Always", "Pending"),
        ([RUNNING, WAITING], "Always", "Pending"),
        ([RUNNING], "Always", "Running"),
        ([RUNNING, BAD], "Never", "Running"),
        ([CRASHING], "Always", "Running"),
        ([GOOD], "Always", "Running"),
        ([GOOD], "OnFailure", "Succeeded"),
        ([GOOD, GOOD], "Never", "Succeeded"),
        ([GOOD, BAD], "Never", "Failed"),
        ([BAD], "OnFailure", "Running"),
    ],
)
def test_phases(runs: list[ContainerRun], policy: str, expected: str) -> None:
    assert phase(runs, policy, "Pending") == expected


def test_what_has_ended_never_begins_again() -> None:
    assert phase([RUNNING], "Never", "Failed") == "Failed"


POD = object_of(
    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}, "status": {"qosClass": "Burstable"}}
)


def test_a_pod_is_ready_when_all_its_containers_are() -> None:
    other = replace(RUNNING, name="d", ready=False)
    told = status(POD, [RUNNING, other], ["10.1.1.2"], ["10.240.0.11"], NOW, started=NOW)
    for kind in ("Ready", "ContainersReady"):
        found = condition(told["conditions"], kind)
        assert found is not None
        assert (found["status"], found["reason"]) == ("False", "ContainersNotReady")
        assert found["message"] == "containers with unready status: [d]"
    later = status(POD.changed(status=told), [RUNNING], ["10.1.1.2"], ["10.240.0.11"], NOW + 9, started=NOW)
    ready, scheduled = (condition(later["conditions"], kind) for kind in ("Ready", "PodScheduled"))
    assert ready is not None
    assert scheduled is not None
    assert (ready["status"], ready["lastTransitionTime"]) == ("True", "2023-11-14T22:13:29Z")
    assert scheduled["lastTransitionTime"] == "2023-11-14T22:13:20Z"
    assert (later["qosClass"], later["podIP"], later["hostIP"]) == ("Burstable", "10.1.1.2", "10.240.0.11")


def test_container_states() -> None:
    crashing = CRASHING.document()
    assert crashing["state"] == {"waiting": {"reason": "CrashLoopBackOff"}}
    assert crashing["lastState"]["terminated"]["exitCode"] == 1
    assert RUNNING.document()["state"] == {"running": {"startedAt": "2023-11-14T22:13:20Z"}}
    assert RUNNING.document()["containerID"] == "hoplab://id"


@pytest.mark.parametrize(
    ("policy", "code", "expected"),
    [
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ],
)
def test_restart_policies(policy: str, code: int, expected: bool) -> None:
    assert restarted(policy, code) is expected


def test_the_pause_before_a_restart_doubles_and_is_forgotten() -> None:
    quick = [(0.0, 1.0)] * 8
    assert [pause(quick[:count]) for count in range(9)] == [0, 0, 1, 2, 4, 8, 10, 10, 10]
    assert pause([*quick, (10.0, 40.0)]) == 0
    assert pause([*quick, (10.0, 40.0), (41.0, 42.0)]) == 0


@pytest.mark.parametrize(
    ("answers", "verdicts"),
    [
        ("+", [True]),
        ("-", [False]),
        ("---", [False, False, False]),
        ("+--", [True, True, True]),
        ("+---", [True, True, True, False]),
        ("+--+---", [True, True, True, True, True, True, False]),
        ("+---+", [True, True, True, False, True]),
    ],
)
def test_readiness_changes_after_answers_enough_in_a_row(answers: str, verdicts: list[bool]) -> None:
    timing = Timing.of({"failureThreshold": 3})
    verdict, seen = Verdict.begin("readiness"), []
    for answer in answers:
        verdict = verdict.heard(answer == "+", timing)
        seen.append(verdict.good)
    assert seen == verdicts


def test_what_just_starts_is_waited_for_whatever_its_threshold() -> None:
    timing, verdict, decided = Timing.of({"failureThreshold": 1}), Verdict.begin("readiness"), []
    for _number in range(3):
        verdict = verdict.heard(False, timing)
        decided.append(verdict.decided)
    assert decided == [False, False, True]
    assert Verdict.begin("readiness").heard(True, timing).decided


def test_success_may_take_more_than_one_answer() -> None:
    timing = Timing.of({"successThreshold": 2})
    once = Verdict.begin("readiness").heard(True, timing)
    assert (once.good, once.decided) == (False, False)
    assert once.heard(True, timing).good


def test_a_container_is_alive_and_not_known_to_have_started_until_proved_otherwise() -> None:
    timing = Timing.of({"failureThreshold": 2})
    assert Verdict.begin("liveness").good
    assert Verdict.begin("startup").good is None
    assert Verdict.begin("liveness").heard(False, timing).good
    assert Verdict.begin("liveness").heard(False, timing).heard(False, timing).good is False
