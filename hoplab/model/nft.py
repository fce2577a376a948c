"""Reads nft text into a ruleset that can be walked: what `nft list ruleset` prints and what `nft -f` takes.

Both forms are one language: a `table` block holds chains, sets and maps; commands (`add rule ip t c ...`) change one
thing each.  Commands are carried out in order, so a text that deletes a table and makes it anew leaves what a kernel
would hold.

Source: nft(8), "Tables", "Chains", "Sets", "Maps"; nftables src/parser_bison.y.
"""

from __future__ import annotations

import re
from typing import get_args

from hoplab.model import nft_values
from hoplab.model.nft_expressions import typeof
from hoplab.model.nft_statements import parse_rule
from hoplab.model.nft_words import END, Words, shown
from hoplab.model.rules import HOOKS, Chain, Collection, Family, Hook, Rule, Ruleset, RulesetError, Table, Unsupported

_FAMILIES = get_args(Family)
_OTHER_FAMILIES = ("arp", "bridge", "netdev")
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_KINDS = ("table", "chain", "rule", "set", "map", "element", "counter", "ruleset")
_MANAGED = re.compile(r"^# Warning: table (\S+) (\S+) is managed by iptables-nft", re.MULTILINE)


def parse_nft(text: str, onto: Ruleset | None = None) -> Ruleset:
    """The ruleset that the text describes; with `onto`, the one after these commands (`onto` is not changed).

    Tables that nft marks as managed by iptables-nft are left out: read their iptables-save text instead.  Raises
    Unsupported (with line) for what this evaluator doesn't know, RulesetError for what no kernel would load.
    """
    reader = _Reader(text, _copied(onto) if onto else Ruleset())
    return reader.read()


class _Reader:
    def __init__(self, text: str, ruleset: Ruleset) -> None:
        self._words = Words(text)
        self._ruleset = ruleset
        self._managed = set(_MANAGED.findall(text))
        self._mentioned: dict[tuple[str, str], dict[tuple[str, str], int]] = {}

    def read(self) -> Ruleset:
        words = self._words
        try:
            words.skip_separators()
            while words.peek() is not END:
                self._command()
                words.skip_separators()
            self._check_mentioned()
        except Unsupported:
            raise
        except (ValueError, LookupError) as error:
            raise words.unsupported(error) from error
        return self._ruleset

    def _command(self) -> None:
        words = self._words
        verb = words.take() if words.peek() not in _KINDS else "add"
        if verb not in ("add", "create", "insert", "delete", "destroy", "flush"):
            raise ValueError(f"command {shown(verb)} is not supported here")
        kind = words.take()
        if kind not in _KINDS:
            raise ValueError(f"{verb} {shown(kind)} is not supported here")
        if kind == "ruleset" and verb == "flush":
            self._ruleset.tables.clear()
            return
        family, name = self._table_name()
        if kind == "table":
            self._table(verb, family, name)
            return
        if (family, name) not in self._ruleset.tables:
            raise RulesetError(f"there is no table {family} {name}")
        table = self._ruleset.tables[(family, name)]
        if verb in ("add", "create"):
            self._add(kind, table)
        elif verb == "insert" and kind == "rule":
            chain = table.chains[words.name()]
            chain.rules.insert(0, self._rule())
        else:
            _remove(words, verb, kind, table)
        self._mention(table)
        words.end_statement()

    def _mention(self, table: Table) -> None:
        """Note which chains and sets of the table the words read since led to."""
        noted = self._mentioned.setdefault(table.key, {})
        for kind, name, index in self._words.mentioned:
            noted.setdefault((kind, name), index)
        self._words.mentioned.clear()

    def _check_mentioned(self) -> None:
        for key, noted in self._mentioned.items():
            table = self._ruleset.tables.get(key)
            for (kind, name), index in noted.items() if table else ():
                if table and name not in (table.chains if kind == "chain" else table.collections):
                    error = RulesetError(f"table {' '.join(key)} has no {kind} {name!r}")
                    raise self._words.unsupported(error, index)

    def _table_name(self) -> tuple[Family, str]:
        words = self._words
        family: Family = "ip"
        for each in _FAMILIES:
            if words.peek() == each:
                words.take()
                family = each
                break
        if words.peek() in _OTHER_FAMILIES:
            raise ValueError(f"family {words.take()} is not supported here")
        return family, words.name()

    def _table(self, verb: str, family: Family, name: str) -> None:
        words, key = self._words, (family, name)
        if verb in ("delete", "destroy", "flush"):
            if verb != "destroy" and key not in self._ruleset.tables:
                raise RulesetError(f"there is no table {family} {name} to {verb}")
            if verb == "flush":
                for chain in self._ruleset.tables[key].chains.values():
                    chain.rules = []
            else:
                self._ruleset.tables.pop(key, None)
                self._mentioned.pop(key, None)
            return
        if key in self._managed:
            words.skip_block()
            return
        table = self._ruleset.tables.setdefault(key, Table(family, name))
        if words.accept("{"):
            self._table_block(table)
        self._mention(table)
        words.end_statement()

    def _table_block(self, table: Table) -> None:
        words = self._words
        while True:
            words.skip_separators()
            if words.accept("}"):
                return
            kind = words.take()
            if kind == "comment":
                words.take()
            elif kind == "flags":
                table.dormant = words.take() == "dormant"
            elif kind in ("chain", "set", "map", "counter"):
                self._add(kind, table)
            else:
                raise ValueError(f"{shown(kind)} in a table is not supported here")

    def _add(self, kind: str, table: Table) -> None:
        words = self._words
        name = words.name()
        if kind == "chain":
            chain = table.chains.setdefault(name, Chain(name))
            if words.accept("{"):
                self._chain_block(table, chain)
        elif kind == "rule":
            if words.peek() in ("handle", "position", "index"):
                raise ValueError("a rule at a position is not supported here")
            table.chains[name].rules.append(self._rule())
        elif kind in ("set", "map"):
            collection = table.collections.setdefault(name, Collection(name, (), owner=table.key))
            words.expect("{")
            self._collection_block(collection)
        elif kind == "element":
            nft_values.elements(words, table.collections[name])
        elif words.peek() == "{":
            words.skip_block()

    def _rule(self) -> Rule:
        words = self._words
        return parse_rule(words, words.line(words.at))

    def _chain_block(self, table: Table, chain: Chain) -> None:
        words = self._words
        while True:
            words.skip_separators()
            word = words.peek()
            if words.accept("}"):
                return
            if word == "type":
                self._hook(table, chain)
            elif word == "policy" and words.peek(1) in ("accept", "drop"):
                words.take()
                chain.policy = "accept" if words.take() == "accept" else "drop"
            elif word == "comment" and chain.rules == []:
                words.take()
                words.take()
            else:
                chain.rules.append(self._rule())

    def _hook(self, table: Table, chain: Chain) -> None:
        words = self._words
        words.expect("type")
        kind = words.take()
        words.expect("hook")
        hook = words.take()
        if kind not in ("filter", "nat", "route") or hook not in HOOKS:
            raise ValueError(f"a chain of type {kind} at hook {hook} is not supported here")
        words.expect("priority")
        found: Hook = hook
        if chain.hook is None:
            chain.order = self._ruleset.next_order()
        chain.hook, chain.priority = found, _priority(words)
        chain.type = "nat" if kind == "nat" else "filter"
        table.bases[chain.name] = chain

    def _collection_block(self, collection: Collection) -> None:
        words = self._words
        while True:
            words.skip_separators()
            if words.accept("}"):
                break
            word = words.peek()
            if word in ("type", "typeof"):
                collection.key_types, collection.value_types = nft_values.type_list(words, typeof)
                continue
            words.take()
            if word in ("timeout", "size", "gc-interval", "policy", "comment"):
                words.take()
            elif word == "flags":
                words.take()
                while words.accept(","):
                    words.take()
            elif word == "elements":
                words.expect("=")
                nft_values.elements(words, collection)
            elif word == "counter" or word == "auto-merge":
                pass
            else:
                raise ValueError(f"{shown(word)} in a set is not supported here")
        if not collection.key_types:
            raise RulesetError(f"set {collection.name} has no type")


