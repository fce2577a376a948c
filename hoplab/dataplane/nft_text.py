"""An nftables table as a value, and the `nft -f` text that makes the kernel hold it.

A table has base chains (hooked into netfilter), ordinary chains, sets and maps; `text` writes all of it as one
transaction, `changes` only what differs between two values, so that what did not change (and the state the
kernel keeps in it: numgen counters, entries of dynamic sets) stays as it is.  A transaction takes effect as a
whole or not at all (nft(8), "nft -f").  Like sigs.k8s.io/knftables, every line names one object in full, which
is easy to compare and to search.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain as chain_of
from operator import is_
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


def changes(previous: Table | None, now: Table) -> str:
    """The smallest transaction that leads from `previous` to `now`; empty when they are equal.

    Additions come first, then elements (so that no map ever points nowhere), then removals: a chain or set can
    only go when nothing refers to it any more.  A chain whose rules differ is flushed and written anew, one that
    is equal is not named at all.  A set of another type or timeout is replaced; a base chain with another hook cannot
    be altered in place: then (and without `previous`) the whole table is written.
    """
    if previous is None:
        return now.text()
    old, differing = _differing(previous.chains, now.chains)
    if _needs_whole(previous, now, differing, old):
        return now.text()
    where = f"{now.family} {now.name}"
    old_sets = {collection.name: collection for collection in previous.sets}
    new_sets = {collection.name for collection in now.sets}
    lines: list[str] = []
    redefined = _redefined(old_sets, now)
    there = old
    written = [chain for chain in differing if chain != old.get(chain.name)]
    if redefined:
        # A set can only be replaced while no rule names it.
        there = {chain.name: chain for chain in previous.chains}
        users = {chain.name for chain in previous.chains if _uses(chain, redefined)}
        rewritten = users | {chain.name for chain in written}
        written = [chain for chain in now.chains if chain.name in rewritten]
        lines += [f"flush chain {where} {chain.name}" for chain in previous.chains if chain.name in users]
        for name in redefined:
            lines.append(f"delete {old_sets.pop(name).kind} {where} {name}")
    for chain in differing:
        if chain.name not in old:
            lines.append(f"add chain {where} {chain.name}{chain.definition}")
    for collection in now.sets:
        if collection.name not in old_sets:
            lines.append(f"add {collection.kind} {where} {collection.name}{collection.definition}")
    for chain in written:
        if chain.name in there:
            lines.append(f"flush chain {where} {chain.name}")
        lines += _rule_lines(where, chain)
    for collection in now.sets:
        lines += _element_changes(where, old_sets.get(collection.name), collection)
    gone = _gone(old, differing)
    lines += [f"flush chain {where} {name}" for name in gone]
    for collection in previous.sets:
        if collection.name not in new_sets:
            lines.append(f"delete {collection.kind} {where} {collection.name}")
    lines += [f"delete chain {where} {name}" for name in gone]
    return "\n".join(lines) + "\n" if lines else ""


TAKES_RULES_IN_CHAINS = "add table ip probe\nadd chain ip probe c { goto nowhere ; }\n"
"""`nft -c` refuses this text, whose rule leads nowhere, where `add chain` with rules in it adds them.

