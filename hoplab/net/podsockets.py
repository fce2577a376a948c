"""The listening sockets of a pod, and the address that a datagram was sent to."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import cast

from hoplab.net import podpages
from hoplab.net.podconfig import Listener

BACKLOG = 1024

# Linux's numbers, where Python's socket module has no name for them.
IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IP_PMTUDISC_DONT = 0


class CannotListen(RuntimeError):
    """A listener could not be made; str() says which, and the kernel's reason."""


def bind(listener: Listener) -> list[socket.socket]:
    """The listening sockets of one port: one, or one a family.  Raises CannotListen."""
    bound = []
    for family, address in _addresses(listener):
        try:
            bound.append(_bind(listener, family, address))
        except OSError as error:
            if not listener.address and family == socket.AF_INET6 and error.errno in _NO_IPV6:
                continue
            what = f"{listener.protocol} {podpages.endpoint(address, listener.port)}"
            raise CannotListen(f"can't listen on {what}: {os.strerror(error.errno or 0)}") from error
    return bound


def _bind(listener: Listener, family: socket.AddressFamily, address: str) -> socket.socket:
    kind = socket.SOCK_DGRAM if listener.protocol == "UDP" else socket.SOCK_STREAM
    bound = socket.socket(family, kind, _PROTOCOLS[listener.protocol])
    try:
        bound.setblocking(False)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            bound.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            # Without "don't fragment" the kernel gives each datagram an IP id of its own, by which a capture
            # tells one answer's frames from another's.
            bound.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        bound.bind((address, listener.port))
        if kind == socket.SOCK_STREAM:
            bound.listen(BACKLOG)
    except OSError:
        bound.close()
        raise
    return bound


_PROTOCOLS = {"TCP": socket.IPPROTO_TCP, "UDP": socket.IPPROTO_UDP, "SCTP": socket.IPPROTO_SCTP}
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _addresses(listener: Listener) -> list[tuple[socket.AddressFamily, str]]:
    if not listener.address:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    family = socket.AF_INET6 if ":" in listener.address else socket.AF_INET
    return [(family, listener.address)]


Ancillary = list[tuple[int, int, bytes]]


def asked_address(bound: socket.socket, ancillary: Ancillary) -> tuple[tuple[str, int], Ancillary]:
    """The address and port that a datagram was sent to, and the control message that makes the answer leave from it.

    See ip(7), IP_PKTINFO, and RFC 3542 section 6 for IPv6.
    """
    port = cast(int, bound.getsockname()[1])
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            asked = data[8:12]
            return (socket.inet_ntop(socket.AF_INET, asked), port), [(level, kind, struct.pack("=i4s4x", 0, asked))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            asked, index = data[:16], struct.unpack("=i", data[16:20])[0]
            # A link-local address means nothing without its interface; any other must be free to leave by any.
            index = index if asked[:2] == b"\xfe\x80" else 0
            answer_from = struct.pack("=16si", asked, index)
            return (socket.inet_ntop(socket.AF_INET6, asked), port), [(level, kind, answer_from)]
    return (bound.getsockname()[0], port), []
