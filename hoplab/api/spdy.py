"""SPDY/3.1 as kubectl speaks it: several byte streams in one connection, for exec, attach and port-forward.

SPDY was HTTP/2's draft; Kubernetes took its framing only.  Control frames open a stream
(SYN_STREAM, with headers), accept it (SYN_REPLY), end it (RST_STREAM), or ask for an echo (PING);
data frames carry bytes of a stream, the last one with the flag FIN.  Headers are compressed by
one zlib stream a direction, primed with a fixed dictionary.  kubectl's library keeps no windows, so
there is no flow control here either.  No I/O: bytes in, events out; the same for what is sent.
Source: the SPDY/3.1 draft (draft-mbelshe-httpbis-spdy-00) and moby/spdystream's behaviour.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hoplab.errors import HoplabError

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 0x01
VERSION = 3
LARGEST_FRAME = 1 << 20
"""Bytes of a frame; kubectl sends 32 KB at a time."""
LARGEST_HEADERS = 64 << 10
MOST_STREAMS = 1024
"""Open at a time in one connection: a port-forward has two for each connection that it carries."""

_NAMES = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow"
    " authorization cache-control connection content-base content-encoding content-language content-length"
    " content-location content-md5 content-range content-type date etag expect expires from host if-match"
    " if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma"
    " proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade"
    " user-agent vary via warning www-authenticate method get status"
)
_MORE_NAMES = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
_WORDS = [word.encode() for word in (*_NAMES.split(), *_MORE_NAMES)]
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word for word in _WORDS) + _TAIL.encode()
"""Of section 2.6.10.1 of the draft: names with their lengths, then words that are often there."""


class SpdyError(HoplabError):
    """The peer speaks no SPDY/3.1, or asks for too much."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened a stream; `fin`: it will send nothing on it."""

    stream: int
    headers: Mapping[str, str]
    fin: bool


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream; `fin`: its last."""

    stream: int
    data: bytes
    fin: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer gave a stream up."""

    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes that must be sent back (an echo)."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Gone:
    """The peer ends the connection."""


Event = Opened | Data | Reset | Answer | Gone


def control(kind: int, flags: int, payload: bytes) -> bytes:
    """One control frame."""
    return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(payload)) + payload


def data(stream: int, content: bytes, fin: bool = False) -> bytes:
    """Data frames for any number of bytes; the last has the flag."""
    pieces = [content[at : at + 32768] for at in range(0, len(content), 32768)] or [b""]
    out = bytearray()
    for number, piece in enumerate(pieces):
        flags = FIN if fin and number == len(pieces) - 1 else 0
        out += struct.pack(">II", stream, flags << 24 | len(piece)) + piece
    return bytes(out)


def reset(stream: int, status: int = 5) -> bytes:
    """A frame that ends a stream; status 5 is CANCEL."""
    return control(RST_STREAM, 0, struct.pack(">II", stream, status))


class Connection:
    """One end of a connection: what arrives becomes events, headers that are sent are compressed."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)
        self._open: set[int] = set()

    def feed(self, received: bytes) -> Iterator[Event]:
        """The events of all frames that are complete now.  Raises SpdyError."""
        self._buffer += received
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            length = second & 0xFFFFFF
            if length > LARGEST_FRAME:
                raise SpdyError(f"a SPDY frame of {length} bytes: at most {LARGEST_FRAME} are taken")
            if len(self._buffer) < 8 + length:
                return
            payload = bytes(self._buffer[8 : 8 + length])
            del self._buffer[: 8 + length]
            flags = second >> 24
            if first & 0x80000000:
                yield from self._controlled(first, flags, payload)
            else:
                yield Data(first, payload, bool(flags & FIN))

    def _controlled(self, first: int, flags: int, payload: bytes) -> Iterator[Event]:
        version, kind = first >> 16 & 0x7FFF, first & 0xFFFF
        if version != VERSION:
            raise SpdyError(f"SPDY version {version}: only {VERSION} is spoken here")
        try:
            if kind == SYN_STREAM:
                stream = struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF
                headers = self._headers(payload[10:])
                if len(self._open) >= MOST_STREAMS:
                    raise SpdyError(f"more than {MOST_STREAMS} streams in one connection")
                self._open.add(stream)
                yield Opened(stream, headers, bool(flags & FIN))
            elif kind in (SYN_REPLY, HEADERS):
                self._headers(payload[4:])
            elif kind == RST_STREAM:
                stream, status = struct.unpack(">II", payload)
                self.forget(stream)
                yield Reset(stream, status)
            elif kind == PING:
                (number,) = struct.unpack(">I", payload)
                if number % 2:  # Odd numbers are the client's; an even one is an answer.
                    yield Answer(control(PING, 0, payload))
            elif kind == GOAWAY:
                yield Gone()
        except (struct.error, zlib.error) as error:
            raise SpdyError(f"a SPDY frame of type {kind} can't be read: {error}") from error

    def forget(self, stream: int) -> None:
        """A stream is over, both ways."""
        self._open.discard(stream)

    def _headers(self, compressed: bytes) -> dict[str, str]:
        text = self._inflate.decompress(compressed, LARGEST_HEADERS)
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"SPDY headers of more than {LARGEST_HEADERS} bytes")
        (number,) = struct.unpack_from(">I", text)
        place, found = 4, {}
        for _ in range(min(number, LARGEST_HEADERS)):
            words = []
            for _half in range(2):
                (length,) = struct.unpack_from(">I", text, place)
                words.append(text[place + 4 : place + 4 + length].decode("utf-8", "replace"))
                place += 4 + length
            found[words[0].lower()] = words[1]
        return found

    def _compressed(self, headers: Mapping[str, str]) -> bytes:
        text = struct.pack(">I", len(headers))
        for word in (part.encode() for pair in headers.items() for part in pair):
            text += struct.pack(">I", len(word)) + word
        return self._deflate.compress(text) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def open(self, stream: int, headers: Mapping[str, str], fin: bool = False) -> bytes:
        """A frame that opens a stream (a client's; odd numbers)."""
        head = struct.pack(">IIBB", stream, 0, 0, 0)
        return control(SYN_STREAM, FIN if fin else 0, head + self._compressed(headers))

    def accept(self, stream: int) -> bytes:
        """A frame that accepts a stream."""
        return control(SYN_REPLY, 0, struct.pack(">I", stream) + self._compressed({}))
