"""HTTP/1.1 as bytes in, requests out: the part of a pod's server that touches no socket.

`RequestReader` is fed what a connection delivers, in pieces of any size, and hands
out whole requests in order, so pipelined requests and a body cut in half are the
same case.  What it accepts and refuses follows RFC 9112 (message syntax) and
RFC 9110 (Host, Expect); a request that could be read in two ways is refused, never
guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

LARGEST_HEAD = 32 * 1024
LARGEST_BODY = 8 * 1024 * 1024

REASONS = {
    100: "Continue",
    200: "OK",
    204: "No Content",
    301: "Moved Permanently",
    302: "Found",
    304: "Not Modified",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
_VERSION = re.compile(rb"HTTP/(\d)\.(\d)\Z")
_REQUEST_START = re.compile(rb"[A-Z]{1,24}(?: |\Z)")
_FIELD_VALUE = re.compile(rb"[^\x00\r\n]*\Z")


class BadRequest(ValueError):
    """A request that can't be served; `status` is the answer that it gets before the connection closes."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request."""

    method: str
    target: str
    """As it stood in the request line."""
    version: tuple[int, int]
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order of arrival."""
    body: bytes = b""

    def header(self, name: str) -> str:
        """The value of a header (several lines joined by ', ', RFC 9110 5.3), '' when there is none."""
        return ", ".join(value for key, value in self.headers if key == name)

    @property
    def path(self) -> str:
        """The decoded path, without the query."""
        return unquote(_split(self.target)[0])

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; the last one wins when a name comes twice."""
        return dict(parse_qsl(_split(self.target)[1], keep_blank_values=True))

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection stays open after the answer (RFC 9112 9.3)."""
        options = {option.strip().lower() for option in self.header("connection").split(",")}
        if "close" in options:
            return False
        return self.version >= (1, 1) or "keep-alive" in options


@dataclass(frozen=True, slots=True)
class Response:
    """What is sent back; Content-Length, Date and Connection are added when it is written."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    """How long the server waits before it sends the answer."""

    def to_bytes(self, date: str, *, head_only: bool, keep_alive: bool) -> bytes:
        """The answer on the wire.  `date` is an IMF-fixdate (RFC 9110 5.6.7)."""
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Unknown')}", f"Date: {date}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        bodiless = self.status in (204, 304) or self.status < 200
        if not bodiless:
            lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"]
        lines.append(f"Connection: {'keep-alive' if keep_alive else 'close'}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        return head if head_only or bodiless else head + self.body


def looks_like_http(start: bytes, *, ended: bool = False) -> bool | None:
    """Whether a connection's first bytes open an HTTP request; None when more bytes must come to tell.

    `ended` says that no more will come.  The question is only "HTTP or something else":
    a malformed HTTP request line is HTTP, so that it can be refused as such.
    """
    start = start.lstrip(b"\r\n")
    line, newline, _rest = start.partition(b"\n")
    if newline:
        return b" HTTP/" in line and bool(_REQUEST_START.match(line))
    if ended or len(line) > LARGEST_HEAD:
        return False
    return None if not line or _REQUEST_START.match(line) else False


@dataclass(slots=True)
class _Partial:
    """A request whose head was read and whose body is still coming."""

    request: Request
    length: int = 0
    """Bytes of a body with a declared length; unused for a chunked one."""
    chunked: bool = False
    body: bytearray = field(default_factory=bytearray)
    in_trailer: bool = False


class RequestReader:
    """Turns a byte stream into requests.  Not usable after it raised BadRequest: the stream's framing is lost."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._partial: _Partial | None = None
        self._continue_due = False

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        self._buffer += data

    @property
    def mid_request(self) -> bool:
        """Whether a request has begun and isn't whole yet."""
        return self._partial is not None or bool(self._buffer.lstrip(b"\r\n"))

    def take_continue(self) -> bool:
        """Whether the client waits for '100 Continue' before it sends the body (RFC 9110 10.1.1); true once only."""
        due, self._continue_due = self._continue_due, False
        return due

    def next_request(self) -> Request | None:
        """The next whole request, None while it isn't whole.  Raises BadRequest."""
        if self._partial is None:
            head = self._take_head()
            if head is None:
                return None
            self._partial = _begin(head)
            expects = self._partial.request.header("expect").lower() == "100-continue"
            waits = self._partial.chunked or self._partial.length > 0
            self._continue_due = expects and waits and not self._buffer
        partial = self._partial
        if not (self._take_chunks(partial) if partial.chunked else self._take_counted(partial)):
            return None
        self._partial, self._continue_due = None, False
        given = partial.request
        return Request(given.method, given.target, given.version, given.headers, bytes(partial.body))

    def _take_head(self) -> bytes | None:
        del self._buffer[: len(self._buffer) - len(self._buffer.lstrip(b"\r\n"))]
        found = re.search(rb"\r?\n\r?\n", self._buffer)
        if found is None or found.end() > LARGEST_HEAD:
            if found is not None or len(self._buffer) > LARGEST_HEAD:
                status = 431 if b"\n" in self._buffer[:LARGEST_HEAD] else 414
                raise BadRequest(status, f"the request's head is longer than {LARGEST_HEAD} bytes")
            return None
        head = bytes(self._buffer[: found.start()])
        del self._buffer[: found.end()]
        return head

    def _take_counted(self, partial: _Partial) -> bool:
        missing = partial.length - len(partial.body)
        partial.body += self._buffer[:missing]
        del self._buffer[:missing]
        return len(partial.body) == partial.length

    def _take_chunks(self, partial: _Partial) -> bool:
        """RFC 9112 7.1: size line, that many bytes, line end; size 0 ends it, then trailer lines up to an empty one."""
        while True:
            end = self._buffer.find(b"\n")
            if end < 0:
                if len(self._buffer) > LARGEST_HEAD:
                    raise BadRequest(400, "a chunk's size line has no end")
                return False
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            if partial.in_trailer:
                del self._buffer[: end + 1]
                if not line:
                    return True
                continue
            size_text = line.partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size_text):
                raise BadRequest(400, f"{size_text[:20]!r} is no chunk size")
            size = int(size_text, 16)
            if len(partial.body) + size > LARGEST_BODY:
                raise BadRequest(413, f"the body is longer than {LARGEST_BODY} bytes")
            if size == 0:
                partial.in_trailer = True
                del self._buffer[: end + 1]
                continue
            after = end + 1 + size
            tail = bytes(self._buffer[after : after + 2])
            if tail[:1] == b"\n":
                tail_length = 1
            elif tail == b"\r\n":
                tail_length = 2
            elif len(tail) < 2 and tail in (b"", b"\r"):
                return False
            else:
                raise BadRequest(400, "a chunk is longer than its size")
            partial.body += self._buffer[end + 1 : after]
            del self._buffer[: after + tail_length]


