"""Which routes to ask for, given a flow that failed: those that each namespace on its way had to look up.

A namespace looks a route up for the packet as it is behind PREROUTING (the destination
rewritten, the source not yet), and for one that comes from a bridge's port the incoming
interface is the bridge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from hoplab.hops.decisive import decides, unquoted
from hoplab.hops.story import Flow, Hop
from hoplab.reasons.facts import AddressFact, LinkFact, RouteQuestion

_TARGET = re.compile(r"(?:--to-destination|dnat(?: ip6?)? to) \[?([0-9a-fA-F.:]*[0-9a-fA-F])\]?(?::(\d+))?(?:\s|$)")
"""One address that a rule rewrites to; a map or a range tells no single one."""


def headed(hop: Hop) -> Hop:
    """A hop that ended with its destination as the rule that was met last rewrote it.

    Routing ends a packet between the rewrite and the next rule: no frame and no trace shows the new destination.
    """
    if hop.out_interface is not None or hop.after.dst != hop.before.dst:
        return hop
    rule = next((hit for hit in reversed(hop.rules) if decides(hit) == "DNAT"), None)
    found = _TARGET.search(unquoted(rule.rule)) if rule else None
    if found is None:
        return hop
    address, _, port = found[1].partition(":") if found[1].count(":") == 1 else (found[1], "", found[2])
    return replace(hop, after=replace(hop.after, dst=address, dport=int(port or found[2] or hop.after.dport)))


def ip_interface(links: Iterable[LinkFact], node: str, interface: str) -> str:
    """The interface that IP sees a packet on: of a bridge's port the bridge."""
    return next((link.master for link in links if (link.node, link.name) == (node, interface)), "") or interface


def question(hop: Hop, links: Iterable[LinkFact]) -> RouteQuestion:
    """The look-up that this hop needed."""
    if hop.in_interface is None:
        return RouteQuestion(hop.node, hop.after.dst, hop.before.src)
    return RouteQuestion(hop.node, hop.after.dst, hop.before.src, ip_interface(links, hop.node, hop.in_interface))


def way_back(hop: Hop) -> RouteQuestion:
    """The look-up that an answer made in this hop needs."""
    return RouteQuestion(hop.node, hop.before.src, hop.after.dst)


def whole(flows: Iterable[Flow]) -> Iterator[Flow]:
    """Flows and the connections that proxies opened for them."""
    for flow in flows:
        yield flow
        yield from (leg.flow for leg in flow.legs)


def questions(
    flows: Iterable[Flow], links: tuple[LinkFact, ...], addresses: Iterable[AddressFact], roles: Mapping[str, str]
) -> Iterator[RouteQuestion]:
    """Each once, in the order of the ways."""
    own = {(one.node, one.address) for one in addresses}
    asked: dict[RouteQuestion, None] = {}
    for flow in whole(flows):
        if flow.unsent is not None:
            asked[RouteQuestion(flow.sender, flow.unsent.dst, flow.unsent.src)] = None
        for passage in flow.passages:
            for hop in passage.hops:
                if roles.get(hop.node) == "switch":
                    continue
                hop = headed(hop)
                if (hop.node, hop.after.dst) in own:
                    asked[way_back(hop)] = None
                else:
                    asked[question(hop, links)] = None
    yield from asked
