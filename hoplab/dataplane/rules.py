"""What kube-proxy would load on one node, as text: the pure part of `lab.py rules`.

In iptables mode each family has its own program (iptables-restore, ip6tables-restore) and so its own text; comments
tell which is which.  In nftables mode one `nft -f` takes both tables.
"""

from __future__ import annotations

from collections.abc import Sequence

from hoplab.dataplane.config import ProxyConfig, family_of
from hoplab.kube.types import EndpointSlice, IPFamily, Node, Service

FAMILIES: tuple[IPFamily, IPFamily] = ("IPv4", "IPv6")
PROGRAMS = {"IPv4": "iptables-restore --noflush", "IPv6": "ip6tables-restore --noflush"}


def render(
    services: Sequence[Service], slices: Sequence[EndpointSlice], node: Node, config: ProxyConfig, family: str = ""
) -> str:
    """The text for `node` in the mode of `config`; `family` (IPv4 or IPv6) picks one, else those that the node has.

    A node without any address of a family has no rules of it: kube-proxy runs single-stack there.
    """
    from hoplab.dataplane import iptables, nftables

    families = [each for each in FAMILIES if each == family or (not family and each in families_of(node))]
    if config.mode == "nftables":
        return "".join(nftables.build(services, slices, node, config, each).text() for each in families)
    texts = {each: iptables.build(services, slices, node, config, each).text() for each in families}
    if len(texts) == 1:
        return texts[families[0]]
    return "".join(f"# {each}, for {PROGRAMS[each]}\n{text}" for each, text in texts.items())


def families_of(node: Node) -> list[IPFamily]:
    """The families that kube-proxy serves on a node, by the addresses of its Node object; IPv4 when it has none."""
    found = {family_of(address) for address in node.addresses} or {"IPv4"}
    return [family for family in FAMILIES if family in found]
