"""Routes beyond a topology's own plan: what a check file puts elsewhere is reached all the same.

A topology knows its own networks.  A node may be given an address outside the node
network, an endpoint may lie outside every pod subnet, a probe may come from an address
that nobody has, a Service may have a balancer's address of its own.  A real network
would know the way to each; here each gets a route on every machine that needs one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from hoplab.cluster.node import NodeAgent
from hoplab.net.machines import Machine

OUTSIDE_ROLES = ("router", "balancer")


class Reach:
    """The machines of one lab and the host routes that were added on them.

    The client reaches the cluster by the balancer, by the router where answers shall not
    pass the balancer, or directly where there is neither.
    """

    def __init__(self, machines: Sequence[Machine], agents: Sequence[NodeAgent], way_out: str) -> None:
        self._agents = tuple(agents)
        self._client = next((m for m in machines if m.params.get("role") == "client"), None)
        self._between = tuple(m for m in machines if m.params.get("role") in OUTSIDE_ROLES)
        role = "balancer" if way_out == "lb" else "router"
        self._gateway = next((m for m in self._between if m.params.get("role") == role), None)
        self._known: set[tuple[str, str]] = set()

    def way_out6(self) -> None:
        """The nodes' default gateway of IPv6 (a topology sets that of IPv4 alone), wherever their own addresses lie."""
        if self._gateway is not None:
            via = _address(self._gateway, "eth1", "::")
            for agent in self._agents:
                self._route(agent.machine, via, device="eth0")
                agent.machine.netlink.route("::/0", via=via)

    def node_addresses(self) -> None:
        """Have everybody find the nodes' addresses that are no part of the node network."""
        for agent in self._agents:
            for address in (*agent.node.addresses, *agent.node.extra_addresses):
                if self._planned(agent, address):
                    continue
                for machine in self._between:
                    self._route(machine, address, device="eth1")
                for other in self._agents:
                    if other is not agent:
                        self._route(other.machine, address, device="eth0")
                if self._gateway is not None:
                    self._from_client(address)
                elif self._client is not None:
                    self._route(self._client, address, device="eth0")

    def _planned(self, agent: NodeAgent, address: str) -> bool:
        """Whether the node network's own prefix holds the address; what has no gateway is of the other family."""
        plan = [ipaddress.ip_interface(str(agent.machine.params["ip"])).network]
        plan += [ipaddress.ip_network(each) for each in agent.machine.params.get("on_link", ())]
        return any(network.prefixlen < 32 and ipaddress.ip_address(address) in network for network in plan)

    def by_node(self, destination: str, agent: NodeAgent) -> None:
        """An address or network that lies behind a node: every other machine sends what is for it to that node."""
        via = next((a for a in agent.node.addresses if (":" in a) == (":" in destination)), None)
        if via is None:
            return
        for other in self._agents:
            if other is not agent:
                self._route(other.machine, destination, via=via)
        for machine in self._between:
            self._route(machine, destination, via=via)
        if self._gateway is not None:
            self._from_client(destination)
        elif self._client is not None:
            self._route(self._client, destination, via=via)

    def by_client(self, address: str) -> None:
        """An address outside the cluster that lies behind the client."""
        if self._client is None:
            return
        via = _address(self._client, "eth0", address)
        for machine in self._between:
            self._route(machine, address, via=via)
        inner = _address(self._gateway, "eth1", address) if self._gateway is not None else via
        for agent in self._agents:
            self._route(agent.machine, address, via=inner)

    def by_way_in(self, address: str, agent: NodeAgent) -> None:
        """An address of the client whose packets enter the cluster by this node: what is for it leaves by it, too."""
        if self._client is None or self._gateway is None:
            return
        via = next((a for a in agent.node.addresses if (":" in a) == (":" in address)), "")
        self._route(agent.machine, address, device="eth0")
        for other in self._agents:
            if other is not agent:
                self._route(other.machine, address, via=via)

    def by_balancer(self, address: str) -> None:
        """A balancer's address: the client sends what is for it to the balancer."""
        balancer = next((m for m in self._between if m.params.get("role") == "balancer"), None)
        if balancer is not None and self._client is not None:
            self._route(self._client, address, via=_address(balancer, "eth0", address))

    def by_first_node(self, address: str) -> None:
        """An external IP of a Service: whoever runs the network sends what is for it to a node, here to the first."""
        first = self._agents[0]
        via = next((a for a in first.node.addresses if (":" in a) == (":" in address)), "")
        for machine in self._between:
            self._route(machine, address, via=via)
        if self._gateway is not None:
            self._from_client(address)
        elif self._client is not None:
            self._route(self._client, address, via=via)

    def _from_client(self, destination: str) -> None:
        if self._client is not None and self._gateway is not None:
            self._route(self._client, destination, via=_address(self._gateway, "eth0", destination))

    def _route(self, machine: Machine, destination: str, *, via: str = "", device: str = "") -> None:
        """Add a route once; nothing where the machine has no address of that family to send by."""
        if (machine.name, destination) in self._known or not (via or device):
            return
        self._known.add((machine.name, destination))
        cidr = destination if "/" in destination else f"{destination}/{128 if ':' in destination else 32}"
        machine.netlink.route(cidr, via=via or None, device=device or None)


def _address(machine: Machine, interface: str, like: str) -> str:
    """A machine's own address on an interface, of the family of `like`; '' when it has none."""
    for name, address, _prefix in machine.netlink.addresses():
        if name == interface and (":" in address) == (":" in like) and not address.startswith("fe80:"):
            return address
    return ""
