"""kube-proxy's nftables table at work in the kernel: the router of the little network is the node."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.nft_text import Table, changes
from hoplab.dataplane.nftables import build
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
from tests.unit.dataplane.nft_bench import Bench

pytestmark = pytest.mark.lab

NODE = Node("node0", ("203.0.113.2",))
CONFIG = ProxyConfig(mode="nftables", cluster_cidrs=("10.240.0.0/16",), service_ip_ranges=("198.51.100.0/24",))
WEB = Service(ObjectMeta("web"), cluster_ips=("198.51.100.10",), ports=(ServicePort(80, "TCP", "http"),))
DNS = Service(ObjectMeta("dns"), cluster_ips=("198.51.100.10",), ports=(ServicePort(80, "UDP", "dns"),))
OUTSIDE = replace(WEB, type="NodePort", cluster_ips=("198.51.100.20",), external_ips=("198.51.100.10",))
BOTH = ("10.240.0.11", "10.240.0.12")
VIP = LoadBalancerIngress("198.51.100.10")


def endpoints(service: Service, *addresses: str, node_name: str = "") -> EndpointSlice:
    port = service.ports[0]
    each = tuple(Endpoint((address,), node_name=node_name) for address in addresses)
    ports = (EndpointPort(30080, port.protocol, port.name),)
    return EndpointSlice(ObjectMeta(f"{service.meta.name}-1"), service.meta.name, "IPv4", each, ports)


def table(service: Service, *addresses: str, node_name: str = "", config: ProxyConfig = CONFIG) -> Table:
    return build((service,), (endpoints(service, *addresses, node_name=node_name),), NODE, config, "IPv4")


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as network:
        yield network


@pytest.mark.parametrize(("service", "protocol"), [(WEB, "tcp"), (DNS, "udp")])
def test_cluster_ip_reaches_every_endpoint_and_masquerades_a_sender_from_outside(
    bench: Bench, service: Service, protocol: str
):
    bench.load(table(service, *BOTH).text())
    answers = bench.ask(*range(40000, 40032), protocol=protocol)
    assert set(answers) == {"node1 10.240.0.2", "node2 10.240.0.2"}


def test_without_detection_of_local_traffic_the_sender_stays(bench: Bench):
    bench.load(table(WEB, *BOTH, config=replace(CONFIG, cluster_cidrs=())).text())
    assert set(bench.ask(*range(40000, 40032))) == {"node1 203.0.113.10", "node2 203.0.113.10"}


def test_affinity_keeps_a_client_on_its_endpoint(bench: Bench):
    bench.load(table(replace(WEB, session_affinity="ClientIP"), *BOTH).text())
    assert len(set(bench.ask(*range(40000, 40032)))) == 1


def test_no_endpoint_is_a_refusal_and_an_unknown_port_too(bench: Bench):
    bench.load(table(WEB).text())
    assert bench.ask(40000) == ["refused"]
    bench.load(table(replace(WEB, ports=(ServicePort(81, "TCP", "http"),)), *BOTH).text())
    assert bench.ask(40001) == ["refused"]


def test_a_service_address_that_nobody_has_is_dropped(bench: Bench):
    bench.load(table(replace(WEB, cluster_ips=("198.51.100.11",)), *BOTH).text())
    assert bench.ask(40000, seconds=0.3) == [None]


def test_policy_local_keeps_the_sender_or_drops(bench: Bench):
    local = replace(OUTSIDE, external_traffic_policy="Local")
    bench.load(table(local, *BOTH, node_name="node0").text())
    assert set(bench.ask(*range(40000, 40032))) == {"node1 203.0.113.10", "node2 203.0.113.10"}
    bench.load(table(local, *BOTH, node_name="elsewhere").text())
    assert bench.ask(40100, seconds=0.3) == [None]


def test_policy_cluster_masquerades_traffic_to_an_external_ip(bench: Bench):
    bench.load(table(OUTSIDE, *BOTH).text())
    assert set(bench.ask(*range(40000, 40032))) == {"node1 10.240.0.2", "node2 10.240.0.2"}


def test_source_ranges_drop_other_senders(bench: Bench):
    balanced = replace(OUTSIDE, type="LoadBalancer", external_ips=(), load_balancer_ingress=(VIP,))
    bench.load(table(replace(balanced, load_balancer_source_ranges=("203.0.113.0/25",)), *BOTH).text())
    assert bench.ask(40000)[0] in ("node1 10.240.0.2", "node2 10.240.0.2")
    bench.load(table(replace(balanced, load_balancer_source_ranges=("203.0.113.128/25",)), *BOTH).text())
    assert bench.ask(40001, seconds=0.3) == [None]


def test_ipv6(bench: Bench):
    node = Node("node0", ("2001:db8:c::2",))
    config = replace(CONFIG, cluster_cidrs=("fd00:240::/64",))
    web = replace(WEB, cluster_ips=("2001:db8:10::10",))
    each = tuple(Endpoint((address,)) for address in ("fd00:240::11", "fd00:240::12"))
    ports = (EndpointPort(30080, "TCP", "http"),)
    slices = (EndpointSlice(ObjectMeta("web-1"), "web", "IPv6", each, ports),)
    bench.load(build((web,), slices, node, config, "IPv6").text())
    answers = bench.ask(*range(40000, 40032), family="IPv6")
    assert set(answers) == {"node1 fd00:240::2", "node2 fd00:240::2"}
    bench.load(build((web,), (), node, config, "IPv6").text())
    assert bench.ask(40100, family="IPv6") == ["refused"]


def test_no_flow_is_lost_in_200_changes(bench: Bench):
    states = [table(WEB, *BOTH), table(WEB, BOTH[0]), table(WEB, BOTH[1]), table(OUTSIDE, *BOTH)]
    bench.load(states[0].text())
    before = states[0]
    bench.start_asking(*range(40000, 44000), seconds=0.5)
    for number in range(1, 201):
        now = states[number % len(states)]
        bench.load(changes(before, now))
        before = now
    answers = bench.answers()
    # A packet that is among the rules just when a transaction takes effect goes on with the old rules, but looks up in
    # the new sets (docs/dataplane.md, "What a transaction does not promise"); kube-proxy's transactions are the same.
    good = {"node1 10.240.0.2", "node2 10.240.0.2"}
    unlucky = [answer for answer in answers if answer not in good]
    assert set(answers) >= good
    assert set(unlucky) <= {"refused", None}
    assert len(unlucky) <= len(answers) // 1000
