"""Frames of one namespace, from a memory-mapped packet ring (TPACKET_V2).

One packet socket sees all interfaces of its namespace.  The kernel writes each
frame, its time and its interface into a ring that this process reads without a
system call a frame; a ring is not bound by the socket buffer limits that an
ordinary user is held to.  What did not fit is counted by the kernel and reported.
Source: Linux' Documentation/networking/packet_mmap.rst, include/uapi/linux/if_packet.h.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Callable

from hoplab.net import kernel
from hoplab.net.namespaces import Namespace

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_STATISTICS, PACKET_RX_RING, PACKET_VERSION = 6, 5, 10
TPACKET_V2 = 1
SO_TIMESTAMPNS = 35

FRAME_BYTES = 2048
"""A slot of the ring: a full Ethernet frame of MTU 1500 fits with the kernel's headers."""
BLOCK_BYTES = 1 << 16
_STATUS_USER = 1
_VLAN_VALID = 0x10
_SLOT = struct.Struct("=IIIHHIIHH")
_ADDRESS_AT = 32
_ADDRESS = struct.Struct("=HHiHBB8s")
_STATISTICS = struct.Struct("=II")

PACKET_TYPES = ("host", "broadcast", "multicast", "otherhost", "outgoing")

Sink = Callable[[int, int, str, bytes, int], None]
"""time (ns), ifindex, packet type, bytes, length on the wire"""


def ring_socket(namespace: Namespace, slots: int) -> socket.socket:
    """A packet socket of a namespace with a ring of (about) `slots` frames, kept from here on.  Raises OSError.

    Whoever holds its descriptor, in whichever namespace, can read the ring: `FrameRing(socket, slots)`.
    """
    blocks = _blocks(slots)
    with namespace.entered():
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
    # Receive times are only taken while somebody asks for them.
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    request = struct.pack("=IIII", BLOCK_BYTES, blocks, FRAME_BYTES, blocks * _PER_BLOCK)
    opened.setsockopt(SOL_PACKET, PACKET_RX_RING, request)
    # Bound last: frames come from here on, and changing a bound socket's ring makes the kernel wait each time.
    kernel.bind_packet_socket(opened.fileno(), ETH_P_ALL)
    return opened


_PER_BLOCK = BLOCK_BYTES // FRAME_BYTES


def _blocks(slots: int) -> int:
    return max(1, slots // _PER_BLOCK)


class FrameRing:
    """Reads the ring of one namespace; `slots` frames fit before the kernel has to drop."""

    def __init__(self, opened: socket.socket, slots: int) -> None:
        """Map the ring of a `ring_socket` that was made with the same `slots`.  Raises OSError."""
        self._socket = opened
        self._slots = _blocks(slots) * _PER_BLOCK
        self._map = mmap.mmap(opened.fileno(), _blocks(slots) * BLOCK_BYTES)
        self._next = 0
        self.counted = 0
        """Frames that the kernel had put into the ring when `lost` was last called, by its own count."""

    def fileno(self) -> int:
        """Readable when a frame is there."""
        return self._socket.fileno()

    def drain(self, sink: Sink) -> int:
        """Hand every frame that is there to `sink`; their number."""
        count = 0
        ring = self._map
        while True:
            at = self._next * FRAME_BYTES
            status, length, kept, start, _net, seconds, nanoseconds, vlan, vlan_kind = _SLOT.unpack_from(ring, at)
            if not status & _STATUS_USER:
                return count
            _family, _protocol, index, _hardware, kind, _size, _mac = _ADDRESS.unpack_from(ring, at + _ADDRESS_AT)
            data = ring[at + start : at + start + kept]
            if status & _VLAN_VALID:
                data = data[:12] + struct.pack("!HH", vlan_kind or 0x8100, vlan) + data[12:]
                length += 4
            packet_type = PACKET_TYPES[kind] if kind < len(PACKET_TYPES) else "host"
            # The slot goes back before the sink runs: what it does may make new frames.
            ring[at : at + 4] = b"\0\0\0\0"
            self._next = (self._next + 1) % self._slots
            count += 1
            sink(seconds * 1_000_000_000 + nanoseconds, index, packet_type, data, length)

    def lost(self) -> int:
        """Frames dropped since this was last asked (the kernel resets its counter)."""
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
        packets, dropped = _STATISTICS.unpack(statistics)
        # The first figure includes the second.
        self.counted += packets - dropped
        return int(dropped)

    def close(self) -> None:
        """Unmap and close."""
        self._map.close()
        self._socket.close()
