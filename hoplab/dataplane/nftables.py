"""kube-proxy's nftables mode: Services and endpoint slices become one nftables table for a node.

The way of a packet to a Service: `services` looks its address, protocol and port up in the verdict map service-ips
(or service-nodeports) and goes to the Service port's own chain.  `service-...` chooses among all endpoints, `local-...`
among those of this node; `external-...` stands before them for traffic that came from outside.  The choice is one
`numgen random mod N` with a verdict map; `endpoint-...` does the DNAT.  What finds no endpoint is looked up in the
no-endpoint maps by the filter chains and dropped or rejected there.

Source: kube-proxy 1.34, pkg/proxy/nftables/proxier.go and README.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.nft_text import Element, Table
from hoplab.dataplane.nftables_base import TABLE, TABLE_COMMENT, Words, base_chains, base_sets, words
from hoplab.dataplane.nftables_service import ServiceParts, Surroundings, service_parts
from hoplab.dataplane.view import EndpointInfo, ServicePortInfo, View, view
from hoplab.kube.types import EndpointSlice, IPFamily, Node, Service


def build(
    services: Iterable[Service], slices: Iterable[EndpointSlice], node: Node, config: ProxyConfig, family: IPFamily
) -> Table:
    """The whole table of a node for one family; the order of the objects does not matter.

    `Table.text()` loads it, `nft_text.changes(previous, now)` leads from one to the next.
    """
    return build_from_view(view(services, slices, node, family), config)


def build_from_view(seen: View, config: ProxyConfig, previous: Table | None = None) -> Table:
    """The whole table from kube-proxy's view of the objects; `config.mode` is taken as nftables.

    `previous`, the table made before a change, saves the work for Services that stayed as they were.
    """
    config = replace(config, mode="nftables")
    lang = words(seen.family)
    made = _made(seen, _surroundings(seen, config, lang), previous.memory if previous else {})
    parts = [part for _, part in made.values()]
    node_port_ips = config.node_port_ips(seen.node, seen.family)
    chains = base_chains(
        lang,
        masquerade_mark=f"0x{config.masquerade_mark:08x}",
        service_cidrs=config.service_cidrs(seen.family),
        all_node_ports=node_port_ips is None,
    )
    sets = base_sets(lang, node_port_ips, _elements(parts, previous))
    return Table(
        lang.family,
        TABLE,
        TABLE_COMMENT,
        (*sets, *(each for part in parts for each in part.affinity_sets)),
        (*chains, *(chain for part in parts for chain in part.chains)),
        memory=made,
    )


def _elements(parts: Sequence[ServiceParts], previous: Table | None) -> dict[str, Iterable[Element]]:
    """The elements of each set and map; the previous table's own ones where a change left all of them as they were."""
    if previous is not None:
        before = [known.elements for _, known in previous.memory.values()]  # type: ignore[misc, has-type]
        if before == [part.elements for part in parts]:
            return {each.name: each.elements for each in previous.sets if not each.dynamic}
    elements: dict[str, dict[str, Element]] = {}
    for part in parts:
        for name, element in part.elements:
            # Two Services may claim one address and port: the first in order of names has it.
            elements.setdefault(name, {}).setdefault(element.key, element)
    return {name: by_key.values() for name, by_key in elements.items()}


_Inputs = tuple[Node, Surroundings, ServicePortInfo, tuple[EndpointInfo, ...]]


def _made(
    seen: View, around: Surroundings, known: Mapping[object, object]
) -> dict[object, tuple[_Inputs, ServiceParts]]:
    """What each Service port adds, with what it was made from, by the port's key; taken over where that is the same."""
    made: dict[object, tuple[_Inputs, ServiceParts]] = {}
    match next(iter(known.values()), None):
        case ((_, before_around, _, _), ServiceParts()) if before_around == around:
            # The same object, so that the comparisons below end at a glance.
            around = before_around
    for port in seen.ports:
        inputs = (seen.node, around, port, seen.endpoints.get(port.key, ()))
        match known.get(port.key):
            case (before, ServiceParts() as parts) if before == inputs:
                made[port.key] = (inputs, parts)
            case _:
                made[port.key] = (inputs, service_parts(around, port, seen.categories(port)))
    return made


def _surroundings(seen: View, config: ProxyConfig, lang: Words) -> Surroundings:
    pods = config.cluster_cidr(seen.family)
    return Surroundings(
        lang=lang,
        from_pod=f"{lang.ip} saddr {pods}" if pods else "",
        not_from_pod=f"{lang.ip} saddr != {pods}" if pods else "",
        masquerade_all=config.masquerade_all,
        node_address=config.node_ip(seen.node, seen.family),
    )
