"""Deleting as the API does it: grace, finalizers, propagation."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from hoplab.kube.deletion import delete
from hoplab.kube.objects import KubeObject, object_of
from hoplab.kube.store import Conflict, NotFound, Store

NOW = 1_700_000_000.0


def new_store(*objects: KubeObject) -> Store:
    numbers = itertools.count(1)
    store = Store(lambda: f"uid-{next(numbers)}")
    for obj in objects:
        store.create(obj)
    return store


def thing(kind: str, spec: dict[str, Any] | None = None, **metadata: Any) -> KubeObject:
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a", **metadata}, "spec": spec or {}}
    return object_of(document)


RUNNING = {"nodeName": "node1", "terminationGracePeriodSeconds": 30}


def test_a_pod_is_given_its_grace_and_a_second_request_can_only_shorten_it() -> None:
    store = new_store(thing("Pod", RUNNING))
    marked, gone = delete(store, "Pod", "a", now=NOW)
    assert not gone
    assert marked.metadata["deletionTimestamp"] == "2023-11-14T22:13:50Z"
    assert marked.metadata["deletionGracePeriodSeconds"] == 30
    assert delete(store, "Pod", "a", now=NOW, grace=60)[0].metadata["deletionGracePeriodSeconds"] == 30
    assert delete(store, "Pod", "a", now=NOW, grace=5)[0].metadata["deletionGracePeriodSeconds"] == 5
    assert delete(store, "Pod", "a", now=NOW, grace=0)[1]


@pytest.mark.parametrize("spec", [{}, {"nodeName": "node1"}])
def test_a_pod_that_never_began_or_has_ended_goes_at_once(spec: dict[str, Any]) -> None:
    pod = thing("Pod", spec)
    store = new_store(pod.changed(status={"phase": "Succeeded" if spec else "Pending"}))
    assert delete(store, "Pod", "a", now=NOW)[1]


def test_finalizers_hold_an_object_until_the_last_is_taken_away() -> None:
    store = new_store(thing("ConfigMap", finalizers=["example.org/wait"]))
    marked, gone = delete(store, "ConfigMap", "a", now=NOW)
    assert not gone
    assert marked.deleting
    store.update(marked.relabelled(finalizers=None))
    with pytest.raises(NotFound):
        store.get("ConfigMap", "a")


def test_a_pod_with_a_finalizer_keeps_its_grace_all_the_same() -> None:
    store = new_store(thing("Pod", RUNNING, finalizers=["example.org/wait"]))
    marked, _gone = delete(store, "Pod", "a", now=NOW)
    freed = store.update(marked.relabelled(finalizers=None))
    assert store.get("Pod", "a") == freed
    assert delete(store, "Pod", "a", now=NOW, grace=0)[1]


@pytest.mark.parametrize(
    ("kind", "propagation", "finalizers"),
    [
        ("ConfigMap", "Foreground", ["foregroundDeletion"]),
        ("ConfigMap", "Orphan", ["orphan"]),
        ("ReplicationController", None, ["orphan"]),
    ],
)
def test_propagation_is_a_finalizer(kind: str, propagation: Any, finalizers: list[str]) -> None:
    store = new_store(thing(kind))
    marked, gone = delete(store, kind, "a", now=NOW, propagation=propagation)
    assert not gone
    assert marked.metadata["finalizers"] == finalizers


def test_in_the_background_it_goes_at_once() -> None:
    store = new_store(thing("ReplicationController"))
    assert delete(store, "ReplicationController", "a", now=NOW, propagation="Background")[1]


def test_a_namespace_ends_first() -> None:
    store = new_store(thing("Namespace", {"finalizers": ["kubernetes"]}))
    marked, gone = delete(store, "Namespace", "a", "", now=NOW)
    assert not gone
    assert marked.status["phase"] == "Terminating"


def test_only_the_object_that_was_meant() -> None:
    store = new_store(thing("ConfigMap"))
    with pytest.raises(Conflict, match="UID in precondition: other"):
        delete(store, "ConfigMap", "a", now=NOW, uid="other")
    assert store.get("ConfigMap", "a")
