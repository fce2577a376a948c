"""A namespace's conntrack table on request: all of its entries, or one of them taken out.

The events that the observer subscribes to tell of changes alone; what was there before, and what
is there now, is asked for over a socket of its own (nfnetlink's ctnetlink, IPCTNL_MSG_CT_GET and
CT_DELETE).
"""

from __future__ import annotations

import errno
import os
import socket
import time

from hoplab.hops.evidence import ConntrackEvent
from hoplab.net.namespaces import Namespace
from hoplab.watch import conntrack
from hoplab.watch.netlink_messages import (
    LARGEST_DATAGRAM,
    NETLINK_NETFILTER,
    NLMSG_DONE,
    NLMSG_ERROR,
    error_code,
    messages,
)


def dump_conntrack(namespace: Namespace) -> list[ConntrackEvent]:
    """Every conntrack entry of a namespace.  Raises OSError."""
    found: list[ConntrackEvent] = []
    with _asking(namespace, conntrack.dump_request()) as opened:
        while True:
            for message in messages(opened.recv(LARGEST_DATAGRAM)):
                if message.kind == NLMSG_DONE:
                    return found
                if message.kind == NLMSG_ERROR:
                    raise OSError(error_code(message), f"{namespace.name}: conntrack dump refused")
                event = conntrack.parse_conntrack(message, namespace.name, time.time_ns(), dump=True)
                if event is not None:
                    found.append(event)


def delete_conntrack(namespace: Namespace, entry: ConntrackEvent) -> bool:
    """Delete one entry; False when there is none such.  Raises OSError for anything else."""
    with _asking(namespace, conntrack.delete_request(entry)) as opened:
        for message in messages(opened.recv(LARGEST_DATAGRAM)):
            code = error_code(message) if message.kind == NLMSG_ERROR else 0
            if code == errno.ENOENT:
                return False
            if code:
                raise OSError(code, f"{namespace.name}: delete conntrack entry: {os.strerror(code)}")
    return True


def _asking(namespace: Namespace, request: bytes) -> socket.socket:
    with namespace.entered():
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    opened.bind((0, 0))
    opened.settimeout(5)
    opened.sendto(request, (0, 0))
    return opened
