"""One probe under way: its state machine, the templates of its packets, and which arrivals are its own."""

from __future__ import annotations

import time
from collections.abc import Sequence

from hoplab.hops.evidence import Tuple
from hoplab.hops.exchange import Delivered
from hoplab.probe.craft import Template
from hoplab.probe.crafter import Crafter
from hoplab.probe.datagram import DatagramClient, DatagramPlan
from hoplab.probe.edges import Edge
from hoplab.probe.http import host_header, request_bytes
from hoplab.probe.result import Probe, ProbeResult
from hoplab.probe.seen import Seen
from hoplab.probe.shapes import SYN, Endpoint, Segment, Shape
from hoplab.probe.tcp import TcpClient, TcpPlan
from hoplab.probe.ways import Way

ICMP_NUMBER = 1


class Exchange:
    """A probe's packets, made by its machine and sent by its edge."""

    def __init__(
        self,
        probe: Probe,
        *,
        source: Endpoint,
        token: str,
        isn: int,
        identification: int,
        way: Way,
        edge: Edge,
        crafter: Crafter,
    ) -> None:
        self.probe, self.source, self.token, self.isn = probe, source, token, isn
        self.remote = Endpoint(probe.destination, 0 if probe.protocol == "icmp" else probe.port)
        self._way, self._edge = way, edge
        self._identification = identification
        self._mss = way.mtu - (40 if source.version == 4 else 60)
        # Crafted before the deadline begins to run: the first of all may have to wait for scapy.
        self._plain = _template(probe, source, crafter, 0)
        self._syn = _template(probe, source, crafter, self._mss) if probe.protocol == "tcp" else self._plain
        self._machine = self._make_machine()
        self._strays: list[str] = []
        self._delivered: list[Delivered] = []
        self._started_ns = self._first_ns = self._ended_ns = 0
        self.deadline = 0.0

    def _make_machine(self) -> TcpClient | DatagramClient:
        probe = self.probe
        if probe.protocol == "tcp":
            close = "client" if probe.payload is not None else "abort" if probe.aborts else "server"
            close = "reset" if probe.half_open else close
            request = b"" if probe.half_open else self._request()
            return TcpClient(TcpPlan(self.isn, request, close, self._mss, probe.retries))  # type: ignore[arg-type]
        payload = self.token.encode() if probe.payload is None else probe.payload
        payload += b"." * (probe.size - len(payload))
        return DatagramClient(DatagramPlan(payload, probe.retries, same_payload_returns=probe.protocol == "icmp"))

    def _request(self) -> bytes:
        probe = self.probe
        if probe.payload is not None:
            return probe.payload + b"." * (probe.size - len(probe.payload))
        host = probe.host or host_header(probe.destination, probe.port)
        plain = request_bytes(host, probe.path, token=self.token)
        missing = probe.size - len(plain)
        if missing <= 0:
            return plain
        return request_bytes(host, probe.path, token=self.token, method="POST", body=b"." * missing)

    @property
    def key(self) -> tuple[str, Endpoint]:
        """What arrivals for this exchange are addressed to."""
        return self.probe.protocol, self.source

    @property
    def finished(self) -> bool:
        """Whether nothing more is waited for."""
        return self._machine.finished

    @property
    def wakes_at(self) -> float:
        """When it wants to be looked at (monotonic seconds): its timer or its deadline."""
        timer = self._machine.wakes_at
        return self.deadline if timer is None else min(timer, self.deadline)

    def start(self) -> None:
        """Send the first packet.  Raises SendFailed."""
        now = time.monotonic()
        self.deadline = now + self.probe.deadline_s
        self._started_ns = time.time_ns()
        self._send(self._machine.start(now))

    def arrived(self, seen: Seen, time_ns: int) -> None:
        """Take a packet that was addressed to this exchange.  Raises SendFailed."""
        about = seen.error.quoted.destination if seen.error else seen.source
        if about != self.remote:
            self._stray(f"{seen.source} answered, which was not asked")
            return
        self._first_ns = self._first_ns or time_ns
        if self._edge.behind_rules and seen.error is None:
            ends = Tuple(seen.source.address, seen.source.port, seen.destination.address, seen.destination.port)
            self._delivered.append(Delivered(ends, seen.seq, seen.flags, seen.payload))
        over = self.finished
        self._send(self._machine.on_packet(seen, time.monotonic()))
        if self.finished and not over:
            self._ended_ns = time_ns

    def on_time(self) -> None:
        """Look at the clock.  Raises SendFailed."""
        now = time.monotonic()
        if now >= self.deadline and not self.finished:
            self._send(self._machine.give_up(f"within {self.probe.deadline_s:g} s"))
            self._ended_ns = time.time_ns()
        else:
            self._send(self._machine.on_time(now))

    def _stray(self, note: str) -> None:
        if note not in self._strays:
            self._strays.append(note)

    def _send(self, packets: Sequence[Segment | bytes]) -> None:
        for packet in packets:
            self._edge.send(self._packet(packet), self.remote, self._way)

    def _packet(self, content: Segment | bytes) -> bytes:
        self._identification = self._identification % 0xFFFF + 1
        identification, source, remote = self._identification, self.source, self.remote
        if isinstance(content, Segment):
            template = self._syn if content.flags & SYN else self._plain
            return template.tcp(source, remote, content, identification)
        if self.probe.protocol == "icmp":
            return self._plain.icmp_echo(source, remote, ICMP_NUMBER, content, identification)
        return self._plain.udp(source, remote, content, identification)

    def result(self) -> ProbeResult:
        """What it brought back, once finished."""
        verdict = self._machine.verdict
        notes = (*verdict.notes, *self._strays)
        reason = "; ".join([verdict.reason, *notes]) if verdict.reason else ""
        return ProbeResult(
            name=self.probe.name,
            protocol=self.probe.protocol,
            sender=self.probe.sender,
            sent=Tuple(self.source.address, self.source.port, self.remote.address, self.remote.port),
            # A payload of the caller's own has no token in it.
            token=self.token if self.probe.payload is None else "",
            isn=self.isn,
            started_ns=self._started_ns,
            ended_ns=self._ended_ns,
            rtt_ns=max(0, self._first_ns - self._started_ns) if self._first_ns else 0,
            outcome=verdict.outcome,
            reason=reason,
            complete=verdict.complete,
            response=verdict.response,
            notes=notes,
            delivered=tuple(self._delivered),
        )


def _template(probe: Probe, source: Endpoint, crafter: Crafter, mss: int) -> Template:
    return crafter.template(Shape(source.version, probe.protocol, probe.ttl, probe.tos, probe.dont_fragment, mss))
