"""Files that a run leaves behind: complete or not there at all.

A file without a name (O_TMPFILE) is filled and gets its name when it is complete; a
run that is killed in the middle leaves nothing.  Where the file system has no such
files, one with a name of its own is filled and renamed.  A file that cannot be
written is an `ArtifactError`, which says what to do; the run's verdict does not
depend on it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hoplab.errors import HoplabError

_NO_UNNAMED_FILES = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.ENOSYS)
_WHAT_TO_DO = {
    errno.ENOSPC: "the disk is full: make room, or choose another folder with --captures",
    errno.EDQUOT: "the disk quota is used up: make room, or choose another folder with --captures",
    errno.EROFS: "the file system is read-only: choose another folder with --captures",
    errno.EACCES: "this user may not write there: choose another folder with --captures, or change its owner",
    errno.EPERM: "this user may not write there: choose another folder with --captures, or change its owner",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "there is a folder of this name",
    errno.ENAMETOOLONG: "the name is too long",
}


class ArtifactError(HoplabError):
    """A file of a run could not be written: which, why, and what to do."""

    def __init__(self, path: Path, error: OSError) -> None:
        self.path = path
        what = _WHAT_TO_DO.get(error.errno or 0, "")
        self.why = (error.strerror or str(error)) + (f" ({what})" if what else "")
        super().__init__(f"{path} was not written: {self.why}")


@contextmanager
def artifact(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that is at `path` once the block has ended well; folders on the way are made.

    Raises ArtifactError for anything that the file system refuses, also within the block.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with _unfinished(path) as stream:
            yield stream
    except OSError as error:
        raise ArtifactError(path, error) from error


def write_artifact(path: Path, data: bytes) -> None:
    """A whole file at once.  Raises ArtifactError."""
    with artifact(path) as stream:
        stream.write(data)


@contextmanager
def _unfinished(path: Path) -> Iterator[IO[bytes]]:
    part = path.with_name(f".{os.getpid()}.part")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = _unnamed(folder)
        named = descriptor is None
        if descriptor is None:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            with open(descriptor, "wb") as stream:
                yield stream
                # The last bytes may be the ones for which there is no room: before the file gets its name.
                stream.flush()
                if not named:
                    # With a folder's descriptor Python calls linkat(2), which alone can follow the link in /proc.
                    os.link(f"/proc/self/fd/{descriptor}", part.name, dst_dir_fd=folder, follow_symlinks=True)
                    named = True
            os.replace(part, path)
        except BaseException:
            if named:
                with contextlib.suppress(OSError):
                    os.unlink(part)
            raise
    finally:
        os.close(folder)


def _unnamed(folder: int) -> int | None:
    """A file without a name in this folder; None where there are none, or no /proc to name it by later."""
    if not os.path.isdir("/proc/self/fd"):
        return None
    try:
        return os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno in _NO_UNNAMED_FILES:
            return None
        raise
