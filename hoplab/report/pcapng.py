"""Frames as one pcapng file that Wireshark opens: every interface, every name, every frame's part in the story.

A pcapng file is a row of blocks, each with its length at both ends: a section header,
an interface description before the first frame of that interface, names for
addresses, and one enhanced packet for each frame with its time, direction and
comments.  Blocks are written one after the other and never looked at again, so the
same writer serves a file, a pipe, and a capture of any size.

Format: draft-ietf-opsawg-pcapng (block and option numbers below).  Why not a
library: see docs/pcapng.md.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from hoplab.hops.evidence import Frame, Interface
from hoplab.hops.packet import address_bytes
from hoplab.report.artifacts import artifact
from hoplab.report.visible import visible

SECTION_HEADER, INTERFACE, NAMES, ENHANCED_PACKET = 0x0A0D0D0A, 1, 4, 6
_BYTE_ORDER = 0x1A2B3C4D
_UNKNOWN_LENGTH = 0xFFFFFFFFFFFFFFFF
LINKTYPE_ETHERNET = 1

_COMMENT = 1
_SHB_OS, _SHB_APPLICATION = 3, 4
_IF_NAME, _IF_DESCRIPTION, _IF_MAC, _IF_TSRESOL = 2, 3, 6, 9
_EPB_FLAGS = 2
_NAME_IPV4, _NAME_IPV6, _NAME_END = 1, 2, 0

_DIRECTION = {"in": 0b01, "out": 0b10}
_RECEPTION = {"host": 0b001, "multicast": 0b010, "broadcast": 0b011, "otherhost": 0b100, "outgoing": 0}
"""epb_flags, bits 0-1 and 2-4; 'otherhost' is what only a promiscuous interface takes."""

LATEST = 1024
"""Frames that may come before one that is older: sockets are read one after the other."""
SAME_MOMENT_NS = 1000
"""Frames that come in time order are never further behind; one that is, was read too late, and keeps its stamp."""
MOST_TEXT = 4000
"""Bytes of one comment or name; an option could hold 65,535, no reader shows them."""


class Sink(Protocol):
    """Where blocks go: a file, a pipe, a socket's file."""

    def write(self, data: bytes, /) -> object:
        """Take all of these bytes."""


class PcapngWriter:
    """Writes one section.  An interface that a frame names before it was described gets a bare description."""

    def __init__(self, sink: Sink, *, comments: Sequence[str] = (), application: str = "hoplab") -> None:
        self._write = sink.write
        self._numbers: dict[tuple[str, str], int] = {}
        self._latest_ns = 0
        self.frames = 0
        options = (
            b"".join(_text(_COMMENT, one) for one in comments)
            + _text(_SHB_OS, "Linux")
            + _text(_SHB_APPLICATION, application)
        )
        body = struct.pack("<IHHQ", _BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH)
        self._block(SECTION_HEADER, body + _end(options))

    def interface(self, interface: Interface) -> None:
        """Describe an interface; its name is NODE:INTERFACE.  A second description of the same one is left out."""
        key = (interface.node, interface.name)
        if key in self._numbers:
            return
        self._numbers[key] = len(self._numbers)
        kind = interface.kind or "interface"
        options = _text(_IF_NAME, f"{interface.node}:{interface.name}")
        options += _text(_IF_DESCRIPTION, f"{kind} {interface.name} of {interface.node}, MTU {interface.mtu}")
        mac = bytes.fromhex(interface.mac.replace(":", "")) if interface.mac else b""
        if len(mac) == 6:
            options += _option(_IF_MAC, mac)
        # 10^-9 seconds.
        options += _option(_IF_TSRESOL, b"\x09")
        self._block(INTERFACE, struct.pack("<HHI", LINKTYPE_ETHERNET, 0, 0) + _end(options))

    def names(self, names: Mapping[str, Sequence[str]]) -> None:
        """Names for addresses (IPv4 and IPv6), for readers that resolve."""
        records = b""
        for address, known in names.items():
            packed = address_bytes(address)
            labels = b"".join(_limited(visible(name).replace(" ", "_")) + b"\0" for name in known if name)
            if labels:
                records += _option(_NAME_IPV4 if len(packed) == 4 else _NAME_IPV6, packed + labels)
        if records:
            self._block(NAMES, records + struct.pack("<HH", _NAME_END, 0))

    def frame(self, frame: Frame, comments: Sequence[str] = ()) -> None:
        """One frame, with as many comments as there are."""
        key = (frame.node, frame.interface)
        number = self._numbers.get(key)
        if number is None:
            self.interface(Interface(frame.node, frame.interface, 0, "", 0))
            number = self._numbers[key]
        data, time = frame.data, self._time_of(frame)
        flags = _DIRECTION[frame.direction] | _RECEPTION[frame.packet_type] << 2
        head = struct.pack("<IIIII", number, time >> 32, time & 0xFFFFFFFF, len(data), max(frame.length, len(data)))
        options = b"".join([_text(_COMMENT, one) for one in comments]) if comments else b""
        options += struct.pack("<HHI", _EPB_FLAGS, 4, flags)
        self._block(ENHANCED_PACKET, b"".join((head, data, bytes(-len(data) % 4), options, b"\0\0\0\0")))
        self.frames += 1

    def _time_of(self, frame: Frame) -> int:
        """Its stamp, or the next free nanosecond where others have it: two processors stamp at the same moment."""
        behind = self._latest_ns - frame.time_ns
        time = self._latest_ns + 1 if 0 <= behind < SAME_MOMENT_NS else frame.time_ns
        self._latest_ns = max(self._latest_ns, time)
        return time

    def _block(self, kind: int, body: bytes) -> None:
        length = struct.pack("<I", len(body) + 12)
        self._write(b"".join((struct.pack("<I", kind), length, body, length)))


def write_pcapng(
    path: Path,
    frames: Iterable[Frame],
    interfaces: Iterable[Interface] = (),
    comments: Mapping[int, Sequence[str]] | None = None,
    names: Mapping[str, Sequence[str]] | None = None,
    about: Sequence[str] = (),
) -> int:
    """Write a file of frames in time order; returns how many.

    Frames may come out of order by up to LATEST others.  `comments` are by frame number,
    `names` by address, `about` the comments on the whole file.  Raises ArtifactError when the file can't be written.
    """
    with artifact(path) as stream:
        writer = PcapngWriter(stream, comments=about)
        for interface in interfaces:
            writer.interface(interface)
        writer.names(names or {})
        known = comments or {}
        for frame in _in_time_order(frames):
            writer.frame(frame, known.get(frame.number, ()))
        return writer.frames


def _in_time_order(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Frames by time, of equals in the order given, with a bounded number of them waiting."""
    waiting: list[tuple[int, int, Frame]] = []
    for place, frame in enumerate(frames):
        entry = (frame.time_ns, place, frame)
        if len(waiting) < LATEST:
            heapq.heappush(waiting, entry)
        else:
            yield heapq.heappushpop(waiting, entry)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]


def _text(code: int, text: str) -> bytes:
    return _option(code, _limited(visible(text))) if text else b""


def _limited(text: str) -> bytes:
    """UTF-8, cut between characters."""
    return text.encode("utf-8", "replace")[:MOST_TEXT].decode("utf-8", "ignore").encode()


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _end(options: bytes) -> bytes:
    """Options with opt_endofopt behind them; nothing for none."""
    return options + b"\0\0\0\0" if options else b""
