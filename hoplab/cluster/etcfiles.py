"""/etc/hosts and /etc/resolv.conf of nodes and pods, as the kubelet writes them for a pod's containers.

A pod finds its own name in /etc/hosts, and asks the cluster's name server for every
other: short names are tried in its own namespace first (the search path), and a name
with fewer than five dots is taken for a short one (ndots:5).  Pure: texts only.
Source: pkg/kubelet/kubelet_pods.go (managedHostsFileContent, hostsEntriesFromHostAliases)
and pkg/kubelet/network/dns/dns.go (GetPodDNS, generateSearchesForDNSClusterFirst).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

CLUSTER_DOMAIN = "cluster.local"
NDOTS = 5
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


def pod_hosts(addresses: Sequence[str], hostname: str, subdomain: str = "", namespace: str = "default") -> str:
    """A pod's /etc/hosts."""
    names = hostname
    if subdomain:
        names = f"{hostname}.{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}\t{hostname}"
    return "# Kubernetes-managed hosts file.\n" + LOOPBACK + "".join(f"{address}\t{names}\n" for address in addresses)


def pod_resolv_conf(namespace: str, name_server: str) -> str:
    """A pod's /etc/resolv.conf under dnsPolicy ClusterFirst."""
    search = " ".join((f"{namespace}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN))
    return f"search {search}\nnameserver {name_server}\noptions ndots:{NDOTS}\n"


def machine_hosts(name: str, machines: Mapping[str, Iterable[str]]) -> str:
    """A machine's /etc/hosts: itself first, then the others of the topology, by name and addresses."""
    ordered = {name: machines.get(name, ()), **machines}
    return LOOPBACK + "".join(f"{address}\t{each}\n" for each, addresses in ordered.items() for address in addresses)


MACHINE_RESOLV_CONF = (
    "# A lab has no way to the world outside, and so no name server: this file has none, and lookups end at once.\n"
)
