"""What a flow did, told from evidence alone: hops there, hops back, and the outcome.

A hop is one passage of a packet through one network namespace: it came in by an
interface with one tuple and left by another with the same tuple or a rewritten
one.  These values are what scenarios assert on and what reports print; the field
names are those of the run's JSON (docs: the JSON of one run).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hoplab.hops.evidence import ConntrackEvent, Loss, Tuple
from hoplab.hops.reason import Reason

Outcome = Literal["accepted", "rejected", "dropped", "unanswered"]


@dataclass(frozen=True, slots=True)
class RuleHit:
    """A rule (or a chain's policy) that a packet met in one hop, in order."""

    table: str
    chain: str
    rule: str
    """The rule's text, or 'policy' for a base chain's policy."""
    verdict: str
    hook: str = ""
    comment: str = ""
    family: str = "ip"


@dataclass(frozen=True, slots=True)
class Hop:
    """One passage through one namespace; `before`/`after` are what frames showed."""

    node: str
    in_interface: str | None
    out_interface: str | None
    before: Tuple
    after: Tuple
    ttl_in: int | None
    ttl_out: int | None
    rewrite: tuple[Literal["DNAT", "SNAT"], ...] = ()
    rules: tuple[RuleHit, ...] = ()
    frames: tuple[int, ...] = ()
    time_ns: int = 0
    mac_in: tuple[str, str] | None = None
    """(source, destination) Ethernet addresses of the first frame seen in this hop."""
    mac_out: tuple[str, str] | None = None
    tunnel: str = ""
    """The outer tuple when the packet left or came in an overlay, else ''."""
    conntrack: tuple[ConntrackEvent, ...] = ()
    path: tuple[str, ...] = ()
    """Every interface of the namespace that saw the packet, bridges included, in order."""
    switches: tuple[str, ...] = ()
    """The L2 namespaces that carried it from here to the next hop, in order."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One packet followed through the lab: its identity and its hops in order."""

    label: str
    """SYN, SYN-ACK, ACK, DATA, FIN, RST, REQUEST, REPLY, ICMP-ERROR ..."""
    hops: tuple[Hop, ...]
    retransmission: bool = False
    reply: bool = False
    """Whether it travelled towards the probe's sender."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A probe and everything that came of it."""

    name: str
    protocol: str
    outcome: Outcome
    forward: tuple[Hop, ...]
    """Hops of the first packet (the SYN, the request)."""
    reply: tuple[Hop, ...]
    """Hops of its first answer (the SYN-ACK, the reply, the RST or ICMP error)."""
    passages: tuple[Passage, ...] = ()
    """Every packet of the exchange both ways, the two above included, in time order."""
    conntrack: tuple[ConntrackEvent, ...] = ()
    """The last state of each entry that belongs to the flow, one a namespace and tuple."""
    reason: str = ""
    """For anything but accepted: what was seen, in words."""
    response: str = ""
    """Payload of the answer as text, when there was one."""
    losses: tuple[Loss, ...] = ()
    """Evidence that the run's sockets could not keep: what was not seen may have been among it."""
    sender: str = ""
    """The namespace that the probe was sent from."""
    reasons: tuple[Reason, ...] = ()
    """Why it did not end as it should, the likeliest first; empty for a flow that did."""
    legs: tuple[Leg, ...] = ()
    """The connections that proxies opened to pass it on, in the order of their beginning."""
    beyond: str = ""
    """Where the receiver was seen to open connections, but none of them belongs to this flow: why not."""
    doubtful: int = 0
    """Connections that its receiver opened meanwhile, and that other requests may as well have caused."""
    unsent: Tuple | None = None
    """The tuple that its sender addressed, when it had no way to send it by; None for whatever was sent."""


@dataclass(frozen=True, slots=True)
class Leg:
    """A connection by which a proxy passed a flow on: a flow of its own, whose sender is the proxy.

    The client's own connection is leg 1; what its receiver opened is leg 2, what that one's receiver
    opened leg 3.
    """

    number: int
    flow: Flow
    joined_by: tuple[str, ...]
    """What was seen that makes it part of the story, in words."""
    carried: bool = True
    """Whether the request, or a header that names it, was seen on it; else only its time says whose it is."""
    reused: bool = False
    """Whether the connection had served another request before: then `flow` begins with the request, not a SYN."""
    proxy_header: str = ""
    """The PROXY protocol header that it began with, in words; '' for none."""
    forwarded: tuple[str, ...] = ()
    """What the proxy told of its client in HTTP headers: 'X-Forwarded-For: 203.0.113.10', ..."""
