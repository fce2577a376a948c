"""What the kubelet writes into a pod for its resolver: /etc/resolv.conf and /etc/hosts.

With `ndots:5` a name with fewer than five dots is tried below each search domain first,
and as it stands only at last: so `web` is found as web.default.svc.cluster.local, and
every name of the outside world costs three questions in vain.

Sources: pkg/kubelet/network/dns/dns.go (GetPodDNS, formDNSSearchFitsLimits, mergeDNSOptions),
pkg/kubelet/kubelet_pods.go (managedHostsFileContent), pod's dnsPolicy in the API reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hoplab.dns.records import DOMAIN
from hoplab.kube.types import Pod

MOST_NAMESERVERS, MOST_SEARCHES, LONGEST_SEARCH = 3, 32, 2048
"""Limits of the kubelet (pkg/apis/core/validation: MaxDNSNameservers, MaxDNSSearchPaths, MaxDNSSearchListChars)."""
NDOTS = "ndots:5"
HEADER = "# Kubernetes-managed hosts file."
NSSWITCH = "hosts: files dns\n"
"""Which sources glibc asks, as container images have it; a machine's own may ask services that no pod has."""


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """A resolver's configuration (resolv.conf(5))."""

    nameservers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = field(default_factory=tuple)

    def text(self) -> str:
        """The file, in the order in which containerd writes it."""
        lines = [f"search {' '.join(self.searches)}"] if self.searches else []
        lines += [f"nameserver {address}" for address in self.nameservers]
        lines += [f"options {' '.join(self.options)}"] if self.options else []
        return "\n".join(lines) + "\n"


def pod_resolv_conf(pod: Pod, cluster_dns: Sequence[str], node: ResolvConf, domain: str = DOMAIN) -> ResolvConf:
    """What this pod's resolver is told; `node` is the resolver's configuration of its node.

    A pod on the host's network that asks for ClusterFirst gets its node's, as the API reference has it.
    """
    policy = pod.dns_policy
    if policy == "ClusterFirst" and pod.host_network:
        policy = "Default"
    if policy in ("ClusterFirst", "ClusterFirstWithHostNet"):
        own = (f"{pod.meta.namespace}.svc.{domain}", f"svc.{domain}", domain)
        base = ResolvConf(tuple(cluster_dns), (*own, *node.searches), (NDOTS,))
    else:
        base = node if policy == "Default" else ResolvConf()
    given = pod.dns_config
    return ResolvConf(
        _unique((*base.nameservers, *given.nameservers))[:MOST_NAMESERVERS],
        _fitting(_unique((*base.searches, *given.searches))),
        _merged(base.options, given.options),
    )


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _fitting(searches: tuple[str, ...]) -> tuple[str, ...]:
    kept = searches[:MOST_SEARCHES]
    while len(" ".join(kept)) > LONGEST_SEARCH:
        kept = kept[:-1]
    return kept


def _merged(options: Iterable[str], given: Iterable[str]) -> tuple[str, ...]:
    """A given option replaces the one of the same name."""
    by_name = {option.partition(":")[0]: option for option in options}
    by_name |= {option.partition(":")[0]: option for option in given}
    return tuple(by_name.values())


def pod_hosts(pod: Pod, ips: Sequence[str], domain: str = DOMAIN) -> str:
    """The pod's /etc/hosts: itself, by its full name where hostname and subdomain give it one, and its hostAliases."""
    lines = [
        HEADER,
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "fe00::\tip6-mcastprefix",
        "fe00::1\tip6-allnodes",
        "fe00::2\tip6-allrouters",
    ]
    hostname = pod.hostname or pod.meta.name
    full = f"{hostname}.{pod.subdomain}.{pod.meta.namespace}.svc.{domain}\t" if pod.subdomain else ""
    lines += [f"{ip}\t{full}{hostname}" for ip in ips]
    if pod.host_aliases:
        lines += ["", "# Entries added by HostAliases."]
        lines += [f"{ip}\t{chr(9).join(names)}" for ip, names in pod.host_aliases]
    return "\n".join(lines) + "\n"
