"""/etc/hosts and /etc/resolv.conf of the lab's machines, and which address pods ask for names.

A machine finds the other machines by their names in /etc/hosts; pods' files are the
kubelet's to write (hoplab.dns.resolv).  Pure: texts only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

LOOPBACK = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


def cluster_dns(service_cidrs: Sequence[str]) -> str:
    """The address of the cluster's name server: the tenth of the Service network, as kubeadm chooses it (GetDNSIP)."""
    return str(ipaddress.ip_network(service_cidrs[0])[10])


def machine_hosts(name: str, machines: Mapping[str, Iterable[str]]) -> str:
    """A machine's /etc/hosts: itself first, then the others of the topology, by name and addresses."""
    ordered = {name: machines.get(name, ()), **machines}
    return LOOPBACK + "".join(f"{address}\t{each}\n" for each, addresses in ordered.items() for address in addresses)


MACHINE_RESOLV_CONF = (
    "# Nobody serves names out here until the addon dns is there: this file names none, and lookups end at once.\n"
)
