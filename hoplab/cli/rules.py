"""`lab.py rules`: what kube-proxy would load on a node, as text on standard output.

Pods get nodes and names as a lab with the same seed would give them; their addresses
are the CNI plugin's business, so here they are foretold (the first free ones of the
node's range), and a line on standard error says so.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hoplab.cli.endings import say
from hoplab.errors import InputError

if TYPE_CHECKING:
    from hoplab.cluster.endpoints import RunningPod
    from hoplab.kube.objects import Loaded
    from hoplab.kube.types import EndpointSlice, Node, Pod, Service

FIRST_POD = 2
"""host-local leaves a range's first address to the node's bridge."""


@click.command()
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="A manifest; repeat it.",
)
@click.option("--node", "node_name", required=True, help="The node whose rules are wanted: node1, node2, ...")
@click.option(
    "--mode", type=click.Choice(["iptables", "nftables"]), default="iptables", show_default=True, help="kube-proxy's."
)
@click.option(
    "--kubernetes",
    type=click.Choice(["1.33", "1.7"]),
    default="1.33",
    show_default=True,
    help="Whose kube-proxy: today's, or that of 2017.",
)
@click.option(
    "--nodes", type=click.IntRange(1, 200), default=2, show_default=True, help="Nodes, if no manifest has any."
)
@click.option("--seed", default=7, show_default=True, help="For addresses and ports that the manifests leave open.")
def command(files: tuple[Path, ...], node_name: str, mode: str, kubernetes: str, nodes: int, seed: int) -> int:
    """Print what kube-proxy would load on a node, as iptables-restore or nft -f takes it.

    Needs no privilege and starts nothing.  Addresses that only a running lab can give to pods are foretold; the
    annotation hoplab.dev/ip, Endpoints and EndpointSlices are taken as written.
    """
    from hoplab.cluster.options import CLUSTER_CIDR
    from hoplab.dataplane.config import ProxyConfig
    from hoplab.dataplane.rules import render
    from hoplab.kube.load import load_files

    loaded = load_files(files)
    for warning in loaded.warnings:
        say(f"note: {warning}")
    cluster = _nodes(loaded, nodes)
    node = next((each for each in cluster if each.name == node_name), None)
    if node is None:
        names = ", ".join(each.name for each in cluster)
        raise InputError(f"--node: no node is called {node_name!r}; there are {names} (more with --nodes)")
    services, slices = foretell(loaded, cluster, seed)
    checked: Any = {"mode": mode, "kubernetes": kubernetes}
    config = ProxyConfig(cluster_cidrs=(CLUSTER_CIDR,), **checked)
    click.echo(render(services, slices, node, config), nl=False)
    return 0


def _nodes(loaded: Loaded, count: int) -> list[Node]:
    """The Node objects of the manifests, else those of the topology cloud."""
    from hoplab.kube import convert
    from hoplab.kube.types import Node

    given = [convert.as_node(each) for each in loaded.of("Node")]
    return given or [
        Node(f"node{n}", (f"10.240.0.{10 + n}",), pod_cidrs=(f"10.1.{n}.0/24",)) for n in range(1, count + 1)
    ]


def foretell(loaded: Loaded, nodes: Sequence[Node], seed: int) -> tuple[list[Service], list[EndpointSlice]]:
    """Services and endpoints of a cluster to which these objects were applied, in the order a lab decides in.

    Raises ManifestError for addresses or ports that are taken, InputError for a node that isn't there.
    """
    from hoplab.cluster import endpoints, foretold
    from hoplab.cluster.options import ClusterOptions
    from hoplab.kube import convert

    services, pods = foretold.foretell(loaded.objects, nodes, ClusterOptions(seed=seed))
    made = endpoints.slices(services, _with_addresses(pods, nodes))
    return services, [*made, *convert.endpoint_slices(loaded.objects)]


def _with_addresses(pods: Sequence[Pod], nodes: Sequence[Node]) -> list[RunningPod]:
    from hoplab.cluster.endpoints import RunningPod

    taken = {pod.requested_ip for pod in pods}
    by_name = {node.name: node for node in nodes}
    free = {
        (node.name, cidr): (str(address) for address in _addresses(cidr) if str(address) not in taken)
        for node in nodes
        for cidr in node.pod_cidrs
    }
    running, foretold = [], 0
    for pod in pods:
        node = by_name[pod.node_name]
        if pod.host_network:
            ips = node.addresses
        elif pod.requested_ip:
            ips = (pod.requested_ip,)
        else:
            ips = tuple(found for cidr in node.pod_cidrs if (found := next(free[node.name, cidr], "")))
            foretold += 1
        running.append(RunningPod(pod, ips, zone=node.zone))
    if foretold:
        say(f"note: the addresses of {foretold} pod(s) are foretold; a lab may give them in another order")
    return running


def _addresses(cidr: str) -> Any:
    network = ipaddress.ip_network(cidr, strict=False)
    return (network[number] for number in range(FIRST_POD, min(network.num_addresses - 1, 1 << 16)))
