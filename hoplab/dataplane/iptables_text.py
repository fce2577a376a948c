"""An iptables ruleset as a value, and the one place that writes it as text for `iptables-restore --noflush`.

kube-proxy owns some chains in the tables filter and nat, and jumps to them from the built-in ones.  Naming a chain at
the head of a table's text (`:CHAIN - [0:0]`) makes or empties it; chains not named stay as they are, rules, counters
and all. That is how a small text changes a big ruleset: name only what changes.  Each table's text takes effect at its
COMMIT, all of it or nothing.

Source: iptables-restore(8); kube-proxy, pkg/proxy/iptables/proxier.go (syncProxyRules, from "Sync rules" backwards).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Literal, NamedTuple

from hoplab.dataplane.iptables_names import is_service_chain
from hoplab.dataplane.view import PortKey
from hoplab.kube.types import IPFamily

TableName = Literal["filter", "nat"]
TABLES: tuple[TableName, TableName] = ("filter", "nat")


class Rule(NamedTuple):
    """One rule with what it is there for.

    `spec` is all that follows "-A CHAIN", as kube-proxy spells it.  `role` says what the rule does ("cluster IP",
    "choose", "DNAT", ...); `label` names the Service port (namespace/name:port), empty for rules that serve all;
    `endpoint` is address:port, `pod` namespace/name of the pod behind it, where there is one.
    """

    chain: str
    spec: str
    role: str
    label: str = ""
    endpoint: str = ""
    pod: str = ""

    @property
    def line(self) -> str:
        """The rule as iptables-restore takes it, without the line's end."""
        return f"-A {self.chain} {self.spec}"

    @property
    def about(self) -> str:
        """What the rule exists for, in words: "choose endpoint 10.1.2.4:80 (pod default/d) of default/service-b"."""
        text = self.role
        if self.endpoint:
            text += f" endpoint {self.endpoint}"
        if self.pod:
            text += f" (pod {self.pod})"
        return f"{text} of {self.label}" if self.label else text


@dataclass(frozen=True, slots=True)
class Part:
    """What one Service port adds to the tables.

    `seen` is everything the part was made from: as long as it stays equal, the part does.  `top` are its rules in nat
    chains that all Services share; `rules` those in its own `chains`.
    """

    key: PortKey
    seen: object
    filter: tuple[Rule, ...]
    top: tuple[Rule, ...]
    chains: tuple[str, ...]
    rules: tuple[Rule, ...]

    @property
    def service(self) -> tuple[str, str]:
        """Namespace and name: a change of one port rewrites all ports of the Service."""
        return self.key.namespace, self.key.name


