"""Mininet's nodes, links and switches with a fast inside.

Mininet's API is what users know and what topologies are written in, so all of it
stays: `net["node1"].cmd("ip a")`, `popen`, the CLI.  What changes is below: a node
is a namespace holder made by the zygote instead of a shell with a pty (the shell
starts when `cmd` is first used), and links and addresses are set over netlink
instead of by running ifconfig.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hoplab.net.kernel import CLONE_NEWUTS, setns
from hoplab.net.mininet_parts import Host, Intf, Link, Mininet, Switch, Topo
from hoplab.net.namespaces import Namespace, Role
from hoplab.net.netlink import Netlink, write_sysctls
from hoplab.net.zygote import NodeSpec, Zygote

ROUTER_SYSCTLS: Mapping[str, int] = {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}
MACHINE_SYSCTLS: Mapping[str, str | int] = {
    # Probes own the source ports below; the kernel's own sockets stay above them.
    "net.ipv4.ip_local_port_range": "50000 60999",
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    # A router that sends a packet out where it came in would tell its sender to go another way the next time.
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
    # The kernel tells one host of six refusals, then of one a second; here every one is to be seen.  Which types
    # are limited: none; for IPv6 one that nobody uses, because an empty list can't be written.
    "net.ipv4.icmp_ratemask": 0,
    "net.ipv6.icmp.ratemask": 255,
    # A duplicate address check would make every IPv6 address wait a second.
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv6.conf.default.router_solicitations": 0,
}

FAR_INDEXES = 100
"""Interfaces at the far end of a link (the switch's ports) are numbered from here: see Netlink.veth."""


class NetlinkIntf(Intf):  # type: ignore[misc]
    """A Mininet interface configured over netlink.  `addresses` are more CIDRs beside `ip`."""

    def setIP(self, ipstr: str, prefixLen: int | str | None = None) -> None:
        """Give the interface an address, `10.0.0.1/24` or address and prefix length, and bring it up."""
        address, _, prefix = ipstr.partition("/")
        self.ip, self.prefixLen = address, prefix or str(prefixLen)
        self.node.netlink.address(self.name, f"{self.ip}/{self.prefixLen}")
        self.node.netlink.up(self.name)

    def setMAC(self, macstr: str) -> None:
        """Change the hardware address."""
        self.mac = macstr
        self.node.netlink.set_link(self.name, address=macstr)

    def isUp(self, setUp: bool = False) -> bool:
        """Whether the interface is up; with `setUp` bring it up first."""
        if setUp:
            self.node.netlink.up(self.name)
            return True
        return bool(self.node.netlink.links()[self.name]["up"])

    def delete(self) -> None:
        """Remove the interface (and with it its veth peer)."""
        self.node.netlink.delete_link(self.name)
        self.node.delIntf(self)
        self.link = None

    def config(self, addresses: Sequence[str] = (), **params: Any) -> dict[str, Any]:
        """Mininet's config, and the further addresses."""
        result: dict[str, Any] = super().config(**params)
        for cidr in addresses:
            self.node.netlink.address(self.name, cidr)
        return result


class VethLink(Link):  # type: ignore[misc]
    """A veth pair made by one netlink request, each end in its node's namespace from the start."""

    def __init__(self, node1: Any, node2: Any, **params: Any) -> None:
        params["intf"] = NetlinkIntf
        super().__init__(node1, node2, **params)

    @classmethod
    def makeIntfPair(
        cls,
        intfname1: str,
        intfname2: str,
        addr1: str | None = None,
        addr2: str | None = None,
        node1: Any = None,
        node2: Any = None,
        deleteIntfs: bool = True,
    ) -> None:
        """Mininet's hook for making the pair; both nodes are always given here."""
        del deleteIntfs
        index = FAR_INDEXES + len(node2.intfs)
        node2.netlink.veth(intfname2, addr2, intfname1, addr1, peer=node1.namespace, index=index)


class _InNamespace:
    """What hosts and switches share: a holder process instead of a shell, netlink instead of ifconfig."""

    params: dict[str, Any]
    name: str
    pid: int
    shell: Any
    waiting: bool

    def startShell(self, mnopts: str | None = None) -> None:
        """Called by Mininet's constructor: take over the holder that was made already."""
        del mnopts
        self.namespace: Namespace = self.params["namespace"]
        self.pid = self.namespace.pid
        self._netlink: Netlink | None = None

    @property
    def netlink(self) -> Netlink:
        """rtnetlink inside this node, opened when first used."""
        if self._netlink is None:
            self._netlink = Netlink(self.namespace)
        return self._netlink

    def reopen_netlink(self) -> None:
        """Have the next use open a socket of its own: in a fork, two processes would take each other's answers."""
        self._netlink = None

    def _ensure_shell(self) -> None:
        if self.shell is None:
            holder = self.pid
            # Mininet appends 'n' (a new namespace) to the options; behind -a's number mnexec does not read it.
            super().startShell(mnopts=f"-cda{holder}")  # type: ignore[misc]
            self.pid = holder

    def _popen(self, cmd: Sequence[str], **params: Any) -> Any:
        """Mininet's way to start a program: mnexec enters network and mount namespace, this the one of the hostname."""

        def enter_hostname() -> None:
            there = os.open(f"/proc/{self.namespace.pid}/ns/uts", os.O_RDONLY | os.O_CLOEXEC)
            setns(there, CLONE_NEWUTS)
            os.close(there)

        return super()._popen(cmd, preexec_fn=enter_hostname, **params)  # type: ignore[misc]

    def sendCmd(self, *args: Any, **kwargs: Any) -> None:
        """Mininet's sendCmd; starts the node's shell when it is first needed."""
        self._ensure_shell()
        super().sendCmd(*args, **kwargs)  # type: ignore[misc]

    def cmd(self, *args: Any, **kwargs: Any) -> str:
        """Mininet's cmd; starts the node's shell when it is first needed."""
        self._ensure_shell()
        return str(super().cmd(*args, **kwargs))  # type: ignore[misc]


class Machine(_InNamespace, Host):  # type: ignore[misc]
    """A host of the topology: client, router, balancer or node.

    Parameters that topologies give beside Mininet's own: `role`, `routes`
    ((destination, gateway) pairs), `on_link` (destinations that need no gateway),
    `also` (more addresses of the first interface), `forward` (be a router).
    """

    def startShell(self, mnopts: str | None = None) -> None:
        """Called by Mininet's constructor: before there are interfaces, which inherit what is set here."""
        super().startShell(mnopts)
        write_sysctls(self.namespace, MACHINE_SYSCTLS)

    def config(
        self,
        ip: str | None = None,
        defaultRoute: str | None = None,
        routes: Sequence[tuple[str, str]] = (),
        on_link: Sequence[str] = (),
        also: Sequence[str] = (),
        forward: bool = False,
        sysctls: Mapping[str, str | int] | None = None,
        **_params: Any,
    ) -> dict[str, Any]:
        """Set addresses, routes and sysctls over netlink and /proc; returns what Mininet wants: results by name."""
        write_sysctls(self.namespace, {**(ROUTER_SYSCTLS if forward else {}), **(sysctls or {})})
        if ip:
            self.setIP(ip)
        for cidr in also:
            self.netlink.address(self.defaultIntf().name, cidr)
        for destination in on_link:
            self.netlink.route(destination, device=self.defaultIntf().name)
        for destination, gateway in routes:
            self.netlink.route(destination, via=gateway)
        if defaultRoute:
            self.setDefaultRoute(defaultRoute)
        return {"ip": ip}

    def setDefaultRoute(self, intf: Any = None) -> None:
        """`via ADDRESS`, `dev NAME via ADDRESS`, or an interface."""
        words = str(intf).split()
        given = dict(zip(words[::2], words[1::2], strict=True)) if len(words) % 2 == 0 else {"dev": str(intf)}
        self.netlink.route("default", via=given.get("via"), device=given.get("dev"))


class BridgeSwitch(_InNamespace, Switch):  # type: ignore[misc]
    """A Linux bridge in a namespace of its own, so that no netfilter of the lab's first namespace sees its frames."""

    def __init__(self, name: str, **params: Any) -> None:
        super().__init__(name, **{**params, "inNamespace": True})

    def start(self, controllers: Sequence[Any] = ()) -> None:
        """Make the bridge, named like the switch, and its ports."""
        del controllers
        self.netlink.bridge(self.name)
        for intf in self.intfList():
            if intf.name != "lo":
                self.netlink.enslave(intf.name, self.name)

    def stop(self, deleteIntfs: bool = True) -> None:
        """Remove the bridge."""
        self.netlink.delete_link(self.name)
        super().stop(deleteIntfs)


class LabNet(Mininet):  # type: ignore[misc]
    """Mininet whose nodes are made in one batch by the zygote."""

    def __init__(self, topo: Topo, zygote: Zygote, **params: Any) -> None:
        names = [*topo.hosts(), *topo.switches()]
        pids = zygote.nodes([NodeSpec(name) for name in names])
        self._holders = dict(zip(names, pids, strict=True))
        with _without_host_tuning():
            super().__init__(
                topo=topo,
                host=Machine,
                switch=BridgeSwitch,
                link=VethLink,
                intf=NetlinkIntf,
                controller=None,
                **params,
            )

    def _holder(self, name: str, role: Role) -> Namespace:
        return Namespace(name, self._holders[name], role)

    def addHost(self, name: str, cls: Any = None, **params: Any) -> Any:
        """Mininet's addHost, with the namespace that the zygote made."""
        return super().addHost(name, cls, namespace=self._holder(name, params.get("role", "host")), **params)

    def addSwitch(self, name: str, cls: Any = None, **params: Any) -> Any:
        """Mininet's addSwitch, with the namespace that the zygote made."""
        return super().addSwitch(name, cls, namespace=self._holder(name, "switch"), **params)


@contextmanager
def _without_host_tuning() -> Iterator[None]:
    """Mininet.init raises limits and sysctls of the whole machine, which a lab must never touch: count it as done."""
    before = Mininet.inited
    Mininet.inited = True
    try:
        yield
    finally:
        Mininet.inited = before
