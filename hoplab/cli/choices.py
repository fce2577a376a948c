"""Options that several commands have: which cluster, and which of the running labs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

CLUSTER: tuple[Decorator, ...] = (
    click.option("--balancer", type=click.Choice(["hash", "round-robin"]), help="How the balancer picks a node."),
    click.option(
        "--balancer-mode",
        type=click.Choice(["nat", "passthrough", "proxy"]),
        help="How it hands a flow over: rewritten to a node port (nat), as it is (passthrough), in a connection of its"
        " own (proxy).",
    ),
    click.option("--proxy-protocol", is_flag=True, help="Mode proxy: name the client to the node by a PROXY header."),
    click.option("--provider", type=click.Choice(["gce", "aws", "aws-nlb"]), help="A cloud's preset of the two above."),
    click.option(
        "--proxy-mode",
        type=click.Choice(["iptables", "nftables"]),
        default="iptables",
        show_default=True,
        help="What kube-proxy writes its rules for.",
    ),
    click.option(
        "--fabric",
        type=click.Choice(["routes", "vxlan"]),
        default="routes",
        show_default=True,
        help="How pods' packets get from node to node.",
    ),
    click.option(
        "--kubernetes",
        type=click.Choice(["1.33", "1.7"]),
        default="1.33",
        show_default=True,
        help="Whose kube-proxy: today's, or that of 2017.",
    ),
    click.option("--nodes", type=click.IntRange(1, 200), help="How many nodes the cluster has."),
    click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same ports, names and addresses."),
)


def cluster_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a cluster; their names are those of hoplab.scenario.options.RunOptions."""
    for option in reversed(CLUSTER):
        command = option(command)
    return command


def files_option(what: str) -> Decorator:
    """-f: manifests."""
    return click.option("-f", "--filename", "files", multiple=True, type=click.Path(path_type=Path), help=what)


def lab_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--name: which of the running labs."""
    return click.option("--name", metavar="LAB", help="Which lab, where several are running.")(command)


def namespace_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """-n: the Kubernetes namespace of pods and Services."""
    return click.option(
        "-n", "--namespace", default="default", show_default=True, help="Of pods and Services that are named."
    )(command)
