"""The PROXY protocol's header, version 1 and 2, as its specification has it."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.proxy_protocol import SIGNATURE, Ends, may_become_header, read_proxy_header, without_proxy_header

CLIENT = ("203.0.113.10", 45308, "198.51.100.11", 80)
CLIENT6 = ("2001:db8::10", 45308, "2001:db8::11", 443)


def version2(about: Ends, command: int = 1, family: int = 0, transport: int = 1, more: bytes = b"") -> bytes:
    source, destination = ip_address(about[0]).packed, ip_address(about[2]).packed
    family = family or (1 if len(source) == 4 else 2)
    body = source + destination + struct.pack("!HH", about[1], about[3]) + more
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family << 4 | transport, len(body)) + body


@pytest.mark.parametrize(
    ("stream", "version", "client"),
    [
        (b"PROXY TCP4 203.0.113.10 198.51.100.11 45308 80\r\n", 1, CLIENT),
        (b"PROXY TCP6 2001:db8::10 2001:db8::11 45308 443\r\n", 1, CLIENT6),
        (b"PROXY UNKNOWN\r\n", 1, None),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", 1, None),
        (version2(CLIENT), 2, CLIENT),
        (version2(CLIENT6), 2, CLIENT6),
        (version2(CLIENT, more=b"\x03\x00\x04abcd"), 2, CLIENT),
        (version2(CLIENT, command=0), 2, None),
    ],
)
def test_it_is_read_and_what_follows_is_the_stream(stream: bytes, version: int, client: Ends | None) -> None:
    for rest in (b"", b"GET / HTTP/1.1\r\n\r\n"):
        header = read_proxy_header(stream + rest)
        assert header is not None
        assert (header.version, header.length, header.client) == (version, len(stream), client)
        assert without_proxy_header(stream + rest) == rest


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 203.0.113.10 198.51.100.11 45308 80",
        b"PROXY TCP4 203.0.113.10 198.51.100.11 045308 80\r\n",
        b"PROXY TCP4 203.0.113.10 198.51.100.11 70000 80\r\n",
        b"PROXY TCP4 2001:db8::10 198.51.100.11 45308 80\r\n",
        b"PROXY TCP6 203.0.113.10 198.51.100.11 45308 80\r\n",
        b"PROXY TCP4 nowhere 198.51.100.11 45308 80\r\n",
        b"PROXY " + b"U" * 200 + b"\r\n",
        version2(CLIENT)[:20],
        version2(CLIENT, command=2),
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
    ],
)
def test_anything_else_is_none(stream: bytes) -> None:
    assert read_proxy_header(stream) is None
    assert without_proxy_header(stream) == stream


def test_in_words() -> None:
    header = read_proxy_header(version2(CLIENT))
    assert header is not None
    assert header.words == "PROXY protocol version 2: 203.0.113.10:45308 -> 198.51.100.11:80"
    local = read_proxy_header(version2(CLIENT, command=0))
    assert local is not None
    assert "names no" not in local.words
    assert "LOCAL" in local.words


@pytest.mark.parametrize(
    "stream", [version2(CLIENT), version2(CLIENT6), b"PROXY TCP4 203.0.113.10 198.51.100.11 1 2\r\n"]
)
def test_a_header_that_comes_in_pieces_is_waited_for(stream: bytes) -> None:
    for length in range(1, len(stream)):
        assert may_become_header(stream[:length])
    assert not may_become_header(stream)
    assert not may_become_header(b"")
    assert not may_become_header(b"GET / HTTP/1.1\r\n")
    assert not may_become_header(b"PROXY " + b"x" * 200)


@given(st.binary(max_size=60), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
def test_no_bytes_break_it(rest: bytes, start: bytes) -> None:
    header = read_proxy_header(start + rest)
    assert header is None or 0 < header.length <= len(start + rest)
