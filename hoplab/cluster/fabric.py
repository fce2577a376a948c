"""How pods on different nodes reach each other: plain routes, or a VXLAN overlay.

With routes, each node sends what is for another node's pods to that node's address
(what a cloud's route table or flannel's host-gw backend does).  With VXLAN each node
has a device `flannel.1` whose neighbour and forwarding entries are written, not
learned, as flannel's vxlan backend does; pods then have 50 bytes less of MTU.
Beside it: what pods send out of the cluster is masqueraded, as ip-masq-agent does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from hoplab.cluster.node import NodeAgent

VXLAN_DEVICE = "flannel.1"
VXLAN_VNI = 1
VXLAN_PORT = 8472
"""flannel's port: Linux' own default from before IANA gave 4789."""
VXLAN_OVERHEAD = 50
MTU = 1500


def pod_mtu(fabric: str) -> int:
    """Bytes of an IP packet that fit from pod to pod."""
    return MTU - VXLAN_OVERHEAD if fabric == "vxlan" else MTU


def connect(agents: Sequence[NodeAgent], fabric: str) -> None:
    """Give every node a way to every other node's pods."""
    if fabric == "vxlan":
        _overlay(agents)
        return
    for agent in agents:
        for other in agents:
            if other is not agent:
                for cidr in other.node.pod_cidrs:
                    via = next((a for a in other.node.addresses if (":" in a) == (":" in cidr)), None)
                    if via:
                        agent.machine.netlink.route(cidr, via=via)


def _overlay(agents: Sequence[NodeAgent]) -> None:
    for agent in agents:
        link = agent.machine.netlink
        link.vxlan(VXLAN_DEVICE, VXLAN_VNI, agent.node.addresses[0], "eth0", VXLAN_PORT, pod_mtu("vxlan"))
        link.address(VXLAN_DEVICE, f"{_first(agent)}/32")
    macs = {agent.name: agent.machine.netlink.links()[VXLAN_DEVICE]["mac"] for agent in agents}
    for agent in agents:
        link = agent.machine.netlink
        for other in agents:
            if other is not agent:
                link.neighbour(VXLAN_DEVICE, _first(other), macs[other.name])
                link.fdb(VXLAN_DEVICE, macs[other.name], other.node.addresses[0])
                link.route(other.node.pod_cidrs[0], via=_first(other), device=VXLAN_DEVICE, onlink=True)


def _first(agent: NodeAgent) -> str:
    """The network address of the node's pods: flannel gives it to the overlay device."""
    return str(ipaddress.ip_network(agent.node.pod_cidrs[0]).network_address)


def masquerade_text(inside: Sequence[str]) -> str:
    """iptables-restore text: what leaves the cluster gets the node's address; `inside` (CIDRs) stays as it is (pure).

    The chain is ip-masq-agent's, which runs beside kube-proxy on clusters with routed pods
    (kubernetes-sigs/ip-masq-agent, cmd/ip-masq-agent/ip-masq-agent.go).
    """
    why = "ip-masq-agent: local traffic is not subject to MASQUERADE"
    lines = ["*nat", ":IP-MASQ - [0:0]"]
    lines.append(
        '-A POSTROUTING -m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination'
        ' traffic to our custom IP-MASQ chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ'
    )
    lines += [f'-A IP-MASQ -d {cidr} -m comment --comment "{why}" -j RETURN' for cidr in inside]
    lines.append(
        '-A IP-MASQ -m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE'
        ' (must be last in chain)" -j MASQUERADE'
    )
    return "\n".join([*lines, "COMMIT", ""])
