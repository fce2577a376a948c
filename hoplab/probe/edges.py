"""Where probes meet the kernel: packets out of a namespace, and what comes back into it.

Two ways lead out.  A host or pod sends whole frames by packet socket, and gets its
answers from the observer, who takes every frame anyhow.  A node sends by raw IP
socket, so that its packets meet LOCAL_OUT, nat OUTPUT and conntrack like anything
that runs on it, and gets its answers from raw sockets, behind LOCAL_IN, where the
NAT is undone again.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Protocol

from hoplab.errors import HoplabError
from hoplab.hops.evidence import Frame
from hoplab.net.loop import Registers
from hoplab.net.namespaces import Namespace
from hoplab.probe.seen import Seen, read_frame, read_packet, read_transport6
from hoplab.probe.shapes import Endpoint
from hoplab.probe.shield import FIRST_PORT, LAST_PORT
from hoplab.probe.ways import NoWay, Unreachable, Way, Ways

Arrival = Callable[[Seen, int], None]
"""Called with an arriving packet and its time (CLOCK_REALTIME, nanoseconds)."""

RESOLVE_S = 1.0
"""How long a neighbour may take to tell its hardware address: the kernel's first retry comes after 1 s."""

SO_ATTACH_FILTER = 26


class ObserverFace(Registers, Protocol):
    """What probes need of `hoplab.watch`: its loop, and the frames that it takes."""

    def poll(self, timeout_s: float) -> object:
        """Handle what is there, waiting at most that long for something to come."""
        ...

    def on_frame(self, node: str, callback: Callable[[Frame], None]) -> Callable[[], None]:
        """Call back for each frame seen in that namespace; returns how to stop that."""
        ...


class ProbeRefused(HoplabError):
    """A probe that can't be sent as it is described; str() says why."""

    exit_code = 2


class SendFailed(HoplabError):
    """The sender's kernel did not take a packet; str() says who, where to, and its reason."""


class Edge(Protocol):
    """One namespace's door."""

    @property
    def behind_rules(self) -> bool:
        """Whether arrivals come from behind the namespace's own netfilter, where NAT is undone."""
        ...

    def prepare(self, destination: str, next_hop: str, source: str, interface: str = "") -> Way:
        """Find the way to a destination before the first packet leaves.  Raises NoWay."""
        ...

    def look_again(self) -> None:
        """Ask the kernel anew for ways found before: routes, neighbours and interfaces may be others by now."""
        ...

    def send(self, packet: bytes, destination: Endpoint, way: Way) -> None:
        """Send an IP packet.  Raises SendFailed."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class FrameEdge:
    """Sends frames by packet socket."""

    behind_rules = False

    def __init__(self, namespace: Namespace, observer: ObserverFace, arrival: Arrival) -> None:
        self._name = namespace.name
        self._observer = observer
        self._arrival = arrival
        self._ways = Ways(namespace)
        with namespace.entered():
            # Protocol 0: it sends only; frames come by the observer.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setblocking(False)
        self._macs: dict[tuple[int, str], bytes] = {}
        self._asking = False
        self._told: dict[str, bytes] = {}
        self._found: dict[tuple[str, str, str], Way] = {}
        self._stop_frames = observer.on_frame(namespace.name, self._on_frame)

    def _on_frame(self, frame: Frame) -> None:
        if frame.direction != "in":
            return
        seen = read_frame(frame.data)
        if seen is not None:
            self._arrival(seen, frame.time_ns)
        if self._asking:
            told = told_address(frame.data)
            if told is not None:
                self._told[told[0]] = told[1]

    def prepare(self, destination: str, next_hop: str, source: str, interface: str = "") -> Way:
        """The way; resolves the neighbour first when the kernel doesn't know it."""
        way = self._found.get((destination, next_hop, interface))
        if way is None:
            way = self._found[destination, next_hop, interface] = self._ways.to(destination, next_hop, interface)
        if way.local:
            raise NoWay(
                f"{self._name} can't send a crafted packet to {destination}, an address of its own:"
                " it would never leave; use a real client for that"
            )
        if (way.index, way.neighbour) not in self._macs:
            self._macs[way.index, way.neighbour] = self._ways.neighbour(way) or self._resolve(way)
        if source:
            self._ways.borrow(source, way)
        return way

    def look_again(self) -> None:
        """Nothing that was found before holds any more."""
        self._found.clear()
        self._macs.clear()
        self._ways.look_again()

    def _resolve(self, way: Way) -> bytes:
        self._asking = True
        self._told.clear()
        self._ways.ask_neighbour(way)
        give_up = time.monotonic() + RESOLVE_S
        while way.neighbour not in self._told:
            left = give_up - time.monotonic()
            if left <= 0:
                self._asking = False
                raise Unreachable(
                    f"{self._name}: nobody on {way.interface} answered for {way.neighbour} within {RESOLVE_S} s"
                )
            self._observer.poll(left)
        self._asking = False
        return self._told[way.neighbour]

    def send(self, packet: bytes, destination: Endpoint, way: Way) -> None:
        """Send it in an Ethernet frame to the way's neighbour."""
        kind = 0x0800 if destination.version == 4 else 0x86DD
        frame = self._macs[way.index, way.neighbour] + way.mac + struct.pack("!H", kind) + packet
        try:
            self._socket.sendto(frame, (way.interface, kind))
        except OSError as error:
            raise SendFailed(f"{self._name} could not send to {destination} by {way.interface}: {error}") from error

    def close(self) -> None:
        """Close the socket, return borrowed addresses."""
        self._stop_frames()
        self._ways.close()
        self._socket.close()


