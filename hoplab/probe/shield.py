"""Keeping the sender's own kernel out of a crafted exchange.

No socket of the kernel knows the probe's connection, so the kernel would answer a
SYN-ACK with RST and a datagram with "port unreachable" (RFC 9293 3.10.7.1, RFC 1122
3.2.2.1).  A host that sends by packet socket drops what comes for probe ports
before anything else of the kernel sees it; its observer took the frame already.  A
node must not: there the answer has to pass conntrack, which undoes the NAT, and
reach a raw socket, so a node swallows its kernel's protest instead.  (Where a
namespace masquerades, what comes for one of those ports may be anybody's answer.)
"""

from __future__ import annotations

from hoplab.net.namespaces import Role

FIRST_PORT, LAST_PORT = 40000, 49999
"""Source ports of probes; the lab's kernels choose theirs from 50000 on."""

PRIORITY = -450
"""Before the observer's trace rules (-400), fragment reassembly (-400), raw (-300) and conntrack (-200)."""

TABLE = "hoplab_probe"

NO_SHIELD = f"table inet {TABLE}\ndelete table inet {TABLE}\n"
"""The nft text that takes the table away, whether or not it is there."""


def sends_frames(role: Role) -> bool:
    """Whether a namespace of this role sends probes by packet socket, past its own netfilter (else: by raw IP socket).

    Hosts and pods have no rules of their own; what a node, the balancer or a router
    sends has to meet their OUTPUT hook as anything that they send does.
    """
    return role in ("client", "pod", "host")


def shield_text(role: Role) -> str:
    """The table for a namespace of this role, as `nft -f` takes it.  Loading it again changes nothing (pure)."""
    ports = f"{FIRST_PORT}-{LAST_PORT}"
    if sends_frames(role):
        rules = [
            f"type filter hook prerouting priority {PRIORITY}; policy accept;",
            # Only what is meant for this host itself: forwarded packets of others' probes go their way.
            f"fib daddr type local meta l4proto {{ tcp, udp }} th dport {ports} drop",
        ]
    else:
        rules = [
            f"type filter hook output priority {PRIORITY}; policy accept;",
            # A RST of the kernel's own offers no window; a probe's always does.
            f"tcp sport {ports} tcp flags & rst == rst tcp window 0 drop",
            # The quoted packet's destination port: behind 8 bytes of ICMP, its IP header and its source port.
            *(
                f"{family} type destination-unreachable {family} code port-unreachable"
                f" @th,{offset},16 >= {FIRST_PORT} @th,{offset},16 <= {LAST_PORT} drop"
                for family, offset in (("icmp", 8 * (8 + 20 + 2)), ("icmpv6", 8 * (8 + 40 + 2)))
            ),
        ]
    body = "\n".join(f"\t\t{rule}" for rule in rules)
    # Declared, deleted and written anew in one transaction: the same text serves the first time and any later one.
    return f"{NO_SHIELD}table inet {TABLE} {{\n\tchain shield {{\n{body}\n\t}}\n}}\n"
