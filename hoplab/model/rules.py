"""A ruleset as both parsers leave it: tables of chains of rules, ready to be walked.

Netfilter's model is the same for iptables and nftables: base chains hang on a hook with a priority and a policy,
ordinary chains are entered by jump or goto, a rule is a sequence of steps that either matches to its end and then
gives a verdict, or breaks off and lets the next rule try.  A step may split the packet's fate: each branch carries
its own probability.

Source: nft(8), "Chains", "Rules", "Verdict statement"; kernel net/netfilter/nf_tables_core.c (nft_do_chain).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hoplab.model.state import State

Hook = Literal["prerouting", "input", "forward", "output", "postrouting"]
HOOKS: tuple[Hook, ...] = ("prerouting", "input", "forward", "output", "postrouting")
Family = Literal["ip", "ip6", "inet"]


class RulesetError(ValueError):
    """The text can't be loaded by a kernel either: a chain that is missing, a loop, a jump too deep."""


class Unsupported(RulesetError):
    """The text says something that this evaluator doesn't know, and so can't foretell.

    `line` is 1-based in the text that was parsed, `text` the line itself.
    """

    def __init__(self, line: int, text: str, what: str) -> None:
        self.line, self.text, self.what = line, text.strip(), what
        super().__init__(f"line {line}: {what}; the rule is: {self.text}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule decides.  `label` is how a trace would show it.

    `next` (nft's continue) goes on with the next rule after a full match, `break` after a match that failed.
    `carry on` stands for "this step matched, take the rule's next step".
    """

    kind: Literal["carry on", "break", "next", "accept", "drop", "reject", "return", "jump", "goto"]
    label: str = ""
    chain: str = ""


CARRY_ON = Verdict("carry on")
BREAK = Verdict("break")
NEXT = Verdict("next", "continue")
ACCEPT = Verdict("accept", "accept")
DROP = Verdict("drop", "drop")

Test = Callable[["State"], bool]
"""A deterministic match."""
Action = Callable[["State"], Iterable[tuple["State", Verdict]]]
"""A step that changes the packet, splits its fate or decides; the branches' probabilities sum to that of the input."""


def tested(test: Test) -> Action:
    """A match as a step among others, for rules in which an action stands before it."""

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        return ((state, CARRY_ON if test(state) else BREAK),)

    return step


def decided(verdict: Verdict) -> Action:
    """A verdict as a step."""

    def step(state: State) -> Iterable[tuple[State, Verdict]]:
        return ((state, verdict),)

    return step


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `tests` first (cheap, deterministic), then `actions` in order."""

    text: str
    line: int
    tests: tuple[Test, ...] = ()
    actions: tuple[Action, ...] = ()
    comment: str = ""

    def fire(self, state: State) -> Iterator[tuple[State, Verdict]]:
        """All fates of a packet that passed `tests`: each branch of the state with this rule's verdict for it."""
        return self._from(state, 0)

    def _from(self, state: State, index: int) -> Iterator[tuple[State, Verdict]]:
        if index == len(self.actions):
            yield state, NEXT
            return
        for after, verdict in self.actions[index](state):
            if verdict is CARRY_ON:
                yield from self._from(after, index + 1)
            else:
                yield after, verdict


def rule_of(steps: Iterable[Test | tuple[Literal["action"], Action]], text: str, line: int, comment: str = "") -> Rule:
    """A rule from its steps in the order of the text: tests up to the first action stay cheap."""
    tests: list[Test] = []
    actions: list[Action] = []
    for step in steps:
        if isinstance(step, tuple):
            actions.append(step[1])
        elif actions:
            actions.append(tested(step))
        else:
            tests.append(step)
    return Rule(text, line, tuple(tests), tuple(actions), comment)


@dataclass(slots=True)
class Chain:
    """A chain; with a `hook` it is a base chain.  Parsers fill it, the walk only reads it."""

    name: str
    rules: list[Rule] = field(default_factory=list)
    hook: Hook | None = None
    type: Literal["filter", "nat", "route"] = "filter"
    priority: int = 0
    policy: Literal["accept", "drop"] = "accept"
    order: int = 0
    """When it was hooked, counted over the whole ruleset: decides between equal priorities."""


@dataclass(slots=True)
class Table:
    """A table of one family; `collections` are nft's named sets and maps."""

    family: Family
    name: str
    chains: dict[str, Chain] = field(default_factory=dict)
    collections: dict[str, Collection] = field(default_factory=dict)
    bases: dict[str, Chain] = field(default_factory=dict)
    """The base chains among `chains`."""
    dormant: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """(family, name), unique in a ruleset."""
        return (self.family, self.name)


@dataclass(slots=True)
class Collection:
    """A named or anonymous set or map: exact keys by hash, prefixes and ranges one after the other.

    A key is a number or interface name, or a tuple of them for a concatenation.  A set's values are True.
    """

    name: str
    key_types: tuple[str, ...]
    value_types: tuple[str, ...] = ()
    """Empty for sets, ("verdict",) for verdict maps."""
    exact: dict[object, object] = field(default_factory=dict)
    intervals: list[tuple[tuple[object, ...], tuple[object, ...], object]] = field(default_factory=list)
    owner: tuple[str, str] = ("", "")
    default: object = None
    """The value of nft's catch-all element `*`."""

    def find(self, key: object, remembered: Mapping[tuple[str, str, str], Mapping[object, object]]) -> object:
        """The key's value, None when there is none; `remembered` is what packets left in dynamic sets."""
        found = self.exact.get(key)
        if found is not None:
            return found
        if self.intervals:
            parts = key if isinstance(key, tuple) else (key,)
            for low, high, value in self.intervals:
                if all(a <= each <= b for a, each, b in zip(low, parts, high, strict=True)):
                    return value
        if remembered:
            found = remembered.get((*self.owner, self.name), {}).get(key)
        return self.default if found is None else found


@dataclass(slots=True)
class Ruleset:
    """All tables of one network namespace, in the order of their making."""

    tables: dict[tuple[str, str], Table] = field(default_factory=dict)

    def base_chains(self, hook: Hook, version: int) -> list[tuple[Table, Chain]]:
        """Base chains that a packet of this IP version meets at the hook, in order.

        Of chains with equal priority the kernel runs the one that was hooked last first (nf_hook_entries_grow puts a
        new entry before those that aren't smaller).
        """
        families = ("ip", "inet") if version == 4 else ("ip6", "inet")
        met = [
            (table, chain)
            for table in self.tables.values()
            if table.family in families and not table.dormant
            for chain in table.bases.values()
            if chain.hook == hook
        ]
        met.sort(key=lambda pair: (pair[1].priority, -pair[1].order))
        return met

    def next_order(self) -> int:
        """The order number for a base chain that is hooked now."""
        orders = (chain.order for table in self.tables.values() for chain in table.bases.values())
        return max(orders, default=0) + 1


def joined(*rulesets: Ruleset) -> Ruleset:
    """One ruleset of several texts (iptables-save, ip6tables-save, nft), hooked in the order given.

    Raises RulesetError when two of them have the same table.
    """
    whole = Ruleset()
    for ruleset in rulesets:
        start = whole.next_order()
        for key, table in ruleset.tables.items():
            if key in whole.tables:
                raise RulesetError(f"table {' '.join(key)} is given twice; give each table's text once")
            moved = {
                name: Chain(
                    name, chain.rules, chain.hook, chain.type, chain.priority, chain.policy, chain.order + start
                )
                for name, chain in table.bases.items()
            }
            chains = {**table.chains, **moved}
            whole.tables[key] = Table(table.family, table.name, chains, table.collections, moved, table.dormant)
    return whole
