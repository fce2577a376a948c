"""Zones as master files (RFC 1035 section 5): the cluster's own, and those in which its addresses are looked up."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from hoplab.dns.records import DOMAIN, Record

TTL_S = 30
"""How long an answer may be kept: kubeadm's Corefile has `ttl 30`."""


def reverse_zone(network: str) -> str:
    """The zone that holds a network's addresses, absolute: whole octets (IPv6: nibbles), so it may hold more.

    10.1.0.0/16 -> 1.10.in-addr.arpa.
    """
    parsed = ipaddress.ip_network(network, strict=False)
    size = 8 if parsed.version == 4 else 4
    labels = parsed.network_address.reverse_pointer.split(".")
    return ".".join(labels[parsed.max_prefixlen // size - parsed.prefixlen // size :]) + "."


def zones(
    records: Sequence[Record], networks: Iterable[str], domain: str = DOMAIN, server: str = ""
) -> Mapping[str, str]:
    """Zone name -> its master file: the cluster's domain, and one for each of its networks' addresses.

    A record belongs to the longest zone that its name ends with; reverse records of addresses outside of the
    networks belong to nobody here and are left out.  `server`: address of the name server itself.
    """
    names = list(dict.fromkeys((f"{domain}.", *map(reverse_zone, networks))))
    by_zone: dict[str, list[Record]] = {name: [] for name in names}
    for record in records:
        fitting = [name for name in names if record.name == name or record.name.endswith(f".{name}")]
        if fitting:
            by_zone[max(fitting, key=len)].append(record)
    host = f"ns.dns.{domain}."
    if server:
        by_zone[f"{domain}."].append(Record(host, "AAAA" if ":" in server else "A", server))
    return {name: _text(name, host, domain, own) for name, own in by_zone.items()}


def _text(name: str, host: str, domain: str, records: Iterable[Record]) -> str:
    lines = [
        f"$ORIGIN {name}",
        f"$TTL {TTL_S}",
        # Nobody copies this zone, so its serial number stays.
        f"@ IN SOA {host} hostmaster.{domain}. 1 7200 1800 86400 {TTL_S}",
        f"@ IN NS {host}",
    ]
    lines += [f"{record.name} IN {record.type} {record.data}" for record in sorted(set(records))]
    return "\n".join(lines) + "\n"
