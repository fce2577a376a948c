"""Requests to a lab: what is written is read, and anything else is refused with what was expected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoplab.labs.protocol import (
    VERSION,
    Addons,
    Capture,
    Down,
    Exec,
    ProtocolError,
    Status,
    Trace,
    decode,
    encode,
    from_message,
    to_message,
)

WRITTEN = [
    Status(),
    Down(),
    Exec("node1", ("ip", "a"), "default", {"A": "b"}, "/tmp", True),
    Trace("client", "svc/web", count=3, as_json=True),
    Capture(("node1", "pod/a"), "kube-system"),
    Addons("enable", "ingress"),
]


@pytest.mark.parametrize("request_", WRITTEN, ids=lambda each: each.ask)
def test_what_is_written_is_read(request_):
    assert from_message(decode(encode(to_message(request_)))) == request_


def message(**given):
    return {"version": VERSION, "ask": "trace", "sender": "client", "to": "lb", **given}


REFUSED = {
    "no object": ([], "expected a request with a field `ask`"),
    "another version": (message(version=VERSION + 1), "end it (lab.py down) and start it anew"),
    "an unknown request": (message(ask="dance"), "expected one of status, down, exec"),
    "an unknown field": (message(speed=9), "trace: no field is called 'speed'"),
    "a missing field": ({"version": VERSION, "ask": "trace", "to": "lb"}, "trace: the field sender is missing"),
    "a number for a text": (message(sender=7), "trace: sender: expected str, found 7"),
    "a truth for a number": (message(count=True), "trace: count: expected int, found True"),
    "numbers in a list": ({"version": VERSION, "ask": "capture", "targets": [1]}, "capture: targets"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_none_of_the_protocols_is_refused(name):
    given_, told = REFUSED[name]
    with pytest.raises(ProtocolError) as refused:
        from_message(given_)
    assert told in str(refused.value)


@given(st.binary(max_size=200))
def test_bytes_are_a_message_or_refused(body):
    try:
        from_message(decode(body))
    except ProtocolError:
        return


def test_deep_nesting_is_refused_and_breaks_nothing():
    with pytest.raises(ProtocolError):
        decode(b"[" * 100_000)
