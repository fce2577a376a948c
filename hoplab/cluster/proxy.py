"""kube-proxy on one node: decides by pure functions, loads by one transaction a family, remembers what it loaded.

A first sync loads the whole text; a later one loads only what changed, as kube-proxy
does, and nothing when nothing changed.  Of the two modes' writers only the one that is
used is imported.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hoplab.dataplane import conntrack
from hoplab.dataplane.config import ProxyConfig
from hoplab.dataplane.rules import families_of
from hoplab.dataplane.view import View, view
from hoplab.kube.types import EndpointSlice, IPFamily, Node, Service
from hoplab.net.namespaces import CommandFailed, Namespace
from hoplab.net.udp_connections import UdpConnections

if TYPE_CHECKING:
    from hoplab.dataplane import iptables_text, nft_text

RESTORE = {"IPv4": "iptables-restore", "IPv6": "ip6tables-restore"}
MANY_CHAINS = 2000
"""From here on nft's reading of a table takes longer than a small change of it, and `unread_changes` pays."""
MANY_LEFT = 100
"""Chains that wait, empty, for a transaction that deletes them."""


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
        self._nft: dict[IPFamily, nft_text.Table] = {}
        self._left: dict[IPFamily, list[str]] = {}
        self._rules_in_chains: bool | None = None
        self._jumping: set[IPFamily] = set()
        """Families whose built-in chains lead to kube-proxy's."""
        self._loading: list[_Loading] = []
        self._views: dict[IPFamily, View] = {}
        self._udp: dict[IPFamily, dict[tuple[str, int], frozenset[tuple[str, int]]]] = {}
        self._were: dict[str, str] = {}
        """What chains that are no more stood for: packets that met them are told of later."""
        self._given: tuple[object, ...] = ()
        self._next_load = 0.0
        self._held_back = False
        self.removes_stale_entries = True
        """Whether UDP connections to endpoints that went are removed; a lesson may switch that off."""

    @property
    def has_loaded(self) -> bool:
        """Whether the rules that it knows of are in the kernel; not before the first sync, nor after `forget`."""
        return bool(self._tables or self._nft)

    def start_sync(self, services: Sequence[Service], slices: Sequence[EndpointSlice]) -> bool:
        """Decide and start loading; False when nothing changed.  `finish_sync` must follow.

        With a minimum sync period it is also False when the last load was too short a time ago; `due_in` tells then.
        """
        if self._hold_back((tuple(services), tuple(slices))):
            return False
        for family in families_of(self.node):
            seen = self._views[family] = view(services, slices, self.node, family, self._views.get(family))
            nft = self.config.mode == "nftables"
            text, whole = self._nftables(seen, family) if nft else self._iptables(seen, family)
            if text:
                argv = ["nft", "-f", "-"] if nft else [RESTORE[family], "--noflush"]
                self._loading.append(_Loading(argv, text, self._loader(argv), whole))
        return bool(self._loading)

    def _hold_back(self, given: tuple[object, ...]) -> bool:
        """Whether it is too early for what changed, or nothing did (asked only with a minimum sync period)."""
        period, now = self.config.min_sync_period_s, time.monotonic()
        if not period:
            return False
        same = given == self._given
        self._held_back = not same and now < self._next_load
        if same or self._held_back:
            return True
        self._given, self._next_load = given, now + period
        return False

    def due_in(self) -> float | None:
        """Seconds until a change that was held back is to be loaded by another `start_sync`; None when none was."""
        return max(0.0, self._next_load - time.monotonic()) if self._held_back else None

    def _loader(self, argv: list[str]) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return self.namespace.popen(argv, **pipes)

    def _iptables(self, seen: View, family: IPFamily) -> tuple[str, Whole]:
        """What to load now, and how to write the whole text to fall back to after a failed change."""
        from hoplab.dataplane import iptables, iptables_text

        before = self._tables.get(family)
        now = self._tables[family] = iptables.build_from_view(seen, self.config, before)
        if before is None:
            # Once in a built-in chain, a jump stays: loaded again, every packet would meet the rules twice.
            first = family not in self._jumping
            self._jumping.add(family)
            return now.text(jumps=first), None
        kept = {id(part) for part in now.parts}
        self._were |= _objects(rule for part in before.parts if id(part) not in kept for rule in part.rules)
        return iptables_text.changes(before, now, spare_shared=True), lambda: now.text(jumps=False)

    def _nftables(self, seen: View, family: IPFamily) -> tuple[str, Whole]:
        from hoplab.dataplane import nftables

        before = self._nft.get(family)
        now = self._nft[family] = nftables.build_from_view(seen, self.config, before)
        if before is None:
            return now.text(), None
        names = {chain.name for chain in now.chains}
        self._were |= {chain.name: chain.source for chain in before.chains if chain.source and chain.name not in names}

        def whole() -> str:
            self._left.pop(family, None)
            return now.text()

        return self._nft_change(before, now, family), whole

    def _nft_change(self, before: nft_text.Table, now: nft_text.Table, family: IPFamily) -> str:
        """The change; of a large table without having nft read it, which leaves chains to be deleted by a later one."""
        from hoplab.dataplane import nft_text

        large = len(now.chains) >= MANY_CHAINS and self._reads_rules_of_chains()
        unread = nft_text.unread_changes(before, now) if large else None
        text = nft_text.changes(before, now) if unread is None else unread
        left = self._left.pop(family, [])
        if unread is not None:
            left += nft_text.gone_chains(before, now)
        if left:
            kept = {chain.name for chain in now.chains}
            left = [name for name in left if name not in kept]
        if not text or (unread is not None and len(left) < MANY_LEFT):
            self._left[family] = left
            return text
        return text + nft_text.deleted_chains(now, left)

    def _reads_rules_of_chains(self) -> bool:
        """Whether this machine's nft adds the rules that stand within `add chain`; asked once, of nft itself."""
        from hoplab.dataplane import nft_text

        if self._rules_in_chains is None:
            # In an empty namespace, since nft looks for similar names among all chains before it says what is wrong.
            argv = ["unshare", "--net", "nft", "-c", "-f", "-"]
            asked = self.namespace.run(argv, nft_text.TAKES_RULES_IN_CHAINS, check=False)
            self._rules_in_chains = asked.returncode != 0
        return self._rules_in_chains

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
        for family, seen in self._views.items():
            self._remove_stale_entries(family, seen)

    def _remove_stale_entries(self, family: IPFamily, seen: View) -> None:
        """Behind the rules, as kube-proxy does it: what begins from now on meets the new ones."""
        now = conntrack.serving(seen)
        before = self._udp.get(family, {})
        self._udp[family] = now
        # Only ways that were there can have entries, and only a lost endpoint makes one stale.
        lost = any(endpoints - now.get(way, frozenset()) for way, endpoints in before.items())
        new = any(way not in before for way in now)
        if not self.removes_stale_entries or not (lost or (new and before)):
            return
        connections = UdpConnections(self.namespace, family)
        try:
            entries = [conntrack.UdpEntry(*original, *reply[:2]) for original, reply in connections.entries()]
            gone = conntrack.stale(seen, entries)
            connections.delete((e.source, e.source_port, e.destination, e.destination_port) for e in gone)
        finally:
            connections.close()

    def forget(self) -> None:
        """Have the next sync load all of its chains again (somebody else changed the rules)."""
        self._were = self.object_of()
        self._tables.clear()
        self._nft.clear()
        self._left.clear()
        self._given = ()

    def object_of(self) -> dict[str, str]:
        """Chain name -> the Kubernetes object that it stands for, of the rules loaded last and of those before.

        Chains that serve every Service stand for none.
        """
        found = dict(self._were)
        for tables in self._tables.values():
            found |= _objects(rule for part in tables.parts for rule in part.rules)
        for table in self._nft.values():
            found |= {chain.name: chain.source for chain in table.chains if chain.source}
        return found


def _objects(rules: Iterable[iptables_text.Rule]) -> dict[str, str]:
    """What the chains that Services have for themselves stand for, of their rules."""
    from hoplab.dataplane.iptables_names import is_service_chain

    found: dict[str, str] = {}
    for rule in rules:
        if rule.label and rule.chain not in found and is_service_chain(rule.chain):
            pod = f" (pod {rule.pod})" if rule.pod else ""
            single = rule.chain.startswith("KUBE-SEP-")
            found[rule.chain] = f"endpoint {rule.endpoint}{pod} of {rule.label}" if single else rule.label
    return found
