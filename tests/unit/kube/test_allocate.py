"""Addresses and ports: what is asked for is given, the rest at random by the seed, nothing twice, ranges end."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.kube.allocate import allocate
from hoplab.kube.problems import ManifestError
from hoplab.kube.types import LoadBalancerIngress, ObjectMeta, Origin, Service, ServicePort


def given_ranges(
    services: Sequence[Service],
    *,
    cidrs: Sequence[str] = ("10.0.0.0/16",),
    ports: range = range(30000, 32768),
    vips: str | Sequence[str] = "198.51.100.0/24",
    seed: int = 7,
    **taken: Any,
) -> tuple[Service, ...]:
    return allocate(services, service_cidrs=cidrs, node_ports=ports, vips=vips, chance=random.Random(seed), **taken)


def service(name: str = "web", kind: Any = "ClusterIP", *ports: ServicePort, **fields: Any) -> Service:
    fields.setdefault("ip_families", ("IPv4",))
    return Service(ObjectMeta(name), kind, ports=ports or (ServicePort(80),), origin=Origin("f.yaml", 3), **fields)


def refused(services: Sequence[Service], **ranges: Any) -> str:
    with pytest.raises(ManifestError) as caught:
        given_ranges(services, **ranges)
    return str(caught.value)


def test_a_cluster_ip_of_the_range() -> None:
    (made,) = given_ranges([service()])
    assert ipaddress.ip_address(made.cluster_ips[0]) in ipaddress.ip_network("10.0.0.0/16")
    assert made == replace(service(), cluster_ips=made.cluster_ips)


def test_the_seed_decides_and_nothing_else() -> None:
    services = [service(f"s{number}", "NodePort") for number in range(20)]
    assert given_ranges(services) == given_ranges(services)
    assert given_ranges(services, seed=8) != given_ranges(services)


def test_who_has_all_stays_as_it_is() -> None:
    services = [service("a", "LoadBalancer"), service("b", "NodePort"), service("c")]
    made = given_ranges(services)
    assert given_ranges(made, seed=99) == made


def test_a_node_port_for_each_port_one_number_for_both_protocols() -> None:
    dns = (ServicePort(53, "UDP", "a"), ServicePort(53, "TCP", "b"), ServicePort(9153, "TCP", "c"))
    (made,) = given_ranges([service("dns", "NodePort", *dns)])
    first, second, third = (port.node_port for port in made.ports)
    assert first == second != third
    assert {first, third} <= set(range(30000, 32768))


def test_the_number_that_one_protocol_asks_for_is_the_others_too() -> None:
    dns = (ServicePort(53, "UDP", "a"), ServicePort(53, "TCP", "b", node_port=31053))
    (made,) = given_ranges([service("dns", "NodePort", *dns)])
    assert [port.node_port for port in made.ports] == [31053, 31053]


def test_what_is_asked_for_is_given_also_outside_the_ranges() -> None:
    asked = service(
        "a", "LoadBalancer", ServicePort(80, node_port=80), cluster_ips=("172.30.0.1",), load_balancer_ip="1.2.3.4"
    )
    (made,) = given_ranges([asked])
    assert made.cluster_ips == ("172.30.0.1",)
    assert made.ports[0].node_port == 80
    assert made.load_balancer_ingress == (LoadBalancerIngress("1.2.3.4"),)


def test_what_later_ones_ask_for_is_kept_for_them() -> None:
    cidr = "10.0.0.0/29"  # .2 to .6 are to be had
    later = [service(f"later{number}", cluster_ips=(f"10.0.0.{number}",)) for number in (2, 3, 4, 5)]
    made = given_ranges([service("first"), *later], cidrs=[cidr])
    assert made[0].cluster_ips == ("10.0.0.6",)


def test_balancers_get_addresses_in_order_and_skip_those_in_use() -> None:
    services = [
        service("a", "LoadBalancer"),
        service("b", "LoadBalancer", load_balancer_ip="198.51.100.11"),
        service("c", "LoadBalancer"),
        service("d", "LoadBalancer", load_balancer_ingress=(LoadBalancerIngress("198.51.100.13", "Proxy"),)),
        service("e", "LoadBalancer"),
    ]
    made = given_ranges(services)
    assert [each.load_balancer_ingress[0].ip for each in made] == [
        f"198.51.100.{last}" for last in (10, 11, 12, 13, 14)
    ]
    assert made[3].load_balancer_ingress[0].ip_mode == "Proxy"


def test_a_balancer_without_node_ports_keeps_those_it_asked_for() -> None:
    ports = (ServicePort(80, name="a"), ServicePort(81, name="b", node_port=31000))
    (made,) = given_ranges([service("a", "LoadBalancer", *ports, allocate_load_balancer_node_ports=False)])
    assert [port.node_port for port in made.ports] == [0, 31000]


def test_policy_local_of_a_balancer_needs_a_health_check_port() -> None:
    services = [
        service("a", "LoadBalancer", external_traffic_policy="Local"),
        service("b", "NodePort", external_traffic_policy="Local"),
        service("c", "LoadBalancer", external_traffic_policy="Local", health_check_node_port=30100),
    ]
    first, second, third = given_ranges(services)
    assert first.health_check_node_port in range(30000, 32768)
    assert first.health_check_node_port != first.ports[0].node_port
    assert (second.health_check_node_port, third.health_check_node_port) == (0, 30100)


def test_headless_and_external_name_get_nothing() -> None:
    services = [
        service("a", cluster_ips=("None",)),
        service("b", "ExternalName", external_name="example.com", ip_families=()),
    ]
    assert given_ranges(services) == tuple(services)


BOTH = ("10.0.0.0/16", "fd00:10::/112")


def test_two_families() -> None:
    wanted: dict[str, Any] = {"ip_families": ("IPv6", "IPv4"), "ip_family_policy": "RequireDualStack"}
    (made,) = given_ranges(
        [service("a", "LoadBalancer", **wanted)], cidrs=BOTH, vips=["198.51.100.0/24", "2001:db8::/64"]
    )
    six, four = made.cluster_ips
    assert ipaddress.ip_address(six) in ipaddress.ip_network(BOTH[1])
    assert ipaddress.ip_address(four) in ipaddress.ip_network(BOTH[0])
    assert [each.ip for each in made.load_balancer_ingress] == ["198.51.100.10", "2001:db8::a"]


def test_the_second_family_is_added_to_a_given_address() -> None:
    half = service("a", cluster_ips=("10.0.9.9",), ip_families=("IPv4", "IPv6"), ip_family_policy="PreferDualStack")
    (made,) = given_ranges([half], cidrs=BOTH)
    assert made.cluster_ips[0] == "10.0.9.9"
    assert ":" in made.cluster_ips[1]


def test_who_only_prefers_two_families_is_content_with_one() -> None:
    wanted = service("a", ip_families=("IPv4", "IPv6"), ip_family_policy="PreferDualStack")
    (made,) = given_ranges([wanted])
    assert (made.ip_families, len(made.cluster_ips)) == (("IPv4",), 1)


def test_a_balancer_without_an_address_of_the_family_waits() -> None:
    (made,) = given_ranges([service("a", "LoadBalancer", ip_families=("IPv6",))], cidrs=BOTH)
    assert made.load_balancer_ingress == ()


def test_families_that_the_cluster_has_not() -> None:
    assert refused([service("a", ip_families=("IPv6",))]) == (
        'f.yaml:3: spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'
    )
    both = service("a", ip_families=("IPv4", "IPv6"), ip_family_policy="RequireDualStack")
    assert refused([both]) == (
        'f.yaml:3: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for'
        " dual-stack services"
    )


def test_twice_the_same_is_refused_in_the_api_servers_words() -> None:
    assert refused([service("a", cluster_ips=("10.0.0.7",)), service("b", cluster_ips=("10.0.0.7",))]) == (
        'f.yaml:3: spec.clusterIPs: Invalid value: ["10.0.0.7"]: failed to allocate IP 10.0.0.7: provided IP is'
        " already allocated (by Service default/a)"
    )
    port = ServicePort(80, node_port=30080)
    assert refused([service("a", "NodePort", port), service("b", "NodePort", port)]) == (
        "f.yaml:3: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"
        " (by Service default/a)"
    )
    local: dict[str, Any] = {"external_traffic_policy": "Local", "health_check_node_port": 30080}
    assert "spec.healthCheckNodePort: Invalid value: 30080: provided port is already" in refused(
        [service("a", "LoadBalancer", port, **local)]
    )


def test_one_node_port_for_two_protocols_of_two_services() -> None:
    services = [
        service("a", "NodePort", ServicePort(53, "UDP", node_port=30053)),
        service("b", "NodePort", ServicePort(53, "TCP", node_port=30053)),
    ]
    assert [each.ports[0].node_port for each in given_ranges(services)] == [30053, 30053]


def test_what_others_have_is_not_given() -> None:
    made = given_ranges(
        [service("a", "NodePort")],
        cidrs=["10.0.0.0/29"],
        ports=range(30000, 30003),
        taken_ips=["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"],
        taken_ports=[(30000, "TCP"), (30002, "TCP"), (30001, "UDP")],
    )
    assert made[0].cluster_ips == ("10.0.0.6",)
    assert made[0].ports[0].node_port == 30001
    assert "already allocated (by something else)" in refused(
        [service("a", cluster_ips=("10.0.0.2",))], taken_ips=["10.0.0.2"]
    )


def test_ranges_end() -> None:
    many = [service(f"s{number}", "NodePort") for number in range(6)]
    assert len({made.cluster_ips for made in given_ranges(many[:5], cidrs=["10.0.0.0/29"])}) == 5
    assert refused(many, cidrs=["10.0.0.0/29"]) == (
        "f.yaml:3: spec.clusterIPs: failed to allocate a serviceIP: range is full (10.0.0.0/29)"
    )
    assert refused(many, ports=range(30000, 30005)).endswith("spec.ports: failed to allocate a nodePort: range is full")
    balanced = [service(f"s{number}", "LoadBalancer") for number in range(6)]
    assert refused(balanced, vips="198.51.100.0/28").endswith("no balancer address is left in 198.51.100.0/28")
    assert "range is full" in refused(many, cidrs=["10.0.0.0/32"])


@given(st.lists(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]), max_size=30), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_nothing_is_given_twice(kinds: list[Any], seed: int) -> None:
    ports = (ServicePort(80, "TCP", "a"), ServicePort(80, "UDP", "b"), ServicePort(81, "TCP", "c"))
    services = [
        service(f"s{number}", kind, *ports, external_traffic_policy="Local" if number % 2 else "Cluster")
        for number, kind in enumerate(kinds)
    ]
    made = given_ranges(services, cidrs=["10.0.0.0/26"], ports=range(30000, 30100), seed=seed)
    ips = [ip for each in made for ip in each.cluster_ips]
    vips = [each.ip for one in made for each in one.load_balancer_ingress]
    numbers = [(port.node_port, port.protocol) for each in made for port in each.ports if port.node_port]
    numbers += [(each.health_check_node_port, "TCP") for each in made if each.health_check_node_port]
    for group in (ips, vips, numbers):
        assert len(set(group)) == len(group)
    assert {number for number, _protocol in numbers} <= set(range(30000, 30100))
