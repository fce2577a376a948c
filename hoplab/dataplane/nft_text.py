"""An nftables table as a value, and the `nft -f` text that makes the kernel hold it.

A table has base chains (hooked into netfilter), ordinary chains, sets and maps; `text` writes all of it as one
transaction, `changes` only what differs between two values, so that what did not change (and the state the
kernel keeps in it: numgen counters, entries of dynamic sets) stays as it is.  A transaction takes effect as a
whole or not at all (nft(8), "nft -f").  Like sigs.k8s.io/knftables, every line names one object in full, which
is easy to compare and to search.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain as chain_of
from typing import Literal

Family = Literal["ip", "ip6"]

COMMENT_MAX = 128
"""Longest comment that nft takes (NFTNL_UDATA_COMMENT_MAXLEN)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: statements as nft writes them, the comment without its quotes.

    `source` names the Kubernetes object that it was made for; it is not part of the text.
    """

    body: str
    comment: str = ""
    source: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain with its rules; `hook` is empty for ordinary chains ("type nat hook prerouting priority -100").

    `about` says in words what it stands for ("endpoint 10.1.2.4:80 (pod default/d) of default/service-b"), empty for
    a chain that serves all; neither it nor `source` is part of the text.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    hook: str = ""
    comment: str = ""
    source: str = field(default="", compare=False)
    about: str = field(default="", compare=False)

    @property
    def definition(self) -> str:
        """What follows the chain's name in `add chain`."""
        return _braces(self.hook, _comment(self.comment))


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a set (no value) or of a map; key and value as nft writes them."""

    key: str
    value: str = ""
    comment: str = ""
    source: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Set:
    """A named set or map.

    `spec` is its type and flags, parts separated by " ; " ("type ipv4_addr ; flags dynamic,timeout").  A
    `dynamic` one is filled by rules: the text defines it and leaves its elements to the kernel.
    """

    name: str
    spec: str
    kind: Literal["set", "map"] = "set"
    elements: tuple[Element, ...] = ()
    comment: str = ""
    dynamic: bool = False
    source: str = field(default="", compare=False)

    @property
    def definition(self) -> str:
        """What follows the set's name in `add set` / `add map`."""
        return _braces(self.spec, _comment(self.comment))


@dataclass(frozen=True, slots=True)
class Table:
    """A whole table; the order of chains and sets is the order of the text.

    `memory` is for who builds tables: what each part was made from, so that the next table can take it over.
    """

    family: Family
    name: str
    comment: str = ""
    sets: tuple[Set, ...] = ()
    chains: tuple[Chain, ...] = ()
    memory: Mapping[object, object] = field(default_factory=dict, compare=False, repr=False)

    def text(self) -> str:
        """The transaction after which the kernel holds exactly this table, whatever it held before.

        What was made for one object stands together, below a line that names it; what serves all comes first.
        """
        return "".join(self._groups())

    def first_load(self, objects: int = 500) -> list[str]:
        """The same text as several transactions, for a node that has no such table yet: 500 objects in each.

        The kernel walks the whole transaction for every anonymous map in it (net/netfilter/nf_tables_api.c,
        __nft_set_trans_bind), so the time grows with the square of its size: 5,000 Services take 4.6 s in ten
        transactions and 17 s in one.  Objects start to be served one transaction after the other.
        """
        base, *groups = self._groups()
        pieces = ["".join(groups[start : start + objects]) for start in range(0, len(groups), objects)]
        return [base, *pieces]

    def _groups(self) -> list[str]:
        """The text of what serves all, then of each object."""
        where = f"{self.family} {self.name}"
        groups: dict[str, tuple[list[str], list[str], list[str]]] = {"": ([], [], [])}
        for chain in self.chains:
            defined, rules, _ = groups.setdefault(chain.source, ([], [], []))
            defined.append(f"add chain {where} {chain.name}{chain.definition}")
            rules += _rule_lines(where, chain)
        for collection in self.sets:
            groups.setdefault(collection.source, ([], [], []))[0].append(
                f"add {collection.kind} {where} {collection.name}{collection.definition}"
            )
            lines = _element_lines("add", where, collection.name, collection.elements)
            for element, line in zip(collection.elements, lines, strict=True):
                groups.setdefault(element.source, ([], [], []))[2].append(line)
        table = f"add table {where}\ndelete table {where}\nadd table {where}{_braces(_comment(self.comment))}"
        heads = (f"# {source}" if source else table for source in groups)
        return ["\n".join(chain_of((head,), *parts)) + "\n" for head, parts in zip(heads, groups.values(), strict=True)]


