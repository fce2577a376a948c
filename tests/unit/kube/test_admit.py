"""Admission: what the API server fills in, and what it refuses because of other objects, in its own words."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from hoplab.kube.admit import Ranges, admit, qos_class
from hoplab.kube.load import load_document
from hoplab.kube.objects import KubeObject, object_of
from hoplab.kube.problems import ManifestError
from hoplab.kube.store import Forbidden, NotFound, Store

RANGES = Ranges(("10.0.0.0/16",), range(30000, 32768))


def new_store() -> Store:
    numbers = itertools.count(1)
    store = Store(lambda: f"uid-{next(numbers)}")
    store.create(object_of({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}))
    return store


def service(name: str, spec: dict[str, Any]) -> KubeObject:
    return load_document(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}},
        "test",
    )


def stored(store: Store, obj: KubeObject) -> KubeObject:
    made = admit(obj, store, RANGES, random.Random(1))
    return store.create(made) if store.find(obj.kind, obj.meta.name) is None else store.update(made)


def test_a_service_is_given_its_addresses_and_ports() -> None:
    made = stored(new_store(), service("web", {"type": "NodePort"}))
    assert made.spec["clusterIP"].startswith("10.0.")
    assert made.spec["clusterIPs"] == [made.spec["clusterIP"]]
    assert made.spec["ports"][0]["nodePort"] in RANGES.node_ports
    assert (made.spec["ipFamilies"], made.spec["ipFamilyPolicy"]) == (["IPv4"], "SingleStack")
    assert made.status == {"loadBalancer": {}}


def test_a_balancers_address_is_not_the_api_servers_to_give() -> None:
    made = stored(new_store(), service("web", {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}))
    assert made.status == {"loadBalancer": {}}
    assert made.spec["healthCheckNodePort"] in RANGES.node_ports


def test_an_update_keeps_what_was_given() -> None:
    store = new_store()
    before = stored(store, service("web", {"type": "NodePort"}))
    after = stored(store, service("web", {"type": "NodePort", "selector": {"app": "web"}}))
    assert after.spec["clusterIP"] == before.spec["clusterIP"]
    assert after.spec["ports"] == before.spec["ports"]


def test_another_type_leaves_nothing_of_the_old_one_behind() -> None:
    store = new_store()
    spec: dict[str, Any] = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    before = stored(store, service("web", spec))
    store.update(before.changed(status={"loadBalancer": {"ingress": [{"ip": "198.51.100.10"}]}}))
    patched = store.get("Service", "web")
    after = stored(store, patched.changed(spec={**patched.spec, "type": "ClusterIP"}))
    assert after.spec["clusterIP"] == before.spec["clusterIP"]
    assert not {"healthCheckNodePort", "externalTrafficPolicy", "allocateLoadBalancerNodePorts"} & after.spec.keys()
    assert "nodePort" not in after.spec["ports"][0]
    assert after.status["loadBalancer"] == {}
    named = after.changed(spec={**after.spec, "type": "ExternalName", "externalName": "example.org"})
    assert not {"clusterIP", "clusterIPs", "ipFamilies"} & stored(store, named).spec.keys()


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 32261}]},
            "spec.ports[0].nodePort: Invalid value: 32261: provided port is already allocated",
        ),
        (
            {"clusterIP": "10.0.0.167"},
            'spec.clusterIPs: Invalid value: ["10.0.0.167"]: failed to allocate IP 10.0.0.167: provided IP is already'
            " allocated",
        ),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid"
            " ports is 30000-32767",
        ),
        (
            {"clusterIP": "10.9.0.1"},
            'spec.clusterIPs: Invalid value: ["10.9.0.1"]: failed to allocate IP 10.9.0.1: the provided IP (10.9.0.1)'
            " is not in the valid range. The range of valid IPs is 10.0.0.0/16",
        ),
    ],
)
def test_what_is_taken_or_outside_is_refused(spec: dict[str, Any], problem: str) -> None:
    store = new_store()
    first = {"type": "NodePort", "clusterIP": "10.0.0.167", "ports": [{"port": 80, "nodePort": 32261}]}
    stored(store, service("first", first))
    with pytest.raises(ManifestError) as refused:
        stored(store, service("second", spec))
    assert [f"{p.field}: {p.message}" for p in refused.value.problems] == [problem]


def test_a_cluster_ip_stays_for_life() -> None:
    store = new_store()
    stored(store, service("web", {"clusterIP": "10.0.0.5"}))
    with pytest.raises(ManifestError, match="may not change once set"):
        stored(store, service("web", {"clusterIP": "10.0.0.6"}))


def test_a_namespace_must_be_there_and_stay() -> None:
    store = new_store()
    lost = load_document({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "x"}}, "test")
    with pytest.raises(NotFound, match=r'^namespaces "x" not found$'):
        admit(lost, store, RANGES, random.Random(1))
    namespace = {"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    store.create(object_of({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace}))
    with pytest.raises(Forbidden, match="because it is being terminated"):
        admit(lost, store, RANGES, random.Random(1))


def test_a_job_is_given_its_selector() -> None:
    job = load_document(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "once"},
            "spec": {
                "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}}
            },
        },
        "test",
    )
    made = stored(new_store(), job)
    labels = made.spec["template"]["metadata"]["labels"]
    assert made.spec["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": made.meta.uid}
    assert labels["batch.kubernetes.io/controller-uid"] == made.meta.uid
    assert labels["job-name"] == "once"


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"limits": {"cpu": "1"}}, "Burstable"),
    ],
)
def test_quality_of_service(resources: dict[str, Any], expected: str) -> None:
    assert qos_class({"containers": [{"name": "c", "resources": resources}]}) == expected
