"""kube-proxy's iptables mode: Services and endpoint slices become the filter and nat rules of one node.

nat does the work: KUBE-SERVICES (from PREROUTING for what arrives, from OUTPUT for what the node sends itself) finds
the Service and leads to a DNAT; KUBE-MARK-MASQ marks what needs a masquerade on the way out, KUBE-POSTROUTING does it
and takes the mark off.  filter refuses: what reaches it with a Service's address was not rewritten, because no
endpoint could take it or its sender may not.

Source: kube-proxy 1.34, pkg/proxy/iptables/proxier.go (iptablesJumpChains, syncProxyRules).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.iptables_service import (
    EXTERNAL_SERVICES,
    MARK_MASQUERADE,
    NODE_PORTS,
    PROXY_FIREWALL,
    SERVICES,
    Surroundings,
    service_part,
)
from hoplab.dataplane.iptables_text import Frame, Part, Rule, Tables
from hoplab.dataplane.view import PortKey, View, view
from hoplab.kube.types import EndpointSlice, IPFamily, Node, Service

FORWARD = "KUBE-FORWARD"
POSTROUTING = "KUBE-POSTROUTING"
KUBELET_FIREWALL = "KUBE-FIREWALL"

LARGE_CLUSTER = 1000
"""With more endpoints than this, rules of endpoints carry no comments (largeClusterEndpointsThreshold)."""
INVALID_COUNTER = "ct_state_invalid_dropped_pkts"
"""kube-proxy's nfacct counter of packets dropped as invalid."""


def build(
    services: Iterable[Service], slices: Iterable[EndpointSlice], node: Node, config: ProxyConfig, family: IPFamily
) -> Tables:
    """The whole ruleset of a node for one family; the order of the objects does not matter.

    `Tables.text()` loads it, `iptables_text.changes(previous, now)` leads from one to the next.
    """
    return build_from_view(view(services, slices, node, family), config)


def build_from_view(seen: View, config: ProxyConfig, previous: Tables | None = None) -> Tables:
    """The whole ruleset from kube-proxy's view of the objects.

    `previous`, the ruleset made before a change, saves the work for Services that stayed as they were.
    """
    if config.kubernetes == "1.7":
        # Imported when asked for: a run of the lab counts milliseconds of start-up, and few are about 2017.
        from hoplab.dataplane import iptables_1_7

        return iptables_1_7.build_from_view(seen, config)
    around = Surroundings(
        node=seen.node,
        pods=config.cluster_cidr(seen.family),
        masquerade_all=config.masquerade_all,
        node_address=config.node_ip(seen.node, seen.family),
        large=sum(len(seen.endpoints.get(port.key, ())) for port in seen.ports) > LARGE_CLUSTER,
        count_localhost=config.nfacct and config.takes_localhost_node_ports(seen.family),
    )
    known = {part.key: part for part in previous.parts} if previous else {}
    return Tables(
        family=seen.family,
        filter=_filter_frame(config, seen.family),
        nat=_nat_frame(seen, config),
        parts=tuple(_parts(seen, around, known)),
    )


def _parts(seen: View, around: Surroundings, known: Mapping[PortKey, Part]) -> Iterator[Part]:
    for port in seen.ports:
        endpoints = seen.endpoints.get(port.key, ())
        part = known.get(port.key)
        yield part if part and part.seen == (around, port, endpoints) else service_part(around, port, endpoints)


def _filter_frame(config: ProxyConfig, family: IPFamily) -> Frame:
    localhost = config.takes_localhost_node_ports(family)
    return Frame(
        chains=(
            *(SERVICES, EXTERNAL_SERVICES, FORWARD, NODE_PORTS, PROXY_FIREWALL),
            *((KUBELET_FIREWALL,) if localhost else ()),
        ),
        jumps=_FILTER_JUMPS,
        head=(_MARTIANS,) if localhost else (),
        tail=tuple(_forward_rules(config)),
        linked=() if localhost else (KUBELET_FIREWALL,),
    )


def _nat_frame(seen: View, config: ProxyConfig) -> Frame:
    return Frame(
        chains=(SERVICES, NODE_PORTS, POSTROUTING, MARK_MASQUERADE),
        jumps=_NAT_JUMPS,
        head=tuple(_masquerade_rules(config)),
        tail=tuple(_node_port_rules(seen, config)),
    )


