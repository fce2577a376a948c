"""Where a lab that stays is written down, and how anybody knows whether it is still there.

Each lab has a folder in its user's runtime folder; the folder exists for as long as the
lab does.  A process id proves nothing (numbers are used again), so the process that
keeps a lab holds a lock (flock(2)) on that folder: the kernel lets go of it when the
process ends in whatever way.  A folder without a lock is what a killed lab left behind;
who comes next removes it.  Everything that looks or changes holds the lock of the
folder above, so that two commands never judge the same folder at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hoplab.errors import CannotRunHere, InputError, did_you_mean

FOLDER = "hoplab-labs"
"""Not the name that the lab itself has below /run (hoplab.net.sandbox): there, too, somebody may call lab.py."""
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,38}[a-z0-9])?")
FACTS, CONTROL, KUBECONFIG, LOG = "lab.json", "control", "kubeconfig", "log"
FILES = frozenset({FACTS, CONTROL, KUBECONFIG, LOG})
PART = ".part"
"""Ending of a file that is being written."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a lab from its start: written once, read by `ps`.

    `started` is in seconds since the epoch, `keeper` the process id of the process that keeps it.
    """

    name: str
    topology: str
    keeper: int
    started: float
    files: tuple[str, ...] = ()
    addresses: Mapping[str, str] = field(default_factory=dict)
    """Where the lab is reached on this machine: `api` is IP:PORT."""


def root() -> Path:
    """The folder of this user's labs, whether or not it exists.

    XDG_RUNTIME_DIR when it is this user's (XDG base directory specification), /run for root, /run/user/UID where
    the system has made it, else a folder of the user's own in the temporary one.
    """
    uid = os.geteuid()
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    for place in (given, "/run" if uid == 0 else f"/run/user/{uid}"):
        with suppress(OSError):
            if place.startswith("/") and os.stat(place).st_uid == uid:
                return Path(place, FOLDER)
    return Path(tempfile.gettempdir(), f"{FOLDER}-{uid}")


def check_name(name: str) -> str:
    """The name, if a lab may have it.  Raises InputError."""
    if NAME.fullmatch(name) is None:
        raise InputError(
            f"--name {name!r}: a lab's name is up to 40 lower-case letters, digits, '-' and '.',"
            " with a letter or digit at both ends"
        )
    return name


def _private(folder: int, path: Path) -> None:
    """Refuse a folder that is somebody else's or open to others."""
    status = os.fstat(folder)
    if status.st_uid != os.geteuid():
        raise CannotRunHere(
            f"{path} belongs to user {status.st_uid}, not to you (user {os.geteuid()}): labs' sockets and keys can't"
            " be kept there. Have its owner remove it, or set XDG_RUNTIME_DIR to a folder of your own"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        os.fchmod(folder, 0o700)


@contextmanager
def _locked_root(path: Path, *, make: bool) -> Iterator[int | None]:
    """The folder of all labs, locked, as a descriptor; None when there is none and it is not to be made."""
    while True:
        if make:
            try:
                path.mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                raise CannotRunHere(f"{path} can't be made ({error.strerror}): labs are written down there") from error
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            if make:
                continue
            yield None
            return
        except OSError as error:
            raise CannotRunHere(f"{path} should be a folder of yours: {error.strerror}") from error
        try:
            _private(folder, path)
            fcntl.flock(folder, fcntl.LOCK_EX)
            # The one who held the lock before may have been the last and have removed the folder.
            if not _still(path, folder):
                continue
            yield folder
            return
        finally:
            os.close(folder)


def _still(path: Path, folder: int) -> bool:
    try:
        there, ours = os.stat(path, follow_symlinks=False), os.fstat(folder)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _try_lock(path: Path) -> int | None:
    """The lab's folder, locked, as a descriptor; None while its keeper has the lock."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        return None
    return folder


def _sweep(top: Path) -> list[str]:
    """Remove what killed labs left; the names of those that live.  The root's lock is held."""
    alive = []
    for entry in sorted(os.scandir(top), key=lambda one: one.name):
        if not entry.is_dir(follow_symlinks=False):
            continue
        folder = _try_lock(Path(entry.path))
        if folder is None:
            alive.append(entry.name)
        else:
            _remove(Path(entry.path))
            os.close(folder)
    return alive


def alive(top: Path | None = None) -> list[str]:
    """Names of the labs that live, in order; what killed ones left is removed on the way."""
    path = top or root()
    with _locked_root(path, make=False) as folder:
        if folder is None:
            return []
        found = _sweep(path)
        _remove_if_empty(path)
        return found


def _remove(lab: Path) -> None:
    """Remove a lab's folder with the files that a lab has; one that holds anything else is none, and stays."""
    names = os.listdir(lab)
    if not all(name in FILES or name.endswith(PART) for name in names):
        return
    for name in names:
        with suppress(OSError):
            os.unlink(lab / name)
    _remove_if_empty(lab)


def _remove_if_empty(path: Path) -> None:
    with suppress(OSError):
        path.rmdir()


class Claim:
    """A lab's folder, held by the process that keeps the lab."""

    def __init__(self, top: Path, name: str, folder: int) -> None:
        self.top, self.name, self.folder = top, name, folder
        self.path = top / name

    def write(self, name: str, text: str) -> None:
        """Put a file that only this user can read into the folder, whole or not at all.  Raises CannotRunHere."""
        part = f".{name}{PART}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            with open(os.open(part, flags, 0o600, dir_fd=self.folder), "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(part, name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        except OSError as error:
            raise CannotRunHere(
                f"{self.path / name} can't be written ({error.strerror}): labs are written down there"
            ) from error

    def write_facts(self, facts: Facts) -> None:
        """Write down what `ps` tells."""
        self.write(FACTS, json.dumps(asdict(facts)) + "\n")

    def release(self) -> None:
        """Remove the folder and let go: the lab is no more."""
        with _locked_root(self.top, make=False) as top:
            if top is not None and _still(self.path, self.folder):
                _remove(self.path)
                _remove_if_empty(self.top)
        os.close(self.folder)


def claim(name: str, top: Path | None = None) -> Claim:
    """Make the folder of a new lab and hold its lock.

    Raises InputError when a lab of that name lives, CannotRunHere when the folder can't be made or is somebody else's.
    """
    check_name(name)
    path = top or root()
    with _locked_root(path, make=True):
        if name in _sweep(path):
            raise InputError(
                f"a lab called {name!r} is running already. Give this one another name (--name NAME),"
                f" or end that one: lab.py down --name {name}"
            )
        mine = path / name
        try:
            mine.mkdir(mode=0o700)
        except OSError as error:
            raise CannotRunHere(f"{mine} can't be made: {error.strerror}; what is there is no lab's") from error
        folder = _try_lock(mine)
        assert folder is not None  # Nobody else knows it yet, and the root is locked.
        return Claim(path, name, folder)


def facts(name: str, top: Path | None = None) -> Facts | None:
    """What was written down of a lab; None when it has gone or its start has not come so far."""
    try:
        document: dict[str, Any] = json.loads(((top or root()) / name / FACTS).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Facts(**{**document, "files": tuple(document["files"])})


def choose(name: str | None, top: Path | None = None) -> str:
    """The lab that a command means: the named one, else the only one.  Raises InputError."""
    there = alive(top)
    if name is not None:
        check_name(name)
        if name in there:
            return name
        known = f"running: {', '.join(there)}" if there else "none is running; start one with lab.py up"
        raise InputError(f"no lab is called {name!r}.{did_you_mean(name, there)} ({known})")
    if not there:
        raise InputError("no lab is running; start one with: lab.py up --detach")
    if len(there) > 1:
        raise InputError(f"several labs are running ({', '.join(there)}): say which with --name")
    return there[0]
