"""Files in somebody's Wireshark folder: written, renewed, and never taken from under a user who changed them.

Wireshark writes its own settings into the files of a profile, and so do people.  So what
was installed is remembered by its hash beside it: a file that is not what was put there
is the user's, and stays.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

EXTCAP = "hoplab"
"""Name of the program in the extcap folder."""
REMEMBERED = ".hoplab.json"
"""File name -> hash of what was installed under it."""
WIRESHARKS = frozenset({"recent"})
"""Files that Wireshark rewrites whenever it ends: installed once, its own from then on."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What became of a profile's files."""

    written: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """The user changed them: left alone."""
    moved: tuple[str, ...] = ()
    """The user changed them, and asked for ours: his are beside them."""


def install(folder: Path, files: Mapping[str, str], *, reset: bool = False) -> Installed:
    """Put files into a folder, which is made if need be.  Raises OSError.

    A file that is neither what it is to become nor what was installed before is the user's: it is kept, or with
    `reset` renamed to NAME.yours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remembered = _remembered(folder)
    written, kept, moved = [], [], []
    for name, text in files.items():
        there = _hash_of(folder / name)
        ours = _hash(text.encode())
        if there == ours:
            remembered[name] = ours
            continue
        if there and (there != remembered.get(name)) and not reset:
            kept += [] if name in WIRESHARKS else [name]
            continue
        if there and there != remembered.get(name) and name not in WIRESHARKS:
            os.replace(folder / name, folder / f"{name}.yours")
            moved.append(name)
        _write(folder / name, text, 0o644)
        remembered[name] = ours
        written.append(name)
    _write(folder / REMEMBERED, json.dumps(remembered, indent=1) + "\n", 0o644)
    return Installed(tuple(written), tuple(kept), tuple(moved))


def install_program(path: Path, text: str) -> None:
    """Put an executable file there, whole or not at all.  Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if _hash_of(path) != _hash(text.encode()) or not os.access(path, os.X_OK):
        _write(path, text, 0o755)


def _remembered(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / REMEMBERED).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def _write(path: Path, text: str, mode: int) -> None:
    """Under another name first: Wireshark may be reading."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.chmod(mode)
    os.replace(part, path)


def _hash_of(path: Path) -> str:
    try:
        return _hash(path.read_bytes())
    except FileNotFoundError:
        return ""


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
