"""kube-proxy's settings, as far as they change what it writes: the part of KubeProxyConfiguration that the lab knows.

Two questions behind most of them: which packets come from pods of this cluster (cluster CIDR), and on which of a
node's own addresses does it take node ports.  Both proxy modes read the same settings; where their defaults differ,
the method that answers the question knows.

Source: kube-proxy, pkg/proxy/apis/config/types.go, pkg/proxy/util/nodeport_addresses.go,
pkg/proxy/iptables/proxier.go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from hoplab.errors import InputError
from hoplab.kube.types import IPFamily, Node

ProxyMode = Literal["iptables", "nftables"]
Release = Literal["1.33", "1.7"]
PRIMARY = "primary"
"""The word in nodePortAddresses for the node's own primary address of each family."""

ANYWHERE = {"IPv4": "0.0.0.0/0", "IPv6": "::/0"}


@dataclass(frozen=True, slots=True)
class Conntrack:
    """KubeProxyConfiguration.conntrack: what kube-proxy sets by sysctl when it starts, times in seconds.

    0 leaves the kernel's value.  `tcp_be_liberal` also drops the rule against invalid packets.  The size of the table
    (maxPerCore, min) is missing: the kernel has one for all network namespaces, which a lab must not change.
    """

    tcp_established_timeout_s: int = 86400
    tcp_close_wait_timeout_s: int = 3600
    udp_timeout_s: int = 0
    udp_stream_timeout_s: int = 0
    tcp_be_liberal: bool = False

    def sysctls(self) -> dict[str, int]:
        """What is to be set (cmd/kube-proxy/app/server_linux.go, setupConntrack)."""
        wanted = {
            "tcp_timeout_established": self.tcp_established_timeout_s,
            "tcp_timeout_close_wait": self.tcp_close_wait_timeout_s,
            "udp_timeout": self.udp_timeout_s,
            "udp_timeout_stream": self.udp_stream_timeout_s,
            "tcp_be_liberal": int(self.tcp_be_liberal),
        }
        return {f"net.netfilter.nf_conntrack_{name}": value for name, value in wanted.items() if value > 0}


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """How kube-proxy was told to run on every node.

    `cluster_cidrs` empty: no detection of local traffic.  `node_port_addresses` empty: all addresses of the node in
    iptables mode, its primary ones in nftables mode.  `service_ip_ranges` are the ServiceCIDR objects (nftables mode
    only).  `nfacct`: the kernel has nfnetlink_acct, so iptables mode counts what it drops as invalid and what comes in
    on loopback (kube-proxy finds that out by itself).  `min_sync_period_s` is the least time between two loads of
    rules; kube-proxy's default is a second, the lab's none.  `kubernetes` is the release whose text is written: "1.33"
    (today's) or "1.7" (iptables mode, IPv4).  Raises InputError for a value that kube-proxy would refuse to start with.
    """

    mode: ProxyMode = "iptables"
    cluster_cidrs: tuple[str, ...] = ()
    masquerade_all: bool = False
    masquerade_bit: int = 14
    node_port_addresses: tuple[str, ...] = ()
    localhost_node_ports: bool = True
    conntrack: Conntrack = field(default_factory=Conntrack)
    min_sync_period_s: float = 0.0
    service_ip_ranges: tuple[str, ...] = ()
    nfacct: bool = False
    kubernetes: Release = "1.33"

    def __post_init__(self) -> None:
        if self.mode not in ("iptables", "nftables"):
            raise InputError(f"kubeProxy.mode: expected iptables or nftables, found {self.mode!r}")
        if not 0 <= self.masquerade_bit <= 31:
            raise InputError(f"kubeProxy.masqueradeBit: expected 0 to 31, found {self.masquerade_bit}")
        if self.kubernetes not in ("1.33", "1.7"):
            raise InputError(f"kubernetes: expected 1.33 or 1.7, found {self.kubernetes!r}")
        if self.kubernetes == "1.7" and self.mode != "iptables":
            raise InputError("kubernetes 1.7 has no nftables mode: use iptables mode, or a newer release")
        _check_cidrs("kubeProxy.clusterCIDR", self.cluster_cidrs)
        _check_cidrs("kubeProxy.serviceCIDRs", self.service_ip_ranges)
        if PRIMARY in self.node_port_addresses:
            if len(self.node_port_addresses) > 1:
                raise InputError('kubeProxy.nodePortAddresses: "primary" stands alone, no CIDR beside it')
        else:
            _check_cidrs("kubeProxy.nodePortAddresses", self.node_port_addresses)

    def sysctls(self) -> dict[str, int]:
        """What kube-proxy sets on its node: connection tracking, and the way of node ports on localhost."""
        localhost = {"net.ipv4.conf.all.route_localnet": 1} if self.takes_localhost_node_ports("IPv4") else {}
        return {**self.conntrack.sysctls(), **localhost}

    @property
    def masquerade_mark(self) -> int:
        """The bit of the packet mark that means: masquerade me on the way out."""
        return 1 << self.masquerade_bit

    def cluster_cidr(self, family: IPFamily) -> str:
        """The pods' network of a family, by which traffic from pods is known; '' when it can't be told.

        Of several the first counts (pkg/proxy/util/localdetector.go takes one per family).
        """
        return next((cidr for cidr in self.cluster_cidrs if family_of(cidr) == family), "")

    def service_cidrs(self, family: IPFamily) -> tuple[str, ...]:
        """The networks that cluster IPs of a family are allocated from, in text order."""
        return tuple(sorted(cidr for cidr in self.service_ip_ranges if family_of(cidr) == family))

    def node_ip(self, node: Node, family: IPFamily) -> str:
        """The node's primary address of a family; '' when it has none."""
        return next((address for address in node.addresses if family_of(address) == family), "")

    def node_port_ips(self, node: Node, family: IPFamily) -> tuple[str, ...] | None:
        """The node's addresses that take node ports, in the order the node lists them; None means all of them.

        Loopback takes them only in iptables mode, IPv4, with localhost_node_ports (the kernel routes nothing else
        from there).
        """
        wanted = self.node_port_addresses
        if wanted == (PRIMARY,) or (not wanted and self.mode == "nftables"):
            primary = self.node_ip(node, family)
            return (primary,) if primary else ()
        networks = [cidr for cidr in wanted if family_of(cidr) == family] or [ANYWHERE[family]]
        if ANYWHERE[family] in networks:
            return None
        parsed = [ipaddress.ip_network(cidr, strict=False) for cidr in networks]
        loopback = ("127.0.0.1",) if self.takes_localhost_node_ports(family) else ()
        own = dict.fromkeys(
            address for address in (*loopback, *node.addresses, *node.extra_addresses) if family_of(address) == family
        )
        return tuple(address for address in own if any(ipaddress.ip_address(address) in network for network in parsed))

    def takes_localhost_node_ports(self, family: IPFamily) -> bool:
        """Whether 127.0.0.1:nodePort works: iptables mode, IPv4, not switched off, loopback among the addresses."""
        if self.mode != "iptables" or family != "IPv4" or not self.localhost_node_ports:
            return False
        if PRIMARY in self.node_port_addresses:
            return False
        networks = [cidr for cidr in self.node_port_addresses if family_of(cidr) == family]
        localhost = ipaddress.ip_network("127.0.0.0/8")
        return not networks or any(ipaddress.ip_network(cidr, strict=False).overlaps(localhost) for cidr in networks)


def family_of(address: str) -> IPFamily:
    """The family of an address or CIDR that is known to be valid."""
    return "IPv6" if ":" in address else "IPv4"


def _check_cidrs(where: str, cidrs: Iterable[str]) -> None:
    for cidr in cidrs:
        try:
            if "/" not in cidr:
                raise ValueError("no prefix length")
            ipaddress.ip_network(cidr, strict=False)
        except ValueError as error:
            raise InputError(f"{where}: expected a network like 10.1.0.0/16, found {cidr!r} ({error})") from error
