"""The proxying balancer: what HAProxy says of its servers, which ports it can not take, which nodes it asks."""

from __future__ import annotations

import pytest

from hoplab.cluster.balancing import frontends, health_target, unproxied
from hoplab.cluster.proxying import ServerState, read_states
from hoplab.errors import InputError
from hoplab.kube.types import LoadBalancerIngress, Node, ObjectMeta, Service, ServicePort
from hoplab.scenario.options import RunOptions

HEADER = "# pxname,svname,status,check_status,check_code,check_duration,last_chk,check_desc,\n"
NODES = (Node("node1", ("10.240.0.11",)), Node("node2", ("10.240.0.12",)))


def service(*ports: ServicePort, policy: str = "Cluster", health: int = 0) -> Service:
    return Service(
        ObjectMeta("web"),
        type="LoadBalancer",
        ports=ports,
        load_balancer_ingress=(LoadBalancerIngress("198.51.100.10"),),
        external_traffic_policy=policy,  # type: ignore[arg-type]
        health_check_node_port=health,
    )


HTTP = ServicePort(80, name="http", node_port=30080)
DNS = ServicePort(53, name="dns", protocol="UDP", node_port=30053)


def test_states_are_read_from_what_haproxy_says_of_its_servers() -> None:
    table = HEADER + (
        "web,node1,UP,L7OK,200,1,,Layer7 check passed,\n"
        "web,node2,DOWN,L4CON,,2,Connection refused,Layer4 connection problem,\n"
        "web,node3,UP 1/3,* L7STS,503,4,,Layer7 wrong status,\n"
        "bare,node1,no check,,,,,,\n"
    )
    assert read_states(table) == {
        ("web", "node1"): ServerState(True, "L7OK 200 after 1 ms: Layer7 check passed"),
        ("web", "node2"): ServerState(False, "L4CON after 2 ms: Layer4 connection problem"),
        ("web", "node3"): ServerState(True, "L7STS 503 after 4 ms: Layer7 wrong status"),
        ("bare", "node1"): ServerState(True, "is not asked"),
    }


@pytest.mark.parametrize("status", ["INI", "* INI"])
def test_nothing_is_known_before_every_server_was_asked(status: str) -> None:
    assert read_states(HEADER + f"web,node1,UP,L7OK,200,1,,,\nweb,node2,UP,{status},,,,,\n") is None
    assert read_states("") == {}


def test_every_node_is_a_server_and_haproxy_asks_it_where_a_balancer_asks() -> None:
    [cluster] = frontends([service(HTTP)], NODES, {}, "proxy")
    assert [(b.node, b.port, b.check) for b in cluster.backends] == [("node1", 30080, 10256), ("node2", 30080, 10256)]
    [local] = frontends([service(HTTP, policy="Local", health=32000)], NODES, {}, "proxy")
    assert [b.check for b in local.backends] == [32000, 32000]
    trusted = dict.fromkeys((health_target(service(HTTP), node) for node in NODES), True)
    [blind] = frontends([service(HTTP)], NODES, trusted, "proxy")
    assert [b.check for b in blind.backends] == [0, 0]
    [asked] = frontends([service(HTTP)], NODES, trusted, "nat")
    assert [b.check for b in asked.backends] == [0, 0]


def test_ports_of_other_protocols_are_left_out_and_told() -> None:
    mixed = service(HTTP, DNS)
    assert [f.port for f in frontends([mixed], NODES, {}, "proxy")] == [80]
    assert [
        f.port for f in frontends([mixed], NODES, dict.fromkeys([health_target(mixed, NODES[0])], True), "nat")
    ] == [80, 53]
    [words] = unproxied([service(HTTP), mixed])
    assert "default/web: the proxying balancer takes TCP only, not 53/UDP" in words


def test_a_service_without_any_tcp_port_can_not_be_proxied() -> None:
    with pytest.raises(InputError, match=r"default/web: --balancer-mode proxy .* 53/UDP can't be balanced"):
        unproxied([service(DNS)])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"provider": "gce", "balancer_mode": "proxy"}, "Google Cloud's balancer of Services passes packets on"),
        ({"provider": "aws-nlb", "balancer_mode": "proxy"}, "AWS' network load balancer passes packets on"),
        ({"proxy_protocol": True}, "--proxy-protocol: .* mode nat rewrites or hands on packets"),
        ({"proxy_protocol": True, "balancer_mode": "passthrough"}, "mode passthrough rewrites or hands on packets"),
    ],
)
def test_combinations_that_can_not_be(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        RunOptions(**options).cluster("cloud", 2)  # type: ignore[arg-type]


def test_a_provider_whose_balancer_is_a_proxy() -> None:
    options = RunOptions(provider="aws", balancer_mode="proxy", proxy_protocol=True).cluster("cloud", 2)
    assert (options.mode, options.algorithm, options.proxy_protocol) == ("proxy", "round-robin", True)
