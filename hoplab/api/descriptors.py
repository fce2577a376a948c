"""Reading and writing file descriptors from an event loop: pipes and terminals of commands in pods.

A descriptor that can't be read now is waited for; one that a client is too slow for is not
read, so that the command waits and memory does not grow.  A pty whose other side is closed
says EIO where a pipe says end of file.
"""

from __future__ import annotations

import asyncio
import errno
import os

CHUNK = 32768


async def _ready(fd: int, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    (loop.add_writer if writing else loop.add_reader)(fd, wake)
    try:
        await done
    finally:
        (loop.remove_writer if writing else loop.remove_reader)(fd)


def read_now(fd: int) -> bytes | None:
    """What can be read without waiting; None when there is nothing yet, no bytes at the end."""
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in (errno.EIO, errno.EBADF):
            return b""
        raise


async def read(fd: int) -> bytes:
    """Some bytes, none at the end; the descriptor must not block."""
    while True:
        data = read_now(fd)
        if data is not None:
            return data
        await _ready(fd, writing=False)


async def write(fd: int, data: bytes) -> None:
    """All of the bytes.  Raises OSError (EPIPE: nobody reads any more)."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            await _ready(fd, writing=True)
