"""What goes with what: dependents, in each way of deleting, and namespaces."""

from __future__ import annotations

from typing import Any

import pytest

from hoplab.control.pods import controller_of
from hoplab.kube.load import load_document
from hoplab.kube.store import NotFound
from tests.unit.control.imaginary_cluster import Imaginary, workload


def kinds(cluster: Imaginary) -> set[str]:
    there = {kind for kind in cluster.store.kinds() if cluster.store.each(kind)}
    return there & {"Deployment", "ReplicaSet", "Pod"}


def test_in_the_background_the_owner_goes_first_and_all_that_it_owns_after_it() -> None:
    cluster = Imaginary()
    cluster.apply(workload("Deployment", replicas=2))
    cluster.settle()
    cluster.delete("Deployment", "web", propagation="Background")
    assert kinds(cluster) == {"ReplicaSet", "Pod"}
    cluster.settle()
    assert kinds(cluster) == set()


def test_in_the_foreground_the_owner_waits_for_all_that_it_owns() -> None:
    cluster = Imaginary()
    cluster.apply(workload("Deployment", replicas=2))
    cluster.settle()
    cluster.delete("Deployment", "web", propagation="Foreground")
    order: list[str] = []
    before = kinds(cluster)
    while cluster.step():
        now = kinds(cluster)
        order += sorted(before - now)
        before = now
    assert order in (["Pod", "Deployment", "ReplicaSet"], ["Pod", "ReplicaSet", "Deployment"])
    assert kinds(cluster) == set()


def test_orphans_stay_without_an_owner() -> None:
    cluster = Imaginary()
    cluster.apply(workload("ReplicaSet", replicas=2))
    cluster.settle()
    cluster.delete("ReplicaSet", "web", propagation="Orphan")
    cluster.settle()
    assert kinds(cluster) == {"Pod"}
    assert [controller_of(pod) for pod in cluster.pods()] == [None, None]


def test_an_owner_goes_when_it_was_taken_out_of_its_dependents_although_nothing_else_was_deleted() -> None:
    cluster = Imaginary()
    cluster.apply(workload("Deployment", replicas=2))
    cluster.settle()
    cluster.delete("Deployment", "web", propagation="Orphan")
    cluster.settle()
    assert kinds(cluster) == {"ReplicaSet", "Pod"}
    (replica_set,) = cluster.store.each("ReplicaSet")
    assert controller_of(replica_set) is None
    assert [controller_of(pod) is not None for pod in cluster.pods()] == [True, True]


def test_an_object_that_names_no_living_owner_goes_when_it_is_looked_behind() -> None:
    cluster = Imaginary()
    nobody = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "uid-of-nobody"}
    cluster.store.look_behind()
    cluster.apply(config("left", ownerReferences=[nobody]))
    cluster.settle()
    with pytest.raises(NotFound):
        cluster.store.get("ConfigMap", "left")


def test_pods_of_a_node_that_is_no_more_go_and_are_made_anew_elsewhere() -> None:
    cluster = Imaginary(nodes=2)
    cluster.controllers.forgiving = True
    cluster.apply(workload("Deployment", replicas=4))
    cluster.settle()
    assert {pod.spec["nodeName"] for pod in cluster.pods()} == {"node1", "node2"}
    cluster.store.delete("Node", "node2", "")
    cluster.settle()
    assert [pod.spec["nodeName"] for pod in cluster.pods()] == ["node1"] * 4
    cluster.store.delete("Node", "node1", "")
    cluster.settle()
    assert [pod.spec.get("nodeName") for pod in cluster.pods()] == [None] * 4
    told = {event.document["message"] for event in cluster.store.each("Event")}
    assert "no nodes available to schedule pods" in told


def config(name: str, namespace: str = "default", **metadata: Any) -> Any:
    meta = {"name": name, "namespace": namespace, **metadata}
    return load_document({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}, "test")


def test_an_object_of_two_owners_stays_with_the_last() -> None:
    cluster = Imaginary()
    owners = [cluster.apply(config(name)) for name in ("first", "second")]
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": each.meta.name, "uid": each.meta.uid} for each in owners
    ]
    cluster.apply(config("both", ownerReferences=references))
    cluster.delete("ConfigMap", "first")
    cluster.settle()
    assert cluster.store.get("ConfigMap", "both").metadata["ownerReferences"] == references[1:]
    cluster.delete("ConfigMap", "second")
    cluster.settle()
    with pytest.raises(NotFound):
        cluster.store.get("ConfigMap", "both")


def test_a_namespace_takes_everything_in_it_along() -> None:
    cluster = Imaginary()
    cluster.apply(load_document({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, "test"))
    cluster.apply(config("a", "shop"))
    cluster.apply(config("held", "shop", finalizers=["example.org/wait"]))
    cluster.delete("Namespace", "shop", namespace="")
    cluster.settle()
    assert [each.meta.name for each in cluster.store.each("ConfigMap")] == ["held"]
    assert cluster.store.get("Namespace", "shop", "").status["phase"] == "Terminating"
    held = cluster.store.get("ConfigMap", "held", "shop")
    cluster.store.update(held.relabelled(finalizers=None))
    cluster.settle()
    with pytest.raises(NotFound):
        cluster.store.get("Namespace", "shop", "")
