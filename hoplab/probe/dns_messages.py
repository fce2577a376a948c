"""DNS messages: the ones that probes send, and what frames show of those that others send.

A question is known again in its answer by its number and by who asked whom (RFC 1035
4.1.1); over TCP each message has its length before it (4.2.2).  scapy takes messages
apart; here they become plain values, and questions find their answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hoplab.hops.evidence import Frame, Tuple
from hoplab.hops.exchange import stream_of
from hoplab.hops.packet import SYN, TCP, UDP, Packet, read_frame
from hoplab.probe.scapy_layers import dns_layers

PORT = 53
TYPES: Mapping[int, str] = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 16: "TXT", 28: "AAAA", 33: "SRV"}
RCODES: Mapping[int, str] = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One record of an answer; `data` is an address, a name with its dot, or 'priority weight port target'."""

    name: str
    type: str
    data: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message.  Names end with a dot."""

    number: int
    response: bool
    name: str
    type: str
    rcode: str = "NOERROR"
    truncated: bool = False
    answers: tuple[Answer, ...] = ()

    def data(self, type_: str = "") -> list[str]:
        """The answers' data, of one type if it is given."""
        return [each.data for each in self.answers if type_ in ("", each.type)]

    @property
    def words(self) -> str:
        """'NXDOMAIN', 'no data', 'truncated', or what the answers say."""
        if self.truncated:
            return "truncated"
        if self.rcode != "NOERROR":
            return self.rcode
        return ", ".join(f"{each.type} {each.data}" for each in self.answers) or "no data"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was seen to leave, and its answer if one was seen to come."""

    message: Message
    frame: int
    time_ns: int
    protocol: str
    ends: Tuple
    question: bytes
    """The question as it stands in both messages: it tells them from all others on the same ports."""
    answer: Message | None = None

    @property
    def words(self) -> str:
        """'A web.default.svc.cluster.local. -> 10.0.0.10 by udp: A 10.0.0.20'."""
        told = self.answer.words if self.answer else "no answer"
        return f"{self.message.type} {self.message.name} -> {self.ends.dst} by {self.protocol}: {told}"


def query(name: str, type_: str = "A", number: int = 0) -> bytes:
    """A question, recursion desired; the name is taken as absolute."""
    dns, question = dns_layers()
    return bytes(dns(id=number, rd=1, qd=question(qname=name, qtype=type_)))


def read_message(data: bytes) -> Message | None:
    """A message; None for what is none, or has no single question."""
    if len(data) < 12 or data[4:6] != b"\0\1":
        return None
    dns, _question = dns_layers()
    try:
        read = dns(data)
        [asked] = read.qd
        records = read.an or []
        answers = tuple(_answer(each) for each in records if getattr(each, "type", 0) in TYPES)
        name, kind = _name(asked.qname), TYPES.get(asked.qtype, str(asked.qtype))
    except Exception:
        # Whatever a payload does to scapy's dissection, it is no message that a lesson could tell of.
        return None
    rcode = RCODES.get(read.rcode, str(read.rcode))
    return Message(read.id, bool(read.qr), name, kind, rcode, bool(read.tc), answers)


def _answer(record: Any) -> Answer:
    kind = TYPES[record.type]
    if kind == "SRV":
        data = f"{record.priority} {record.weight} {record.port} {_name(record.target)}"
    elif kind == "TXT":
        data = " ".join(_text(each) for each in record.rdata)
    elif kind in ("A", "AAAA"):
        data = str(record.rdata)
    else:
        data = _name(getattr(record, "rdata", getattr(record, "mname", b"")))
    return Answer(_name(record.rrname), kind, data)


def _text(data: bytes | str) -> str:
    return data.decode("utf-8", "replace") if isinstance(data, bytes) else str(data)


def _name(data: bytes | str) -> str:
    return f"{_text(data).rstrip('.').lower()}."


def asked_by(frames: Iterable[Frame], node: str) -> list[Asked]:
    """The questions that left a namespace, in time order, each with its answer: by UDP, and by TCP."""
    datagrams: list[Asked] = []
    answers: dict[tuple[Tuple, int, str, str], Message] = {}
    streams: defaultdict[Tuple, list[tuple[Frame, Packet]]] = defaultdict(list)
    for frame in frames:
        if frame.node != node or frame.interface == "lo":
            continue
        packet = read_frame(frame.data)
        if packet is None or PORT not in (packet.sport, packet.dport):
            continue
        if packet.protocol == TCP:
            streams[packet.tuple].append((frame, packet))
        elif packet.protocol == UDP:
            message = read_message(packet.payload)
            if message is None:
                continue
            if message.response and frame.direction == "in":
                answers.setdefault((packet.tuple.reversed(), message.number, message.name, message.type), message)
            elif not message.response and frame.direction == "out":
                datagrams.append(_asked(message, frame, "udp", packet.tuple, packet.payload))
    by_tcp = [asked for ends, seen in streams.items() if ends.dport == PORT for asked in _by_tcp(ends, seen, streams)]
    told = [
        replace(one, answer=answers.get((one.ends, one.message.number, one.message.name, one.message.type)))
        for one in datagrams
    ]
    return sorted((*told, *by_tcp), key=lambda one: one.time_ns)


def _asked(message: Message, frame: Frame, protocol: str, ends: Tuple, data: bytes) -> Asked:
    # A question has no pointers in it: its name ends with the empty label, then come type and class.
    at = data.index(b"\0", 12) + 5
    return Asked(message, frame.number, frame.time_ns, protocol, ends, data[12:at])


def _by_tcp(
    ends: Tuple, seen: list[tuple[Frame, Packet]], streams: Mapping[Tuple, list[tuple[Frame, Packet]]]
) -> Iterable[Asked]:
    if seen[0][0].direction != "out":
        return
    answers = {
        (m.number, m.name, m.type): m for m, _data in _messages([p for _f, p in streams.get(ends.reversed(), [])])
    }
    frame = next((frame for frame, packet in seen if packet.payload), seen[0][0])
    for message, data in _messages([packet for _frame, packet in seen]):
        asked = _asked(message, frame, "tcp", ends, data)
        yield replace(asked, answer=answers.get((message.number, message.name, message.type)))


def _messages(packets: list[Packet]) -> Iterable[tuple[Message, bytes]]:
    """The messages of one direction of a connection."""
    start = next((p.seq + 1 for p in packets if p.flags & SYN), None)
    stream = stream_of(packets, start) if start is not None else b""
    while len(stream) >= 2:
        length = int.from_bytes(stream[:2], "big")
        data, stream = stream[2 : 2 + length], stream[2 + length :]
        message = read_message(data)
        if len(data) == length and message is not None:
            yield message, data
