"""An imaginary lab: packets are played through it, and it hands over the evidence that a real one would.

A way is a list of stops.  At each namespace the TTL falls by one, addresses may be
rewritten, rules are met; switches pass frames on as they are.  Every frame gets the
next microsecond, so what is played after each other is seen after each other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from hoplab.hops.evidence import (
    ConntrackEvent,
    Evidence,
    Frame,
    Interface,
    Loss,
    RuleId,
    RuleText,
    TraceEvent,
    Tuple,
)
from hoplab.hops.flow import ProbeKey

SYN, ACK, RST, FIN, PSH = 2, 16, 4, 1, 8
Kind = tuple[int, int]
START = 1_700_000_000_000_000_000


def packed(address: str) -> bytes:
    return bytes(map(int, address.split(".")))


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True)
class Wire:
    """A packet as it is on the wire now."""

    tuple: Tuple
    protocol: str = "tcp"
    ttl: int = 64
    ip_id: int = 1
    flags: int = 0
    seq: int = 0
    ack: int = 0
    payload: bytes = b""
    icmp: Kind = (8, 0)
    quoted: Wire | None = None

    @property
    def transport(self) -> bytes:
        t = self.tuple
        if self.protocol == "tcp":
            head = struct.pack("!HHIIBBHHH", t.sport, t.dport, self.seq, self.ack, 0x50, self.flags, 64240, 0, 0)
            return head + self.payload
        if self.protocol == "udp":
            return struct.pack("!HHHH", t.sport, t.dport, 8 + len(self.payload), 0) + self.payload
        if self.quoted is not None:
            return struct.pack("!BBHI", *self.icmp, 0, 0) + self.quoted.network[:28]
        return struct.pack("!BBHHH", *self.icmp, 0, t.sport or t.dport, self.seq) + self.payload

    @property
    def header(self) -> bytes:
        number = {"tcp": 6, "udp": 17, "icmp": 1}[self.protocol]
        length = 20 + len(self.transport)
        head = struct.pack("!BBHHHBBH", 0x45, 0, length, self.ip_id, 0x4000, self.ttl, number, 0)
        head += packed(self.tuple.src) + packed(self.tuple.dst)
        return head[:10] + struct.pack("!H", checksum(head)) + head[12:]

    @property
    def network(self) -> bytes:
        return self.header + self.transport

    def error(self, reporter: str, kind: Kind, ip_id: int = 9) -> Wire:
        """The ICMP error about this packet that a router sends to its source."""
        about = Tuple(reporter, 0, self.tuple.src, 0)
        return Wire(about, "icmp", 64, ip_id, icmp=kind, quoted=self)


def mac(name: str) -> bytes:
    return b"\x02" + checksum(name.encode()).to_bytes(2, "big") + name.encode()[-3:].rjust(3, b"\0")


def ethernet(packet: bytes, source: str, destination: str, ethertype: int = 0x0800) -> bytes:
    return mac(destination) + mac(source) + struct.pack("!H", ethertype) + packet


def vxlan(frame: bytes, source: str, destination: str, ip_id: int, vni: int = 1) -> Wire:
    head = struct.pack("!BxxxI", 0x08, vni << 8)
    return Wire(Tuple(source, 50123, destination, 8472), "udp", 64, ip_id, payload=head + frame)


@dataclass(frozen=True)
class Rule:
    """A rule that a trace shows; `handle` 0 is the policy."""

    table: str
    chain: str
    text: str
    verdict: str = "continue"
    base: bool = False
    """Whether it is the first event of its base chain, the one with headers."""
    behind: str = ""
    """'' before any rewrite, 'dnat' behind DNAT and routing, 'snat' behind both."""


@dataclass(frozen=True)
class Stop:
    """A namespace on the way.  Interfaces in the order in which they see the packet."""

    node: str
    ins: tuple[str, ...] = ()
    outs: tuple[str, ...] = ()
    dnat: tuple[str, int] | None = None
    snat: tuple[str, int] | None = None
    rules: tuple[Rule, ...] = ()
    tunnel_in: tuple[str, str] | None = None
    tunnel_out: tuple[str, str] | None = None
    bridged: bool = False
    switch: bool = False
    track: bool = False


def switch(node: str, came: str = "p1", left: str = "p2") -> Stop:
    return Stop(node, (came,), (left,), switch=True, bridged=True)


@dataclass
class Imaginary:
    """Collects what its observer would have seen."""

    now: int = START
    frames: list[Frame] = field(default_factory=list)
    traces: list[TraceEvent] = field(default_factory=list)
    conntrack: list[ConntrackEvent] = field(default_factory=list)
    rules: dict[RuleId, RuleText] = field(default_factory=dict)
    interfaces: dict[tuple[str, str], Interface] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    trace_ids: int = 100

    def tick(self, nanoseconds: int = 1000) -> int:
        self.now += nanoseconds
        return self.now

    def seen(self, node: str, name: str, direction: str, data: bytes, kind: str = "", time: int = 0) -> None:
        if (node, name) not in self.interfaces:
            guess = kind or {"c": "bridge", "f": "vxlan"}.get(name[0], "veth")
            number = len(self.interfaces) + 1
            self.interfaces[node, name] = Interface(node, name, number, "02:00:00:00:00:01", 1500, guess)
        number = len(self.frames) + 1
        when = time or self.tick()
        packet_type = "outgoing" if direction == "out" else "host"
        self.frames.append(Frame(number, when, node, name, direction, data, len(data), packet_type))  # type: ignore[arg-type]

    def play(self, packet: Wire, way: Sequence[Stop]) -> Wire:
        """Send a packet along a way; returns it as it is at the end."""
        previous = way[0].node
        outer: Wire | None = None
        for stop in way:
            came = packet
            frame = ethernet(packet.network, previous, stop.node)
            when = self.tick()
            for number, name in enumerate(stop.ins):
                carried = frame
                if outer is not None and number == 0:
                    carried = ethernet(outer.network, previous, stop.node)
                # A bridge device shows a frame with the time at which its port took it.
                self.seen(stop.node, name, "in", carried, time=when)
            if outer is not None and stop.tunnel_in:
                outer = None
            routed = bool(stop.ins and stop.outs and not stop.bridged)
            half = replace(came, ttl=came.ttl - routed)
            if stop.dnat:
                half = replace(half, tuple=replace(half.tuple, dst=stop.dnat[0], dport=stop.dnat[1]))
            packet = half
            if stop.snat:
                packet = replace(packet, tuple=replace(packet.tuple, src=stop.snat[0], sport=stop.snat[1]))
            if packet.quoted is not None and (stop.dnat or stop.snat):
                packet = replace(packet, quoted=self._unrewritten(packet.quoted, stop))
            self._trace(stop, {"": came, "dnat": half, "snat": packet})
            if stop.track:
                self._track(stop.node, packet.protocol, came.tuple, packet.tuple.reversed())
            if stop.tunnel_out:
                inner = ethernet(packet.network, stop.node, "far")
                outer = replace(vxlan(inner, *stop.tunnel_out, ip_id=packet.ip_id + 7000), ttl=64)
            for number, name in enumerate(stop.outs):
                last = number == len(stop.outs) - 1
                carried = outer.network if outer is not None and last else packet.network
                self.seen(stop.node, name, "out", ethernet(carried, stop.node, "next"))
            # Switches pass on what they got; the next stop sees the same addresses on the link.
            previous = stop.node if not stop.switch else previous
        return packet

    @staticmethod
    def _unrewritten(quoted: Wire, stop: Stop) -> Wire:
        """NAT translates the quoted packet the other way round (RFC 5508)."""
        t = quoted.tuple
        if stop.dnat:
            t = replace(t, src=stop.dnat[0], sport=stop.dnat[1] or t.sport)
        if stop.snat:
            t = replace(t, dst=stop.snat[0], dport=stop.snat[1] or t.dport)
        return replace(quoted, tuple=t)

    def _trace(self, stop: Stop, states: dict[str, Wire]) -> None:
        if not stop.rules:
            return
        self.trace_ids += 1
        first = states[""]
        self.event(stop.node, Rule("hoplab_watch", "prerouting", "meta nftrace set 1", base=True), first, "inet")
        for rule in stop.rules:
            self.event(stop.node, rule, states[rule.behind])

    def event(self, node: str, rule: Rule, packet: Wire, family: str = "ip") -> None:
        policy = rule.text == "policy"
        handle = 0 if policy else 1 + checksum(f"{rule.chain}{rule.text}".encode())
        if not policy:
            key = RuleId(node, family, rule.table, rule.chain, handle)
            self.rules[key] = RuleText(key, rule.text, rule.text.partition('"')[2].partition('"')[0])
        headers = (packet.header, packet.transport[:20]) if rule.base else (b"", b"")
        self.traces.append(
            TraceEvent(
                self.tick(),
                node,
                self.trace_ids,
                "policy" if policy else "rule",
                family,  # type: ignore[arg-type]
                rule.table,
                rule.chain,
                handle,
                rule.verdict,
                network_header=headers[0],
                transport_header=headers[1],
            )
        )

    def _track(self, node: str, protocol: str, original: Tuple, reply: Tuple) -> None:
        number = len(self.conntrack) + 1
        self.conntrack.append(ConntrackEvent(self.tick(), node, "new", protocol, original, reply, number))

    @property
    def evidence(self) -> Evidence:
        return Evidence(
            tuple(self.frames),
            tuple(self.traces),
            tuple(self.conntrack),
            self.rules,
            tuple(self.interfaces.values()),
            tuple(self.losses),
        )


SWITCHES = frozenset({"internet", "nodenet"})
CLIENT, VIP, NODE1, NODE2, POD_D = "203.0.113.10", "198.51.100.10", "10.240.0.11", "10.240.0.12", "10.1.2.3"
NODE_PORT, MASQUERADED = 32261, 51000

SERVICE_RULES = (
    Rule("nat", "PREROUTING", "-j KUBE-SERVICES", "jump KUBE-SERVICES", base=True),
    Rule("nat", "KUBE-SERVICES", '-m comment --comment "default/service-b" -j KUBE-EXT-B', "jump KUBE-EXT-B"),
    Rule("nat", "KUBE-SEP-D", '-m comment --comment "default/service-b" -j DNAT --to 10.1.2.3:80', "accept"),
    Rule("filter", "FORWARD", "policy", "accept", base=True, behind="dnat"),
    Rule("nat", "POSTROUTING", "-j KUBE-POSTROUTING", "jump KUBE-POSTROUTING", base=True, behind="dnat"),
    Rule("nat", "KUBE-POSTROUTING", '-m comment --comment "kubernetes" -j MASQUERADE', "accept", behind="dnat"),
)


def way_there(*, overlay: bool = False, masquerade: bool = True, port: int = MASQUERADED) -> list[Stop]:
    """client -> lb -> node1 (no pod) -> node2 -> pod d."""
    snat = (NODE1, port) if masquerade else None
    tunnel = (NODE1, NODE2) if overlay else None
    return [
        Stop("client", outs=("eth0",)),
        switch("internet"),
        Stop("lb", ("eth0",), ("eth1",), dnat=(NODE1, NODE_PORT), track=True),
        switch("nodenet"),
        Stop(
            "node1",
            ("eth0",),
            ("flannel.1", "eth0") if overlay else ("eth0",),
            dnat=(POD_D, 80),
            snat=snat,
            rules=SERVICE_RULES,
            tunnel_out=tunnel,
            track=True,
        ),
        switch("nodenet", "p2", "p3"),
        Stop(
            "node2",
            ("eth0", "flannel.1") if overlay else ("eth0",),
            ("cni0", "vethd"),
            tunnel_in=tunnel,
            track=True,
        ),
        Stop("pod/d", ("eth0",)),
    ]


def way_back(*, overlay: bool = False, client: Tuple, port: int = MASQUERADED) -> list[Stop]:
    """The same way, everything undone."""
    tunnel = (NODE2, NODE1) if overlay else None
    return [
        Stop("pod/d", outs=("eth0",)),
        Stop("node2", ("vethd", "cni0"), ("flannel.1", "eth0") if overlay else ("eth0",), tunnel_out=tunnel),
        switch("nodenet", "p3", "p2"),
        Stop(
            "node1",
            ("eth0", "flannel.1") if overlay else ("eth0",),
            ("eth0",),
            dnat=(client.src, client.sport),
            snat=(NODE1, NODE_PORT),
            tunnel_in=tunnel,
        ),
        switch("nodenet", "p2", "p1"),
        Stop("lb", ("eth1",), ("eth0",), snat=(VIP, 80)),
        switch("internet", "p2", "p1"),
        Stop("client", ("eth0",)),
    ]


def sent_by(sport: int = 40000) -> Tuple:
    return Tuple(CLIENT, sport, VIP, 80)


def probe(sport: int = 40000, isn: int = 1000, name: str = "probe") -> ProbeKey:
    return ProbeKey(name, "tcp", "client", sent_by(sport), isn)


def exchange(
    lab: Imaginary,
    sport: int = 40000,
    isn: int = 1000,
    irs: int = 77000,
    port: int = MASQUERADED,
    overlay: bool = False,
    handshake_only: bool = False,
) -> None:
    """A whole TCP exchange: handshake, request, answer, both FINs."""
    request, answer = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\npod d"
    client = sent_by(sport)
    there, back = way_there(overlay=overlay, port=port), way_back(overlay=overlay, client=client, port=port)
    server = Tuple(POD_D, 80, NODE1, port)
    at, last = isn + 1 + len(request), irs + 1 + len(answer)
    # Only the first packet of a connection meets the nat table, and makes the entries.
    rest = [replace(stop, rules=(), track=False) for stop in there]
    lab.play(Wire(client, ip_id=isn % 1000 + 1, flags=SYN, seq=isn), there)
    lab.play(Wire(server, ip_id=0, flags=SYN | ACK, seq=irs, ack=isn + 1), back)
    lab.play(Wire(client, ip_id=isn % 1000 + 2, flags=ACK, seq=isn + 1, ack=irs + 1), rest)
    if handshake_only:
        return
    lab.play(Wire(client, ip_id=isn % 1000 + 3, flags=ACK | PSH, seq=isn + 1, ack=irs + 1, payload=request), rest)
    lab.play(Wire(server, ip_id=501, flags=ACK, seq=irs + 1, ack=at), back)
    lab.play(Wire(server, ip_id=502, flags=ACK | PSH, seq=irs + 1, ack=at, payload=answer), back)
    lab.play(Wire(server, ip_id=503, flags=ACK | FIN, seq=last, ack=at), back)
    lab.play(Wire(client, ip_id=isn % 1000 + 4, flags=ACK | FIN, seq=at, ack=last + 1), rest)
    lab.play(Wire(server, ip_id=504, flags=ACK, seq=last + 1, ack=at + 1), back)


def without(evidence: Evidence, numbers: Iterable[int]) -> Evidence:
    """The same, but these frames were not seen."""
    gone = set(numbers)
    return replace(evidence, frames=tuple(f for f in evidence.frames if f.number not in gone))
