"""A topology's machine as a Node, and what follows from its place in the network (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import replace

from hoplab.cluster.options import NODE_NETWORKS
from hoplab.kube.types import EndpointSlice, Node
from hoplab.net.machines import Machine


def node_of(machine: Machine) -> Node:
    """The Node object of a machine, from what its topology says."""
    return Node(
        machine.name,
        (str(machine.params["ip"]).partition("/")[0],),
        pod_cidrs=(str(machine.params["pod_cidr"]),),
        labels={"kubernetes.io/hostname": machine.name},
    )


def prefix_of(address: str) -> int:
    """Prefix length of a node's address: the node network's, or a host's where it lies elsewhere."""
    ip = ipaddress.ip_address(address)
    return next((n.prefixlen for n in NODE_NETWORKS if n.version == ip.version and ip in n), ip.max_prefixlen)


def merged(machine: Node, given: Node | None) -> Node:
    """What a Node object says of a machine, the topology's word where it says nothing."""
    if given is None:
        return machine
    return replace(
        given,
        addresses=given.addresses or machine.addresses,
        pod_cidrs=given.pod_cidrs or machine.pod_cidrs,
        labels={**machine.labels, **given.labels},
    )


def local_endpoints(slices: Iterable[EndpointSlice], node: str) -> dict[str, int]:
    """Service -> number of ready endpoints on a node: what a healthCheckNodePort tells."""
    found: dict[str, set[str]] = {}
    for piece in slices:
        key = f"{piece.meta.namespace}/{piece.service}"
        for endpoint in piece.endpoints:
            if endpoint.ready and endpoint.node_name == node:
                found.setdefault(key, set()).update(endpoint.addresses)
    return {key: len(addresses) for key, addresses in found.items()}
