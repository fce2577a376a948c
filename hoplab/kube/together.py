"""What is wrong only between objects: names, addresses and ports that two of them claim."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from hoplab.kube.convert import as_node, as_service
from hoplab.kube.objects import KubeObject
from hoplab.kube.problems import Path, Problem, field_name
from hoplab.kube.types import Node


def check_together(objects: Sequence[KubeObject]) -> list[Problem]:
    """Problems that no object has alone, each told at the later of the two."""
    problems: list[Problem] = []
    seen: dict[tuple[str, ...], KubeObject] = {}

    def claim(obj: KubeObject, key: tuple[str, ...], path: Path, message: str) -> None:
        first = seen.setdefault(key, obj)
        if first is not obj:
            line = next(
                (obj.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in obj.lines), obj.origin.line
            )
            other = f"{first.kind} {first.meta.namespace}/{first.meta.name}".replace(" /", " ")
            problems.append(Problem(obj.origin.file, line, field_name(path), f"{message} {other} ({first.origin})"))

    for obj in objects:
        claim(obj, obj.key, ("metadata", "name"), "the same name as")
        if obj.kind == "Service":
            service = as_service(obj)
            for ip in service.cluster_ips:
                if ip != "None":
                    claim(obj, ("ip", ip), ("spec", "clusterIP"), f"{ip} is the cluster IP of")
            for number, port in enumerate(service.ports):
                if port.node_port:
                    key = ("nodePort", str(port.node_port), port.protocol)
                    claim(
                        obj, key, ("spec", "ports", number, "nodePort"), f"{port.node_port} is already a node port of"
                    )
    problems += overlapping([as_node(obj) for obj in objects if obj.kind == "Node"], objects)
    return problems


def overlapping(nodes: Sequence[Node], objects: Sequence[KubeObject] = ()) -> list[Problem]:
    """Nodes whose pod subnets overlap: addresses would exist twice, and a route leads to one of them only."""
    origins = {obj.meta.name: obj.origin for obj in objects if obj.kind == "Node"}
    problems = []
    claimed: list[tuple[str, ipaddress.IPv4Network | ipaddress.IPv6Network, str]] = []
    for node in nodes:
        for text in node.pod_cidrs:
            network = ipaddress.ip_network(text, strict=False)
            for other, theirs, written in claimed:
                if other != node.name and network.version == theirs.version and network.overlaps(theirs):
                    origin = origins.get(node.name)
                    problems.append(
                        Problem(
                            origin.file if origin else "nodes",
                            origin.line if origin else 0,
                            "spec.podCIDR",
                            f"pod subnet {text} of {node.name} overlaps {written} of {other}: pods of both would"
                            " have the same addresses; give each node a subnet of its own, such as a /24 of it",
                        )
                    )
            claimed.append((node.name, network, text))
    return problems
