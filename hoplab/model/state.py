"""The working copy of a packet on its way through hooks: what rules read and write, and how probable this way is.

Addresses are numbers here, so that a prefix match is one mask and one comparison.  A state is a value: a step that
changes something makes a new one, and where chance decides, one for each branch, with its share of the probability.

Source: kernel include/linux/skbuff.h (mark), net/netfilter/nf_conntrack_core.c (state and status of a connection).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hoplab.model.packet import Host
    from hoplab.model.rules import Table

PROTOCOLS = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ah": 51,
    "icmpv6": 58, "ipv6-icmp": 58, "ospf": 89, "sctp": 132, "udplite": 136,
}  # fmt: skip
"""IP protocol numbers by the names that rules use (IANA)."""
PROTOCOL_NAMES = {number: name for name, number in reversed(PROTOCOLS.items())}
WITH_PORTS = frozenset((6, 17, 33, 132, 136))

CtState = Literal["new", "established", "related", "invalid", "untracked"]
CT_STATES: dict[CtState, int] = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
"""Connection states as nft numbers them (enum nft_ct_keys, NF_CT_STATE_BIT)."""
TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}


class Unforeseeable(ValueError):
    """A rule asks for what nobody can know beforehand, e.g. a source port that the kernel chose at random."""


@dataclass(frozen=True, slots=True)
class Step:
    """One rule (or policy) that the packet met and that matched."""

    hook: str
    family: str
    table: str
    chain: str
    rule: str
    """The rule's text as parsed, or 'policy'."""
    verdict: str

    def __str__(self) -> str:
        return f"{self.hook} {self.table} {self.chain}: {self.rule} -> {self.verdict}"


@dataclass(frozen=True, slots=True)
class Trail:
    """The steps so far, the last one first: branches share what they have in common."""

    step: Step
    before: Trail | None

    def steps(self) -> tuple[Step, ...]:
        """All steps in the order they were met."""
        found = []
        at: Trail | None = self
        while at is not None:
            found.append(at.step)
            at = at.before
        return tuple(reversed(found))


@dataclass(frozen=True, slots=True)
class State:
    """A packet at one point of its way.  Numbers are host order; `sport` None is a port chosen at random."""

    host: Host
    version: int
    protocol: int
    src: int
    sport: int | None
    dst: int
    dport: int
    in_interface: str = ""
    out_interface: str = ""
    next_hop: str = ""
    mark: int = 0
    ct_mark: int = 0
    ct_state: int = CT_STATES["invalid"]
    """Before conntrack has seen the packet, rules see 'invalid'."""
    tracked: bool = False
    """Whether conntrack has an entry for it."""
    reply: bool = False
    original_dst: int = 0
    original_dport: int = 0
    original_src: int = 0
    original_sport: int | None = 0
    tcp_flags: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    destination_bound: bool = False
    """Whether the connection's DNAT is decided (also: decided that there is none)."""
    source_bound: bool = False
    dnat: bool = False
    """Conntrack's status bits: whether the translation changes anything."""
    snat: bool = False
    redirected: bool = False
    """Whether a DNAT rule took the packet, also when it changed nothing."""
    masqueraded: bool = False
    probability: Fraction = Fraction(1)
    trail: Trail | None = None
    assumptions: tuple[str, ...] = ()
    remembers: tuple[tuple[str, str, str, object, object], ...] = ()
    """What this packet left in dynamic sets: family, table, set, key, value."""
    hook: str = ""
    table: Table | None = None
    """The table of the chain that is being walked."""
    reject_with: str = ""

    def but(self, **changes: object) -> State:
        """A copy with these fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def share(self, part: Fraction, assumption: str = "") -> State:
        """This branch's part of the probability, and what had to be assumed to know it."""
        assumptions = self.assumptions
        if assumption and assumption not in assumptions:
            assumptions = (*assumptions, assumption)
        return replace(self, probability=self.probability * part, assumptions=assumptions)

    def met(self, step: Step) -> State:
        """A copy that remembers one more step."""
        return replace(self, trail=Trail(step, self.trail))

    @property
    def source_port(self) -> int:
        """The source port; raises Unforeseeable when the kernel chose it at random on an earlier host."""
        if self.sport is None:
            raise Unforeseeable(
                "a rule looks at the source port, but a masquerade with random ports chose it on an earlier host; "
                "only a real packet can tell"
            )
        return self.sport

    @property
    def endpoint(self) -> str:
        """The destination as address:port ([address]:port for IPv6; no port for protocols without)."""
        return socket_text(self.version, self.dst, self.dport if self.protocol in WITH_PORTS else None)


_OCTETS = {str(number): number for number in range(256)}


def address_number(text: str) -> tuple[int, int]:
    """(IP version, number) of an address; raises ValueError for anything else."""
    octets = text.split(".")
    if len(octets) == 4 and all(each in _OCTETS for each in octets):
        # Rulesets hold addresses by the ten thousand; ipaddress takes four times as long.
        a, b, c, d = octets
        return 4, _OCTETS[a] << 24 | _OCTETS[b] << 16 | _OCTETS[c] << 8 | _OCTETS[d]
    parsed = ipaddress.ip_address(text)
    return parsed.version, int(parsed)


def address_text(version: int, number: int) -> str:
    """The address as text."""
    return str(ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number))


def socket_text(version: int, number: int, port: int | None) -> str:
    """address:port, with brackets for IPv6."""
    address = address_text(version, number)
    if port is None:
        return address
    return f"[{address}]:{port}" if version == 6 else f"{address}:{port}"


def prefix_mask(version: int, length: int) -> int:
    """The netmask of a prefix length as a number."""
    width = 32 if version == 4 else 128
    if not 0 <= length <= width:
        raise ValueError(f"a prefix length of IPv{version} is 0 to {width}, found {length}")
    return ((1 << length) - 1) << (width - length)


def network(text: str) -> tuple[int, int, int]:
    """(version, network number, mask) of `address`, `address/length` or `address/mask`; raises ValueError."""
    address, _, length = text.partition("/")
    version, number = address_number(address)
    if not length:
        mask = prefix_mask(version, 32 if version == 4 else 128)
    elif length.isdigit():
        mask = prefix_mask(version, int(length))
    else:
        mask = address_number(length)[1]
    return version, number & mask, mask
