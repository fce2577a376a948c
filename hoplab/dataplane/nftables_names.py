"""Names of the chains and sets that kube-proxy's nftables mode makes for Services and endpoints.

A name tells whose it is: a prefix for its part, eight characters of a hash (so that names differ at a glance and stay
unique when cut), namespace, Service, protocol and port: `service-ULMVA6XW-ns1/svc1/tcp/p80`.  nft allows letters,
digits and `_./-` in a name, at most 255 characters.

Source: kube-proxy, pkg/proxy/nftables/proxier.go (servicePortChainNameBase, servicePortEndpointChainNameBase).
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

NAME_BASE_MAX = 240
"""knftables.NameLengthMax (256) less 16 for the prefix."""


def service_base(namespace: str, name: str, port_name: str, protocol: str) -> str:
    """The part of a Service port's chain names behind the prefix; protocol in lower case."""
    return _hashed(f"{namespace}/{name}/{protocol}/{port_name}")


def endpoint_base(namespace: str, name: str, port_name: str, protocol: str, address: str, port: int) -> str:
    """The part of an endpoint's chain and set names behind the prefix; protocol in lower case."""
    return _hashed(f"{namespace}/{name}/{protocol}/{port_name}__{address.replace(':', '.')}/{port}")


@lru_cache(maxsize=65536)
def _hashed(name: str) -> str:
    digest = base64.b32encode(hashlib.sha256(name.encode()).digest()).decode()
    full = f"{digest[:8]}-{name}"
    return full if len(full) <= NAME_BASE_MAX else full[: NAME_BASE_MAX - 3] + "..."
