"""What a pod's HTTP reader takes and refuses, whatever pieces the bytes come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.net.podhttp import LARGEST_BODY, LARGEST_HEAD, BadRequest, Request, RequestReader, Response, looks_like_http


def read_all(data: bytes, cuts: tuple[int, ...] = ()) -> list[Request]:
    reader = RequestReader()
    found = []
    for start, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
        reader.feed(data[start:end])
        while (request := reader.next_request()) is not None:
            found.append(request)
    return found


def refused(data: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read_all(data)
    return caught.value


def test_a_request_with_everything() -> None:
    (request,) = read_all(
        b"POST /a%20b?token=x%2B1&token=2&empty= HTTP/1.1\r\nHost: web:80\r\n"
        b"X-A: 1\r\nx-a:  2 \r\nContent-Length: 3\r\n\r\nabc"
    )
    assert request.method == "POST"
    assert request.path == "/a b"
    assert request.query == {"token": "2", "empty": ""}
    assert request.header("host") == "web:80"
    assert request.header("x-a") == "1, 2"
    assert request.body == b"abc"
    assert request.keeps_alive


def test_an_absolute_target_is_what_a_client_sends_to_a_proxy() -> None:
    (request,) = read_all(b"GET http://web/x?y=1 HTTP/1.1\r\nHost: web\r\n\r\n")
    assert (request.path, request.query) == ("/x", {"y": "1"})


def test_chunked_body_with_extension_and_trailer() -> None:
    (request,) = read_all(
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=1\r\nabc\r\nA\r\n0123456789\r\n0\r\nSum: 1\r\n\r\n"
    )
    assert request.body == b"abc0123456789"


PIPELINE = (
    b"\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
    b"POST /2 HTTP/1.1\nHost: a\nContent-Length: 5\n\n\r\n\r\nx"
    b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n"
    b"HEAD /4 HTTP/1.0\r\n\r\n"
)


@given(st.lists(st.integers(0, len(PIPELINE)), max_size=8).map(lambda cuts: tuple(sorted(cuts))))
def test_pipelined_requests_are_the_same_in_any_pieces(cuts: tuple[int, ...]) -> None:
    requests = read_all(PIPELINE, cuts)
    assert [request.target for request in requests] == ["/1", "/2", "/3", "/4"]
    assert [request.body for request in requests] == [b"", b"\r\n\r\nx", b"\r\n\r\n", b""]
    assert [request.keeps_alive for request in requests] == [True, True, True, False]


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (400, b"GET /\r\n\r\n"),
        (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTQ/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 4\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n"),
        (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
        (413, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (LARGEST_BODY + 1)),
        (413, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n"),
        (414, b"GET /" + b"a" * LARGEST_HEAD),
        (431, b"GET / HTTP/1.1\r\nX: " + b"a" * LARGEST_HEAD),
        (505, b"PRI * HTTP/2.0\r\n\r\n"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(status: int, data: bytes) -> None:
    assert refused(data).status == status


def test_the_client_is_told_to_continue_once_and_only_when_it_waits() -> None:
    reader = RequestReader()
    reader.feed(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert reader.next_request() is None
    assert reader.take_continue()
    assert not reader.take_continue()
    reader.feed(b"ab")
    request = reader.next_request()
    assert request is not None
    assert request.body == b"ab"


@given(st.binary(max_size=200))
def test_any_bytes_give_requests_or_a_refusal_and_nothing_else(data: bytes) -> None:
    status = 200
    try:
        read_all(b"GET / HTTP/1.1\r\n" + data)
    except BadRequest as error:
        status = error.status
    assert status in (200, 400, 413, 431, 501)


@pytest.mark.parametrize(
    ("start", "ended", "http"),
    [
        (b"", False, None),
        (b"GE", False, None),
        (b"GET /", False, None),
        (b"GET / HTTP/1.1\r\n", False, True),
        (b"GET / HTTP/9\r\n", False, True),
        (b"HELLO\n", False, False),
        (b"HELLO", True, False),
        (b"hello", False, False),
        (b"\x16\x03\x01", False, False),
    ],
)
def test_http_is_told_from_anything_else_by_the_first_line(start: bytes, ended: bool, http: bool | None) -> None:
    assert looks_like_http(start, ended=ended) is http


def test_a_response_on_the_wire() -> None:
    page = Response(200, b"hi\n", headers=(("Server", "x"),))
    wire = page.to_bytes("Thu, 01 Jan 1970 00:00:00 GMT", head_only=False, keep_alive=True)
    assert wire == (
        b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: x\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nhi\n"
    )
    head = page.to_bytes("x", head_only=True, keep_alive=False)
    assert b"Content-Length: 3\r\n" in head
    assert head.endswith(b"Connection: close\r\n\r\n")
    empty = Response(204).to_bytes("x", head_only=False, keep_alive=True)
    assert b"Content-" not in empty
