"""What is asked of a probe, and what it brought back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hoplab.hops.evidence import Tuple
from hoplab.hops.exchange import Delivered
from hoplab.probe.http import HttpResponse, read_response, read_told
from hoplab.probe.shapes import Protocol
from hoplab.probe.verdict import Outcome


@dataclass(frozen=True, slots=True)
class Probe:
    """One exchange to be made.

    `sender`: name of a namespace.  `source_port` 0 and `name` '' are chosen by the
    prober.  `source_address`: an address to send from that the sender need not have;
    it is borrowed for the prober's life.  `next_hop`: an on-link address to send by
    instead of the route's gateway; with `interface`, on the link of that interface,
    whatever the routes say.
    """

    sender: str
    destination: str
    port: int = 0
    """0 for ICMP echo."""
    protocol: Protocol = "tcp"
    name: str = ""
    source_port: int = 0
    source_address: str = ""
    next_hop: str = ""
    interface: str = ""
    path: str = "/"
    """TCP without `payload` asks for this page by HTTP."""
    host: str = ""
    """The Host header, in place of address and port."""
    payload: bytes | None = None
    """What to send instead of an HTTP request, or of the token in a datagram; the token is not in it."""
    size: int = 0
    """Least number of payload bytes: an HTTP request becomes a POST with a body, a datagram is padded."""
    half_open: bool = False
    """TCP: only SYN, and RST once it was answered."""
    aborts: bool = False
    """TCP: RST in answer to the server's FIN, so that neither end remembers the ports (no TIME-WAIT)."""
    ttl: int = 64
    tos: int = 0
    dont_fragment: bool = True
    retries: int = 0
    deadline_s: float = 1.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How it went, as the sender could tell, and by what to recognize its packets anywhere."""

    name: str
    protocol: Protocol
    sender: str
    sent: Tuple
    """As the sender sent it; for ICMP echo `sport` is the identifier."""
    token: str
    """In the payload of the request and of a UDP or ICMP answer; '' when the caller gave the payload."""
    isn: int
    """TCP's initial sequence number, else 0."""
    started_ns: int
    ended_ns: int
    """CLOCK_REALTIME."""
    rtt_ns: int
    """From the first packet out to the first packet back, 0 when none came."""
    outcome: Outcome
    reason: str
    complete: bool
    response: bytes
    notes: tuple[str, ...] = ()
    delivered: tuple[Delivered, ...] = ()
    """What a node's own socket got: see `hoplab.hops.exchange.Delivered`."""

    @property
    def text(self) -> str:
        """The answer's payload as text."""
        return self.response.decode("utf-8", "replace")

    @property
    def http(self) -> HttpResponse | None:
        """The answer as HTTP, None when it is none."""
        found = read_response(self.response, ended=True)
        return found[0] if found else None

    @property
    def told(self) -> Mapping[str, Any]:
        """What the pod's server said in JSON (pod, namespace, node, ip, port, client, ...), empty when it didn't."""
        page = self.http
        return page.told if page else read_told(self.response)

    @property
    def pod(self) -> str:
        """The pod that answered, by its own word; '' when no pod did."""
        page = self.http
        return page.pod if page else str(self.told.get("pod", ""))

    @property
    def client(self) -> str:
        """IP:PORT that the pod saw the request come from; '' when no pod answered."""
        page = self.http
        return page.client if page else str(self.told.get("client", ""))

    @property
    def proxied(self) -> str:
        """IP:PORT that a proxy named to the pod as the client, by the PROXY protocol; '' when none did."""
        page = self.http
        return page.proxied if page else ""