def _jump(chain: str, comment: str, to: str, match: str = "") -> Rule:
    text = f'-m comment --comment "{comment}" ' if comment else ""
    return Rule(chain, f"{match}{text}-j {to}", "jump")


_NEW = "-m conntrack --ctstate NEW "
_FILTER_JUMPS = (
    _jump("INPUT", "kubernetes externally-visible service portals", EXTERNAL_SERVICES, _NEW),
    _jump("FORWARD", "kubernetes externally-visible service portals", EXTERNAL_SERVICES, _NEW),
    _jump("INPUT", "kubernetes health check service ports", NODE_PORTS),
    _jump("FORWARD", "kubernetes service portals", SERVICES, _NEW),
    _jump("OUTPUT", "kubernetes service portals", SERVICES, _NEW),
    _jump("FORWARD", "kubernetes forwarding rules", FORWARD),
    _jump("INPUT", "kubernetes load balancer firewall", PROXY_FIREWALL, _NEW),
    _jump("OUTPUT", "kubernetes load balancer firewall", PROXY_FIREWALL, _NEW),
    _jump("FORWARD", "kubernetes load balancer firewall", PROXY_FIREWALL, _NEW),
    _jump("INPUT", "", KUBELET_FIREWALL),
    _jump("OUTPUT", "", KUBELET_FIREWALL),
)
_NAT_JUMPS = (
    _jump("OUTPUT", "kubernetes service portals", SERVICES),
    _jump("PREROUTING", "kubernetes service portals", SERVICES),
    _jump("POSTROUTING", "kubernetes postrouting rules", POSTROUTING),
)
_MARTIANS = Rule(
    KUBELET_FIREWALL,
    '-m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 ! -s 127.0.0.0/8 '
    "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
    "loopback from outside",
)
"""route_localnet, which node ports on 127.0.0.1 need, would let neighbours reach the node's loopback (issue 90259)."""


def _masquerade_rules(config: ProxyConfig) -> Iterator[Rule]:
    mark = mark_text(config)
    yield Rule(POSTROUTING, f"-m mark ! --mark {mark}/{mark} -j RETURN", "not marked for masquerade")
    # A packet that comes by again (a tunnel, a bridge) must not be masqueraded twice.
    yield Rule(POSTROUTING, f"-j MARK --xor-mark {mark}", "clear the masquerade mark")
    comment = '-m comment --comment "kubernetes service traffic requiring SNAT"'
    yield Rule(POSTROUTING, f"{comment} -j MASQUERADE --random-fully", "masquerade")
    yield Rule(MARK_MASQUERADE, f"-j MARK --or-mark {mark}", "mark for masquerade")


def _forward_rules(config: ProxyConfig) -> Iterator[Rule]:
    if not config.conntrack.tcp_be_liberal:
        count = f"-m nfacct --nfacct-name {INVALID_COUNTER} " if config.nfacct else ""
        yield Rule(FORWARD, f"-m conntrack --ctstate INVALID {count}-j DROP", "invalid conntrack state")
    mark, comment = mark_text(config), '-m comment --comment "kubernetes forwarding rules"'
    yield Rule(FORWARD, f"{comment} -m mark --mark {mark}/{mark} -j ACCEPT", "forward what is marked for masquerade")
    comment = '-m comment --comment "kubernetes forwarding conntrack rule"'
    yield Rule(FORWARD, f"{comment} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "forward known flows")


def _node_port_rules(seen: View, config: ProxyConfig) -> Iterator[Rule]:
    """The end of KUBE-SERVICES: what is for the node itself may be for a node port."""
    note = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
    intro, role = f'-m comment --comment "{note}"', "node ports"
    addresses = config.node_port_ips(seen.node, seen.family)
    if addresses is not None:
        for address in addresses:
            yield Rule(SERVICES, f"{intro} -d {address} -j {NODE_PORTS}", role)
        return
    not_loopback = ""
    if seen.family == "IPv6":
        not_loopback = "! -d ::1/128 "
    elif not config.takes_localhost_node_ports(seen.family):
        not_loopback = "! -d 127.0.0.0/8 "
    yield Rule(SERVICES, f"{intro} -m addrtype --dst-type LOCAL {not_loopback}-j {NODE_PORTS}", role)


def mark_text(config: ProxyConfig) -> str:
    """The masquerade mark as kube-proxy prints it (Go's %#08x pads the digits, not the whole)."""
    return f"0x{config.masquerade_mark:08x}"
