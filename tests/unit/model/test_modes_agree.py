"""Both proxy modes do the same with a packet, for random Services, endpoints and settings: the model reads both texts.

Where the two modes differ in the original, they differ here, and such packets are left out by name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hoplab.dataplane import iptables, nftables
from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.view import ServicePortInfo, View, view
from hoplab.kube.types import IPFamily
from hoplab.model.packet import Packet
from tests.unit.dataplane.nft_random import Cluster, clusters
from tests.unit.model.bench import OUTSIDE, POD, SELF, rules_of, six, to, walked

NODE_PORTS = ("192.168.0.0/24", "2001:db8::/64")
"""Named, because without any the two modes take different addresses."""
NODE_ADDRESS = {"IPv4": "192.168.0.2", "IPv6": "2001:db8::1"}
SENDERS = {"pod": POD, "outside": OUTSIDE, "node": SELF}


def questions(seen: View, info: ServicePortInfo) -> Iterator[tuple[str, str, str, int]]:
    """(sender, what it asks, address, port) of every way to a Service port."""
    ways = [("cluster IP", info.cluster_ip, info.port)]
    ways += [("external", address, info.port) for address in (*info.external_ips, *info.load_balancer_vips)]
    if info.node_port:
        ways.append(("node port", NODE_ADDRESS[seen.family], info.node_port))
    for sender in SENDERS:
        for what, address, port in ways:
            if not differs(seen, info, sender, what):
                yield sender, what, address, port


def differs(seen: View, info: ServicePortInfo, sender: str, what: str) -> bool:
    """Where kube-proxy's two modes do different things with a Service port that nobody can answer.

    iptables mode looks at external addresses without endpoints in INPUT and FORWARD alone, so the node's own packets go
    out; and it refuses before it looks at source ranges, which nftables mode looks at first.
    """
    endpoints = seen.categories(info)
    if what == "cluster IP":
        return False
    nobody = not endpoints.has_any or not (endpoints.local if info.external_local else endpoints.cluster)
    return (sender == "node" and nobody) or (bool(info.source_ranges) and nobody)


def asked(sender: str, address: str, port: int, protocol: str) -> Packet:
    packet = SENDERS[sender]
    if ":" in address:
        return six(packet, address, port, protocol.lower())
    return to(packet, address, port, protocol.lower())


@settings(max_examples=60, deadline=None)
@given(clusters(), st.sampled_from(["IPv4", "IPv6"]))
def test_who_may_answer_masquerade_and_refusal_are_the_same(cluster: Cluster, family: IPFamily):
    config = replace(cluster.config, node_port_addresses=NODE_PORTS, service_ip_ranges=())
    node = replace(cluster.node, addresses=("192.168.0.2", "2001:db8::1"))
    both = {
        mode: rules_of(cluster.services, cluster.slices, node, replace(config, mode=mode), family)
        for mode in ("iptables", "nftables")
    }
    seen = view(cluster.services, cluster.slices, node, family)
    for info in seen.ports:
        for sender, what, address, port in questions(seen, info):
            packet = asked(sender, address, port, info.protocol)
            iptables_fates, nftables_fates = (set(walked(both[mode], packet)) for mode in ("iptables", "nftables"))
            assert iptables_fates == nftables_fates, (info.label, sender, what, address, port)


@settings(max_examples=40, deadline=None)
@given(clusters(), st.randoms(use_true_random=False))
def test_the_order_of_the_objects_makes_no_difference(cluster: Cluster, dice: random.Random):
    services, slices = list(cluster.services), list(cluster.slices)
    dice.shuffle(services)
    dice.shuffle(slices)
    config: ProxyConfig = cluster.config
    for family in ("IPv4", "IPv6"):
        for build, mode in ((iptables.build, "iptables"), (nftables.build, "nftables")):
            settled = replace(config, mode=mode)  # type: ignore[arg-type]
            one = build(cluster.services, cluster.slices, cluster.node, settled, family)
            other = build(services, slices, cluster.node, settled, family)
            assert one.text() == other.text()
