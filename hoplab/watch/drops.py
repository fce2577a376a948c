"""The kernel's own word for each packet that it drops: the tracepoint skb:kfree_skb, read by a performance event.

Linux says for many drops why (NETFILTER_DROP, IP_RPFILTER, PKT_TOO_BIG, ...), but neither
in which namespace nor which packet; its time has to do.  Only drops that happen while this
process runs are told, which is where most packets of a lab are carried, and no other
program's.  Root alone may ask, and switching the tracepoint on and off costs some 70 ms:
so it is asked from the first failure of a run on, as an addition that nothing depends on.
Sources: perf_event_open(2), Linux' include/net/dropreason-core.h, include/trace/events/skb.h.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import re
import struct
import time
from dataclasses import replace

from hoplab.net import kernel
from hoplab.reasons.facts import DropFact

MOUNTED = "/run/hoplab/tracing"
"""Inside the sandbox, whose /run is its own."""
EVENT = f"{MOUNTED}/events/skb/kfree_skb"
_NUMBERS = {"x86_64": 298, "aarch64": 241}
"""perf_event_open's number, which libc has no function for."""
_PAGES = 8
_TRACEPOINT, _SAMPLE, _SAMPLE_TIME, _SAMPLE_RAW = 2, 9, 1 << 2, 1 << 10
_USE_CLOCKID, _CLOEXEC = 1 << 25, 8
_HEAD, _TAIL = 1024, 1032
"""data_head and data_tail in struct perf_event_mmap_page."""


class Drops:
    """Open from now on; `read` gives what was dropped since the last time."""

    def __init__(self) -> None:
        """Raises OSError where the kernel or the user's rights do not allow it."""
        number = _NUMBERS.get(platform.machine())
        if number is None:
            raise OSError(errno.ENOSYS, f"perf_event_open is not known on {platform.machine()}")
        if not os.path.isdir(EVENT):
            os.makedirs(MOUNTED, exist_ok=True)
            kernel.mount("none", MOUNTED, "tracefs")
        with open(f"{EVENT}/format", encoding="ascii") as file:
            self._names, self._at = understood(file.read())
        with open(f"{EVENT}/id", encoding="ascii") as file:
            event = int(file.read())
        attributes = bytearray(128)
        struct.pack_into("=IIQQQ", attributes, 0, _TRACEPOINT, 128, event, 1, _SAMPLE_TIME | _SAMPLE_RAW)
        struct.pack_into("=Q", attributes, 40, _USE_CLOCKID)
        struct.pack_into("=i", attributes, 92, time.CLOCK_MONOTONIC)
        libc = ctypes.CDLL(None, use_errno=True)
        given = (ctypes.c_char * 128).from_buffer(attributes)
        self._fd = libc.syscall(number, given, 0, -1, -1, _CLOEXEC)
        if self._fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"perf_event_open: {os.strerror(code)}")
        self._page = mmap.PAGESIZE
        self._map = mmap.mmap(self._fd, self._page * (1 + _PAGES))

    def read(self) -> list[DropFact]:
        """What was dropped since the last time; too much at once is lost."""
        (head,) = struct.unpack_from("=Q", self._map, _HEAD)
        (tail,) = struct.unpack_from("=Q", self._map, _TAIL)
        ring, size = self._map[self._page :], self._page * _PAGES
        start = tail % size
        data = (ring[start:] + ring[:start])[: head - tail]
        struct.pack_into("=Q", self._map, _TAIL, head)
        # Perf has no clock that frames have; both run alike.
        ahead = time.time_ns() - time.monotonic_ns()
        return [replace(one, time_ns=one.time_ns + ahead) for one in parsed(data, self._names, self._at)]

    def close(self) -> None:
        """Switch it off."""
        self._map.close()
        os.close(self._fd)


def understood(text: str) -> tuple[dict[int, str], int]:
    """From an event's `format`: the reasons by number, and where in a record the reason stands (pure).

    Raises OSError when this kernel's event tells none.
    """
    where = re.search(r"field:enum skb_drop_reason reason;\s*offset:(\d+);", text)
    names = {int(number): name for number, name in re.findall(r'\{ (\d+), "(\w+)" \}', text)}
    if where is None or not names:
        raise OSError(errno.ENOTSUP, "this kernel does not say why it drops packets (Linux 5.17 and newer do)")
    return names, int(where[1])


def parsed(data: bytes, names: dict[int, str], reason_at: int) -> list[DropFact]:
    """The samples of a ring's bytes, in order (pure)."""
    found, at = [], 0
    while at + 8 <= len(data):
        kind, _misc, size = struct.unpack_from("=IHH", data, at)
        if size < 8:
            break
        if kind == _SAMPLE and at + 20 + reason_at + 4 <= len(data):
            time_ns, _length = struct.unpack_from("=QI", data, at + 8)
            (reason,) = struct.unpack_from("=I", data, at + 20 + reason_at)
            found.append(DropFact(time_ns, names.get(reason, f"reason {reason}")))
        at += size
    return found
