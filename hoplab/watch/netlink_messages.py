"""Netlink on the wire: a header with length and type, then attributes of length, type and value, some nested.

Pure.  Attributes are padded to four bytes; the two highest bits of a type are flags
(nested, network byte order) and no part of its number.  Source: Linux'
include/uapi/linux/netlink.h and nfnetlink.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 1
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NETLINK_NETFILTER = 12
LARGEST_DATAGRAM = 1 << 16
"""Bytes that are read at once: a dump comes in pieces of 32 KiB at most."""

_HEADER = struct.Struct("=IHHII")
_NFGEN = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
TYPE_MASK = 0x3FFF


@dataclass(frozen=True, slots=True)
class Message:
    """One netlink message: its type and flags, nfnetlink's family, and the attributes' bytes."""

    kind: int
    flags: int
    family: int
    payload: bytes


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages of one datagram; a cut one ends it."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, flags, _sequence, _port = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size or at + length > len(datagram):
            return
        body = at + _HEADER.size
        if kind in (NLMSG_ERROR, NLMSG_DONE):
            yield Message(kind, flags, 0, datagram[body : at + length])
        else:
            yield Message(kind, flags, datagram[body], datagram[body + _NFGEN.size : at + length])
        at += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """Attribute type -> value bytes (the last one of a type wins); stops at anything malformed."""
    found = {}
    at, end = 0, len(data)
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < 4 or at + length > end:
            break
        found[kind & TYPE_MASK] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def request(kind: int, flags: int, family: int, payload: bytes = b"", sequence: int = 1) -> bytes:
    """A whole nfnetlink request."""
    body = _NFGEN.pack(family, 0, 0) + payload
    return _HEADER.pack(_HEADER.size + len(body), kind, flags | NLM_F_REQUEST, sequence, 0) + body


def attribute(kind: int, value: bytes, *, nested: bool = False) -> bytes:
    """One attribute, padded."""
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, kind | (0x8000 if nested else 0)) + value + b"\0" * (-length % 4)


def error_code(message: Message) -> int:
    """The errno of an NLMSG_ERROR (0: an acknowledgement)."""
    return -int.from_bytes(message.payload[:4], "little", signed=True)
