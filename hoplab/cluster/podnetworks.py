"""The CNI configurations that the lab writes: what a node tells the plugins about its pods' network.

A cloud's node has a bridge whose pods get their addresses from the node's own subnet; the
chapter's node has what is printed there; and a pod that stands for an endpoint outside of
every pod subnet gets a point-to-point link.  Which plugin does what with which key is in
the documents of github.com/containernetworking/plugins (bridge, ptp, host-local, static).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection, Sequence

from hoplab.net.cni import NetworkConfig

CLOUD_NETWORK = "hoplab"
"""Name of the pods' network on a cloud's nodes."""

CHAPTER_CNI = {
    "name": "rkt.kubernetes.io",
    "type": "bridge",
    "bridge": "mybridge",
    "mtu": 1460,
    "addIf": "true",
    "isGateway": True,
    "ipMasq": True,
    "ipam": {
        "type": "host-local",
        "subnet": "10.1.0.0/16",
        "gateway": "10.1.0.1",
        "routes": [{"dst": "0.0.0.0/0"}],
    },
}


def chapter_cni_config() -> str:
    """The chapter's k8s.conf, as it is printed there."""
    return json.dumps(CHAPTER_CNI, indent=1) + "\n"


def cloud_cni_config(pod_cidrs: Sequence[str], mtu: int, reserved: Collection[str] = ()) -> str:
    """The configuration that the lab gives a node of a cloud: bridge and host-local, routed, hairpin on (pure).

    The bridge has the first address of each subnet, or the last one that is not `reserved` for a pod.
    """
    families = {ipaddress.ip_network(cidr).version for cidr in pod_cidrs}
    routes = [{"dst": "0.0.0.0/0"}] * (4 in families) + [{"dst": "::/0"}] * (6 in families)
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "mtu": mtu,
        "isGateway": True,
        "hairpinMode": True,
        "ipMasq": False,
        "ipam": {"type": "host-local", "ranges": [[_range(cidr, reserved)] for cidr in pod_cidrs], "routes": routes},
    }
    return json.dumps({"cniVersion": "1.0.0", "name": CLOUD_NETWORK, "plugins": [bridge]}, indent=1) + "\n"


def _range(cidr: str, reserved: Collection[str]) -> dict[str, str]:
    network = ipaddress.ip_network(cidr, strict=False)
    if str(network[1]) not in reserved:
        return {"subnet": cidr}
    last = min(network.num_addresses, 1 << 16) - (2 if network.version == 4 else 1)
    gateway = next((a for a in (str(network[n]) for n in range(last, 1, -1)) if a not in reserved), str(network[1]))
    return {"subnet": cidr, "gateway": gateway}


def given_last(pod_cidrs: Sequence[str], reserved: Collection[str]) -> dict[str, str]:
    """What host-local is to take for the address that it gave last, by the number of its range (pure).

    It looks for a free address behind that one, and knows nothing of `reserved` ones that somebody will ask for by
    name; so it begins at the longest gap between them.  A range without any is left out.
    """
    found = {}
    for number, cidr in enumerate(pod_cidrs):
        network = ipaddress.ip_network(cidr, strict=False)
        first, last = int(network[0]), int(network[-1])
        # The bridge's address stands for the border of the range, from whose end host-local goes on at the beginning.
        wanted = {int(a) for a in map(ipaddress.ip_address, reserved) if a in network}
        if wanted:
            taken = sorted(wanted | {first + 1})
            gaps = zip(taken, (*taken[1:], last), strict=True)
            start, _end = max(gaps, key=lambda gap: gap[1] - gap[0])
            found[str(number)] = str(network[start - first])
    return found


ROUTED = "hoplab-routed"
"""Name of the network of pods whose address lies in no pod subnet."""


def routed_cni_config(address: str, mtu: int) -> NetworkConfig:
    """For a pod whose address is none of its node's subnet: a point-to-point link and a host route (pure).

    ptp replaces the route of a subnet, so there has to be one, as small as can be; a default route it would set before
    the gateway can be reached, so `attach` does that afterwards.
    """
    ipv6 = ":" in address
    ipam = {
        "type": "static",
        "addresses": [
            {
                "address": f"{address}/{127 if ipv6 else 31}",
                "gateway": "fe80::ecee:eeff:feee:eeee" if ipv6 else "169.254.1.1",
            }
        ],
    }
    plugin = {"type": "ptp", "mtu": mtu, "ipMasq": False, "ipam": ipam}
    return NetworkConfig("(the lab's own)", ROUTED, "1.0.0", (plugin,))
