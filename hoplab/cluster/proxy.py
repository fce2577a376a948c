"""kube-proxy on one node: decides by pure functions, loads by one transaction a family, remembers what it loaded.

A first sync loads the whole text; a later one loads only what changed, as kube-proxy
does, and nothing when nothing changed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hoplab.dataplane import conntrack, iptables, iptables_text, nftables
from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.nft_text import Table
from hoplab.dataplane.nft_text import changes as nft_changes
from hoplab.dataplane.rules import families_of
from hoplab.dataplane.view import View, view
from hoplab.kube.types import EndpointSlice, IPFamily, Node, Service
from hoplab.net.namespaces import CommandFailed, Namespace
from hoplab.net.udp_connections import UdpConnections

RESTORE = {"IPv4": "iptables-restore", "IPv6": "ip6tables-restore"}


Whole = Callable[[], str] | None


@dataclass(slots=True)
class _Loading:
    argv: list[str]
    text: str
    process: subprocess.Popen[str]
    whole: Whole
    """Writes what brings the kernel there from any state, for when a change does not fit the rules it finds."""


class KubeProxy:
    """Keeps one node's rules in step with Services and endpoint slices."""

    def __init__(self, namespace: Namespace, node: Node, config: ProxyConfig) -> None:
        self.namespace, self.node, self.config = namespace, node, config
        self._tables: dict[IPFamily, iptables_text.Tables] = {}
        self._nft: dict[IPFamily, Table] = {}
        self._loading: list[_Loading] = []
        self._views: dict[IPFamily, View] = {}
        self._udp: dict[tuple[str, int], frozenset[tuple[str, int]]] = {}
        self.removes_stale_entries = True
        """Whether UDP connections to endpoints that went are removed; a lesson may switch that off."""

    def start_sync(self, services: Sequence[Service], slices: Sequence[EndpointSlice]) -> bool:
        """Decide and start loading; False when nothing changed.  `finish_sync` must follow."""
        for family in families_of(self.node):
            seen = self._views[family] = view(services, slices, self.node, family, self._views.get(family))
            nft = self.config.mode == "nftables"
            text, whole = self._nftables(seen, family) if nft else self._iptables(seen, family)
            if text:
                argv = ["nft", "-f", "-"] if nft else [RESTORE[family], "--noflush"]
                self._loading.append(_Loading(argv, text, self._loader(argv), whole))
        return bool(self._loading)

    def _loader(self, argv: list[str]) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return self.namespace.popen(argv, **pipes)

    def _iptables(self, seen: View, family: IPFamily) -> tuple[str, Whole]:
        """What to load now, and how to write the whole text to fall back to after a failed change."""
        before = self._tables.get(family)
        now = self._tables[family] = iptables.build_from_view(seen, self.config, before)
        if before is None:
            return now.text(), None
        return iptables_text.changes(before, now, spare_shared=True), lambda: now.text(jumps=False)

    def _nftables(self, seen: View, family: IPFamily) -> tuple[str, Whole]:
        before = self._nft.get(family)
        now = self._nft[family] = nftables.build_from_view(seen, self.config, before)
        return nft_changes(before, now), now.text if before is not None else None

    def finish_sync(self) -> None:
        """Wait until the rules are in the kernel; after a change that failed, load all of them, as kube-proxy does.

        Raises CommandFailed with the loader's words.
        """
        loading, self._loading = self._loading, []
        for one in loading:
            output, _ = one.process.communicate(one.text, timeout=120)
            if one.process.returncode != 0 and one.whole is not None:
                one.process = self._loader(one.argv)
                output, _ = one.process.communicate(one.whole(), timeout=120)
            if one.process.returncode != 0:
                self.forget()
                raise CommandFailed(self.namespace.name, one.argv, one.process.returncode, output)
        self._remove_stale_entries()

    def _remove_stale_entries(self) -> None:
        """Behind the rules, as kube-proxy does it: what begins from now on meets the new ones."""
        seen = self._views.get("IPv4")
        if seen is None:
            return
        now = conntrack.serving(seen)
        before, self._udp = self._udp, now
        # Only ways that were there can have entries, and only a lost endpoint makes one stale.
        lost = any(endpoints - now.get(way, frozenset()) for way, endpoints in before.items())
        new = any(way not in before for way in now)
        if not self.removes_stale_entries or not (lost or (new and before)):
            return
        connections = UdpConnections(self.namespace)
        try:
            entries = [conntrack.UdpEntry(*original, *reply[:2]) for original, reply in connections.entries()]
            gone = conntrack.stale(seen, entries)
            connections.delete((e.source, e.source_port, e.destination, e.destination_port) for e in gone)
        finally:
            connections.close()

    def forget(self) -> None:
        """Have the next sync load everything again (somebody else changed the rules)."""
        self._tables.clear()
        self._nft.clear()

    def object_of(self) -> dict[str, str]:
        """Chain name -> the Kubernetes object that it stands for, of the rules loaded last.

        Chains that serve every Service stand for none.
        """
        found = {}
        for tables in self._tables.values():
            for (_table, chain), rules in tables.chains.items():
                rule = next((rule for rule in rules if rule.label), None)
                if rule is not None and len({each.label for each in rules}) == 1:
                    pod = f" (pod {rule.pod})" if rule.pod else ""
                    single = chain.startswith("KUBE-SEP-")
                    found[chain] = f"endpoint {rule.endpoint}{pod} of {rule.label}" if single else rule.label
        for table in self._nft.values():
            for nft_chain in table.chains:
                if nft_chain.source:
                    found[nft_chain.name] = nft_chain.source
        return found
