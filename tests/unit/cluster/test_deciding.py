"""What the controllers decide: pods of workloads, nodes of pods, endpoints of Services, programs of images."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.cluster.endpoints import MOST_ENDPOINTS, RunningPod, slices
from hoplab.cluster.health import kube_proxy_healthz, service_health
from hoplab.cluster.images import program
from hoplab.cluster.scheduler import schedule
from hoplab.cluster.workloads import plan
from hoplab.errors import InputError
from hoplab.kube.types import Container, ContainerPort, ObjectMeta, Pod, Service, ServicePort, Workload

NODES = ["node1", "node2", "node3"]


def pod(name, labels=None, node="", ports=(), owner=""):
    container = Container("c", "nginx", ports=tuple(ports))
    return Pod(ObjectMeta(name, labels=labels or {}), (container,), node_name=node, owner=owner)


def workload(kind, name, replicas, labels=None, image="nginx"):
    template = Pod(ObjectMeta(name, labels=labels or {"app": name}), (Container("c", image),))
    return Workload(kind, ObjectMeta(name), replicas, labels or {"app": name}, template)


def settled(workloads, pods=(), seed=1):
    """The pods after the plan was carried out, and the plan."""
    changes = plan(workloads, pods, NODES, random.Random(seed))
    return [p for p in pods if p not in changes.delete] + list(changes.create), changes


@pytest.mark.parametrize("kind", ["ReplicationController", "ReplicaSet", "Deployment", "StatefulSet"])
@pytest.mark.parametrize(("before", "after"), [(0, 3), (3, 3), (3, 5), (5, 2), (2, 0)])
def test_scaling_makes_and_deletes_as_many_as_it_takes(kind, before, after):
    pods, _ = settled([workload(kind, "web", before)])
    scaled, changes = settled([workload(kind, "web", after)], pods, seed=2)
    assert len(scaled) == after
    assert len(changes.create) == max(0, after - before)
    assert len(changes.delete) == max(0, before - after)
    assert len({p.meta.name for p in scaled}) == after


def test_names_are_made_as_the_controllers_make_them():
    names = {kind: settled([workload(kind, "web", 1)])[0][0].meta.name for kind in ("ReplicaSet", "StatefulSet")}
    assert names["StatefulSet"] == "web-0"
    assert names["ReplicaSet"].startswith("web-")
    assert len(names["ReplicaSet"]) == len("web-") + 5
    deployed = settled([workload("Deployment", "web", 1)])[0][0]
    assert deployed.meta.name.startswith(f"web-{deployed.meta.labels['pod-template-hash']}-")


def test_a_changed_template_replaces_a_deployments_pods_only():
    for kind, replaced in (("Deployment", 2), ("ReplicaSet", 0)):
        pods, _ = settled([workload(kind, "web", 2)])
        _, changes = settled([workload(kind, "web", 2, image="nginx:2")], pods, seed=3)
        assert len(changes.delete) == len(changes.create) == replaced


def test_a_daemon_set_has_one_pod_on_each_node():
    pods, _ = settled([workload("DaemonSet", "agent", 0)])
    assert [p.node_name for p in pods] == NODES
    assert plan([workload("DaemonSet", "agent", 0)], pods, NODES, random.Random(1)).create == ()


def test_pods_of_a_deleted_workload_go():
    pods, _ = settled([workload("ReplicaSet", "web", 2)])
    assert list(plan([], pods, NODES, random.Random(1)).delete) == pods


def test_same_seed_same_names():
    assert settled([workload("ReplicaSet", "web", 5)])[0] == settled([workload("ReplicaSet", "web", 5)])[0]


@given(st.integers(1, 12), st.integers(0, 4))
def test_pods_of_one_owner_spread_over_the_nodes(count, others):
    running = [pod(f"old{n}", node="node1") for n in range(others)]
    placed = schedule([pod(f"p{n}", owner="ReplicaSet/web") for n in range(count)], running, NODES)
    counts = [sum(p.node_name == node for p in placed) for node in NODES]
    assert max(counts) - min(counts) <= 1


def test_a_pod_gets_the_node_it_names_or_a_message():
    assert schedule([pod("p", node="node2")], [], NODES)[0].node_name == "node2"
    with pytest.raises(InputError, match=r"no node 'node9'; its nodes are node1, node2, node3"):
        schedule([pod("p", node="node9")], [], NODES)


SERVICE = Service(ObjectMeta("web"), ports=(ServicePort(80, target_port="http"),), selector={"app": "web"})
HTTP = ContainerPort(8080, name="http")


def running(name, ip, *, labels=None, ports=(HTTP,), **state):
    return RunningPod(pod(name, labels or {"app": "web"}, "node1", ports), (ip,), **state)


def test_endpoints_are_the_pods_that_the_selector_picks():
    (piece,) = slices([SERVICE], [running("a", "10.1.1.2"), running("b", "10.1.1.3", labels={"app": "other"})])
    assert [e.addresses for e in piece.endpoints] == [("10.1.1.2",)]
    assert [(p.port, p.protocol) for p in piece.ports] == [(8080, "TCP")]
    assert piece.endpoints[0].target_ref == "default/a"
    assert piece.service == "web"


def test_a_named_port_is_looked_up_in_each_pod():
    other = ContainerPort(9090, name="http")
    found = slices([SERVICE], [running("a", "10.1.1.2"), running("b", "10.1.1.3", ports=(other,))])
    assert [(piece.ports[0].port, piece.endpoints[0].addresses) for piece in found] == [
        (8080, ("10.1.1.2",)),
        (9090, ("10.1.1.3",)),
    ]
    assert slices([SERVICE], [running("c", "10.1.1.4", ports=())]) == []


@pytest.mark.parametrize(
    ("state", "publish", "conditions"),
    [
        ({}, False, (True, True, False)),
        ({"ready": False}, False, (False, False, False)),
        ({"ready": False}, True, (True, True, False)),
        ({"terminating": True}, False, (False, True, True)),
        ({"terminating": True, "ready": False}, False, (False, False, True)),
    ],
)
def test_conditions_follow_the_pods_state(state, publish, conditions):
    service = replace(SERVICE, publish_not_ready_addresses=publish)
    ((endpoint,),) = [piece.endpoints for piece in slices([service], [running("a", "10.1.1.2", **state)])]
    assert (endpoint.ready, endpoint.serving, endpoint.terminating) == conditions


def test_no_selector_no_endpoints():
    assert slices([replace(SERVICE, selector={})], [running("a", "10.1.1.2")]) == []


def test_large_services_get_several_slices():
    pods = [running(f"p{n}", f"10.1.{n // 200}.{n % 200 + 2}") for n in range(MOST_ENDPOINTS + 1)]
    assert [len(piece.endpoints) for piece in slices([SERVICE], pods)] == [MOST_ENDPOINTS, 1]


@pytest.mark.parametrize(
    ("image", "arguments", "declared", "ports", "warns"),
    [
        ("nginx:1.12.0", (), (80,), [(80, "TCP")], False),
        ("nginx", (), (), [(80, "TCP")], False),
        ("gcr.io/google_containers/echoserver:1.4", (), (8080,), [(8080, "TCP")], False),
        ("registry.example/e2e-test-images/agnhost:2.40", (), (), [(8080, "TCP"), (8081, "UDP")], False),
        ("agnhost", ("netexec", "--http-port=80", "--udp-port=90"), (), [(80, "TCP"), (90, "UDP")], False),
        ("busybox", (), (), [], False),
        ("mine:5000/app", (), (1234,), [(1234, "TCP")], True),
        ("mine:5000/app", (), (), [], True),
    ],
)
def test_images_stand_for_programs(image, arguments, declared, ports, warns):
    container = Container("c", image, args=arguments, ports=tuple(ContainerPort(port) for port in declared))
    what = program(container)
    assert [(p.port, p.protocol) for p in what.ports] == ports
    assert bool(what.warning) == warns


def test_health_is_told_as_kube_proxy_tells_it():
    assert service_health("ns", "web", 2, True).status == 200
    assert dict(service_health("ns", "web", 2, True).headers)["X-Load-Balancing-Endpoint-Weight"] == "2"
    assert service_health("ns", "web", 0, True).status == 503
    assert service_health("ns", "web", 2, False).status == 503
    assert kube_proxy_healthz(True, True, 0).status == 200
    assert kube_proxy_healthz(False, True, 0).status == 503
    assert kube_proxy_healthz(True, False, 0).body["nodeEligible"] is False
