"""What the nodes and controllers decide: endpoints of Services, programs of images, health."""

import json
from dataclasses import replace

import pytest

from hoplab.cluster.endpoints import MOST_ENDPOINTS, RunningPod, slices
from hoplab.cluster.health import kube_proxy_healthz, kube_proxy_livez, service_health
from hoplab.cluster.images import program
from hoplab.kube.types import Container, ContainerPort, ObjectMeta, Pod, Service, ServicePort


def pod(name, labels=None, node="", ports=()):
    container = Container("c", "nginx", ports=tuple(ports))
    return Pod(ObjectMeta(name, labels=labels or {}), (container,), node_name=node)


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


def test_a_server_may_be_slow_to_start_and_kind_when_it_ends():
    what = program(Container("c", "nginx", env={"HOPLAB_STARTUP_SECONDS": "0.5", "HOPLAB_SHUTDOWN_SECONDS": "x"}))
    assert (what.startup_s, what.shutdown_s) == (0.5, 0.0)


def test_a_health_check_node_port_tells_what_kube_proxy_tells():
    answer = service_health("ns", "web", 2, True)
    assert answer.status == 200
    assert answer.body == (
        '{\n\t"service": {\n\t\t"namespace": "ns",\n\t\t"name": "web"\n\t},\n'
        '\t"localEndpoints": 2,\n\t"serviceProxyHealthy": true\n}'
    )
    assert dict(answer.headers) == {"X-Content-Type-Options": "nosniff", "X-Load-Balancing-Endpoint-Weight": "2"}
    assert [service_health("ns", "web", *each).status for each in ((0, True), (2, False))] == [503, 503]


@pytest.mark.parametrize(
    ("healthy", "eligible", "status", "updated", "alive"),
    [(True, True, 200, "09.500000", 200), (False, True, 503, "07.000000", 503), (True, False, 503, "07.000000", 200)],
)
def test_healthz_and_livez_tell_what_kube_proxy_tells(healthy, eligible, status, updated, alive):
    answer, live = kube_proxy_healthz(healthy, eligible, 9.5, 7), kube_proxy_livez(healthy, 9.5, 7)
    assert (answer.status, live.status) == (status, alive)
    current = '"currentTime": "1970-01-01 00:00:09.500000 +0000 UTC"'
    known = f'"nodeEligible": {json.dumps(eligible)}'
    assert answer.body == f'{{"lastUpdated": "1970-01-01 00:00:{updated} +0000 UTC",{current}, {known}}}'
    lived = "09.500000" if healthy else "07.000000"
    assert live.body == f'{{"lastUpdated": "1970-01-01 00:00:{lived} +0000 UTC",{current}}}'


@pytest.mark.parametrize(
    ("distribution", "zones", "nodes"),
    [
        ("", (), ()),
        ("PreferClose", ("a",), ()),
        ("PreferSameZone", ("a",), ()),
        ("PreferSameNode", ("a",), ("node1",)),
    ],
)
def test_traffic_distribution_becomes_hints_of_ready_endpoints(distribution, zones, nodes):
    service = Service(
        ObjectMeta("web"), selector={"app": "web"}, ports=(ServicePort(80),), traffic_distribution=distribution
    )
    pods = [running("w1", "10.1.1.4", zone="a"), running("w2", "10.1.1.5", zone="a", ready=False)]
    (made,) = slices([service], pods)
    assert [(each.zone_hints, each.node_hints) for each in made.endpoints] == [(zones, nodes), ((), ())]
