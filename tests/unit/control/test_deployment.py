"""Deployments: rollouts that keep to their limits at every moment, rollbacks, pauses, what they say of themselves."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.control import pods as podlib
from hoplab.control.plan import amount, condition
from tests.unit.control.imaginary_cluster import Imaginary, workload


def images(cluster: Imaginary) -> list[str]:
    return sorted(pod.spec["containers"][0]["image"] for pod in cluster.pods())


def sets(cluster: Imaginary) -> dict[str, int]:
    """Image -> replicas."""
    return {
        str(each.spec["template"]["spec"]["containers"][0]["image"]): each.spec["replicas"]
        for each in cluster.store.each("ReplicaSet")
    }


@pytest.mark.parametrize(
    ("value", "total", "up", "expected"),
    [(1, 10, True, 1), ("25%", 10, True, 3), ("25%", 10, False, 2), ("0%", 10, True, 0), ("100%", 3, False, 3)],
)
def test_percentages_are_rounded_as_the_api_says(value: int | str, total: int, up: bool, expected: int) -> None:
    assert amount(value, total, up=up) == expected


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 8),
    st.integers(0, 4),
    st.one_of(st.integers(0, 4), st.sampled_from(["25%", "50%"])),
    st.integers(0, 2**32),
)
def test_a_rollout_keeps_to_its_limits_at_every_step(
    replicas: int, surge: int, unavailable: int | str, seed: int
) -> None:
    if surge == 0 and unavailable == 0:
        unavailable = 1
    cluster, chance = Imaginary(nodes=3), random.Random(seed)
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    cluster.apply(workload("Deployment", replicas=replicas, strategy=strategy))
    cluster.settle()
    cluster.apply(workload("Deployment", "nginx:2", replicas=replicas, strategy=strategy))
    slow: set[str] = set()

    def ready(pod: Any) -> bool:
        # Some pods need a few rounds until they are ready.
        if pod.meta.uid not in slow and chance.random() < 0.4:
            slow.add(pod.meta.uid)
            return podlib.is_ready(pod)
        return True

    cluster.ready = ready
    allowed = amount(unavailable, replicas, up=False)
    if surge == 0 and allowed == 0:
        allowed = 1
    for _round in range(200):
        changed = cluster.step()
        active = cluster.pods()
        assert len(active) <= replicas + surge
        assert sum(map(podlib.is_ready, active)) >= replicas - min(allowed, replicas)
        if not changed and images(cluster) == ["nginx:2"] * replicas:
            break
    assert images(cluster) == ["nginx:2"] * replicas
    assert sets(cluster) == {"nginx:1": 0, "nginx:2": replicas}


def test_recreate_ends_all_old_pods_first() -> None:
    cluster = Imaginary()
    for image in ("nginx:1", "nginx:2"):
        cluster.apply(workload("Deployment", image, replicas=3, strategy={"type": "Recreate"}))
        while cluster.step():
            assert len(set(images(cluster))) <= 1
    assert images(cluster) == ["nginx:2"] * 3


def test_a_rollback_brings_the_old_replica_set_back_with_a_new_revision() -> None:
    cluster = Imaginary()
    for image in ("nginx:1", "nginx:2", "nginx:1"):
        cluster.apply(workload("Deployment", image, replicas=2))
        cluster.settle()
    assert sets(cluster) == {"nginx:1": 2, "nginx:2": 0}
    assert cluster.get("Deployment").meta.annotations["deployment.kubernetes.io/revision"] == "3"
    revisions = {
        each.spec["template"]["spec"]["containers"][0]["image"]: each.meta.annotations
        for each in cluster.store.each("ReplicaSet")
    }
    assert revisions["nginx:1"]["deployment.kubernetes.io/revision"] == "3"
    assert revisions["nginx:1"]["deployment.kubernetes.io/revision-history"] == "1"
    assert revisions["nginx:2"]["deployment.kubernetes.io/revision"] == "2"


def test_old_replica_sets_are_kept_up_to_the_limit() -> None:
    cluster = Imaginary()
    for number in range(5):
        cluster.apply(workload("Deployment", f"nginx:{number}", replicas=1, revisionHistoryLimit=2))
        cluster.settle()
    assert sorted(sets(cluster)) == ["nginx:2", "nginx:3", "nginx:4"]


def test_a_paused_deployment_rolls_nothing_out_but_scales() -> None:
    cluster = Imaginary()
    cluster.apply(workload("Deployment", replicas=2))
    cluster.settle()
    cluster.apply(workload("Deployment", "nginx:2", replicas=3, paused=True))
    cluster.settle()
    assert images(cluster) == ["nginx:1"] * 3
    cluster.apply(workload("Deployment", "nginx:2", replicas=3))
    cluster.settle()
    assert images(cluster) == ["nginx:2"] * 3


def test_a_pod_must_have_been_ready_for_min_ready_seconds() -> None:
    cluster = Imaginary()
    cluster.apply(workload("Deployment", replicas=1, minReadySeconds=5))
    cluster.settle()
    assert "availableReplicas" not in cluster.get("Deployment").status
    wait = cluster.controllers.settles_in()
    assert wait is not None
    assert 0 < wait <= 5
    cluster.later(5)
    assert cluster.get("Deployment").status["availableReplicas"] == 1


def told(cluster: Imaginary, kind: str) -> tuple[str, str]:
    found = condition(cluster.get("Deployment").status["conditions"], kind)
    assert found is not None
    return found["status"], found["reason"]


def test_what_a_deployment_says_of_itself() -> None:
    cluster = Imaginary()
    cluster.ready = lambda _pod: False
    cluster.apply(workload("Deployment", replicas=2, progressDeadlineSeconds=10))
    cluster.settle()
    assert told(cluster, "Available") == ("False", "MinimumReplicasUnavailable")
    assert told(cluster, "Progressing") == ("True", "ReplicaSetUpdated")
    cluster.later(11)
    assert told(cluster, "Progressing") == ("False", "ProgressDeadlineExceeded")
    cluster.ready = lambda _pod: True
    cluster.settle()
    assert told(cluster, "Available") == ("True", "MinimumReplicasAvailable")
    assert told(cluster, "Progressing") == ("True", "NewReplicaSetAvailable")


def test_bad_pods_of_an_old_template_are_taken_away_first() -> None:
    cluster = Imaginary()
    cluster.apply(workload("Deployment", replicas=4))
    cluster.settle()
    cluster.ready = lambda pod: pod.spec["containers"][0]["image"] != "bad"
    cluster.apply(workload("Deployment", "bad", replicas=4))
    cluster.settle()
    assert images(cluster).count("nginx:1") == 3
    cluster.apply(workload("Deployment", "good", replicas=4))
    cluster.settle()
    assert images(cluster) == ["good"] * 4


def test_what_somebody_wrote_into_annotations_stops_nothing() -> None:
    cluster = Imaginary()
    cluster.apply(workload("Deployment", replicas=2))
    cluster.settle()
    (old,) = cluster.store.each("ReplicaSet")
    nonsense = dict.fromkeys(old.meta.annotations, "x y")
    cluster.store.update(old.relabelled(annotations=nonsense))
    for pod in cluster.pods():
        cluster.store.update(pod.relabelled(annotations={podlib.DELETION_COST: "dear"}))
    cluster.apply(workload("Deployment", "nginx:2", replicas=1))
    cluster.settle()
    assert images(cluster) == ["nginx:2"]


@pytest.mark.parametrize(("replicas", "expected"), [(20, {"nginx:1": 15, "bad": 10}), (5, {"nginx:1": 4, "bad": 3})])
def test_in_the_middle_of_a_rollout_both_sets_are_scaled_in_proportion(replicas: int, expected: dict[str, int]) -> None:
    cluster = Imaginary()
    cluster.apply(workload("Deployment", replicas=10))
    cluster.settle()
    cluster.ready = lambda pod: pod.spec["containers"][0]["image"] != "bad"
    cluster.apply(workload("Deployment", "bad", replicas=10))
    cluster.settle()
    assert sets(cluster) == {"nginx:1": 8, "bad": 5}
    before = cluster.get("Deployment")
    cluster.store.update(before.changed(spec={**before.spec, "replicas": replicas}))
    cluster.controllers.run()
    assert sum(sets(cluster).values()) == replicas + amount("25%", replicas, up=True)
    assert sets(cluster) == expected
