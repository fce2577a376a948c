"""A client, a node and two pods behind it, as namespaces of the calling sandbox: enough to try kube-proxy on.

The client is outside the cluster, 203.0.113.2; the node is everybody's gateway (.1 of each network).
"""

from __future__ import annotations

from hoplab.net.namespaces import Namespace
from hoplab.net.netlink import Netlink, write_sysctls
from hoplab.net.zygote import NodeSpec, Zygote

CLIENT = "203.0.113.2"
NODE = "203.0.113.1"
PODS = {"pod1": "10.1.1.2", "pod2": "10.1.2.2"}


def built(zygote: Zygote) -> dict[str, Namespace]:
    """The namespaces node1, client, pod1 and pod2; they end with the zygote."""
    names = ["node1", "client", *PODS]
    pids = zygote.nodes([NodeSpec(name) for name in names])
    spaces = {name: Namespace(name, pid, "node") for name, pid in zip(names, pids, strict=True)}
    node = Netlink(spaces["node1"])
    for index, (name, address) in enumerate({"client": CLIENT, **PODS}.items(), 1):
        ends = (f"02:00:00:00:01:0{index}", "eth0", f"02:00:00:00:02:0{index}")
        node.veth(name, *ends, peer=spaces[name], index=100 + index)
        gateway = address.rpartition(".")[0] + ".1"
        node.address(name, f"{gateway}/24")
        node.up(name)
        far = Netlink(spaces[name])
        far.address("eth0", f"{address}/24")
        far.up("eth0")
        far.route("default", via=gateway)
    # Addresses of Services have a way out, so that it is the rules that refuse them (not back to the client: the
    # redirect for that would use up what the kernel allows of ICMP to one address).
    node.route("default", via=PODS["pod1"])
    write_sysctls(spaces["node1"], {"net.ipv4.ip_forward": 1})
    return spaces