def changes(previous: Table | None, now: Table, *, delete_chains: bool = True) -> str:
    """The smallest transaction that leads from `previous` to `now`; empty when they are equal.

    Additions come first, then elements (so that no map ever points nowhere), then removals: a chain or set can
    only go when nothing refers to it any more.  A chain whose rules differ is flushed and written anew, one that
    is equal is not named at all.  A set of another type or timeout is replaced; a base chain with another hook cannot
    be altered in place: then (and without `previous`) the whole table is written.

    Kernels before 6.2 notice late that a map's element no longer refers to a chain, so that deleting the chain
    would fail (kube-proxy, pkg/proxy/nftables/proxier.go, "stale chains").  For them, `delete_chains=False` leaves
    such chains empty; `leftover_chains` deletes them a second later.
    """
    if previous is None:
        return now.text()
    old_chains = {chain.name: chain for chain in previous.chains}
    # A large table shares most of its chains with the one before: only the others are looked at closely.
    differing = [chain for chain in now.chains if old_chains.get(chain.name) is not chain]
    if _needs_whole(previous, now, differing, old_chains):
        return now.text()
    where = f"{now.family} {now.name}"
    old_sets = {collection.name: collection for collection in previous.sets}
    new_sets = {collection.name for collection in now.sets}
    lines: list[str] = []
    redefined = _redefined(old_sets, now)
    written = [chain for chain in differing if chain != old_chains.get(chain.name)]
    if redefined:
        # A set can only be replaced while no rule names it.
        users = {chain.name for chain in previous.chains if _uses(chain, redefined)}
        rewritten = users | {chain.name for chain in written}
        written = [chain for chain in now.chains if chain.name in rewritten]
        lines += [f"flush chain {where} {chain.name}" for chain in previous.chains if chain.name in users]
        for name in redefined:
            lines.append(f"delete {old_sets.pop(name).kind} {where} {name}")
    for chain in differing:
        if chain.name not in old_chains:
            lines.append(f"add chain {where} {chain.name}{chain.definition}")
    for collection in now.sets:
        if collection.name not in old_sets:
            lines.append(f"add {collection.kind} {where} {collection.name}{collection.definition}")
    for chain in written:
        if chain.name in old_chains:
            lines.append(f"flush chain {where} {chain.name}")
        lines += _rule_lines(where, chain)
    for collection in now.sets:
        lines += _element_changes(where, old_sets.get(collection.name), collection)
    gone = _gone_chains(previous, now)
    lines += [f"flush chain {where} {name}" for name in gone]
    for collection in previous.sets:
        if collection.name not in new_sets:
            lines.append(f"delete {collection.kind} {where} {collection.name}")
    if delete_chains:
        lines += [f"delete chain {where} {name}" for name in gone]
    return "\n".join(lines) + "\n" if lines else ""


def leftover_chains(previous: Table, now: Table) -> str:
    """The transaction that deletes the chains which `changes(..., delete_chains=False)` left empty.

    Not to be loaded any more when a later table has such a chain again.
    """
    if _needs_whole(previous, now, now.chains, {chain.name: chain for chain in previous.chains}):
        return ""
    return "".join(f"delete chain {now.family} {now.name} {name}\n" for name in _gone_chains(previous, now))


def _gone_chains(previous: Table, now: Table) -> list[str]:
    kept = {chain.name for chain in now.chains}
    return [chain.name for chain in previous.chains if chain.name not in kept]


def _needs_whole(previous: Table, now: Table, chains: Iterable[Chain], before: Mapping[str, Chain]) -> bool:
    """Whether something differs that nft cannot alter in place: the table itself or the hook of one of these chains."""
    if (previous.family, previous.name, previous.comment) != (now.family, now.name, now.comment):
        return True
    return any(_redirected(chain, before.get(chain.name, chain)) for chain in chains)


def _redirected(new: Chain, old: Chain) -> bool:
    return new is not old and (new.hook, new.comment) != (old.hook, old.comment)


def _same(new: object, old: object) -> bool:
    """Equality that looks at identity first: a large table shares most of its objects with the previous one."""
    return new is old or new == old


def _redefined(old: dict[str, Set], now: Table) -> list[str]:
    """Sets of the same name whose type, flags or timeout differ."""
    pairs = ((old.get(each.name), each) for each in now.sets)
    return [new.name for before, new in pairs if before and (before.kind, before.spec) != (new.kind, new.spec)]


def _uses(chain: Chain, sets: Iterable[str]) -> bool:
    return any(f"@{name}" in rule.body.split() for rule in chain.rules for name in sets)


def _element_changes(where: str, before: Set | None, now: Set) -> Iterator[str]:
    """Delete what went or got another value, then add what is new."""
    if before is not None and before.elements == now.elements:
        return
    old = {} if before is None else {element.key: element for element in before.elements}
    keep = {element.key: element for element in now.elements}
    gone = (Element(element.key) for element in old.values() if not _same(keep.get(element.key), element))
    yield from _element_lines("delete", where, now.name, gone)
    new = (element for element in now.elements if not _same(old.get(element.key), element))
    yield from _element_lines("add", where, now.name, new)


def _element_lines(verb: str, where: str, name: str, elements: Iterable[Element]) -> Iterator[str]:
    head = f"{verb} element {where} {name} {{ "
    for element in elements:
        comment = f" {_comment(element.comment)}" if element.comment else ""
        value = f" : {element.value}" if element.value else ""
        yield f"{head}{element.key}{comment}{value} }}"


def _rule_lines(where: str, chain: Chain) -> Iterator[str]:
    head = f"add rule {where} {chain.name} "
    for rule in chain.rules:
        yield f"{head}{rule.body} {_comment(rule.comment)}" if rule.comment else head + rule.body


def _comment(words: str) -> str:
    """The comment as nft takes it: no escapes exist, so a quote becomes an apostrophe, and the length is limited."""
    if not words:
        return ""
    plain = words.replace('"', "'")
    return f'comment "{plain if len(plain) <= COMMENT_MAX else plain[: COMMENT_MAX - 3] + "..."}"'


def _braces(*parts: str) -> str:
    inside = "".join(f" {part} ;" for part in parts if part)
    return f" {{{inside} }}" if inside else ""
