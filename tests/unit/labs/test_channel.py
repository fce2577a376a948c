"""Channels: messages whole and in order, descriptors with them, long ones too, and a gone peer is told."""

import os
import socket

import pytest

from hoplab.labs import channel
from hoplab.labs.channel import Channel, LabGone
from hoplab.labs.protocol import ProtocolError


@pytest.fixture
def ends():
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pair = Channel(one), Channel(two)
    yield pair
    for end in pair:
        end.close()


def test_messages_come_whole_and_in_order(ends):
    for number in range(3):
        ends[0].send({"number": number})
    assert [ends[1].receive() for _ in range(3)] == [({"number": number}, []) for number in range(3)]


def test_descriptors_come_with_their_message(ends):
    read, write = os.pipe()
    ends[0].send({"take": "this"}, [write])
    os.close(write)
    message, (received,) = ends[1].receive()
    os.write(received, b"through")
    os.close(received)
    assert (message, os.read(read, 100), os.read(read, 100)) == ({"take": "this"}, b"through", b"")
    os.close(read)


def test_a_long_message_goes_as_a_file_in_memory(ends):
    text = "x" * (channel.LONGEST * 3)
    read, write = os.pipe()
    ends[0].send({"text": text}, [read])
    message, descriptors = ends[1].receive()
    assert message == {"text": text}
    assert len(descriptors) == 1
    for each in (*descriptors, read, write):
        os.close(each)


def test_a_peer_that_has_gone_is_told(ends):
    ends[1].close()
    with pytest.raises(LabGone):
        ends[0].receive()
    with pytest.raises(LabGone):
        ends[0].send({})


def test_what_is_no_message_is_refused_and_its_descriptors_closed():
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(one, [b"no json"], [0])
    with pytest.raises(ProtocolError):
        Channel(two).receive()
    assert len(os.listdir("/proc/self/fd")) == before
    one.close()
    two.close()


def test_a_socket_listens_for_its_owner_alone_however_long_its_path(tmp_path):
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    folder = os.open(deep, os.O_RDONLY)
    listener = channel.listen(folder, "control")
    os.close(folder)
    assert (deep / "control").stat().st_mode & 0o777 == 0o600
    caller = channel.connect(deep / "control")
    assert caller.peer() == (os.getpid(), os.geteuid())
    caller.close()
    listener.close()
    with pytest.raises(LabGone, match="no lab answers at"):
        channel.connect(deep / "control")
    with pytest.raises(LabGone, match="no lab answers at"):
        channel.connect(tmp_path / "nothing" / "control")
