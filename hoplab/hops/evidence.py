"""What was seen: the plain data that observation hands to the joining of hops.

Four kinds of evidence exist and nothing else may enter a verdict: a frame on an
interface, a rule-trace event, a conntrack event, and the text of the rule that a
trace event names by its handle.  Marks, trace ids and conntrack entries do not
cross the border of a network namespace, so each item carries the name of the
namespace (`node`) that it was seen in.  All times are CLOCK_REALTIME nanoseconds
of this one machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, order=True)
class Tuple:
    """Addresses and ports of a packet; for ICMP echo `sport` is the id and `dport` 0."""

    src: str
    sport: int
    dst: str
    dport: int

    def reversed(self) -> Tuple:
        """The tuple of an answer that nothing rewrote."""
        return Tuple(self.dst, self.dport, self.src, self.sport)


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface that frames were taken from."""

    node: str
    name: str
    index: int
    mac: str
    mtu: int
    kind: str = ""
    """rtnl link kind: veth, bridge, vxlan, ... ('' for loopback)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame on one interface.  `number` is 1-based in time order over the whole run."""

    number: int
    time_ns: int
    node: str
    interface: str
    direction: Literal["in", "out"]
    data: bytes
    """From the Ethernet header on, as captured."""
    length: int
    """Bytes on the wire; larger than len(data) when the capture was cut."""
    packet_type: Literal["host", "broadcast", "multicast", "otherhost", "outgoing"] = "host"


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One NFT_MSG_TRACE event: a packet met a rule, returned from a chain, or met a policy."""

    time_ns: int
    """When the observer read it; the kernel gives trace events no time of their own."""
    node: str
    trace_id: int
    kind: Literal["rule", "return", "policy"]
    family: Literal["ip", "ip6", "inet", "bridge", "arp", "netdev"]
    table: str
    chain: str
    handle: int = 0
    verdict: str = ""
    """accept, drop, continue, return, jump CHAIN, goto CHAIN, queue; 'policy accept' is kind=policy."""
    in_interface: str = ""
    out_interface: str = ""
    mark: int = 0
    network_header: bytes = b""
    transport_header: bytes = b""
    """First event of each base chain carries the headers, later ones may be empty."""


@dataclass(frozen=True, slots=True)
class ConntrackEvent:
    """A conntrack entry that came, changed or went."""

    time_ns: int
    node: str
    kind: Literal["new", "update", "destroy", "dump"]
    protocol: str
    """tcp, udp, icmp, sctp, ... or the number as text."""
    original: Tuple
    reply: Tuple
    id: int = 0
    mark: int = 0
    zone: int = 0
    status: int = 0
    """IPS_* bits: 1 expected, 2 seen-reply, 4 assured, 8 confirmed, 16 SNAT, 32 DNAT, ..."""
    tcp_state: str = ""


@dataclass(frozen=True, slots=True, order=True)
class RuleId:
    """Names one rule of one kernel: handles are unique within a table's life."""

    node: str
    family: str
    table: str
    chain: str
    handle: int


@dataclass(frozen=True, slots=True)
class RuleText:
    """The rule behind a handle as its own tool prints it."""

    id: RuleId
    text: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class BaseChain:
    """A chain that hangs on a hook; trace events name the chain but not the hook."""

    node: str
    family: str
    table: str
    chain: str
    hook: str
    """prerouting, input, forward, output, postrouting, ingress, egress."""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Loss:
    """Evidence that a socket could not keep; a run with any loss says so."""

    node: str
    source: Literal["frames", "trace", "conntrack"]
    lost: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that one observation saw, in time order."""

    frames: tuple[Frame, ...] = ()
    traces: tuple[TraceEvent, ...] = ()
    conntrack: tuple[ConntrackEvent, ...] = ()
    rules: dict[RuleId, RuleText] = field(default_factory=dict)
    interfaces: tuple[Interface, ...] = ()
    losses: tuple[Loss, ...] = ()
    chains: tuple[BaseChain, ...] = ()
