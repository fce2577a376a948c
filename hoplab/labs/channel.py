"""Messages and descriptors over a Unix socket, between a command and the lab that it means.

The socket is of the kind SOCK_SEQPACKET: one send is one message, and descriptors
travel with the message that they belong to (SCM_RIGHTS, unix(7)).  A message too long
for the socket's buffer goes as a file in memory whose descriptor comes last.  Who is at
the other end is the kernel's word (SO_PEERCRED), told in the reader's own user
namespace: there the user who started the lab, and nobody else, is its root.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hoplab.errors import HoplabError
from hoplab.labs.protocol import ProtocolError, decode, encode

LONGEST = 1 << 16
"""Bytes of a message that is sent as it is."""
LARGEST = 1 << 26
"""Bytes of any message."""
MOST_DESCRIPTORS = 250
"""SCM_MAX_FD is 253."""
_CREDENTIALS = struct.Struct("iII")


class LabGone(HoplabError):
    """The other end of a channel has gone."""


def listen(folder: int, name: str) -> socket.socket:
    """A listening socket `name` in an open folder, which only the folder's owner can reach."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # By way of the folder's descriptor no path is too long for a Unix socket (108 bytes).
    opened.bind(f"/proc/self/fd/{folder}/{name}")
    os.chmod(f"/proc/self/fd/{folder}/{name}", 0o600)
    opened.listen(64)
    opened.setblocking(False)
    return opened


def connect(path: Path) -> Channel:
    """A channel to the socket at `path`.  Raises LabGone when nobody listens there."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = None
    try:
        folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.connect(f"/proc/self/fd/{folder}/{path.name}")
    except OSError as error:
        opened.close()
        raise LabGone(f"no lab answers at {path}: {error.strerror}") from error
    finally:
        if folder is not None:
            os.close(folder)
    return Channel(opened)


class Channel:
    """One end; closing it tells the other."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened

    def fileno(self) -> int:
        """Readable when a message is there or the other end has gone."""
        return self._socket.fileno()

    def close(self) -> None:
        """Tell the other end that this one has gone."""
        self._socket.close()

    def shutdown(self) -> None:
        """As `close`, while another thread may still wait in `receive`, which ends then."""
        self._socket.shutdown(socket.SHUT_RDWR)

    def detach(self) -> int:
        """The bare descriptor, for another process; this channel is closed."""
        return self._socket.detach()

    def timeout(self, seconds: float | None) -> None:
        """How long `receive` waits for a message before it raises TimeoutError; None: for ever."""
        self._socket.settimeout(seconds)

    def peer(self) -> tuple[int, int]:
        """Process id and user id of the other end: who connected, or who had the socket listen."""
        told = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _gid = _CREDENTIALS.unpack(told)
        return pid, uid

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message with descriptors.  Raises LabGone."""
        body, spilled = encode(message), -1
        if len(body) > LONGEST:
            spilled = os.memfd_create("hoplab-message", os.MFD_CLOEXEC)
            with open(spilled, "wb", closefd=False) as file:
                file.write(body)
            body = encode({"spilled": len(body)})
        passed = [*descriptors, *([spilled] if spilled >= 0 else [])]
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))] if passed else []
        try:
            self._socket.sendmsg([body], rights)
        except (BrokenPipeError, ConnectionError) as error:
            raise LabGone("the other end has gone") from error
        finally:
            if spilled >= 0:
                os.close(spilled)

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """The next message and its descriptors, which now belong to the caller.

        Raises LabGone when the other end has closed, ProtocolError for what is no message, TimeoutError.
        """
        size = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)
        try:
            body, ancillary, flags, _address = self._socket.recvmsg(LONGEST + 1, size, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError as error:
            raise LabGone("the other end has gone") from error
        found = array.array("i")
        for _level, _kind, data in ancillary:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
        descriptors = list(found)
        try:
            if not body:
                raise LabGone("the other end has gone")
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ProtocolError(f"a message has at most {LONGEST} bytes and {MOST_DESCRIPTORS} descriptors")
            message = decode(body)
            if "spilled" in message:
                if not descriptors:
                    raise ProtocolError("a long message comes with the descriptor of its text, this one without")
                message = decode(_whole(descriptors.pop()))
        except (LabGone, ProtocolError):
            close_all(descriptors)
            raise
        return message, descriptors


def _whole(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size > LARGEST:
            raise ProtocolError(f"a message has at most {LARGEST} bytes, this one {size}")
        file.seek(0)
        return file.read(LARGEST)


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that came with a message."""
    for descriptor in descriptors:
        os.close(descriptor)
