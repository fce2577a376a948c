"""Conntrack entries as the kernel tells them: events that come by themselves, and a dump on request.

Pure.  An entry has two tuples: the original one, and the reply's as the kernel
expects it, so NAT is readable from their difference.  Source: Linux'
include/uapi/linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import ipaddress
import struct

from hoplab.hops.evidence import ConntrackEvent, Tuple
from hoplab.watch.netlink_messages import NLM_F_CREATE, NLM_F_DUMP, Message, attribute, attributes, request

GROUPS = (1, 2, 3)
"""NFNLGRP_CONNTRACK_NEW, UPDATE, DESTROY."""
_SUBSYSTEM = 1 << 8
NEW, GET, DELETE = _SUBSYSTEM | 0, _SUBSYSTEM | 1, _SUBSYSTEM | 2

_ORIGINAL, _REPLY, _STATUS, _PROTOINFO, _MARK, _ID, _ZONE = 1, 2, 3, 4, 8, 12, 18
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "icmpv6", 132: "sctp", 136: "udplite"}
_TCP_STATES = (
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
)


def parse_conntrack(message: Message, node: str, time_ns: int, *, dump: bool = False) -> ConntrackEvent | None:
    """The entry of one conntrack message; None for anything else."""
    if message.kind not in (NEW, DELETE):
        return None
    found = attributes(message.payload)
    if _ORIGINAL not in found or _REPLY not in found:
        return None
    protocol, original = _tuple(found[_ORIGINAL])
    _, reply = _tuple(found[_REPLY])
    if dump:
        kind = "dump"
    elif message.kind == DELETE:
        kind = "destroy"
    else:
        kind = "new" if message.flags & NLM_F_CREATE else "update"
    return ConntrackEvent(
        time_ns=time_ns,
        node=node,
        kind=kind,  # type: ignore[arg-type]
        protocol=_PROTOCOLS.get(protocol, str(protocol)),
        original=original,
        reply=reply,
        id=_number(found, _ID),
        mark=_number(found, _MARK),
        zone=_number(found, _ZONE),
        status=_number(found, _STATUS),
        tcp_state=_tcp_state(found.get(_PROTOINFO, b"")),
    )


def dump_request(family: int = 0) -> bytes:
    """Ask for every entry (family 0: of any)."""
    return request(GET, NLM_F_DUMP, family)


def delete_request(event: ConntrackEvent) -> bytes:
    """Ask to delete exactly this entry, named by its original tuple and id."""
    family = 10 if ":" in event.original.src else 2
    numbers = {name: number for number, name in _PROTOCOLS.items()}
    protocol = numbers.get(event.protocol) or int(event.protocol)
    payload = attribute(_ORIGINAL, _tuple_bytes(event.original, protocol), nested=True)
    payload += attribute(_ID, struct.pack("!I", event.id))
    if event.zone:
        payload += attribute(_ZONE, struct.pack("!H", event.zone))
    return request(DELETE, 4, family, payload)


def _tuple(data: bytes) -> tuple[int, Tuple]:
    parts = attributes(data)
    addresses = attributes(parts.get(1, b""))
    ports = attributes(parts.get(2, b""))
    source = addresses.get(1) or addresses.get(3) or b"\0\0\0\0"
    target = addresses.get(2) or addresses.get(4) or b"\0\0\0\0"
    protocol = _number(ports, 1)
    if protocol in (1, 58):
        return protocol, Tuple(_address(source), _number(ports, 4) or _number(ports, 7), _address(target), 0)
    return protocol, Tuple(_address(source), _number(ports, 2), _address(target), _number(ports, 3))


def _tuple_bytes(tuple_: Tuple, protocol: int) -> bytes:
    six = ":" in tuple_.src
    source, target = ipaddress.ip_address(tuple_.src).packed, ipaddress.ip_address(tuple_.dst).packed
    addresses = attribute(3 if six else 1, source) + attribute(4 if six else 2, target)
    ports = attribute(1, bytes([protocol]))
    if protocol in (1, 58):
        first = 4 if protocol == 1 else 7
        echo = 8 if protocol == 1 else 128
        ports += attribute(first, struct.pack("!H", tuple_.sport))
        ports += attribute(first + 1, bytes([echo])) + attribute(first + 2, b"\0")
    else:
        ports += attribute(2, struct.pack("!H", tuple_.sport)) + attribute(3, struct.pack("!H", tuple_.dport))
    return attribute(1, addresses, nested=True) + attribute(2, ports, nested=True)


def _address(packed: bytes) -> str:
    if len(packed) == 4:
        return ".".join(map(str, packed))
    return str(ipaddress.ip_address(packed))


def _number(found: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), "big")


def _tcp_state(protoinfo: bytes) -> str:
    state = attributes(attributes(protoinfo).get(1, b"")).get(1, b"")
    return _TCP_STATES[state[0]] if state and state[0] < len(_TCP_STATES) else ""
