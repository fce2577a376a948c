"""A lab that has everything which faults need, for tests."""

from __future__ import annotations

from hoplab.cluster.options import ClusterOptions
from hoplab.dataplane.config import ProxyConfig
from hoplab.kube.load import load
from hoplab.scenario.faults import manifest
from tests.lab.scenario.labrun import in_sandbox


def in_lab(where, tmp, play, fabric="routes", mode="iptables", given_nodes=(), **more):
    """What `play(lab)` returns in a lab that has everything which faults need."""

    def inside():
        from hoplab.net.zygote import Zygote
        from hoplab.probe.crafter import CrafterProcess

        zygote, crafter = Zygote(), CrafterProcess()
        from hoplab.scenario.runner import in_cluster

        found = []
        proxy = ProxyConfig(mode=mode, cluster_cidrs=("10.1.0.0/16",))
        options = ClusterOptions(fabric=fabric, proxy=proxy, given_nodes=given_nodes, **more)
        loaded = load(manifest(where), "faults")
        in_cluster("scenario", "faults", options, loaded, tmp, lambda lab: found.append(play(lab)), zygote, crafter)
        return found[0]

    return in_sandbox(inside)
