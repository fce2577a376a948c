"""The two ends of what a script sends: a namespace that probes leave from, and the Service or address they go to.

A Service is met at several addresses: its load balancer's from outside, its cluster IP from pods and nodes, each
node's own with the node port.  Which of them a probe goes to is the script's choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hoplab.errors import InputError
from hoplab.kube.types import Service, ServicePort
from hoplab.scenario.sent import Sent

if TYPE_CHECKING:
    from hoplab.scenario.lab import Lab


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a probe goes: an address, a port, and what a reader calls it."""

    address: str
    port: int
    label: str


@dataclass(frozen=True, slots=True)
class ServiceRef:
    """A Service of the running lab.  Sent to as it is, a probe goes to the balancer's address, else the cluster IP."""

    service: Service
    port_name: str = ""

    @property
    def name(self) -> str:
        """The Service's name."""
        return self.service.meta.name

    @property
    def port(self) -> ServicePort:
        """The chosen port (the first when none was named)."""
        for port in self.service.ports:
            if self.port_name in ("", port.name, str(port.port)):
                return port
        raise InputError(f"Service {self.service.key} has no port {self.port_name!r}")

    @property
    def cluster_ip(self) -> str:
        """Its first cluster IP."""
        return self.service.cluster_ips[0] if self.service.cluster_ips else ""

    @property
    def vip(self) -> str:
        """The balancer's address for it, '' when it has none."""
        return self.service.load_balancer_ingress[0].ip if self.service.load_balancer_ingress else ""

    @property
    def node_port(self) -> int:
        """The chosen port's node port."""
        return self.port.node_port

    def destination(self) -> Destination:
        """Where a probe to this Service goes."""
        return Destination(self.vip or self.cluster_ip, self.port.port, self.service.key)

    def at_cluster_ip(self) -> Destination:
        """Its cluster IP, for pods and nodes."""
        return Destination(self.cluster_ip, self.port.port, self.service.key)


@dataclass(frozen=True, slots=True)
class Sender:
    """A namespace that probes are sent from."""

    lab: Lab
    name: str

    def send_tcp(self, to: object, port: int = 0, *, balancer_picks: str = "", **options: Any) -> Sent:
        """One TCP exchange (handshake, HTTP request and answer, both FINs).

        `to`: a Service, a Destination, a pod, a node or an address (these three with
        `port`).  `balancer_picks`: go on with new source ports until the balancer is
        seen to choose that node.  Other options are fields of `hoplab.probe.result.Probe`.
        Raises InputError when the balancer never picks that node.
        """
        if not balancer_picks:
            return self.lab.send(self.name, "tcp", to, port, **options)
        return self.lab.send_picked(self.name, "tcp", to, port, balancer_picks, **options)

    def send_udp(self, to: object, port: int = 0, **options: Any) -> Sent:
        """One datagram and its answer."""
        return self.lab.send(self.name, "udp", to, port, **options)

    def send_icmp(self, to: object, **options: Any) -> Sent:
        """One echo request."""
        return self.lab.send(self.name, "icmp", to, 0, **options)

    def send_many(
        self, to: object, count: int = 0, *, ports: Sequence[int] = (), port: int = 0, **options: Any
    ) -> list[Sent]:
        """Many TCP exchanges, from these source ports or from `count` fresh ones, in this order."""
        return self.lab.send_many(self.name, to, port, ports or [0] * count, **options)
