"""kube-proxy's nftables mode: Services and endpoint slices become one nftables table for a node.

The way of a packet to a Service: `services` looks its address, protocol and port up in the verdict map service-ips
(or service-nodeports) and goes to the Service port's own chain.  `service-...` chooses among all endpoints, `local-...`
among those of this node; `external-...` stands before them for traffic that came from outside.  The choice is one
`numgen random mod N` with a verdict map; `endpoint-...` does the DNAT.  What finds no endpoint is looked up in the
no-endpoint maps by the filter chains and dropped or rejected there.

Source: kube-proxy 1.34, pkg/proxy/nftables/proxier.go and README.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.nft_text import Element, Table
from hoplab.dataplane.nftables_base import TABLE, TABLE_COMMENT, Words, base_chains, base_sets, words
from hoplab.dataplane.nftables_service import Surroundings, service_parts
from hoplab.dataplane.view import View, view
from hoplab.kube.types import EndpointSlice, IPFamily, Node, Service


def build(
    services: Iterable[Service], slices: Iterable[EndpointSlice], node: Node, config: ProxyConfig, family: IPFamily
) -> Table:
    """The whole table of a node for one family; the order of the objects does not matter.

    `Table.text()` loads it, `nft_text.changes(previous, now)` leads from one to the next.
    """
    return build_from_view(view(services, slices, node, family), config)


def build_from_view(seen: View, config: ProxyConfig) -> Table:
    """The whole table from kube-proxy's view of the objects; `config.mode` is taken as nftables."""
    config = replace(config, mode="nftables")
    lang = words(seen.family)
    around = _surroundings(seen, config, lang)
    parts = [service_parts(around, port, seen.categories(port)) for port in seen.ports]
    elements: dict[str, dict[str, Element]] = {}
    for part in parts:
        for name, element in part.elements:
            # Two Services may claim one address and port: the first in order of names has it.
            elements.setdefault(name, {}).setdefault(element.key, element)
    node_port_ips = config.node_port_ips(seen.node, seen.family)
    chains = base_chains(
        lang,
        masquerade_mark=config.masquerade_mark,
        service_cidrs=config.service_cidrs(seen.family),
        all_node_ports=node_port_ips is None,
    )
    sets = base_sets(lang, node_port_ips, {name: by_key.values() for name, by_key in elements.items()})
    return Table(
        lang.family,
        TABLE,
        TABLE_COMMENT,
        (*sets, *(each for part in parts for each in part.affinity_sets)),
        (*chains, *(chain for part in parts for chain in part.chains)),
    )


def _surroundings(seen: View, config: ProxyConfig, lang: Words) -> Surroundings:
    pods = config.cluster_cidr(seen.family)
    return Surroundings(
        lang=lang,
        from_pod=f"{lang.ip} saddr {pods}" if pods else "",
        not_from_pod=f"{lang.ip} saddr != {pods}" if pods else "",
        masquerade_all=config.masquerade_all,
        node_address=config.node_ip(seen.node, seen.family),
    )
