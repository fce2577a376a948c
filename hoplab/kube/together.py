"""What is wrong only between objects: names, addresses and ports that two of them claim, or that no range holds.

The API server finds these through its allocators and its store, one request after the
other; a set of manifests is checked here at once, so that both places can be named.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Hashable, Sequence

from hoplab.kube.convert import as_node, as_service
from hoplab.kube.formats import Network, invalid
from hoplab.kube.objects import KubeObject
from hoplab.kube.problems import Path, Problem, field_name
from hoplab.kube.types import Node


def check_together(
    objects: Sequence[KubeObject],
    *,
    service_cidrs: Sequence[str] = (),
    node_ports: range | None = None,
    vips: Sequence[str] = (),
) -> tuple[Problem, ...]:
    """Problems that no object has alone, each told at the later of the two.

    Where ranges are given, cluster IPs, node ports and balancer addresses must lie in
    them; without, any is taken, as kube-proxy takes it.
    """
    problems: list[Problem] = []
    claims = _Claims(problems)
    for obj in objects:
        claims.claim(obj, obj.key, ("metadata", "name"), "the same kind, namespace and name as")
        if obj.kind == "Service":
            _claim_service(obj, claims)
            problems += outside(obj, service_cidrs, node_ports, vips)
    problems += overlapping([as_node(obj) for obj in objects if obj.kind == "Node"], objects)
    return tuple(problems)


def problem_at(obj: KubeObject, path: Path, message: str) -> Problem:
    """A problem of a field of an object, at the line where the field, or what is around it, was written."""
    line = next((obj.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in obj.lines), obj.origin.line)
    return Problem(obj.origin.file, line, field_name(path), message)


class _Claims:
    """Who was first to claim something that can be had once."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self._first: dict[Hashable, KubeObject] = {}

    def claim(self, obj: KubeObject, what: Hashable, path: Path, message: str) -> None:
        first = self._first.setdefault(what, obj)
        if first is not obj:
            namespace = f"{first.meta.namespace}/" if first.meta.namespace else ""
            other = f"{first.kind} {namespace}{first.meta.name} ({first.origin})"
            self._problems.append(problem_at(obj, path, f"{message} {other}"))


def _claim_service(obj: KubeObject, claims: _Claims) -> None:
    service = as_service(obj)
    for number, ip in enumerate(service.cluster_ips):
        if ip != "None":
            claims.claim(
                obj,
                ("ip", ipaddress.ip_address(ip)),
                _ip_path(obj, number),
                invalid(ip, "provided IP is already allocated: it is the cluster IP of"),
            )
    for number, port in enumerate(service.ports):
        if port.node_port:
            message = invalid(port.node_port, "provided port is already allocated: it is a node port of")
            at: Path = ("spec", "ports", number, "nodePort")
            claims.claim(obj, ("port", port.node_port, port.protocol), at, message)
    check = service.health_check_node_port
    if check:
        message = invalid(check, "provided port is already allocated: it is a node port of")
        claims.claim(obj, ("port", check, "TCP"), ("spec", "healthCheckNodePort"), message)


def _ip_path(obj: KubeObject, number: int) -> Path:
    """Where the cluster IP was written: the defaulted document has it in both fields."""
    written: Path = ("spec", "clusterIPs", number)
    return written if written in obj.lines or number else ("spec", "clusterIP")


def outside(
    obj: KubeObject, service_cidrs: Sequence[str], node_ports: range | None, vips: Sequence[str]
) -> list[Problem]:
    """What a Service asks for that lies in none of the ranges, in the API server's words."""
    service = as_service(obj)
    found = []
    for number, ip in enumerate(service.cluster_ips):
        if ip != "None" and service_cidrs and not held(ip, service_cidrs):
            why = f"the provided IP is not in the valid range. The range of valid IPs is {', '.join(service_cidrs)}"
            found.append(problem_at(obj, _ip_path(obj, number), invalid(ip, why)))
    for number, port in enumerate(service.ports):
        if port.node_port and node_ports is not None and port.node_port not in node_ports:
            at: Path = ("spec", "ports", number, "nodePort")
            found.append(problem_at(obj, at, invalid(port.node_port, _not_in(node_ports))))
    check = service.health_check_node_port
    if check and node_ports is not None and check not in node_ports:
        found.append(problem_at(obj, ("spec", "healthCheckNodePort"), invalid(check, _not_in(node_ports))))
    wanted = service.load_balancer_ip
    if wanted and vips and not held(wanted, vips):
        why = f"the provided IP is not in the valid range. The balancer's addresses are {', '.join(vips)}"
        found.append(problem_at(obj, ("spec", "loadBalancerIP"), invalid(wanted, why)))
    return found


def _not_in(node_ports: range) -> str:
    first, last = node_ports[0], node_ports[-1]
    return f"provided port is not in the valid range. The range of valid ports is {first}-{last}"


def held(ip: str, cidrs: Sequence[str]) -> bool:
    """Whether an address lies in one of the networks."""
    address = ipaddress.ip_address(ip)
    return any(address in ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)


def overlapping(nodes: Sequence[Node], objects: Sequence[KubeObject] = ()) -> list[Problem]:
    """Nodes whose pod subnets overlap: addresses would exist twice, and a route leads to one of them only."""
    written = {obj.meta.name: obj for obj in objects if obj.kind == "Node"}
    problems = []
    claimed: list[tuple[str, Network, str]] = []
    for node in nodes:
        for number, text in enumerate(node.pod_cidrs):
            network = ipaddress.ip_network(text, strict=False)
            for other, theirs, their_text in claimed:
                if other != node.name and network.version == theirs.version and network.overlaps(theirs):
                    message = (
                        f"pod subnet {text} of {node.name} overlaps {their_text} of {other}: pods of both would"
                        " have the same addresses; give each node a subnet of its own, such as a /24 of it"
                    )
                    obj = written.get(node.name)
                    at: Path = ("spec", "podCIDRs", number)
                    if obj is None:
                        problems.append(Problem("nodes", 0, "podCIDR", f"{node.name}: {message}"))
                    else:
                        path = at if at in obj.lines or number else ("spec", "podCIDR")
                        problems.append(problem_at(obj, path, message))
            claimed.append((node.name, network, text))
    return problems
