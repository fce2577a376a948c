"""What a run of the lab or of its tests must leave as it was: the host's network, its settings and its mounts.

Read from /proc and /sys, which costs milliseconds and needs no privilege; rules are
asked of nft, which gives them to root alone.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

COUNTERS = ("nf_conntrack_count", "nf_log", "stat_refresh")
"""Entries below /proc/sys/net that change by themselves."""


@dataclass(frozen=True, slots=True)
class Host:
    """The state of the namespaces that this process is in; facts by name."""

    facts: dict[str, str]

    @classmethod
    def now(cls) -> Host:
        return cls({**dict(_links()), **dict(_settings()), "routes": _routes(), "rules": _rules(), **_places()})

    def changes(self, later: Host) -> list[str]:
        """A line for each fact that is not the same any more."""
        names = sorted({*self.facts, *later.facts})
        pairs = ((name, self.facts.get(name, "(none)"), later.facts.get(name, "(none)")) for name in names)
        return [f"{name}: was {before!r}, is {after!r}" for name, before, after in pairs if before != after]


def children_of(process: int) -> list[int]:
    """The processes that this one started and that still run, in order."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def family_of(process: int) -> list[int]:
    """A process and all that descend from it."""
    found = [process]
    for each in found:
        found += children_of(each)
    return found


def processes_of(word: str) -> list[str]:
    """Ids of the other processes that live and have this word in the environment that they were started with."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if word.encode() in environment and state != "Z":
                found.append(entry.name)
    return found


def _links() -> Iterable[tuple[str, str]]:
    for link in sorted(Path("/sys/class/net").iterdir()):
        if (link / "ifindex").exists():
            told = (_read(link / name) for name in ("ifindex", "address", "mtu", "flags"))
            yield f"link {link.name}", " ".join(told)


def _settings() -> Iterable[tuple[str, str]]:
    for folder, _folders, files in os.walk("/proc/sys/net"):
        for name in files:
            if not name.startswith(COUNTERS):
                yield f"{folder}/{name}", _read(Path(folder, name))


def _routes() -> str:
    # The addresses are in the table "local"; of the columns, those that count uses are left out.
    ipv4 = [line.split() for line in _read(Path("/proc/net/route")).splitlines()]
    ipv6 = [line.split() for line in _read(Path("/proc/net/ipv6_route")).splitlines()]
    kept = [(*row[:4], row[6], row[7]) for row in ipv4] + [(*row[:6], row[9]) for row in ipv6]
    return "\n".join(sorted(" ".join(row) for row in kept)) + "\n" + _read(Path("/proc/net/fib_trie"))


def _rules() -> str:
    if os.geteuid() != 0:
        return ""
    try:
        told = subprocess.run(["nft", "--stateless", "list", "ruleset"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return told.stdout


def _places() -> dict[str, str]:
    mounts = sorted(line.split()[1] for line in _read(Path("/proc/self/mounts")).splitlines())
    named = sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else []
    return {"mounts": "\n".join(mounts), "named namespaces": "\n".join(named)}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        return f"({error.strerror})"
