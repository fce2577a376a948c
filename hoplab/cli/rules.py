"""`lab.py rules`: what kube-proxy would load on a node, as text on standard output."""

from __future__ import annotations

from pathlib import Path

import click

from hoplab.errors import InputError


@click.command()
@click.option("-f", "--file", "files", multiple=True, required=True, type=click.Path(path_type=Path), help="Manifests.")
@click.option("--node", "node_name", required=True, help="The node whose rules are wanted (node1, node2, ...).")
@click.option("--mode", type=click.Choice(["iptables", "nftables"]), default="iptables", show_default=True)
@click.option("--kubernetes", type=click.Choice(["1.33", "1.7"]), default="1.33", show_default=True)
@click.option("--seed", default=7, show_default=True, help="For addresses and ports that the manifests leave open.")
def rules(files: tuple[Path, ...], node_name: str, mode: str, kubernetes: str, seed: int) -> int:
    """Print what kube-proxy would load on a node, as iptables-restore or nft -f takes it.

    Needs no privilege and starts nothing: pods have only the addresses that the
    manifests give them (annotation hoplab.dev/ip, EndpointSlices).
    """
    import random

    from hoplab.cluster.endpoints import RunningPod, slices
    from hoplab.cluster.options import CLUSTER_CIDR, ClusterOptions
    from hoplab.dataplane.config import ProxyConfig
    from hoplab.dataplane.rules import render
    from hoplab.kube import convert
    from hoplab.kube.allocate import allocate
    from hoplab.kube.load import load_files
    from hoplab.kube.types import Node

    loaded = load_files(files)
    given = [convert.as_node(each) for each in loaded.of("Node")]
    nodes = given or [Node(f"node{n}", (f"10.240.0.{10 + n}",), pod_cidrs=(f"10.1.{n}.0/24",)) for n in range(1, 10)]
    node = next((each for each in nodes if each.name == node_name), None)
    if node is None:
        raise InputError(f"--node: no node is called {node_name!r}; there are {', '.join(n.name for n in nodes)}")
    defaults = ClusterOptions()
    services = allocate(
        convert.services(loaded.objects),
        service_cidrs=defaults.service_cidrs,
        node_ports=range(30000, 32768),
        vips=defaults.vips,
        chance=random.Random(seed),
    )
    pods = [convert.as_pod(each) for each in loaded.of("Pod")]
    running = [RunningPod(pod, (pod.requested_ip,)) for pod in pods if pod.requested_ip]
    pieces = [*slices(services, running), *convert.endpoint_slices(loaded.objects)]
    config = ProxyConfig(mode=mode, cluster_cidrs=(CLUSTER_CIDR,), kubernetes=kubernetes)  # type: ignore[arg-type]
    click.echo(render(services, pieces, node, config), nl=False)
    return 0
