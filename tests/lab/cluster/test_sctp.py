"""SCTP by the rules: they rewrite it, spread it, masquerade and refuse it, also where no kernel socket speaks it.

A kernel without SCTP's sockets still has it in connection tracking and in the rules; the client crafts the first
packet of an association (INIT), the pods look at what arrives.
"""

import select
import socket

import pytest

from hoplab.kube.types import Endpoint, EndpointPort, EndpointSlice, Node, ObjectMeta, Service, ServicePort
from tests.lab.cluster.small_cluster import CLIENT, NODE, PODS, built
from tests.lab.scenario.labrun import in_sandbox

pytestmark = pytest.mark.lab

CLUSTER_IP = "10.96.0.36"
SERVICE = Service(
    ObjectMeta("hss"), "NodePort", (CLUSTER_IP,), ports=(ServicePort(3868, "SCTP", "diameter", 3869, node_port=30386),)
)
ENDPOINTS = tuple(Endpoint((address,), node_name="node1") for address in PODS.values())


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_an_init_reaches_a_pod_or_is_refused(mode):
    def inside():
        from scapy.layers.inet import IP
        from scapy.layers.sctp import SCTP, SCTPChunkInit

        from hoplab.cluster.proxy import KubeProxy
        from hoplab.dataplane.config import ProxyConfig
        from hoplab.net.zygote import Zygote

        zygote = Zygote()
        spaces = built(zygote)
        config = ProxyConfig(mode=mode, cluster_cidrs=("10.1.0.0/16",), node_port_addresses=("0.0.0.0/0",))
        proxy = KubeProxy(spaces["node1"], Node("node1", (NODE,)), config)

        def raw(name, protocol):
            with spaces[name].entered():
                return socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)

        arriving = {raw(name, socket.IPPROTO_SCTP): name for name in PODS}
        sender, errors = raw("client", socket.IPPROTO_RAW), raw("client", socket.IPPROTO_ICMP)

        def sync(*endpoints):
            ports = (EndpointPort(3869, "SCTP", "diameter"),)
            proxy.start_sync([SERVICE], [EndpointSlice(ObjectMeta("hss-1"), "hss", "IPv4", endpoints, ports)])
            proxy.finish_sync()

        def send(to, port, source_port):
            init = SCTP(sport=source_port, dport=port) / SCTPChunkInit(init_tag=source_port)
            sender.sendto(bytes(IP(src=CLIENT, dst=to) / init), (to, 0))

        def seen(sockets):
            """The first packet that comes to one of them: which socket, sender, ports."""
            ready, _, _ = select.select(sockets, [], [], 3)
            assert ready, "nothing came"
            packet = IP(ready[0].recv(2000))
            return ready[0], packet

        met = []
        sync(*ENDPOINTS)
        for number in range(24):
            send(*((CLUSTER_IP, 3868) if number % 2 else (NODE, 30386)), 40000 + number)
            where, packet = seen(list(arriving))
            met.append((arriving[where], packet.dst, packet[SCTP].dport, packet.src))
        sync()
        while select.select([errors], [], [], 0)[0]:
            errors.recv(2000)
        send(CLUSTER_IP, 3868, 41000)
        _, refusal = seen([errors])
        return met, (refusal.src, refusal["ICMP"].type, refusal["ICMP"].code)

    met, refusal = in_sandbox(inside)
    # Both pods, by the target port, with the node's address for the client's.
    assert set(met) == {(name, address, 3869, address[:-1] + "1") for name, address in PODS.items()}
    assert refusal == (NODE, 3, 3)
