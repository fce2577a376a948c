"""What the evaluator's tests share: a node with its surroundings, packets, and the rules of every Service shape."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction

from hoplab.dataplane import iptables, nftables
from hoplab.dataplane.config import ProxyConfig
from hoplab.kube.types import EndpointSlice, IPFamily, Node, Service
from hoplab.model.iptables import parse_iptables
from hoplab.model.nft import parse_nft
from hoplab.model.packet import Host, Interface, Packet, Route
from hoplab.model.prediction import Prediction
from hoplab.model.rules import Ruleset
from hoplab.model.walk import merged, outcomes

NODE = Host(
    interfaces=(
        Interface("eth0", ("192.168.0.2/24", "2001:db8::1/64")),
        Interface("eth1", ("192.168.1.2/24",)),
        Interface("cni0", ("10.180.0.254/24", "fd00:10::ffff/64")),
    ),
    routes=(
        Route("default", "eth0", "192.168.0.254"),
        Route("::/0", "eth0", "2001:db8::fe"),
        Route("10.0.0.0/8", "eth0", "192.168.0.3"),
    ),
    forward=True,
    route_localnet=True,
)
"""The node of kube-proxy's own tests: 192.168.0.2, pods of the cluster in 10.0.0.0/8, its own in 10.180.0.0/24."""

POD = Packet("10.180.0.9", 40000, "172.30.0.41", 80, in_interface="cni0")
OUTSIDE = Packet("203.0.113.9", 40000, "172.30.0.41", 80, in_interface="eth0")
SELF = Packet("192.168.0.2", 40000, "172.30.0.41", 80)
"""The same request from a pod, from the outside, and from the node itself."""


@dataclass(frozen=True)
class Fate:
    """What a table of expectations says of one possible outcome."""

    outcome: str
    endpoint: str = ""
    masqueraded: bool = False


def to(packet: Packet, dst: str, dport: int = 80, protocol: str = "tcp") -> Packet:
    """The same sender asking for something else."""
    return replace(packet, dst=dst, dport=dport, protocol=protocol)


def six(packet: Packet, dst: str, dport: int = 80, protocol: str = "tcp") -> Packet:
    """The same sender by its IPv6 address."""
    src = {POD.src: "fd00:10::9", OUTSIDE.src: "2001:db8:1::9", SELF.src: "2001:db8::1"}[packet.src]
    return replace(packet, src=src, dst=dst, dport=dport, protocol=protocol)


def rules_of(
    services: Iterable[Service], slices: Iterable[EndpointSlice], node: Node, config: ProxyConfig, family: IPFamily
) -> Ruleset:
    """What the node would hold, read back from the text that would load it."""
    if config.mode == "nftables":
        return parse_nft(nftables.build(services, slices, node, config, family).text())
    tables = iptables.build(services, slices, node, config, family)
    return parse_iptables(tables.text(), "ip" if family == "IPv4" else "ip6")


def fates(predictions: Iterable[Prediction]) -> dict[Fate, Fraction]:
    """The outcome set: what may happen and how probably; endpoints only where something is reached."""
    found: dict[Fate, Fraction] = {}
    for each in predictions:
        accepted = each.outcome == "accepted"
        fate = Fate(each.outcome, each.endpoint if accepted else "", each.masqueraded)
        found[fate] = found.get(fate, Fraction(0)) + each.probability
    return found


def walked(ruleset: Ruleset, packet: Packet, host: Host = NODE) -> dict[Fate, Fraction]:
    """The outcome set of a packet."""
    return fates(outcomes(ruleset, packet, host))


def only(ruleset: Ruleset, packet: Packet, host: Host = NODE) -> Prediction:
    """The one outcome of a packet whose fate is certain."""
    (prediction,) = merged(outcomes(ruleset, packet, host))
    return prediction


def reached(*endpoints: str, masqueraded: bool = False) -> dict[Fate, Fraction]:
    """Accepted by each of these endpoints with the same probability."""
    return {Fate("accepted", each, masqueraded): Fraction(1, len(endpoints)) for each in endpoints}


def certainly(outcome: str) -> dict[Fate, Fraction]:
    """One outcome without an endpoint."""
    return {Fate(outcome): Fraction(1)}
