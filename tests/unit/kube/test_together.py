"""What only two objects together have wrong: names, addresses, ports and subnets that both claim."""

from __future__ import annotations

import textwrap

import pytest

from hoplab.kube.load import load
from hoplab.kube.problems import ManifestError, Problem
from hoplab.kube.together import check_together, overlapping
from hoplab.kube.types import Node


def service(name: str, spec: str) -> str:
    return f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n" + textwrap.indent(spec, "  ")


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ManifestError) as caught:
        load(text, "f.yaml")
    return [(problem.line, problem.field, problem.message) for problem in caught.value.problems]


def test_one_name_twice() -> None:
    text = service("a", "ports: [{port: 80}]\n") + service("a", "ports: [{port: 81}]\n")
    assert problems(text) == [
        (10, "metadata.name", "the same kind, namespace and name as Service default/a (f.yaml:2)")
    ]


def test_one_name_in_two_namespaces_or_kinds_is_no_problem() -> None:
    text = service("a", "ports: [{port: 80}]\n")
    other = text.replace("{name: a}", "{name: a, namespace: b}")
    assert len(load(text + other + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}", "f.yaml").objects) == 3


def test_one_cluster_ip_twice_also_when_written_in_another_way() -> None:
    text = service("a", "clusterIP: fd00::1\nports: [{port: 80}]\n") + service(
        "b", "clusterIP: fd00:0::1\nports: [{port: 80}]\n"
    )
    assert problems(text) == [
        (
            13,
            "spec.clusterIP",
            'Invalid value: "fd00:0::1": provided IP is already allocated: it is the cluster IP of'
            " Service default/a (f.yaml:2)",
        )
    ]


def test_one_second_cluster_ip_twice() -> None:
    spec = (
        "ipFamilyPolicy: RequireDualStack\nports: [{port: 80}]\n"
        "clusterIP: 10.0.0.%d\nclusterIPs: [10.0.0.%d, fd00::1]\n"
    )
    text = service("a", spec % (1, 1)) + service("b", spec % (2, 2))
    assert [(line, field) for line, field, _message in problems(text)] == [(18, "spec.clusterIPs[1]")]


def test_one_node_port_twice_counts_by_protocol() -> None:
    def with_port(name: str, more: str) -> str:
        return service(name, f"type: NodePort\nports:\n- port: 80\n  nodePort: 30080\n{more}")

    assert len(load(with_port("a", "") + with_port("b", "  protocol: UDP\n"), "f.yaml").objects) == 2
    assert problems(with_port("a", "") + with_port("b", "  protocol: TCP\n")) == [
        (
            18,
            "spec.ports[0].nodePort",
            "Invalid value: 30080: provided port is already allocated: it is a node port of"
            " Service default/a (f.yaml:2)",
        )
    ]


def test_a_health_check_on_anothers_node_port() -> None:
    local = "type: LoadBalancer\nexternalTrafficPolicy: Local\nports: [{port: 80}]\nhealthCheckNodePort: 30080\n"
    text = service("a", "type: NodePort\nports: [{port: 80, nodePort: 30080}]\n") + service("b", local)
    assert [(line, field) for line, field, _message in problems(text)] == [(16, "spec.healthCheckNodePort")]


def test_two_nodes_with_overlapping_pod_subnets_are_both_named() -> None:
    text = "".join(
        f"---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\nspec:\n  podCIDR: {cidr}\n"
        for name, cidr in (("node1", "10.1.0.0/16"), ("node2", "10.1.2.0/16"), ("node3", "10.2.0.0/16"))
    )
    assert problems(text) == [
        (
            12,
            "spec.podCIDR",
            "pod subnet 10.1.2.0/16 of node2 overlaps 10.1.0.0/16 of node1: pods of both would have the same"
            " addresses; give each node a subnet of its own, such as a /24 of it",
        )
    ]


def test_nodes_that_come_from_elsewhere_are_named_too() -> None:
    nodes = [Node("n1", (), pod_cidrs=("10.1.1.0/24", "fd00::/64")), Node("n2", (), pod_cidrs=("fd00::/72",))]
    (problem,) = overlapping(nodes)
    assert str(problem).startswith("nodes: podCIDR: n2: pod subnet fd00::/72 of n2 overlaps fd00::/64 of n1")


def test_ranges_are_looked_at_when_they_are_given() -> None:
    text = service(
        "a",
        "type: LoadBalancer\nclusterIP: 172.16.0.1\nloadBalancerIP: 192.0.2.1\n"
        "externalTrafficPolicy: Local\nhealthCheckNodePort: 99\nports:\n- port: 80\n  nodePort: 80\n",
    )
    objects = load(text, "f.yaml").objects
    assert check_together(objects) == ()
    told = check_together(
        objects, service_cidrs=["10.0.0.0/16"], node_ports=range(30000, 32768), vips=["198.51.100.0/24"]
    )
    say_port = "provided port is not in the valid range. The range of valid ports is 30000-32767"
    assert told == (
        Problem(
            "f.yaml",
            7,
            "spec.clusterIP",
            'Invalid value: "172.16.0.1": the provided IP is not in the valid range.'
            " The range of valid IPs is 10.0.0.0/16",
        ),
        Problem("f.yaml", 13, "spec.ports[0].nodePort", f"Invalid value: 80: {say_port}"),
        Problem("f.yaml", 10, "spec.healthCheckNodePort", f"Invalid value: 99: {say_port}"),
        Problem(
            "f.yaml",
            8,
            "spec.loadBalancerIP",
            'Invalid value: "192.0.2.1": the provided IP is not in the valid range.'
            " The balancer's addresses are 198.51.100.0/24",
        ),
    )
    inside = (
        text.replace("172.16.0.1", "10.0.3.4").replace("192.0.2.1", "198.51.100.9").replace("Port: 99", "Port: 30099")
    )
    assert (
        check_together(
            load(inside.replace("nodePort: 80", "nodePort: 32767"), "f.yaml").objects,
            service_cidrs=["10.0.0.0/16"],
            node_ports=range(30000, 32768),
            vips=["198.51.100.0/24"],
        )
        == ()
    )
