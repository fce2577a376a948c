"""What the kernels of the lab answer when something failed: links, addresses, neighbours, routes, counters, settings.

None of this says what happened to a packet; frames, traces and the growth of counters do.
Facts say why it could happen (`ip_forward` is 0, nobody has the address, the port is
not in hairpin mode) and are only named beside something that was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hoplab.hops.evidence import ConntrackEvent


@dataclass(frozen=True, slots=True)
class LinkFact:
    """One interface (RTM_GETLINK)."""

    node: str
    name: str
    index: int
    mac: str
    mtu: int
    kind: str = ""
    master: str = ""
    """Name of the bridge that it is a port of."""
    up: bool = True
    """Set up, and its other end as well (carrier)."""
    hairpin: bool | None = None
    """Of a bridge port: whether frames may leave by the port that they came in by; None for anything else."""


@dataclass(frozen=True, slots=True)
class AddressFact:
    """One address (RTM_GETADDR)."""

    node: str
    interface: str
    address: str
    prefix: int


@dataclass(frozen=True, slots=True)
class NeighbourFact:
    """One entry of the neighbour table (RTM_GETNEIGH)."""

    node: str
    interface: str
    address: str
    state: str
    """INCOMPLETE, REACHABLE, STALE, DELAY, PROBE, FAILED, NOARP, PERMANENT."""
    mac: str = ""


@dataclass(frozen=True, slots=True, order=True)
class RouteQuestion:
    """`ip route get DESTINATION from SOURCE iif INTERFACE` in one namespace; no interface: for a packet of its own."""

    node: str
    destination: str
    source: str = ""
    interface: str = ""


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """What RTM_GETROUTE said: the entry that matched, or the error's name (ENETUNREACH, EHOSTUNREACH, EXDEV, ...)."""

    error: str = ""
    matched: str = ""
    """CIDR of the entry; '0.0.0.0/0' is the default route."""
    via: str = ""
    device: str = ""
    kind: str = "unicast"

    @property
    def words(self) -> str:
        """As a person would say it."""
        if self.error:
            return _ERRORS.get(self.error, self.error)
        by = f" via {self.via}" if self.via else ""
        name = "the default route" if self.is_default else self.matched
        return f"{name}{by} dev {self.device}" if self.kind == "unicast" else f"{self.kind} {name}"

    @property
    def is_default(self) -> bool:
        """Whether only the default route matched."""
        return not self.error and self.matched in ("0.0.0.0/0", "::/0")


_ERRORS = {
    "ENETUNREACH": "network is unreachable (no entry matches)",
    "EHOSTUNREACH": "no route to host",
    "EXDEV": "invalid cross-device link (the way back to the source leads through another interface)",
    "EINVAL": "invalid argument (a blackhole route, or a source that can't be one here)",
    "EACCES": "permission denied (prohibited)",
}


@dataclass(frozen=True, slots=True)
class ListenerFact:
    """A listening socket (/proc/net/tcp, udp)."""

    node: str
    protocol: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class HealthFact:
    """What a node answered the balancer's last health check."""

    node: str
    address: str
    port: int
    healthy: bool
    detail: str
    service: str = ""
    """namespace/name of the Service that it was asked for."""


@dataclass(frozen=True, slots=True)
class DropFact:
    """One packet that the kernel dropped, which one it does not say: when, and its own word for why."""

    time_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was asked; `growth` is by namespace and counter, since the look before."""

    roles: Mapping[str, str] = field(default_factory=dict)
    """Namespace -> client, router, balancer, node, pod, switch, host."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """Pod's namespace -> the node that runs it."""
    links: tuple[LinkFact, ...] = ()
    addresses: tuple[AddressFact, ...] = ()
    neighbours: tuple[NeighbourFact, ...] = ()
    routes: Mapping[RouteQuestion, RouteAnswer] = field(default_factory=dict)
    listeners: tuple[ListenerFact, ...] = ()
    settings: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(namespace, sysctl) -> value."""
    growth: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Counters that grew: 'Ip.InAddrErrors', 'TcpExt.IPReversePathFilter', 'conntrack.drop', 'eth0.rx_drop'."""
    entries: tuple[ConntrackEvent, ...] = ()
    """Conntrack entries that there were."""
    health: tuple[HealthFact, ...] = ()
    drops: tuple[DropFact, ...] = ()
    """The kernel's own drop reasons (skb:kfree_skb) of that time, where they can be read."""
