"""Packets and places in the words that reports and reasons use."""

from __future__ import annotations

from hoplab.hops.evidence import Tuple
from hoplab.hops.packet import ACK, FIN, RST, SYN, TCP, Packet
from hoplab.hops.story import Hop, RuleHit

_ERRORS4 = {
    (3, 0): "network unreachable",
    (3, 1): "host unreachable",
    (3, 2): "protocol unreachable",
    (3, 3): "port unreachable",
    (3, 4): "fragmentation needed",
    (3, 9): "network administratively prohibited",
    (3, 10): "host administratively prohibited",
    (3, 13): "communication administratively prohibited",
    (5, 0): "redirect for the network",
    (5, 1): "redirect for the host",
    (11, 0): "TTL exceeded in transit",
    (11, 1): "fragment reassembly time exceeded",
}
_ERRORS6 = {
    (1, 0): "no route to destination",
    (1, 1): "communication administratively prohibited",
    (1, 3): "address unreachable",
    (1, 4): "port unreachable",
    (2, 0): "packet too big",
    (3, 0): "hop limit exceeded in transit",
}
"""RFC 792, 1812, 4443."""


def endpoint(address: str, port: int) -> str:
    """ADDRESS:PORT, with brackets for IPv6; the address alone when there is no port."""
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def tuple_words(tuple_: Tuple) -> str:
    """source -> destination."""
    return f"{endpoint(tuple_.src, tuple_.sport)} -> {endpoint(tuple_.dst, tuple_.dport)}"


def icmp_words(packet: Packet) -> str:
    """'ICMP port unreachable from 10.0.0.1'."""
    return icmp_error_words(packet.kind or (0, 0), packet.mtu, packet.src)


def icmp_error_words(kind: tuple[int, int], mtu: int, reporter: str) -> str:
    """An ICMP error as a person says it: type and code, the MTU that it tells (0: none), the address that sent it."""
    words = (_ERRORS6 if ":" in reporter else _ERRORS4).get(kind, f"type {kind[0]} code {kind[1]}")
    told = f" (MTU {mtu})" if mtu else ""
    return f"ICMP {words}{told} from {reporter}"


def label(packet: Packet, *, reply: bool) -> str:
    """What a packet is in its exchange: SYN, SYN-ACK, ACK, DATA, FIN, DATA-FIN, RST, REQUEST, REPLY, ICMP-ERROR."""
    if packet.is_error:
        return "ICMP-ERROR"
    if packet.protocol != TCP:
        return "REPLY" if reply else "REQUEST"
    if packet.flags & RST:
        return "RST"
    if packet.flags & SYN:
        return "SYN-ACK" if packet.flags & ACK else "SYN"
    if packet.flags & FIN:
        return "DATA-FIN" if packet.payload else "FIN"
    return "DATA" if packet.payload else "ACK"


def frames_words(frames: tuple[int, ...]) -> str:
    """'frame 3' or 'frames 3, 4, 9'."""
    if not frames:
        return "no frame"
    return f"frame{'s' if len(frames) > 1 else ''} {', '.join(map(str, frames))}"


def way_words(hop: Hop) -> str:
    """'node1 eth0 -> veth12': the hop's name and interfaces."""
    return f"{hop.node} {hop.in_interface or '(made here)'} -> {hop.out_interface or '(ended here)'}"


def rule_words(hit: RuleHit) -> str:
    """'ip filter FORWARD: policy drop', or the rule's text."""
    # iptables-save begins every rule with its chain.
    what = f"policy {hit.verdict}" if hit.rule == "policy" else hit.rule.removeprefix(f"-A {hit.chain} ")
    return f"{hit.family} {hit.table} {hit.chain}: {what}"
