"""kube-proxy's iptables rules at work in the kernel: the router of the little network is the node."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.iptables import build
from hoplab.dataplane.iptables_text import Tables, changes
from hoplab.kube.types import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IPFamily,
    LoadBalancerIngress,
    Node,
    ObjectMeta,
    Service,
    ServicePort,
)
from tests.unit.dataplane.ipt_kernel import PROGRAMS
from tests.unit.dataplane.nft_bench import Bench

pytestmark = pytest.mark.lab

NODE = Node("node0", ("203.0.113.2", "2001:db8:c::2"))
CONFIG = ProxyConfig(cluster_cidrs=("10.240.0.0/16", "fd00:240::/64"))
OLD = replace(CONFIG, kubernetes="1.7")
WEB = Service(ObjectMeta("web"), cluster_ips=("198.51.100.10",), ports=(ServicePort(80, "TCP", "http"),))
DNS = Service(ObjectMeta("dns"), cluster_ips=("198.51.100.10",), ports=(ServicePort(80, "UDP", "dns"),))
SIX = replace(WEB, cluster_ips=("2001:db8:10::10",))
OUTSIDE = replace(WEB, type="NodePort", cluster_ips=("198.51.100.20",), external_ips=("198.51.100.10",))
BALANCED = replace(
    OUTSIDE, type="LoadBalancer", external_ips=(), load_balancer_ingress=(LoadBalancerIngress("198.51.100.10"),)
)
BOTH = ("10.240.0.11", "10.240.0.12")
MASQUERADED = {"node1 10.240.0.2", "node2 10.240.0.2"}
AS_SENT = {"node1 203.0.113.10", "node2 203.0.113.10"}


def tables(service: Service, *addresses: str, node_name: str = "", config: ProxyConfig = CONFIG) -> Tables:
    family: IPFamily = "IPv6" if ":" in service.cluster_ips[0] else "IPv4"
    port = service.ports[0]
    each = tuple(Endpoint((address,), node_name=node_name) for address in addresses)
    ports = (EndpointPort(30080, port.protocol, port.name),)
    slices = (EndpointSlice(ObjectMeta(f"{service.meta.name}-1"), service.meta.name, family, each, ports),)
    return build((service,), slices, NODE, config, family)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with Bench() as network:
        yield network


def load(bench: Bench, text: str, family: IPFamily = "IPv4") -> None:
    bench.run(f"{PROGRAMS[family]}-restore", "--noflush", stdin=text)


@pytest.mark.parametrize("config", [CONFIG, OLD], ids=["today", "1.7"])
@pytest.mark.parametrize(("service", "protocol"), [(WEB, "tcp"), (DNS, "udp")])
def test_cluster_ip_reaches_every_endpoint_and_masquerades_a_sender_from_outside(
    bench: Bench, service: Service, protocol: str, config: ProxyConfig
):
    load(bench, tables(service, *BOTH, config=config).text())
    assert set(bench.ask(*range(40000, 40032), protocol=protocol)) == MASQUERADED


def test_without_detection_of_local_traffic_the_sender_stays(bench: Bench):
    load(bench, tables(WEB, *BOTH, config=ProxyConfig()).text())
    assert set(bench.ask(*range(40000, 40032))) == AS_SENT


def test_affinity_keeps_a_client_on_its_endpoint(bench: Bench):
    load(bench, tables(replace(WEB, session_affinity="ClientIP"), *BOTH).text())
    assert len(set(bench.ask(*range(40000, 40032)))) == 1


@pytest.mark.parametrize("config", [CONFIG, OLD], ids=["today", "1.7"])
def test_no_endpoint_is_a_refusal(bench: Bench, config: ProxyConfig):
    # Kubernetes 1.7 hooked its refusals into INPUT and OUTPUT only: what is forwarded is not refused.
    load(bench, tables(WEB, config=config).text())
    assert bench.ask(40000, seconds=0.3) == (["refused"] if config is CONFIG else [None])


def test_policy_local_keeps_the_sender_or_drops(bench: Bench):
    local = replace(OUTSIDE, external_traffic_policy="Local")
    here, elsewhere = tables(local, *BOTH, node_name="node0"), tables(local, *BOTH, node_name="elsewhere")
    load(bench, here.text())
    assert set(bench.ask(*range(40000, 40032))) == AS_SENT
    load(bench, changes(here, elsewhere))
    assert bench.ask(40100, seconds=0.3) == [None]


@pytest.mark.parametrize("config", [CONFIG, OLD], ids=["today", "1.7"])
@pytest.mark.parametrize("service", [OUTSIDE, BALANCED], ids=["external IP", "load balancer"])
def test_policy_cluster_masquerades_traffic_from_outside(bench: Bench, service: Service, config: ProxyConfig):
    load(bench, tables(service, *BOTH, config=config).text())
    assert set(bench.ask(*range(40000, 40032))) == MASQUERADED


def test_source_ranges_drop_other_senders(bench: Bench):
    mine = tables(replace(BALANCED, load_balancer_source_ranges=("203.0.113.0/25",)), *BOTH)
    others = tables(replace(BALANCED, load_balancer_source_ranges=("203.0.113.128/25",)), *BOTH)
    load(bench, mine.text())
    assert set(bench.ask(*range(40000, 40032))) == MASQUERADED
    load(bench, changes(mine, others))
    assert bench.ask(40100, seconds=0.3) == [None]


def test_ipv6(bench: Bench):
    some, none = tables(SIX, "fd00:240::11", "fd00:240::12"), tables(SIX)
    load(bench, some.text(), "IPv6")
    assert set(bench.ask(*range(40000, 40032), family="IPv6")) == {"node1 fd00:240::2", "node2 fd00:240::2"}
    load(bench, changes(some, none), "IPv6")
    assert bench.ask(40100, family="IPv6") == ["refused"]


@pytest.mark.parametrize("spare_shared", [False, True])
def test_no_flow_is_lost_in_100_changes(bench: Bench, spare_shared: bool):
    states = [tables(WEB, *BOTH), tables(WEB, BOTH[0]), tables(WEB, BOTH[1]), tables(OUTSIDE, *BOTH)]
    load(bench, states[0].text())
    before = states[0]
    bench.start_asking(*range(40000, 42000), seconds=0.5)
    for number in range(1, 101):
        now = states[number % len(states)]
        load(bench, changes(before, now, spare_shared=spare_shared))
        before = now
    assert set(bench.answers()) == MASQUERADED
