"""The kernel's counters of a namespace: read as text, understood only when something failed.

Pure but for `read` and who uses it.  A counter that grew between two looks is evidence that something
happened; which packet it was about, frames and traces have to say.  Sources:
Documentation/networking/snmp_counter.rst, proc(5), net/netfilter/nf_conntrack_standalone.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from hoplab.net.namespaces import Namespace

FILES = ("snmp", "snmp6", "netstat", "dev", "stat/nf_conntrack")
Texts = Mapping[str, str]
"""File below /proc/PID/net -> what it says."""


def read(pid: int) -> dict[str, str]:
    """The files of a namespace, by its holder's process id; what is not there is left out."""
    found = {}
    for name in FILES:
        with suppress(OSError), open(f"/proc/{pid}/net/{name}", encoding="ascii", errors="replace") as file:
            found[name] = file.read()
    return found


class Remembered:
    """The counters of each namespace as they were read last; reading costs some 0.1 ms a namespace."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[int, dict[str, str]]] = {}

    def remember(self, namespaces: Iterable[Namespace]) -> None:
        """Read the counters that growth is counted from; of a namespace that is known already they stay."""
        for namespace in namespaces:
            known = self._texts.get(namespace.name)
            if known is None or known[0] != namespace.pid:
                self._texts[namespace.name] = (namespace.pid, read(namespace.pid))

    def growth(self, namespace: Namespace) -> dict[str, int]:
        """Counters that grew since they were read last; read anew by this."""
        now = read(namespace.pid)
        pid, before = self._texts.get(namespace.name, (0, {}))
        self._texts[namespace.name] = (namespace.pid, now)
        return growth(before if pid == namespace.pid else {}, now)


def values(texts: Texts) -> dict[str, int]:
    """All counters by name: 'Ip.InAddrErrors', 'TcpExt.ListenDrops', 'eth0.rx_drop', 'conntrack.invalid'."""
    return {
        **_named(texts.get("snmp", "")),
        **_listed(texts.get("snmp6", "")),
        **_named(texts.get("netstat", "")),
        **_devices(texts.get("dev", "")),
        **_conntrack(texts.get("stat/nf_conntrack", "")),
    }


def growth(before: Texts, after: Texts) -> dict[str, int]:
    """Counters that grew, and by how much."""
    old, new = values(before), values(after)
    return {name: value - old.get(name, 0) for name, value in new.items() if value > old.get(name, 0)}


def _named(text: str) -> dict[str, int]:
    """snmp and netstat: a line of names, a line of values, each beginning with the group."""
    lines = text.splitlines()
    found: dict[str, int] = {}
    for names, numbers in zip(lines[::2], lines[1::2], strict=False):
        group, *keys = names.split()
        found.update(
            {f"{group}{key}".replace(":", "."): int(v) for key, v in zip(keys, numbers.split()[1:], strict=False)}
        )
    return found


def _listed(text: str) -> dict[str, int]:
    """snmp6: a name and a value on each line; 'Ip6InAddrErrors' is told as 'Ip6.InAddrErrors'."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        group, six, key = name.partition("6")
        if six and value.strip().isdigit():
            found[f"{group}6.{key}"] = int(value)
    return found


def _devices(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        columns = rest.split()
        if len(columns) >= 12:
            name = name.strip()
            found |= {f"{name}.rx_err": int(columns[2]), f"{name}.rx_drop": int(columns[3])}
            found |= {f"{name}.tx_err": int(columns[10]), f"{name}.tx_drop": int(columns[11])}
    return found


def _conntrack(text: str) -> dict[str, int]:
    """A line of names, then a line of hexadecimal numbers for each processor; `entries` is no counter."""
    lines = [line.split() for line in text.splitlines()]
    if not lines:
        return {}
    names, rows = lines[0], lines[1:]
    return {
        f"conntrack.{name}": sum(int(row[at], 16) for row in rows if len(row) > at)
        for at, name in enumerate(names)
        if name != "entries"
    }
