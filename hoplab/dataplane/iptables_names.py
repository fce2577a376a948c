"""Names of the chains that kube-proxy's iptables mode makes for Services and endpoints.

An iptables chain name has 28 characters at most, too few for namespace, Service and port; so a name is a prefix for the
chain's part and sixteen letters of a hash.  The hash is over text that anybody can write down, so a name found in a
listing can be checked by hand: KUBE-SVC- + base32(sha256("default/web:http" + "tcp"))[:16].

Source: kube-proxy, pkg/proxy/iptables/proxier.go (portProtoHash, servicePortEndpointChainName, isServiceChainName).
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

SERVICE = "KUBE-SVC-"
"""Chooses among the endpoints of policy Cluster."""
LOCAL = "KUBE-SVL-"
"""Chooses among the endpoints of this node, for policy Local."""
EXTERNAL = "KUBE-EXT-"
"""Stands before both for traffic to node ports, external IPs and load balancer addresses."""
FIREWALL = "KUBE-FW-"
"""Lets only loadBalancerSourceRanges pass to KUBE-EXT-."""
ENDPOINT = "KUBE-SEP-"
"""One endpoint: marks hairpin traffic, does the DNAT."""
LOAD_BALANCER_1_7 = "KUBE-XLB-"
"""Kubernetes 1.7: chooses among the endpoints of this node, for external policy Local."""

_OURS = (SERVICE, LOCAL, EXTERNAL, FIREWALL, ENDPOINT, LOAD_BALANCER_1_7)


@lru_cache(maxsize=1 << 17)
def hashed(text: str) -> str:
    """The sixteen letters behind the prefix: base32 of sha256 of `text`, cut."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:16].decode()


def service_chain(prefix: str, label: str, protocol: str) -> str:
    """A chain of a Service port; `label` is namespace/name:port, `protocol` in lower case."""
    return prefix + hashed(label + protocol)


def endpoint_chain(label: str, protocol: str, endpoint: str) -> str:
    """The chain of an endpoint; `endpoint` is address:port, with brackets around an IPv6 address."""
    return ENDPOINT + hashed(label + protocol + endpoint)


def is_service_chain(name: str) -> bool:
    """Whether a chain in a listing is one that kube-proxy made for a Service, and so may remove when it is stale."""
    return name.startswith(_OURS)
