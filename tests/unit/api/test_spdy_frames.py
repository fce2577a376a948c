"""SPDY/3.1 frames: what one end writes the other reads, in any pieces; what is no SPDY is refused."""

import contextlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.api import spdy

HEADERS = st.dictionaries(st.text("abcdef-", min_size=1, max_size=20), st.text(max_size=30), max_size=5)


def test_the_dictionary_is_the_drafts():
    # Every SPDY/3 header block begins with its checksum (section 2.6.10.1).
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


@given(HEADERS, st.binary(max_size=100_000), st.integers(1, 5000))
def test_streams_arrive_as_they_were_sent_in_any_pieces(headers, content, size):
    client, server = spdy.Connection(), spdy.Connection()
    wire = client.open(1, headers) + spdy.data(1, content) + client.open(3, headers) + spdy.data(1, b"", fin=True)
    events = [event for at in range(0, len(wire), size) for event in server.feed(wire[at : at + size])]
    opened = [event for event in events if isinstance(event, spdy.Opened)]
    assert [(each.stream, dict(each.headers)) for each in opened] == [(1, headers), (3, headers)]
    received = [event for event in events if isinstance(event, spdy.Data)]
    assert b"".join(event.data for event in received) == content
    assert received[-1].fin


def test_an_echo_is_answered_and_an_answer_is_not():
    ping = spdy.control(spdy.PING, 0, struct.pack(">I", 7))
    assert list(spdy.Connection().feed(ping)) == [spdy.Answer(ping)]
    assert list(spdy.Connection().feed(spdy.control(spdy.PING, 0, struct.pack(">I", 8)))) == []


def test_the_end_of_a_stream_and_of_the_connection_are_told():
    connection = spdy.Connection()
    assert list(connection.feed(spdy.reset(5, 3))) == [spdy.Reset(5, 3)]
    assert list(connection.feed(spdy.control(spdy.GOAWAY, 0, b"\0" * 8))) == [spdy.Gone()]


def test_frames_that_are_not_known_are_passed_over():
    window = spdy.control(spdy.WINDOW_UPDATE, 0, struct.pack(">II", 1, 1000))
    settings = spdy.control(spdy.SETTINGS, 0, struct.pack(">I", 0))
    assert list(spdy.Connection().feed(window + settings)) == []


@pytest.mark.parametrize(
    "noise",
    [
        struct.pack(">II", 1, 0x00FFFFFF),
        struct.pack(">HHI", 0x8002, spdy.PING, 4) + b"\0\0\0\1",
        spdy.control(spdy.SYN_STREAM, 0, b"\0" * 10 + b"no zlib"),
        spdy.control(spdy.SYN_STREAM, 0, b"\0\0"),
        spdy.control(spdy.RST_STREAM, 0, b"\0"),
    ],
)
def test_what_is_no_spdy_is_refused(noise):
    with pytest.raises(spdy.SpdyError):
        list(spdy.Connection().feed(noise))


def test_headers_that_grow_when_unpacked_are_refused():
    bomb = spdy.Connection().open(1, {"a": "x" * 10_000_000})
    with pytest.raises(spdy.SpdyError):
        list(spdy.Connection().feed(bomb))


def test_streams_are_counted():
    client, server = spdy.Connection(), spdy.Connection()
    for number in range(spdy.MOST_STREAMS):
        assert list(server.feed(client.open(2 * number + 1, {})))
    with pytest.raises(spdy.SpdyError, match="streams"):
        list(server.feed(client.open(2 * spdy.MOST_STREAMS + 1, {})))


@given(st.binary(max_size=300))
def test_noise_is_told_or_refused_and_never_breaks(noise):
    with contextlib.suppress(spdy.SpdyError):
        list(spdy.Connection().feed(noise))
