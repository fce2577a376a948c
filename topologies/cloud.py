"""A cluster in a cloud: outside network, load balancer, node network, two or more nodes.

      client .10      router .1
         |               |  \\
    =====+===== internet=+==  \\  203.0.113.0/24
         |                     \\
        lb .2  (VIPs 198.51.100.0/24)
         | 10.240.0.2            \\ 10.240.0.1
    =====+======= nodenet ========+====+=========  10.240.0.0/16
         |                  |              |
       node1 .0.11        node2 .0.12     ...

The balancer is the gateway between both networks.  The router is the nodes' way out
when answers shall not pass the balancer (direct return).  Nodes may be named and
addressed by the caller (`machines`); one whose address is none of the node network's
is reached directly on it all the same.  Router and balancer take other addresses where
somebody else wants theirs (`avoid`).  Works with Mininet alone:

    sudo mn --custom topologies/cloud.py --topo cloud,nodes=3 --switch lxbr --controller none
"""

import ipaddress
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mininet.node import Host
from mininet.topo import Topo

MOST_NODES = 200
NODENET = "10.240.0.0/16"
OUTSIDE = "203.0.113.0/24"
NODENET6, OUTSIDE6 = "fd00:10:240::/64", "2001:db8:203::/64"
ROUTER, BALANCER, CLIENT, CLIENT6 = 1, 2, 10, 0x10
"""Which address of its networks each of them has, if nobody else wants it."""


def free_address(network: str, number: int, avoid: Collection[str] = ()) -> str:
    """The network's address of this number; where it is to be avoided the first free one down from number 254."""
    addresses = ipaddress.ip_network(network)
    wanted = (str(addresses[n]) for n in (number, *range(254, CLIENT, -1)))
    return next((address for address in wanted if address not in avoid), str(addresses[number]))


class RoutedHost(Host):  # type: ignore[misc]
    """A stock Mininet host that understands this topology's `routes` and `forward`."""

    def config(self, routes: Any = (), forward: bool = False, **params: Any) -> Any:
        """Mininet's config, then forwarding and the static routes."""
        result = super().config(**params)
        if forward:
            self.cmd("sysctl", "-w", "net.ipv4.ip_forward=1")
        for destination, gateway in routes:
            self.cmd("ip", "route", "replace", destination, "via", gateway)
        return result


class Cloud(Topo):  # type: ignore[misc]
    """client, router, lb and nodes on two bridges; `way_out` is what nodes use as default gateway.

    `machines`: in place of `nodes` numbered ones, these, as mappings with name, address
    and podCIDR.  `client_beside`: the client has a second leg, without an address, on
    the node network: there it can hand a packet to a node past the balancer.
    `ipv6`: client, router and balancer have addresses of both families.  `avoid`: addresses
    that router and balancer must leave to others.
    """

    def build(
        self,
        nodes: int = 2,
        way_out: str = "lb",
        host: Any = RoutedHost,
        machines: Sequence[Mapping[str, str]] = (),
        client_beside: bool = False,
        ipv6: bool = False,
        avoid: Collection[str] = (),
        **_options: Any,
    ) -> None:
        """Draw the network (Mininet calls this)."""
        machines = machines or [
            {"name": f"node{n}", "address": f"10.240.0.{10 + n}", "podCIDR": f"10.1.{n}.0/24"}
            for n in range(1, int(nodes) + 1)
        ]
        if not 1 <= len(machines) <= MOST_NODES:
            raise ValueError(f"a cloud has 1 to {MOST_NODES} nodes, not {len(machines)}")
        avoid = {*avoid, *(machine["address"] for machine in machines)}
        networks = (OUTSIDE, NODENET, OUTSIDE6, NODENET6)
        at_router = [free_address(network, ROUTER, avoid) for network in networks]
        at_balancer = [free_address(network, BALANCER, avoid) for network in networks]
        gateway = {"lb": at_balancer, "router": at_router}[way_out][1]
        internet = self.addSwitch("internet", dpid="1")
        nodenet = self.addSwitch("nodenet", dpid="2")

        client = self.addHost(
            "client",
            cls=host,
            role="client",
            ip=f"{free_address(OUTSIDE, CLIENT)}/24",
            defaultRoute=f"via {at_router[0]}",
            routes=[("198.51.100.0/24", at_balancer[0]), (NODENET, at_balancer[0])]
            + [("::/0", at_router[2]), (NODENET6, at_balancer[2])] * ipv6,
            also=[f"{free_address(OUTSIDE6, CLIENT6)}/64"] * ipv6,
        )
        router = self.addHost(
            "router", cls=host, role="router", ip=f"{at_router[0]}/24", forward=True, also=[f"{at_router[2]}/64"] * ipv6
        )
        balancer = self.addHost(
            "lb",
            cls=host,
            role="balancer",
            ip=f"{at_balancer[0]}/24",
            defaultRoute=f"via {at_router[0]}",
            forward=True,
            also=[f"{at_balancer[2]}/64"] * ipv6,
            routes=[("::/0", at_router[2])] * ipv6,
        )
        self.addLink(client, internet, intfName1="eth0")
        self.addLink(router, internet, intfName1="eth0")
        self.addLink(balancer, internet, intfName1="eth0")
        for machine, (_, inside, _, inside6) in ((router, at_router), (balancer, at_balancer)):
            leg = {"ip": f"{inside}/16"}
            self.addLink(
                machine, nodenet, intfName1="eth1", params1=leg | ({"addresses": [f"{inside6}/64"]} if ipv6 else {})
            )
        if client_beside:
            self.addLink(client, nodenet, intfName1="eth1")
        for machine in machines:
            within = ipaddress.ip_address(machine["address"]) in ipaddress.ip_network(NODENET)
            node = self.addHost(
                machine["name"],
                cls=host,
                role="node",
                ip=f"{machine['address']}/{16 if within else 32}",
                on_link=() if within else (NODENET,),
                defaultRoute=f"via {gateway}",
                forward=True,
                pod_cidr=machine["podCIDR"],
            )
            self.addLink(node, nodenet, intfName1="eth0")


topos = {"cloud": Cloud}
