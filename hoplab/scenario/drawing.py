"""What a report needs to draw the lab: its places, its cables, and what was chosen for the run.

Read once, when the run is over, from what Mininet built and what the nodes run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hoplab.cluster.cluster import Cluster
from hoplab.net.machines import Machine
from hoplab.report.run import Place, Topology


def topology_of(cluster: Cluster, names: Mapping[str, list[str]]) -> Topology:
    """The places and cables of a running cluster; `names` are its addresses with the names behind each."""
    addresses: dict[str, list[str]] = {}
    for address, behind in names.items():
        for name in behind:
            addresses.setdefault(name, []).append(address)
    places = [
        Place(
            machine.name, machine.params.get("role", "host"), "", _own_first(machine, addresses.get(machine.name, ()))
        )
        for machine in cluster.net.hosts
    ]
    places += [Place(switch.name, "switch") for switch in cluster.net.switches]
    places += [
        Place(running.namespace.name, "pod", running.pod.node_name, running.ips) for running in cluster.running()
    ]
    links = tuple(
        (link.intf1.node.name, link.intf1.name, link.intf2.node.name, link.intf2.name) for link in cluster.net.links
    )
    return Topology(tuple(places), links)


def _own_first(machine: Machine, addresses: Sequence[str]) -> tuple[str, ...]:
    """A machine's addresses, the one that its topology gives it before those of its bridges."""
    own = str(machine.params.get("ip", "")).partition("/")[0]
    return tuple(sorted(addresses, key=lambda address: address != own))


def options_of(cluster: Cluster) -> Mapping[str, str]:
    """What was chosen, in the words of the command line."""
    options = cluster.options
    return {
        "topology": options.topology,
        "nodes": str(len(cluster.nodes)),
        "balancer": options.algorithm,
        "balancer-mode": options.mode,
        "proxy-mode": options.proxy.mode,
        "fabric": options.fabric,
        "kubernetes": options.proxy.kubernetes,
    }
