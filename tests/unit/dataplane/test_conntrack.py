"""Which UDP entries are stale: the cases of kube-proxy's cleanup, with our own addresses."""

from __future__ import annotations

import pytest

from hoplab.dataplane.conntrack import UdpEntry, serving, stale
from hoplab.dataplane.view import view
from hoplab.kube.types import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    LoadBalancerIngress,
    Node,
    ObjectMeta,
    Service,
    ServicePort,
)

NODE = Node("node1", ("10.240.0.11",))
DNS = Service(
    ObjectMeta("dns", "kube-system"),
    type="LoadBalancer",
    cluster_ips=("10.0.0.10",),
    ports=(ServicePort(53, "UDP", "dns", 5353, 30053), ServicePort(53, "TCP", "dns-tcp", 5353, 30053)),
    external_ips=("192.0.2.9",),
    load_balancer_ingress=(LoadBalancerIngress("198.51.100.10"),),
    external_traffic_policy="Local",
)
SLICE = EndpointSlice(
    ObjectMeta("dns-1", "kube-system"),
    "dns",
    "IPv4",
    (
        Endpoint(("10.1.1.4",), node_name="node1"),
        Endpoint(("10.1.2.4",), ready=False, serving=True, terminating=True, node_name="node2"),
        Endpoint(("10.1.2.5",), ready=False, serving=False, terminating=True, node_name="node2"),
    ),
    (EndpointPort(5353, "UDP", "dns"), EndpointPort(5353, "TCP", "dns-tcp")),
)
SEEN = view([DNS], [SLICE], NODE, "IPv4")


def entry(destination: str, port: int, answers: str, answers_port: int = 5353) -> UdpEntry:
    return UdpEntry("10.1.1.99", 40000, destination, port, answers, answers_port)


def test_every_way_to_a_udp_port_counts_and_tcp_does_not():
    endpoints = frozenset({("10.1.1.4", 5353), ("10.1.2.4", 5353)})
    ways = {("10.0.0.10", 53), ("192.0.2.9", 53), ("198.51.100.10", 53), ("", 30053)}
    assert serving(SEEN) == dict.fromkeys(ways, endpoints)


@pytest.mark.parametrize("destination", ["10.0.0.10", "192.0.2.9", "198.51.100.10"])
@pytest.mark.parametrize(
    ("answers", "expected"),
    [("10.1.1.4", False), ("10.1.2.4", False), ("10.1.2.5", True), ("10.1.9.9", True), ("10.0.0.10", True)],
)
def test_an_entry_is_stale_unless_a_serving_endpoint_answers(destination, answers, expected):
    one = entry(destination, 53, answers)
    assert stale(SEEN, [one]) == ([one] if expected else [])


def test_a_port_of_an_endpoint_counts_as_well():
    one = entry("10.0.0.10", 53, "10.1.1.4", 53)
    assert stale(SEEN, [one]) == [one]


def test_node_ports_are_known_by_their_number():
    good, bad = entry("10.240.0.11", 30053, "10.1.1.4"), entry("10.240.0.11", 30053, "10.1.9.9")
    assert stale(SEEN, [good, bad]) == [bad]


def test_connections_to_anything_else_stay():
    assert stale(SEEN, [entry("10.0.0.10", 54, "10.1.9.9"), entry("8.8.8.8", 53, "8.8.8.8", 53)]) == []


def test_without_endpoints_every_entry_to_the_service_is_stale():
    one = entry("10.0.0.10", 53, "10.1.1.4")
    assert stale(view([DNS], [], NODE, "IPv4"), [one]) == [one]