def _priority(words: Words) -> int:
    if words.peek() in _PRIORITIES:
        base = _PRIORITIES[words.take()]
        if words.peek() in ("+", "-"):
            return base + words.number() if words.take() == "+" else base - words.number()
        return base
    return -words.number() if words.accept("-") else words.number()


def _remove(words: Words, verb: str, kind: str, table: Table) -> None:
    """delete, destroy or flush one thing of a table."""
    if kind == "element":
        nft_values.elements(words, table.collections[words.name()], delete=True)
        return
    if kind == "rule" or verb == "insert":
        raise ValueError(f"{verb} {kind} is not supported here")
    name = words.name()
    if kind == "chain":
        if name not in table.chains:
            if verb == "destroy":
                return
            raise RulesetError(f"table {table.name} has no chain {name} to {verb}")
        if verb == "flush":
            table.chains[name].rules = []
        else:
            del table.chains[name]
            table.bases.pop(name, None)
    elif kind in ("set", "map"):
        if name not in table.collections:
            if verb == "destroy":
                return
            raise RulesetError(f"table {table.name} has no {kind} {name} to {verb}")
        if verb == "flush":
            table.collections[name].exact.clear()
            table.collections[name].intervals.clear()
        else:
            del table.collections[name]
    elif kind != "counter":
        raise ValueError(f"{verb} {kind} is not supported here")


def _copied(ruleset: Ruleset) -> Ruleset:
    """A ruleset whose tables can be changed without changing the original's."""
    copy = Ruleset()
    for key, table in ruleset.tables.items():
        chains = {
            name: Chain(name, list(each.rules), each.hook, each.type, each.priority, each.policy, each.order)
            for name, each in table.chains.items()
        }
        collections = {
            name: Collection(
                name, each.key_types, each.value_types, dict(each.exact), list(each.intervals), each.owner, each.default
            )
            for name, each in table.collections.items()
        }
        bases = {name: chains[name] for name in table.bases}
        copy.tables[key] = Table(table.family, table.name, chains, collections, bases, table.dormant)
    return copy