class KernelEdge:
    """Sends whole IP packets by raw socket, through the namespace's netfilter and routing."""

    behind_rules = True

    def __init__(self, namespace: Namespace, observer: ObserverFace, arrival: Arrival) -> None:
        self._name = namespace.name
        self._observer = observer
        self._arrival = arrival
        self._ways = Ways(namespace)
        self._out: dict[int, socket.socket] = {}
        self._in: list[socket.socket] = []
        with namespace.entered():
            for family in (socket.AF_INET, socket.AF_INET6):
                out = self._out[family] = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
                out.setblocking(False)
                icmp = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
                for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP, icmp):
                    self._listen(family, protocol)

    def _listen(self, family: socket.AddressFamily, protocol: int) -> None:
        heard = socket.socket(family, socket.SOCK_RAW, protocol)
        heard.setblocking(False)
        if protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
            _only_probe_ports(heard, family)
        if family == socket.AF_INET6:
            heard.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self._in.append(heard)
        take = self._take4 if family == socket.AF_INET else self._take6
        self._observer.register(heard.fileno(), lambda: take(heard, protocol))

    def _take4(self, heard: socket.socket, _protocol: int) -> None:
        while True:
            try:
                packet = heard.recv(65535)
            except BlockingIOError:
                return
            seen = read_packet(packet)
            if seen is not None:
                self._arrival(seen, time.time_ns())

    def _take6(self, heard: socket.socket, protocol: int) -> None:
        """An IPv6 raw socket hands out what follows the header; the addresses come beside it (RFC 3542)."""
        while True:
            try:
                payload, ancillary, _flags, sender = heard.recvmsg(65535, socket.CMSG_SPACE(20))
            except BlockingIOError:
                return
            for _level, _kind, data in ancillary:
                here = socket.inet_ntop(socket.AF_INET6, data[:16])
                seen = read_transport6(protocol, payload, sender[0].partition("%")[0], here)
                if seen is not None:
                    self._arrival(seen, time.time_ns())

    def look_again(self) -> None:
        """Routes are the kernel's own matter here; what interfaces look like is forgotten."""
        self._ways.look_again()

    def prepare(self, destination: str, next_hop: str, source: str, interface: str = "") -> Way:
        """The way that the kernel itself will take."""
        if next_hop or interface:
            raise NoWay(f"{self._name} routes what it sends itself: a next hop can't be chosen for it")
        way = self._ways.to(destination)
        if source:
            self._ways.borrow(source, way)
        return way

    def send(self, packet: bytes, destination: Endpoint, way: Way) -> None:
        """Hand it to the kernel, which routes it."""
        del way
        out = self._out[socket.AF_INET if destination.version == 4 else socket.AF_INET6]
        try:
            out.sendto(packet, (destination.address, 0))
        except PermissionError:
            # The namespace's own rules dropped or rejected it in OUTPUT: that is an outcome, seen by the observer.
            return
        except OSError as error:
            raise SendFailed(f"{self._name} could not send to {destination}: {error}") from error

    def close(self) -> None:
        """Close the sockets, return borrowed addresses."""
        self._ways.close()
        for heard in self._in:
            self._observer.unregister(heard.fileno())
        for one in (*self._out.values(), *self._in):
            one.close()


def _only_probe_ports(heard: socket.socket, family: socket.AddressFamily) -> None:
    """Have the kernel hand out only what is for a probe port (classic BPF, see the kernel's networking/filter.rst)."""
    load_header_length, load_half_index, load_half = 0xB1, 0x48, 0x28
    if family == socket.AF_INET:
        # X = length of the IP header; A = the two bytes behind the source port.
        program = [(load_header_length, 0, 0, 0), (load_half_index, 0, 0, 2)]
    else:
        program = [(load_half, 0, 0, 2)]
    program += [
        (0x35, 0, 2, FIRST_PORT),  # jump if A >= FIRST_PORT, else to the refusal
        (0x25, 1, 0, LAST_PORT),  # jump to the refusal if A > LAST_PORT
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    ]
    attach_filter(heard, program)


def attach_filter(taker: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    """setsockopt(SO_ATTACH_FILTER) with (code, jump if true, jump if false, k) tuples."""
    import ctypes

    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    taker.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(buffer)))


def told_address(frame: bytes) -> tuple[str, bytes] | None:
    """(address, hardware address) that an ARP reply or a neighbour advertisement tells; None for any other frame.

    RFC 826; RFC 4861 4.4 with the target link-layer address option (4.6.1).
    """
    if frame[12:14] == b"\x08\x06":
        if len(frame) < 42 or frame[20:22] != b"\x00\x02":
            return None
        return socket.inet_ntop(socket.AF_INET, frame[28:32]), frame[22:28]
    if frame[12:14] == b"\x86\xdd" and frame[20:21] == b"\x3a" and frame[54:55] == b"\x88" and len(frame) >= 78:
        hardware = frame[80:86] if frame[78:80] == b"\x02\x01" and len(frame) >= 86 else frame[6:12]
        return socket.inet_ntop(socket.AF_INET6, frame[62:78]), hardware
    return None