def _begin(head: bytes) -> _Partial:
    """Read the request line and the header fields.  Raises BadRequest."""
    first, *rest = [line.rstrip(b"\r") for line in head.split(b"\n")]
    words = first.split(b" ")
    if len(words) != 3 or not _TOKEN.match(words[0]):
        raise BadRequest(400, "the request line is not 'METHOD TARGET HTTP/VERSION'")
    method, target, version_text = words
    version = _VERSION.match(version_text)
    if version is None:
        raise BadRequest(400, f"{version_text[:20]!r} is no HTTP version")
    major, minor = int(version[1]), int(version[2])
    if major != 1:
        raise BadRequest(505, f"HTTP/{major}.{minor} is not spoken here")
    if not (target.startswith((b"/", b"http://", b"https://")) or (target == b"*" and method == b"OPTIONS")):
        raise BadRequest(400, "the request target is neither a path nor an absolute URI")
    headers = tuple(_header(line) for line in rest)
    request = Request(method.decode("ascii"), target.decode("latin-1"), (major, minor), headers)
    if (major, minor) >= (1, 1) and sum(name == "host" for name, _ in headers) != 1:
        raise BadRequest(400, "an HTTP/1.1 request needs one Host header")
    return _framing(request)


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    # White space before the colon and folded lines are how requests are smuggled past proxies: RFC 9112 5.1 and 5.2.
    if not colon or not _TOKEN.match(name) or not _FIELD_VALUE.match(value):
        raise BadRequest(400, f"{line[:40]!r} is no header field")
    return name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")


def _framing(request: Request) -> _Partial:
    """How long the body is (RFC 9112 6.3).  Raises BadRequest."""
    coding = request.header("transfer-encoding").lower()
    lengths = {part.strip() for name, value in request.headers if name == "content-length" for part in value.split(",")}
    if coding:
        if lengths:
            raise BadRequest(400, "both Transfer-Encoding and Content-Length are given")
        if coding != "chunked":
            raise BadRequest(501, f"transfer coding {coding!r} is not known")
        return _Partial(request, chunked=True)
    if not lengths:
        return _Partial(request)
    text = lengths.pop()
    if lengths or not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadRequest(400, "Content-Length is not one number")
    if int(text) > LARGEST_BODY:
        raise BadRequest(413, f"the body is longer than {LARGEST_BODY} bytes")
    return _Partial(request, length=int(text))


def _split(target: str) -> tuple[str, str]:
    """Path and query of a request target in origin or absolute form."""
    if not target.startswith("/"):
        parts = urlsplit(target)
        return parts.path or "/", parts.query
    path, _, query = target.partition("?")
    return path, query.partition("#")[0]