@dataclass(frozen=True, slots=True)
class Frame:
    """One table without its Services: shared chains, the jumps to them, the rules before and after the Services'.

    `jumps` are in the order in which they are put at the head of their chains, so the last one comes to stand first.
    `linked` are chains that must exist before (with `linked_rules`), but that a sync doesn't touch: the kubelet's.
    """

    chains: tuple[str, ...]
    jumps: tuple[Rule, ...]
    head: tuple[Rule, ...]
    tail: tuple[Rule, ...]
    linked: tuple[str, ...] = ()
    linked_rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Tables:
    """The whole ruleset of a node for one family: a value, equal to another when the text is.

    `partial` tells whether this release of kube-proxy can rewrite single Services (1.27 and later can).
    """

    family: IPFamily
    filter: Frame
    nat: Frame
    parts: tuple[Part, ...] = field(repr=False)
    partial: bool = True

    def text(self, *, jumps: bool = True, existing: Iterable[str] = ()) -> str:
        """A full sync: all chains, as one text for `iptables-restore --noflush` (`ip6tables-restore` for IPv6).

        `jumps` puts the jumps at the head of the built-in chains: right for a node that has none of our rules yet, and
        for no other (kube-proxy looks first, by `iptables -C`).  `existing` are the chains that the node's nat table
        has; those of Services that are no more get removed.
        """
        stale = sorted(name for name in set(existing) - self.service_chains if is_service_chain(name))
        return self._write(self.parts, jumps=jumps, stale=stale)

    @cached_property
    def service_chains(self) -> frozenset[str]:
        """The nat chains that belong to Services and endpoints."""
        return frozenset(name for part in self.parts for name in part.chains)

    @cached_property
    def chains(self) -> dict[tuple[TableName, str], tuple[Rule, ...]]:
        """Every chain's rules in the order in which the kernel walks them, after a first full sync of an empty node.

        The n-th rule of a listing is the n-th here, so a rule that a trace names can be told what it is for.
        """
        found: dict[tuple[TableName, str], list[Rule]] = {}
        for table in TABLES:
            frame = self._frame(table)
            for name in chain(frame.chains, frame.linked):
                found[table, name] = []
            for rule in reversed(frame.jumps):
                found.setdefault((table, rule.chain), []).append(rule)
            for rule in chain(frame.linked_rules, self.rules(table)):
                found.setdefault((table, rule.chain), []).append(rule)
        return {key: tuple(rules) for key, rules in found.items()}

    def rules(self, table: TableName) -> Iterator[Rule]:
        """A table's rules in the order of the text, without the jumps from built-in chains."""
        frame = self._frame(table)
        yield from frame.head
        for part in self.parts:
            yield from part.filter if table == "filter" else chain(part.top, part.rules)
        yield from frame.tail

    def _frame(self, table: TableName) -> Frame:
        return self.filter if table == "filter" else self.nat

    def _write(
        self,
        written: Iterable[Part],
        *,
        jumps: bool = False,
        stale: Iterable[str] = (),
        shared: bool = True,
        former: Tables | None = None,
    ) -> str:
        """The text that writes the own chains of the parts in `written` and, with `shared`, the chains all share.

        `stale` chains are removed; shared chains that only `former` had rules in are emptied.
        """
        written, stale = tuple(written), tuple(stale)
        lines: list[str] = []
        if shared:
            lines += (
                "*filter",
                *_heads(self.filter, jumps, former.filter if former else None),
                *_first(self.filter, jumps),
            )
            lines += (rule.line for rule in self.rules("filter"))
            lines += ("COMMIT", "*nat", *_heads(self.nat, jumps, former.nat if former else None))
        else:
            lines.append("*nat")
        lines += (f":{name} - [0:0]" for part in written for name in part.chains)
        lines += (f":{name} - [0:0]" for name in stale)
        if shared:
            lines += _first(self.nat, jumps)
            lines += (rule.line for rule in self.nat.head)
            own = {part.key for part in written}
            for part in self.parts:
                lines += (rule.line for rule in part.top)
                if part.key in own:
                    lines += (rule.line for rule in part.rules)
        else:
            lines += (rule.line for part in written for rule in part.rules)
        lines += (f"-X {name}" for name in stale)
        if shared:
            lines += (rule.line for rule in self.nat.tail)
        lines.append("COMMIT\n")
        return "\n".join(lines)


def changes(previous: Tables, now: Tables, *, spare_shared: bool = False) -> str:
    """The text that leads a node from one ruleset to the next, as kube-proxy's partial sync writes it.

    The chains that all Services share are written anew each time, a Service's own chains only when the Service or its
    endpoints changed; chains nobody needs any more are removed.  A change of node or settings rewrites everything.
    With `spare_shared` the shared chains are left out too when none of their rules changed (kube-proxy always writes
    them); the text is then empty when nothing changed at all.  Raises ValueError for rulesets of two families or of
    two releases of kube-proxy.
    """
    stale = sorted(previous.service_chains - now.service_chains)
    if (previous.family, previous.filter.jumps, previous.nat.jumps) != (now.family, now.filter.jumps, now.nat.jumps):
        raise ValueError(
            "expected two rulesets of one family and one release of kube-proxy: no text leads between others"
        )
    if spare_shared and not now.partial and now.text() == previous.text():
        # A release that always writes everything has nothing to write for the same rules, either.
        return ""
    if not now.partial or (previous.filter, previous.nat) != (now.filter, now.nat):
        return now._write(now.parts, stale=stale, former=previous)
    before = {part.key: part for part in previous.parts}
    current = {part.key for part in now.parts}
    changed = {part.service for part in previous.parts if part.key not in current}
    for part in now.parts:
        old = before.get(part.key)
        if old is not part and (old is None or old.seen != part.seen):
            changed.add(part.service)
    written = [part for part in now.parts if part.service in changed]
    if spare_shared and _shared(previous) == _shared(now):
        return now._write(written, stale=stale, shared=False) if written or stale else ""
    return now._write(written, stale=stale)


def _shared(tables: Tables) -> list[tuple[tuple[Rule, ...], tuple[Rule, ...]]]:
    return [(part.filter, part.top) for part in tables.parts if part.filter or part.top]


def _heads(frame: Frame, jumps: bool, former: Frame | None) -> Iterator[str]:
    """The lines that make or empty the shared chains; those that a jump needs beside them, on a first sync."""
    emptied = [name for name in former.chains if name not in frame.chains] if former else ()
    for name in chain(frame.chains, frame.linked if jumps else (), emptied):
        yield f":{name} - [0:0]"


def _first(frame: Frame, jumps: bool) -> Iterator[str]:
    """What a first sync puts into built-in and foreign chains."""
    if jumps:
        yield from (f"-I {rule.chain} {rule.spec}" for rule in frame.jumps)
        yield from (rule.line for rule in frame.linked_rules)
