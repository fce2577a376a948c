"""The nodes of a check file: names and addresses that machines can have, each held against the others.

A node has one InternalIP of each family (the first that is written), more addresses of its own, and a pod subnet of
each family.  The lab's machines are wired with IPv4; a node that is written with IPv6 alone gets an IPv4 leg beside.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hoplab.checks.kube_proxy import Tell
from hoplab.cluster.standins import holds
from hoplab.kube.formats import dns_subdomain
from hoplab.kube.objects import KubeObject
from hoplab.kube.problems import Path
from hoplab.kube.together import overlapping
from hoplab.kube.types import Node

MACHINES = ("client", "router", "lb", "internet", "nodenet")
"""Names that topologies/cloud.py has for others than nodes."""
LONGEST_NAME = 63
"""Linux takes 64 characters for a host's name, a label of DNS 63."""
LEAST_ADDRESSES = 4
"""Of a pod subnet: its own, the bridge's, a pod's, and broadcast."""


def given_nodes(written: Sequence[Mapping[str, Any]], problem: Tell) -> tuple[Node, ...]:
    """The nodes; what is wrong goes to `problem`, and such a node is left out (pure)."""
    nodes: list[Node] = []
    for number, each in enumerate(written):
        path: Path = ("nodes", number)
        _name((*path, "name"), each["name"], nodes, problem)
        given = _with_ipv4(each, number, written)
        addresses = [("address", given["address"])] + [
            ("addresses", text) for text in given.get("addresses") or () if text != given["address"]
        ]
        cidrs = tuple(dict.fromkeys([given["podCIDR"], *(given.get("podCIDRs") or ())]))
        good = [_address((*path, key), text, problem) for key, text in addresses]
        good += [_network((*path, "podCIDR"), cidr, problem) for cidr in cidrs]
        if ":" in given["podCIDR"]:
            problem((*path, "podCIDR"), f"a node of IPv4 has pods of IPv4; put {given['podCIDR']} into podCIDRs")
        if not all(good):
            continue
        taken = {a: node.name for node in nodes for a in (*node.addresses, *node.extra_addresses)}
        for key, text in addresses:
            if text in taken:
                problem((*path, key), f"{text} is an address of {taken[text]}")
        # The API's InternalIPs: the first of each family; the others are the node's own, and it does not tell them.
        first = given["address"]
        second = next((t for _k, t in addresses if (":" in t) != (":" in first)), None)
        internal = (first, second) if second else (first,)
        labels = {"kubernetes.io/hostname": given["name"], **(given.get("labels") or {})}
        extra = tuple(t for _k, t in addresses if t not in internal)
        nodes.append(Node(given["name"], internal, extra, cidrs, labels))
    _together(nodes, problem)
    return tuple(nodes)


def ipv6_first(nodes: Sequence[Node]) -> bool:
    """Whether the cluster's first family is IPv6, as that of its nodes' first addresses is (pure)."""
    return bool(nodes) and ":" in nodes[0].addresses[0]


def of_ipv6(obj: KubeObject) -> KubeObject:
    """The object; a Service that asks for no family gets IPv6, as in a cluster whose first family that is (pure)."""
    spec = obj.spec
    asks = spec.get("ipFamilies") or spec.get("clusterIP") not in (None, "", "None")
    if obj.kind != "Service" or spec.get("type") == "ExternalName" or asks:
        return obj
    return replace(obj, document={**obj.document, "spec": {**spec, "ipFamilies": ["IPv6"]}})


def is_address(text: str) -> bool:
    """Whether it is an IP address of either family (pure)."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _name(path: Path, name: str, before: Sequence[Node], problem: Tell) -> None:
    if any(node.name == name for node in before):
        problem(path, f"{name} was given before")
    elif name in MACHINES:
        problem(path, f"{name} is a machine of the topology beside the nodes; give the node another name")
    elif len(name) > LONGEST_NAME:
        problem(path, f"expected at most {LONGEST_NAME} characters, as many as a host's name has, found {len(name)}")
    else:
        for complaint in dns_subdomain(name):
            problem(path, f"found {name!r}: {complaint}")


def _address(path: Path, text: str, problem: Tell) -> bool:
    if not is_address(text):
        problem(path, f"expected an IP address, found {text!r}")
        return False
    ip = ipaddress.ip_address(text)
    if ip.is_loopback or ip.is_multicast or ip.is_unspecified or ip.is_link_local or text == "255.255.255.255":
        problem(path, f"expected an address by which everybody finds one machine, found {text}")
        return False
    return True


def _network(path: Path, text: str, problem: Tell) -> bool:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        problem(path, f"expected a network such as 10.1.1.0/24, found {text!r} ({error})")
        return False
    if network.num_addresses < LEAST_ADDRESSES:
        problem(path, f"expected room for a bridge and pods, {LEAST_ADDRESSES} addresses at least, found {text}")
        return False
    return True


def _together(nodes: Sequence[Node], problem: Tell) -> None:
    for each in overlapping(nodes):
        problem(("nodes",), each.message)
    for node in nodes:
        for address in (*node.addresses, *node.extra_addresses):
            holder = next((other.name for other in nodes if holds(other, address)), "")
            if holder:
                problem(("nodes",), f"{address} of {node.name} lies in the pod subnet of {holder}, where pods have it")


def _with_ipv4(given: Mapping[str, Any], number: int, everybody: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """A node whose address is one of IPv6, with IPv4 beside it: what it has of its own, or what the topology gives."""
    if ":" not in given["address"]:
        return given
    more, cidrs = list(given.get("addresses") or ()), [given["podCIDR"], *(given.get("podCIDRs") or ())]
    if all(":" in each for each in more):
        taken = {a for each in everybody for a in (each["address"], *(each.get("addresses") or ()))}
        more.append(next(a for n in range(number, 256) if (a := f"10.240.0.{11 + n}") not in taken))
    if all(":" in each for each in cidrs):
        cidrs.append(f"10.1.{number + 1}.0/24")
    cidrs.sort(key=lambda each: ":" in each)
    return {**given, "addresses": more, "podCIDR": cidrs[0], "podCIDRs": cidrs}