nft 1.0.6 as it was released leaves them out without a word; Debian's 1.0.6-2+deb12u2 and later releases add them.
"""


def unread_changes(previous: Table, now: Table) -> str | None:
    """What `changes` does, in forms for which nft need not read the table first; None where there are no such forms.

    Before `add rule`, `add element` and any `delete`, nft asks the kernel for every chain of every table (nftables,
    src/cache.c), which takes far longer than a small change of a large table does.  `add chain` with its rules in
    braces and `add map` with its elements ask for tables only.  So nothing is deleted: chains that went are left empty
    (`gone_chains`), for `deleted_chains` to take away together later.  kube-proxy, too, empties its "stale chains" and
    deletes them in a later sync (pkg/proxy/nftables/proxier.go).  Only for an nft that `TAKES_RULES_IN_CHAINS`.
    """
    old, differing = _differing(previous.chains, now.chains)
    old_sets = {collection.name: collection for collection in previous.sets}
    written = [chain for chain in differing if chain != old.get(chain.name)]
    if _needs_whole(previous, now, differing, old) or any(chain.hook for chain in written):
        return None
    if _redefined(old_sets, now) or old_sets.keys() - {collection.name for collection in now.sets}:
        return None
    where = f"{now.family} {now.name}"
    added = [f"add chain {where} {chain.name}" for chain in written if chain.name not in old]
    # Also sets that are there already: nft refuses a rule whose set it does not know.
    used = {word[1:] for chain in written for rule in chain.rules for word in rule.body.split() if word[0] == "@"}
    sets: list[str] = []
    for collection in now.sets:
        before = old_sets.get(collection.name)
        if _gone_elements(before, collection):
            return None
        new = _new_elements(before, collection)
        if before is None or new or collection.name in used:
            inside = " , ".join(_element_text(element) for element in new)
            braces = _braces(collection.spec, f"elements = {{ {inside} }}" if new else "", _comment(collection.comment))
            sets.append(f"add {collection.kind} {where} {collection.name}{braces}")
    rules: list[str] = []
    for chain in written:
        if chain.name in old:
            rules.append(f"flush chain {where} {chain.name}")
        if chain.rules:
            rules.append(f"add chain {where} {chain.name}{_braces(*map(_rule_text, chain.rules))}")
    emptied = [f"flush chain {where} {name}" for name in _gone(old, differing)]
    lines = [*added, *sets, *rules, *emptied]
    return "\n".join(lines) + "\n" if lines else ""


def gone_chains(previous: Table, now: Table) -> list[str]:
    """The names of chains that are no more, in the order of the previous text."""
    return _gone(*_differing(previous.chains, now.chains))


def _gone(old: Iterable[str], differing: Iterable[Chain]) -> list[str]:
    kept = {chain.name for chain in differing}
    return [name for name in old if name not in kept]


def deleted_chains(table: Table, names: Iterable[str]) -> str:
    """What deletes chains that `unread_changes` left empty: to be loaded while no table holds them again."""
    return "".join(f"delete chain {table.family} {table.name} {name}\n" for name in names)


def _differing(before: tuple[Chain, ...], now: tuple[Chain, ...]) -> tuple[dict[str, Chain], list[Chain]]:
    """By name, the chains of `before` that are not the same objects in `now`; and the other way round.

    A large table shares most of its chains with the one before: only the others are looked at closely.
    """
    start = _shared(before, now)
    before, now = before[start:], now[start:]
    end = _shared(before[::-1], now[::-1])
    before, now = before[: len(before) - end], now[: len(now) - end]
    old_ids, new_ids = set(map(id, before)), set(map(id, now))
    old = {chain.name: chain for chain in before if id(chain) not in new_ids}
    return old, [chain for chain in now if id(chain) not in old_ids]


def _shared(one: Sequence[Chain], other: Sequence[Chain]) -> int:
    """How many chains both begin with."""
    same = [*map(is_, one, other), False]
    return same.index(False)


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
    gone = (Element(element.key) for element in _gone_elements(before, now))
    yield from _element_lines("delete", where, now.name, gone)
    yield from _element_lines("add", where, now.name, _new_elements(before, now))


def _gone_elements(before: Set | None, now: Set) -> list[Element]:
    """Elements that went or got another value."""
    if before is None or before.elements == now.elements:
        return []
    keep = {element.key: element for element in now.elements}
    return [element for element in before.elements if not _same(keep.get(element.key), element)]


def _new_elements(before: Set | None, now: Set) -> list[Element]:
    """Elements that are new or got another value."""
    if before is None:
        return list(now.elements)
    if before.elements == now.elements:
        return []
    old = {element.key: element for element in before.elements}
    return [element for element in now.elements if not _same(old.get(element.key), element)]


def _element_lines(verb: str, where: str, name: str, elements: Iterable[Element]) -> Iterator[str]:
    head = f"{verb} element {where} {name} {{ "
    for element in elements:
        yield f"{head}{_element_text(element)} }}"


def _element_text(element: Element) -> str:
    comment = f" {_comment(element.comment)}" if element.comment else ""
    return f"{element.key}{comment}{f' : {element.value}' if element.value else ''}"


def _rule_lines(where: str, chain: Chain) -> Iterator[str]:
    head = f"add rule {where} {chain.name} "
    for rule in chain.rules:
        yield head + _rule_text(rule)


def _rule_text(rule: Rule) -> str:
    return f"{rule.body} {_comment(rule.comment)}" if rule.comment else rule.body


def _comment(words: str) -> str:
    """The comment as nft takes it: no escapes exist, so a quote becomes an apostrophe, and the length is limited."""
    if not words:
        return ""
    plain = words.replace('"', "'")
    return f'comment "{plain if len(plain) <= COMMENT_MAX else plain[: COMMENT_MAX - 3] + "..."}"'


def _braces(*parts: str) -> str:
    inside = "".join(f" {part} ;" for part in parts if part)
    return f" {{{inside} }}" if inside else ""
