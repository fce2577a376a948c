"""One machine that is the whole cluster, as minikube has it, and a client beside it.

    client 192.168.99.1 ====== nodenet ====== node1 192.168.99.100 (pods 10.1.0.0/16)

The node's pod network is the chapter's: bridge mybridge, 10.1.0.0/16, gateway 10.1.0.1.
Works with Mininet alone:

    sudo mn --custom topologies/single.py --topo single --switch lxbr --controller none
"""

from typing import Any

from mininet.node import Host
from mininet.topo import Topo


class Single(Topo):  # type: ignore[misc]
    """A client and one node on one bridge."""

    def build(self, host: Any = Host, **_options: Any) -> None:
        """Draw the network (Mininet calls this)."""
        nodenet = self.addSwitch("nodenet", dpid="1")
        client = self.addHost(
            "client", cls=host, role="client", ip="192.168.99.1/24", defaultRoute="via 192.168.99.100"
        )
        node = self.addHost(
            "node1",
            cls=host,
            role="node",
            ip="192.168.99.100/24",
            defaultRoute="via 192.168.99.1",
            forward=True,
            pod_cidr="10.1.0.0/16",
        )
        self.addLink(client, nodenet, intfName1="eth0")
        self.addLink(node, nodenet, intfName1="eth0")


topos = {"single": Single}
