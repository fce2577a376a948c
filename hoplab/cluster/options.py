"""How a cluster is to be built: everything a user can choose, in one frozen value."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Literal

from hoplab.dataplane.balancer import Algorithm, Mode
from hoplab.dataplane.config import ProxyConfig
from hoplab.kube.types import Node

Fabric = Literal["routes", "vxlan"]
CLUSTER_CIDR = "10.1.0.0/16"
NODE_NETWORKS = tuple(map(ipaddress.ip_network, ("10.240.0.0/16", "192.168.99.0/24", "fd00:10:240::/64")))
"""The node networks of the topologies, in either family."""
NODE_PORTS = range(30000, 32768)
"""The API server's default of --service-node-port-range."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Choices with their defaults.

    `proxy_protocol`: a proxying balancer names its client to the node.
    `machines` overrides what the topology says of its nodes (Node objects do);
    `given_nodes` are built in place of the topology's own.  `way_out`: what pods send
    out of the cluster is masqueraded on their node, or routed and known everywhere.
    `stand_ins`: endpoints without a pod get a responder.  `client_beside`: the client
    can hand a packet to a node directly.  `reserved`: addresses that others will have,
    so that no bridge, router or balancer takes one as its own.
    """

    topology: str = "cloud"
    nodes: int = 2
    fabric: Fabric = "routes"
    algorithm: Algorithm = "hash"
    mode: Mode = "nat"
    proxy_protocol: bool = False
    proxy: ProxyConfig = field(default_factory=lambda: ProxyConfig(cluster_cidrs=(CLUSTER_CIDR,)))
    service_cidrs: tuple[str, ...] = ("10.0.0.0/16",)
    vips: str = "198.51.100.0/24"
    seed: int = 7
    machines: tuple[Node, ...] = ()
    given_nodes: tuple[Node, ...] = ()
    way_out: Literal["masquerade", "routes"] = "masquerade"
    stand_ins: bool = False
    client_beside: bool = False
    reserved: frozenset[str] = frozenset()

    @property
    def ipv6(self) -> bool:
        """Whether a given node has an IPv6 address: then everything else gets one, too."""
        return any(":" in a for node in self.given_nodes for a in (*node.addresses, *node.extra_addresses))
