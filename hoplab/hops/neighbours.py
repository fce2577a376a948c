"""Questions for a neighbour that nobody answered: why a packet that has a route does not leave.

Before a packet goes out on a link, the sender asks for the hardware address of the next
one there.  A bridge passes such a question on, and one in hairpin mode returns it to its
asker as well; only who made it has asked.  (RFC 826; Linux net/ipv4/arp.c.)
"""

from __future__ import annotations

from collections.abc import Sequence

from hoplab.hops.evidence import Frame
from hoplab.hops.packet import Arp

Arps = Sequence[tuple[Frame, Arp]]
ARP_WAIT_NS = 5_000_000_000
"""Linux asks three times, one second apart, before it gives a neighbour up."""


def asked_in_vain(arps: Arps, node: str, since_ns: int, target: str = "") -> list[tuple[Frame, Arp]]:
    """ARP requests (for this address) that a namespace made from then on and that nobody answered, in their order."""
    near = [(f, a) for f, a in arps if f.node == node and since_ns <= f.time_ns <= since_ns + ARP_WAIT_NS]
    came = [(f, a) for f, a in near if f.direction == "in"]
    answered = {arp.sender for _frame, arp in came}
    heard: dict[tuple[str, str], int] = {}
    for frame, arp in came:
        if arp.request:
            heard[arp.sender, arp.target] = min(frame.time_ns, heard.get((arp.sender, arp.target), frame.time_ns))

    def passed_on(frame: Frame, arp: Arp) -> bool:
        # What only passes a bridge came in before it went out; one's own question comes back after it.
        return heard.get((arp.sender, arp.target), frame.time_ns + 1) <= frame.time_ns

    asked = [(f, a) for f, a in near if a.request and f.direction == "out" and target in ("", a.target)]
    made = [(f, a) for f, a in asked if a.target not in answered and not passed_on(f, a)]
    return made
