"""ReplicaSets, DaemonSets, StatefulSets and Jobs: as many pods as are wanted, in the right order."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hoplab.control import pods as podlib
from hoplab.control.placing import Board, fits
from hoplab.kube.load import load_document
from hoplab.kube.objects import KubeObject, object_of
from tests.unit.control.imaginary_cluster import Imaginary, template, workload

KINDS = ["ReplicationController", "ReplicaSet", "Deployment", "StatefulSet"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("before", "after"), [(0, 3), (3, 3), (3, 5), (5, 2), (2, 0)])
def test_scaling_makes_and_deletes_as_many_as_it_takes(kind: str, before: int, after: int) -> None:
    cluster = Imaginary()
    cluster.apply(workload(kind, replicas=before))
    cluster.settle()
    first = {pod.meta.uid for pod in cluster.pods()}
    cluster.apply(workload(kind, replicas=after))
    cluster.settle()
    left = {pod.meta.uid for pod in cluster.pods()}
    assert (len(first), len(left)) == (before, after)
    assert len(first & left) == min(before, after)
    status = cluster.get(kind).status
    assert status.get("replicas", 0) == status.get("readyReplicas", 0) == status.get("availableReplicas", 0) == after
    assert status["observedGeneration"] == cluster.get(kind).metadata["generation"]


def test_names_and_labels_are_those_of_the_controllers() -> None:
    cluster = Imaginary()
    cluster.apply(workload("Deployment", replicas=1))
    cluster.apply(workload("StatefulSet", name="db", replicas=1))
    cluster.settle()
    (replica_set,) = cluster.store.each("ReplicaSet")
    hashed = replica_set.meta.labels["pod-template-hash"]
    assert replica_set.meta.name == f"web-{hashed}"
    deployed, numbered = cluster.pods()
    assert deployed.meta.name.startswith(f"web-{hashed}-")
    assert len(deployed.meta.name) == len(f"web-{hashed}-") + 5
    assert deployed.meta.labels == {"app": "web", "pod-template-hash": hashed}
    assert numbered.meta.name == numbered.spec["hostname"] == "db-0"
    assert numbered.meta.labels["apps.kubernetes.io/pod-index"] == "0"


def test_the_same_seed_gives_the_same_names() -> None:
    def names(seed: int) -> list[str]:
        cluster = Imaginary(seed=seed)
        cluster.apply(workload("ReplicaSet", replicas=5))
        cluster.settle()
        return [pod.meta.name for pod in cluster.pods()]

    assert names(1) == names(1) != names(2)


def test_a_set_takes_pods_that_it_selects_and_lets_go_those_that_it_does_not() -> None:
    cluster = Imaginary()
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stray", "labels": {"app": "web"}}}
    cluster.apply(load_document({**document, "spec": template()["spec"]}, "test"))
    cluster.apply(workload("ReplicaSet", replicas=2))
    cluster.settle()
    assert len(cluster.pods()) == 2
    stray = cluster.store.get("Pod", "stray")
    assert podlib.controller_of(stray) == podlib.owner_reference(cluster.get("ReplicaSet"))
    cluster.store.update(stray.relabelled(labels={"app": "other"}))
    cluster.settle()
    assert len(cluster.pods()) == 3
    assert podlib.controller_of(cluster.store.get("Pod", "stray")) is None


def pod(name: str, **given: Any) -> KubeObject:
    metadata = {"name": name, "namespace": "default", "creationTimestamp": given.get("born", "2026-01-01T00:00:00Z")}
    metadata["annotations"] = {podlib.DELETION_COST: str(given.get("cost", 0))}
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": given.get("since", "2026-01-01T00:00:01Z")}]
    status = {
        "phase": given.get("phase", "Running"),
        "conditions": conditions if given.get("ready", True) else [],
        "containerStatuses": [{"restartCount": given.get("restarts", 0)}],
    }
    spec = {"nodeName": given.get("node", "node1")}
    return object_of({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})


@pytest.mark.parametrize(
    ("goes", "stays"),
    [
        ({"node": ""}, {}),
        ({"phase": "Pending"}, {}),
        ({"ready": False}, {}),
        ({"cost": -1}, {}),
        ({"cost": 1, "ready": False}, {"cost": 0}),
        ({"since": "2026-01-01T00:00:09Z"}, {}),
        ({"restarts": 3}, {}),
        ({"born": "2026-01-02T00:00:00Z"}, {}),
    ],
)
def test_who_is_missed_least_goes_first(goes: dict[str, Any], stays: dict[str, Any]) -> None:
    pair = [pod("stays", **stays), pod("goes", **goes)]
    assert [each.meta.name for each in podlib.deletion_order(pair)] == ["goes", "stays"]
    assert [each.meta.name for each in podlib.deletion_order(pair[::-1])] == ["goes", "stays"]


def test_a_crowded_node_loses_first() -> None:
    three = [pod("a", node="node1"), pod("b", node="node2"), pod("c", node="node2")]
    assert podlib.deletion_order(three)[0].spec["nodeName"] == "node2"


def test_a_daemon_set_has_one_pod_on_each_node_that_it_fits() -> None:
    cluster = Imaginary(nodes=3)
    node = cluster.store.get("Node", "node3", "")
    cluster.store.update(node.changed(spec={"taints": [{"key": "gpu", "effect": "NoSchedule"}]}))
    other = cluster.store.get("Node", "node2", "")
    cluster.store.update(other.changed(spec={"unschedulable": True}))
    cluster.apply(workload("DaemonSet"))
    cluster.settle()
    assert sorted(each.spec["nodeName"] for each in cluster.pods()) == ["node1", "node2"]
    status = cluster.get("DaemonSet").status
    assert (status["desiredNumberScheduled"], status["numberReady"], status["numberAvailable"]) == (2, 2, 2)


def borne(pod: KubeObject) -> dict[str, Any]:
    return {
        each["key"].removeprefix("node.kubernetes.io/"): (each["effect"], each.get("tolerationSeconds"))
        for each in pod.spec["tolerations"]
    }


def test_a_pod_has_an_account_and_patience_with_a_lost_node_whoever_made_it() -> None:
    cluster = Imaginary()
    cluster.apply(workload("Deployment", replicas=1))
    cluster.settle()
    (pod,) = cluster.pods()
    assert (pod.spec["serviceAccountName"], pod.spec["priority"]) == ("default", 0)
    assert borne(pod) == dict.fromkeys(("not-ready", "unreachable"), ("NoExecute", 300))


def test_a_daemon_stays_whatever_befalls_its_node() -> None:
    cluster = Imaginary(nodes=1)
    cluster.apply(workload("DaemonSet"))
    cluster.settle()
    (pod,) = cluster.pods()
    assert borne(pod) == {
        **dict.fromkeys(("not-ready", "unreachable"), ("NoExecute", None)),
        **dict.fromkeys(("disk-pressure", "memory-pressure", "pid-pressure", "unschedulable"), ("NoSchedule", None)),
    }


def test_a_daemon_set_is_replaced_node_by_node() -> None:
    cluster = Imaginary(nodes=4)
    cluster.apply(workload("DaemonSet"))
    cluster.settle()
    cluster.apply(workload("DaemonSet", "nginx:2"))
    fewest = 4
    while cluster.step():
        fewest = min(fewest, sum(map(podlib.is_ready, cluster.pods())))
    assert fewest == 3
    assert {each.spec["containers"][0]["image"] for each in cluster.pods()} == {"nginx:2"}


def test_on_delete_replaces_what_somebody_deletes() -> None:
    cluster = Imaginary()
    for image in ("nginx:1", "nginx:2"):
        cluster.apply(workload("DaemonSet", image, updateStrategy={"type": "OnDelete"}))
        cluster.settle()
    assert [each.spec["containers"][0]["image"] for each in cluster.pods()] == ["nginx:1", "nginx:1"]
    cluster.delete("Pod", cluster.pods()[0].meta.name)
    cluster.settle()
    assert sorted(each.spec["containers"][0]["image"] for each in cluster.pods()) == ["nginx:1", "nginx:2"]


@pytest.mark.parametrize(("policy", "at_once"), [("OrderedReady", 1), ("Parallel", 3)])
def test_a_stateful_set_waits_for_each_pod_unless_told_not_to(policy: str, at_once: int) -> None:
    cluster = Imaginary()
    cluster.ready = lambda _pod: False
    cluster.apply(workload("StatefulSet", replicas=3, podManagementPolicy=policy))
    cluster.settle()
    assert [each.meta.name for each in cluster.pods()] == [f"web-{n}" for n in range(at_once)]
    cluster.ready = lambda _pod: True
    cluster.settle()
    assert [each.meta.name for each in cluster.pods()] == ["web-0", "web-1", "web-2"]
    cluster.apply(workload("StatefulSet", replicas=1, podManagementPolicy=policy))
    cluster.settle()
    assert [each.meta.name for each in cluster.pods()] == ["web-0"]


def test_a_stateful_set_is_replaced_from_the_top_down_to_its_partition() -> None:
    cluster = Imaginary()
    cluster.apply(workload("StatefulSet", replicas=3))
    cluster.settle()
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    cluster.apply(workload("StatefulSet", "nginx:2", replicas=3, updateStrategy=strategy))
    order = []
    while cluster.step():
        order += [name for name in changed_names(cluster) if name not in order]
    images = {each.meta.name: each.spec["containers"][0]["image"] for each in cluster.pods()}
    assert images == {"web-0": "nginx:1", "web-1": "nginx:2", "web-2": "nginx:2"}
    assert order == ["web-2", "web-1"]


def changed_names(cluster: Imaginary) -> list[str]:
    return [each.meta.name for each in cluster.pods() if each.spec["containers"][0]["image"] == "nginx:2"]


def test_a_job_runs_until_enough_pods_ended_well() -> None:
    cluster = Imaginary()
    cluster.ends = lambda _pod: None
    cluster.apply(workload("Job", completions=3, parallelism=2))
    cluster.settle()
    assert len(cluster.pods()) == 2
    assert cluster.get("Job").status["active"] == 2
    cluster.ends = lambda _pod: 0
    cluster.settle()
    status = cluster.get("Job").status
    assert status["succeeded"] == 3
    assert "active" not in status
    assert [each["type"] for each in status["conditions"]] == ["SuccessCriteriaMet", "Complete"]
    assert len(cluster.pods()) == 3


def test_a_job_tries_again_after_a_pause_and_gives_up() -> None:
    cluster = Imaginary()
    cluster.ends = lambda _pod: 1
    cluster.apply(workload("Job", backoffLimit=2))
    cluster.settle()
    assert len(cluster.pods()) == 1
    for pause, pods in ((0.5, 1), (0.6, 2), (1.0, 2), (1.1, 3)):
        cluster.later(pause)
        assert len(cluster.pods()) == pods
    status = cluster.get("Job").status
    assert (status["failed"], status["conditions"][-1]["reason"]) == (3, "BackoffLimitExceeded")
    assert "BackoffLimitExceeded" in cluster.reasons()


@pytest.mark.parametrize("count", [1, 4, 7, 12])
def test_pods_of_one_owner_spread_over_the_nodes(count: int) -> None:
    cluster = Imaginary(nodes=3)
    cluster.apply(workload("ReplicaSet", replicas=count))
    cluster.settle()
    places = [each.spec["nodeName"] for each in cluster.pods()]
    counts = [places.count(f"node{n}") for n in (1, 2, 3)]
    assert max(counts) - min(counts) <= 1


NODE = object_of(
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node1", "labels": {"disk": "ssd"}},
        "spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]},
    }
)
TOLERANT = {"tolerations": [{"key": "gpu", "operator": "Exists"}]}
SOME = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": []}]}}
SOME["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] = [
    {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["hdd"]}]}
]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({}, "node(s) had untolerated taint {gpu: yes}"),
        (TOLERANT, ""),
        ({"tolerations": [{"key": "gpu", "value": "no"}]}, "node(s) had untolerated taint {gpu: yes}"),
        ({**TOLERANT, "nodeSelector": {"disk": "ssd"}}, ""),
        ({**TOLERANT, "nodeSelector": {"disk": "hdd"}}, "node(s) didn't match Pod's node affinity/selector"),
        ({**TOLERANT, "affinity": {"nodeAffinity": SOME}}, "node(s) didn't match Pod's node affinity/selector"),
    ],
)
def test_where_a_pod_fits(spec: dict[str, Any], why: str) -> None:
    assert fits(spec, NODE) == why


def test_a_pod_that_fits_nowhere_is_told_why() -> None:
    assert Board([NODE], []).place(pod("p", node="")) == (
        "",
        "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.",
    )
    cluster = Imaginary()
    for name in ("node1", "node2"):
        node = cluster.store.get("Node", name, "")
        cluster.store.update(node.changed(spec={"unschedulable": True}))
    cluster.apply(workload("ReplicaSet", replicas=1))
    cluster.settle()
    (waiting,) = cluster.pods()
    (condition,) = waiting.status["conditions"]
    assert condition["message"] == "0/2 nodes are available: 2 node(s) were unschedulable."
    assert "FailedScheduling" in cluster.reasons()


def test_random_numbers_are_the_callers() -> None:
    cluster = Imaginary()
    state = random.getstate()
    cluster.apply(workload("ReplicaSet", replicas=3))
    cluster.settle()
    assert random.getstate() == state
