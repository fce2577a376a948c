"""Endpoints as objects: slices and Endpoints of Services with a selector, mirrors of Endpoints written by hand."""

from __future__ import annotations

import itertools

import pytest

from hoplab.cluster.publishing import Publisher
from hoplab.cluster.typed import Typed
from hoplab.kube.load import load
from hoplab.kube.store import Store

WEB = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {team: a}}
spec: {selector: {app: web}, clusterIP: 10.0.0.5, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
BY_HAND = """
apiVersion: v1
kind: Service
metadata: {name: database}
spec: {clusterIP: 10.0.0.6, ports: [{port: 5432}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: database}
subsets: [{addresses: [{ip: 192.0.2.5}], ports: [{port: 5432}]}]
"""


@pytest.fixture
def cluster():
    numbers = itertools.count(1)
    store = Store(lambda: f"uid-{next(numbers)}")
    return store, Publisher(store, Typed(store))


def apply(store, text):
    for obj in load(text, "test").objects:
        store.create(obj)


def pod(store, name, ip, *, ready=True, deleting=False, phase="Running"):
    text = f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: web}}}}\n"
    (obj,) = load(f"{text}spec: {{nodeName: node1, containers: [{{name: c, image: nginx}}]}}", "test").objects
    conditions = [{"type": "Ready", "status": str(ready)}]
    obj = obj.changed(status={"phase": phase, "podIP": ip, "podIPs": [{"ip": ip}], "conditions": conditions})
    if deleting:
        obj = obj.relabelled(deletionTimestamp="2026-01-01T00:00:00Z")
    return store.create(obj)


def test_a_slice_says_who_serves_and_who_leaves(cluster):
    store, publisher = cluster
    apply(store, WEB)
    good = pod(store, "good", "10.1.1.2")
    pod(store, "slow", "10.1.1.3", ready=False)
    pod(store, "leaving", "10.1.1.4", deleting=True)
    pod(store, "over", "10.1.1.5", phase="Succeeded")
    assert publisher.run()
    (piece,) = store.each("EndpointSlice")
    assert piece.meta.labels == {
        "team": "a",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert piece.metadata["ownerReferences"][0]["uid"] == store.get("Service", "web").meta.uid
    assert piece.document["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    told = {each["addresses"][0]: tuple(each["conditions"].values()) for each in piece.document["endpoints"]}
    assert told == {
        "10.1.1.2": (True, True, False),
        "10.1.1.3": (False, False, False),
        "10.1.1.4": (False, True, True),
    }
    target = {"kind": "Pod", "name": "good", "namespace": "default", "uid": good.meta.uid}
    assert piece.document["endpoints"][0]["targetRef"] == target
    (legacy,) = store.each("Endpoints")
    (subset,) = legacy.document["subsets"]
    assert [each["ip"] for each in subset["addresses"]] == ["10.1.1.2"]
    assert [each["ip"] for each in subset["notReadyAddresses"]] == ["10.1.1.3"]


def test_what_did_not_change_is_not_written_again(cluster):
    store, publisher = cluster
    apply(store, WEB)
    first = pod(store, "first", "10.1.1.2")
    publisher.run()
    version = store.version_of("EndpointSlice", "Endpoints")
    assert not publisher.run()
    store.update(first.relabelled(annotations={"note": "nothing that matters"}))
    publisher.run()
    assert store.version_of("EndpointSlice", "Endpoints") == version


def test_a_pod_of_the_same_name_and_address_is_another_one(cluster):
    store, publisher = cluster
    apply(store, WEB)
    pod(store, "db-0", "10.1.1.2")
    publisher.run()
    store.delete("Pod", "db-0")
    again = pod(store, "db-0", "10.1.1.2")
    publisher.run()
    (piece,) = store.each("EndpointSlice")
    assert piece.document["endpoints"][0]["targetRef"]["uid"] == again.meta.uid


def test_what_others_changed_in_a_slice_is_put_right(cluster):
    store, publisher = cluster
    apply(store, WEB)
    pod(store, "first", "10.1.1.2")
    publisher.run()
    (piece,) = store.each("EndpointSlice")
    store.update(piece.changed(endpoints=[]))
    publisher.run()
    assert len(store.each("EndpointSlice")[0].document["endpoints"]) == 1


def test_a_service_that_nobody_serves_has_an_empty_slice(cluster):
    store, publisher = cluster
    apply(store, WEB)
    publisher.run()
    (piece,) = store.each("EndpointSlice")
    assert (piece.document["endpoints"], piece.document["ports"]) == ([], [])
    assert "subsets" not in store.get("Endpoints", "web").document
    first = pod(store, "first", "10.1.1.2")
    publisher.run()
    assert [each.meta.name for each in store.each("EndpointSlice")] == [piece.meta.name]
    store.delete("Pod", first.meta.name)
    store.delete("Service", "web")
    publisher.run()
    assert store.each("EndpointSlice") == store.each("Endpoints") == ()


def test_endpoints_written_by_hand_are_mirrored_and_go_with_their_mirror(cluster):
    store, publisher = cluster
    apply(store, BY_HAND)
    publisher.run()
    (piece,) = store.each("EndpointSlice")
    managed = "endpointslice.kubernetes.io/managed-by"
    assert piece.meta.labels[managed] == "endpointslicemirroring-controller.k8s.io"
    assert piece.document["endpoints"][0]["addresses"] == ["192.0.2.5"]
    assert [each.meta.name for each in store.each("Endpoints")] == ["database"]
    store.delete("Endpoints", "database")
    publisher.run()
    assert store.each("EndpointSlice") == ()


def test_who_asks_not_to_be_mirrored_is_not(cluster):
    store, publisher = cluster
    asks = "metadata: {name: database, labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}}\nsubsets"
    apply(store, BY_HAND.replace("metadata: {name: database}\nsubsets", asks))
    publisher.run()
    assert store.each("EndpointSlice") == ()
