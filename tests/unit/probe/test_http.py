"""The client's side of HTTP: what is asked, and where an answer ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.net.podhttp import RequestReader, Response
from hoplab.probe.http import HttpResponse, host_header, read_response, request_bytes

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Hoplab-Pod: d\r\n\r\nabc"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\nSum: 1\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\n\r\nabc"


def test_a_request_is_what_a_server_reads() -> None:
    reader = RequestReader()
    reader.feed(request_bytes("web:81", "/x?a=1", token="t"))
    reader.feed(request_bytes("web", "/", token="t", method="POST", body=b"123", keep_alive=True))
    first, second = reader.next_request(), reader.next_request()
    assert first is not None
    assert second is not None
    assert (first.method, first.path, first.query, first.header("host")) == (
        "GET",
        "/x",
        {"a": "1", "token": "t"},
        "web:81",
    )
    assert not first.keeps_alive
    assert (second.method, second.body, second.query, second.keeps_alive) == ("POST", b"123", {"token": "t"}, True)


@pytest.mark.parametrize(
    ("address", "port", "host"),
    [("10.0.0.1", 80, "10.0.0.1"), ("10.0.0.1", 8080, "10.0.0.1:8080"), ("fd00::1", 80, "[fd00::1]")],
)
def test_host_header(address: str, port: int, host: str) -> None:
    assert host_header(address, port) == host


@pytest.mark.parametrize("data", [WHOLE, CHUNKED])
def test_an_answer_ends_where_it_says_and_the_next_begins_there(data: bytes) -> None:
    found = read_response(data + WHOLE, ended=False)
    assert found is not None
    assert (found[0].status, found[0].body, found[0].whole) == (200, b"abc", True)
    assert found[1] == WHOLE


@given(st.sampled_from([WHOLE, CHUNKED]), st.data())
def test_an_answer_cut_short_is_none_until_the_connection_ended(data: bytes, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(data) - 1))
    assert read_response(data[:cut], ended=False) is None
    found = read_response(data[:cut], ended=True)
    if found is not None:
        assert not found[0].whole
        assert b"abc".startswith(found[0].body)


def test_an_answer_without_length_ends_with_the_connection() -> None:
    assert read_response(UNTIL_CLOSE, ended=False) is None
    found = read_response(UNTIL_CLOSE, ended=True)
    assert found is not None
    assert (found[0].body, found[0].whole) == (b"abc", True)


def test_answers_without_a_body_and_interim_answers() -> None:
    head = read_response(WHOLE[:-3], ended=False, head_only=True)
    assert head is not None
    assert head[0].body == b""
    empty = read_response(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nrest", ended=False)
    assert empty is not None
    assert (empty[0].status, empty[1]) == (204, b"rest")


@pytest.mark.parametrize("data", [b"", b"hello\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http_is_none(data: bytes) -> None:
    assert read_response(data, ended=True) is None


def test_what_the_pod_told() -> None:
    found = read_response(WHOLE, ended=True)
    assert found is not None
    assert (found[0].pod, found[0].client, found[0].told) == ("d", "", {})
    assert HttpResponse(200, body=b'{"pod": "d"}').told == {"pod": "d"}
    assert HttpResponse(200, body=b"[1]").told == {}


@given(st.binary(max_size=300), st.integers(200, 599))
def test_it_reads_what_a_pods_server_writes(body: bytes, status: int) -> None:
    wire = Response(status, body).to_bytes("now", head_only=False, keep_alive=True)
    found = read_response(wire, ended=False)
    assert found is not None
    assert found[0].status == status
    assert found[0].body == (b"" if status in (204, 304) else body)
    assert found[1] == b""
