"""rtnetlink on the wire: questions about links, addresses, neighbours, queues and routes, and their answers.

Pure.  Every message has a fixed header of its kind behind netlink's own, then
attributes.  Sources: rtnetlink(7), Linux' include/uapi/linux/rtnetlink.h, if_link.h,
if_addr.h, neighbour.h, gen_stats.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

from hoplab.hops.packet import address_bytes, address_text, mac_text
from hoplab.reasons.facts import AddressFact, LinkFact, NeighbourFact, RouteAnswer, RouteQuestion
from hoplab.watch.netlink_messages import NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, attribute, attributes

NEWLINK, GETLINK, NEWADDR, GETADDR = 16, 18, 20, 22
NEWROUTE, GETROUTE, NEWNEIGH, GETNEIGH, NEWQDISC, GETQDISC = 24, 26, 28, 30, 36, 38
RTM_F_FIB_MATCH = 0x2000
"""Answer with the entry of the table that matched, not with the route made from it."""

_HEADER = struct.Struct("=IHHII")
_FIXED = {NEWLINK: 16, NEWADDR: 8, NEWROUTE: 12, NEWNEIGH: 12, NEWQDISC: 20}
_STATES = {
    0x01: "INCOMPLETE", 0x02: "REACHABLE", 0x04: "STALE", 0x08: "DELAY", 0x10: "PROBE", 0x20: "FAILED",
    0x40: "NOARP", 0x80: "PERMANENT",
}  # fmt: skip
_KINDS = {1: "unicast", 2: "local", 3: "broadcast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}
_IFF_UP, _IFF_LOWER_UP = 1, 0x10000


def dump(kind: int, family: int = 0) -> bytes:
    """Ask for everything of a kind (GETLINK, GETADDR, GETNEIGH, GETQDISC)."""
    fixed = {GETLINK: 16, GETADDR: 8, GETNEIGH: 12, GETQDISC: 20}[kind]
    return _HEADER.pack(16 + fixed, kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + bytes([family]).ljust(fixed, b"\0")


def route_request(question: RouteQuestion, interface_index: int) -> bytes:
    """Ask which entry a packet's look-up meets; `interface_index` 0 for one that is made there.

    Raises ValueError for what is no address.
    """
    target, six = address_bytes(question.destination), ":" in question.destination
    bits = 128 if six else 32
    body = attribute(1, target)
    source_bits = 0
    if question.source and (interface_index or not six):
        body, source_bits = body + attribute(2, address_bytes(question.source)), bits
    if interface_index:
        body += attribute(3, struct.pack("=I", interface_index))
    family = socket.AF_INET6 if six else socket.AF_INET
    fixed = struct.pack("=BBBBBBBBI", family, bits, source_bits, 0, 0, 0, 0, 0, RTM_F_FIB_MATCH)
    return _HEADER.pack(16 + len(fixed) + len(body), GETROUTE, NLM_F_REQUEST, 1, 0) + fixed + body


def parts(datagram: bytes) -> Iterator[tuple[int, bytes, dict[int, bytes]]]:
    """Of each message its type, its fixed header (or an error's body) and its attributes."""
    at = 0
    while at + 16 <= len(datagram):
        length, kind, _flags, _sequence, _port = _HEADER.unpack_from(datagram, at)
        if length < 16 or at + length > len(datagram):
            return
        body = datagram[at + 16 : at + length]
        fixed = len(body) if kind in (NLMSG_ERROR, NLMSG_DONE) else _FIXED.get(kind, 0)
        yield kind, body[:fixed], attributes(body[fixed:])
        at += (length + 3) & ~3


def error_name(body: bytes) -> str:
    """The errno's name of an error message, '' for an acknowledgement."""
    (code,) = struct.unpack_from("=i", body)
    return errno.errorcode.get(-code, str(-code)) if code else ""


def link(node: str, fixed: bytes, found: dict[int, bytes]) -> tuple[LinkFact, int]:
    """A link, and the index of the bridge that it is a port of (0: of none)."""
    index, flags = struct.unpack_from("=iI", fixed, 4)
    info = attributes(found.get(18, b""))
    slave = attributes(info.get(5, b"")) if _text(info.get(4)) == "bridge" else {}
    fact = LinkFact(
        node,
        _text(found.get(3)),
        index,
        mac_text(found.get(1, b"")),
        _number(found.get(4)),
        _text(info.get(1)),
        "",
        flags & (_IFF_UP | _IFF_LOWER_UP) == _IFF_UP | _IFF_LOWER_UP,
        bool(slave[4][0]) if slave.get(4) else None,
    )
    return fact, _number(found.get(10))


def address(node: str, fixed: bytes, found: dict[int, bytes], names: dict[int, str]) -> AddressFact | None:
    """An address; None for a message without one."""
    packed = found.get(2) or found.get(1)
    (index,) = struct.unpack_from("=I", fixed, 4)
    return AddressFact(node, names.get(index, f"if{index}"), address_text(packed), fixed[1]) if packed else None


def neighbour(node: str, fixed: bytes, found: dict[int, bytes], names: dict[int, str]) -> NeighbourFact | None:
    """A neighbour of IP; None for a bridge's forwarding entry and the like."""
    packed = found.get(1, b"")
    if fixed[0] not in (socket.AF_INET, socket.AF_INET6) or len(packed) not in (4, 16):
        return None
    index, state = struct.unpack_from("=iH", fixed, 4)
    return NeighbourFact(
        node,
        names.get(index, f"if{index}"),
        address_text(packed),
        _STATES.get(state, str(state)),
        mac_text(found.get(2, b"")),
    )


def queue_drops(fixed: bytes, found: dict[int, bytes]) -> tuple[int, str, int]:
    """A queue's interface index, its kind, and how many packets it dropped (TCA_STATS2, TCA_STATS_QUEUE)."""
    (index,) = struct.unpack_from("=i", fixed, 4)
    queue = attributes(found.get(7, b"")).get(3, b"")
    drops = struct.unpack_from("=I", queue, 8)[0] if len(queue) >= 12 else 0
    return index, _text(found.get(1)), drops


def route(fixed: bytes, found: dict[int, bytes], names: dict[int, str]) -> RouteAnswer:
    """The entry that matched."""
    family, bits, kind = fixed[0], fixed[1], fixed[7]
    anywhere = b"\0" * (16 if family == socket.AF_INET6 else 4)
    via, device = found.get(5, b""), _number(found.get(4))
    return RouteAnswer(
        "",
        f"{address_text(found.get(1) or anywhere)}/{bits}",
        address_text(via) if via else "",
        names.get(device, ""),
        _KINDS.get(kind, str(kind)),
    )


def _number(value: bytes | None) -> int:
    return struct.unpack_from("=I", value)[0] if value and len(value) >= 4 else 0


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode("utf-8", "replace")
