"""The few system calls that Python lacks: unshare, setns, mount and prctl, through libc.

Everything that isolates a lab is one of these four.  Each wrapper raises OSError
with the call and its arguments in the message, since the errno alone ("Operation
not permitted") never tells which step of an isolation failed.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

AT_FDCWD = -100
AT_RECURSIVE = 0x8000
MOUNT_ATTR_RDONLY = 1
SYS_MOUNT_SETATTR = 442
"""The same number on every architecture that Debian has; the C library of some still lacks the call."""

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """unshare(2): give the calling process new namespaces.  Raises OSError."""
    _checked(_libc.unshare(flags), f"unshare({flags:#x})")


def setns(fd: int, kind: int) -> None:
    """setns(2) for the calling thread (os.setns exists from Python 3.12 on only).  Raises OSError."""
    _checked(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2).  Raises OSError that names source, target and type."""
    result = _libc.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _checked(result, f"mount {kind or 'bind'} {source} on {target}")


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2).  Raises OSError."""
    _checked(_libc.umount2(target.encode(), flags), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2): `new` becomes the root of this mount namespace, the old root comes to `old`.  Raises OSError."""
    _checked(_libc.pivot_root(new.encode(), old.encode()), f"pivot_root {new} {old}")


def set_read_only(target: str, on: bool, *, recursive: bool = False) -> None:
    """mount_setattr(2): let a mount, or all below it, be written or not in this namespace.  Raises OSError."""
    attributes = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY if on else 0, 0 if on else MOUNT_ATTR_RDONLY, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(SYS_MOUNT_SETATTR),
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(target.encode()),
        ctypes.c_uint(AT_RECURSIVE if recursive else 0),
        ctypes.c_char_p(attributes),
        ctypes.c_size_t(len(attributes)),
    )
    _checked(result, f"mount_setattr {target} {'read-only' if on else 'writable'}")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this signal to the calling process when its parent dies (prctl PR_SET_PDEATHSIG)."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def adopt_orphans() -> None:
    """Have descendants whose parent ends become children of the calling process (prctl PR_SET_CHILD_SUBREAPER)."""
    _checked(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def bind_packet_socket(fd: int, protocol: int) -> None:
    """bind(2) a packet socket to all interfaces of its namespace; Python's own bind wants the name of one.

    Raises OSError.
    """
    address = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(protocol), 0, 0, 0, 0, b"")
    _checked(_libc.bind(fd, address, len(address)), "bind of a packet socket")


_CLOCK_MONOTONIC = 1
_TFD_NONBLOCK, _TFD_CLOEXEC = 0o4000, 0o2000000


def timerfd() -> int:
    """timerfd_create(2), monotonic and unarmed: readable when its time has come (Python has it from 3.13 on only)."""
    fd: int = _libc.timerfd_create(_CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
    if fd < 0:
        _checked(-1, "timerfd_create")
    return fd


def arm_timerfd(fd: int, seconds: float | None) -> None:
    """timerfd_settime(2): ring once after so many seconds; None disarms.  Raises OSError."""
    # A time of zero would disarm it.
    whole_ns = 0 if seconds is None else max(1, int(seconds * 1e9))
    value = struct.pack("@qqqq", 0, 0, whole_ns // 1_000_000_000, whole_ns % 1_000_000_000)
    _checked(_libc.timerfd_settime(fd, 0, value, None), "timerfd_settime")


IN_MODIFY, IN_IGNORED = 2, 0x8000


def inotify() -> int:
    """A descriptor that tells of changed files, inotify_init1(2), which Python lacks.  Raises OSError."""
    return _descriptor(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify_init1")


def watch_file(descriptor: int, path: str) -> int:
    """Have an inotify descriptor tell when the file is written to; the watch's number.  Raises OSError."""
    return _descriptor(_libc.inotify_add_watch(descriptor, path.encode(), IN_MODIFY), f"inotify_add_watch {path}")


def _descriptor(result: int, what: str) -> int:
    _checked(min(result, 0), what)
    return int(result)
