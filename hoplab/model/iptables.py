"""Reads `iptables-save` / `iptables-restore` text into a ruleset that can be walked.

The format is a line for each thing: `*table`, `:CHAIN policy`, `-A CHAIN matches -j TARGET`, `COMMIT`.  Matches are
ANDed in the order written, each taking its options from the modules that `-p` and `-m` loaded before.  What the
tables' own chains hang on, and at which priority, is fixed by the kernel.

Source: iptables(8), iptables-extensions(8), iptables-restore(8); kernel include/uapi/linux/netfilter_ipv4.h
(priorities).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from hoplab.model.iptables_matches import MATCHES, ip_header
from hoplab.model.iptables_options import Options, Step, protocol_number
from hoplab.model.iptables_targets import TARGETS, VERDICTS
from hoplab.model.rules import (
    Chain,
    Family,
    Hook,
    Rule,
    Ruleset,
    RulesetError,
    Table,
    Unsupported,
    Verdict,
    decided,
    rule_of,
)

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_DECLARATION = re.compile(r":(\S+)\s+(\S+)(?:\s+\[\d+:\d+\])?\s*$")

_NAT: dict[Hook, int] = {"prerouting": -100, "input": 100, "output": -100, "postrouting": 100}
_FILTERED: tuple[Hook, ...] = ("input", "forward", "output")
_PRIORITIES: dict[str, dict[Hook, int]] = {
    "raw": {"prerouting": -300, "output": -300},
    "mangle": dict.fromkeys(("prerouting", "input", "forward", "output", "postrouting"), -150),
    "nat": _NAT,
    "filter": dict.fromkeys(_FILTERED, 0),
    "security": dict.fromkeys(_FILTERED, 50),
}

_LONG = {
    "--append": "-A", "--insert": "-I", "--delete": "-D", "--new-chain": "-N", "--delete-chain": "-X", "--flush": "-F",
    "--policy": "-P",
    "--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d", "--in-interface": "-i",
    "--out-interface": "-o", "--protocol": "-p", "--proto": "-p", "--jump": "-j", "--goto": "-g", "--match": "-m",
}  # fmt: skip
_IMPLIED = {6: "tcp", 17: "udp", 132: "sctp", 1: "icmp", 58: "icmp6"}


def parse_iptables(text: str, family: Literal["ip", "ip6"] = "ip", onto: Ruleset | None = None) -> Ruleset:
    """The ruleset that the text describes.

    With `onto` the text is a change as `iptables-restore --noflush` takes it: chains that it declares are emptied, all
    others stay; `onto` itself is not changed.  Raises Unsupported (with line) for what this evaluator doesn't know,
    RulesetError for what no kernel would load.
    """
    return _Reader(family, onto).read(text)


class _Reader:
    def __init__(self, family: Family, onto: Ruleset | None) -> None:
        self._family = family
        self._noflush = onto is not None
        self._ruleset = _copied(onto, family) if onto else Ruleset()
        self._table: Table | None = None
        self._jumps: dict[tuple[str, str], tuple[int, str]] = {}

    def read(self, text: str) -> Ruleset:
        for number, raw in enumerate(text.split("\n"), 1):
            line = raw.strip()
            if not line or line[0] == "#":
                continue
            try:
                self._line(number, line)
            except Unsupported:
                raise
            except (ValueError, LookupError) as error:
                raise Unsupported(number, line, str(error)) from error
        self._check_jumps()
        return self._ruleset

    def _line(self, number: int, line: str) -> None:
        first = line[0]
        if first == "*":
            self._open_table(line[1:].strip())
        elif line == "COMMIT":
            self._table = None
        elif self._table is None:
            raise ValueError("expected a line `*table` before it")
        elif first == ":":
            self._declare(self._table, line)
        else:
            self._command(self._table, number, line)

    def _open_table(self, name: str) -> None:
        if name not in _PRIORITIES:
            raise ValueError(f"table {name!r} is not one of {', '.join(_PRIORITIES)}")
        table = self._ruleset.tables.get((self._family, name))
        if table is None or not self._noflush:
            order = self._ruleset.next_order()
            table = Table(self._family, name)
            for hook, priority in _PRIORITIES[name].items():
                chain = Chain(hook.upper(), [], hook, "nat" if name == "nat" else "filter", priority, "accept", order)
                table.chains[chain.name] = table.bases[chain.name] = chain
            self._ruleset.tables[table.key] = table
        self._table = table

    def _declare(self, table: Table, line: str) -> None:
        found = _DECLARATION.match(line)
        if found is None:
            raise ValueError("expected `:CHAIN POLICY [packets:bytes]`")
        name, policy = found.groups()
        if name in table.bases:
            _set_policy(table.bases[name], policy)
        elif policy == "-":
            table.chains[name] = Chain(name)
        else:
            raise ValueError(f"only built-in chains have a policy, {name} is none of table {table.name}")

    def _command(self, table: Table, number: int, line: str) -> None:
        if line[0] == "[":
            line = line.partition("]")[2].strip()
        words = _words(line)
        command = _LONG.get(words[0], words[0])
        name = words[1] if len(words) > 1 else ""
        if command in ("-A", "-I", "-D") and name not in table.chains:
            raise ValueError(f"table {table.name} has no chain {name!r}")
        if command == "-A":
            table.chains[name].rules += self._rules(table, number, line, words[2:])
        elif command == "-I":
            at, rest = (int(words[2]) - 1, words[3:]) if words[2].isdigit() else (0, words[2:])
            table.chains[name].rules[at:at] = self._rules(table, number, line, rest)
        elif command == "-D":
            self._delete(table.chains[name], words)
        elif command == "-N":
            table.chains[name] = Chain(name)
        elif command == "-X":
            _delete_chains(table, name)
        elif command == "-F":
            for each in [table.chains[name]] if name else list(table.chains.values()):
                each.rules = []
        elif command == "-P":
            _set_policy(table.bases[name], words[2])
        else:
            raise ValueError(f"command {words[0]!r} is not known here")

    def _delete(self, chain: Chain, words: list[str]) -> None:
        if len(words) == 3 and words[2].isdigit():
            del chain.rules[int(words[2]) - 1]
            return
        for index, rule in enumerate(chain.rules):
            if _words(rule.text)[2:] == words[2:]:
                del chain.rules[index]
                return
        raise ValueError(f"chain {chain.name} has no such rule to delete (it must be written as it was appended)")

    def _rules(self, table: Table, number: int, line: str, words: list[str]) -> list[Rule]:
        parsed = _Specification(self._family, words).parse()
        sources, destinations = parsed.header.get("-s"), parsed.header.get("-d")
        rules = []
        for source in sources[1].split(",") if sources else [None]:
            for destination in destinations[1].split(",") if destinations else [None]:
                header = dict(parsed.header)
                if sources and source is not None:
                    header["-s"] = (sources[0], source)
                if destinations and destination is not None:
                    header["-d"] = (destinations[0], destination)
                steps = [*ip_header(self._family, header), *parsed.steps]
                rules.append(rule_of(steps, line, number, parsed.comment))
        if parsed.jump:
            self._jumps.setdefault((table.name, parsed.jump), (number, line))
        return rules

    def _check_jumps(self) -> None:
        for (table, target), (number, line) in self._jumps.items():
            if target not in self._ruleset.tables[(self._family, table)].chains:
                raise Unsupported(number, line, f"{target} is neither a target known here nor a chain of table {table}")


@dataclass(slots=True)
class _Specification:
    """A rule's words, read one after the other."""

    family: Family
    words: list[str]
    header: dict[str, tuple[bool, str]] = field(default_factory=dict)
    modules: list[tuple[str, Options]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    target: str = ""
    jump: str = ""
    comment: str = ""

    def parse(self) -> _Specification:
        """Fill the header matches, the steps and the comment."""
        words, target_options, goto = self.words, Options(), False
        index, end = 0, len(words)
        implied = ""
        while index < end:
            negated = words[index] == "!"
            index += negated
            if index >= end:
                raise ValueError("a match is expected after '!'")
            option = _LONG.get(words[index], words[index])
            index += 1
            if option in ("-s", "-d", "-i", "-o", "-p", "-m", "-j", "-g"):
                argument = _argument(words, index, option)
                index += 1
                if option == "-m":
                    self._load(argument)
                elif option in ("-j", "-g"):
                    self.target, goto = argument, option == "-g"
                else:
                    self.header[option] = (negated, argument)
                    if option == "-p":
                        implied = _IMPLIED.get(protocol_number(argument), "")
            elif option in ("-4", "-6"):
                raise ValueError(f"{option} (a rule for one family only) is not known here")
            elif option in ("-c", "--set-counters"):
                index += 2
            else:
                index = self._option(option, negated, index, implied, target_options)
        for name, options in self.modules:
            if name == "comment":
                self.comment = options.argument("--comment", "")
            else:
                self.steps += MATCHES[name].build(options, self.family)
        self._decide(target_options, goto)
        return self

    def _load(self, module: str) -> None:
        if module not in MATCHES:
            raise ValueError(f"match {module!r} is not known here")
        if module in ("tcp", "udp", "sctp") and any(name == module for name, _ in self.modules):
            return
        self.modules.append((module, Options()))

    def _option(self, option: str, negated: bool, index: int, implied: str, target_options: Options) -> int:
        words = self.words
        if self.target in TARGETS and option in TARGETS[self.target].options:
            count = TARGETS[self.target].options[option]
            target_options.add(option, negated, words[index : index + count], count)
            return index + count
        for name, options in reversed(self.modules):
            known = MATCHES[name].options
            if option in known:
                count = known[option]
                options.add(option, negated, words[index : index + count], count)
                return index + count
        if implied and option in MATCHES[implied].options and all(name != implied for name, _ in self.modules):
            self.modules.append((implied, Options()))
            return self._option(option, negated, index, "", target_options)
        raise ValueError(f"option {option!r} belongs to no match or target of this rule that is known here")

    def _decide(self, options: Options, goto: bool) -> None:
        if not self.target:
            return
        if self.target in VERDICTS:
            if options:
                raise ValueError(f"target {self.target} takes no options")
            self.steps.append(("action", decided(VERDICTS[self.target])))
        elif self.target in TARGETS:
            self.steps.append(("action", TARGETS[self.target].build(options, self.family)))
        else:
            self.jump = self.target
            kind: Literal["goto", "jump"] = "goto" if goto else "jump"
            self.steps.append(("action", decided(Verdict(kind, f"{kind} {self.target}", self.target))))


def _words(line: str) -> list[str]:
    if '"' not in line:
        return line.split()
    return [
        found.group(2) if found.group(2) is not None else found.group(1).replace('\\"', '"').replace("\\\\", "\\")
        for found in _WORD.finditer(line)
    ]


def _argument(words: list[str], index: int, option: str) -> str:
    if index >= len(words):
        raise ValueError(f"option {option} needs an argument")
    if words[index] == "!":
        raise ValueError(f"write '!' before {option}, not after it")
    return words[index]


def _set_policy(chain: Chain, policy: str) -> None:
    if policy not in ("ACCEPT", "DROP"):
        raise ValueError(f"policy {policy!r} of {chain.name} is not ACCEPT or DROP")
    chain.policy = "accept" if policy == "ACCEPT" else "drop"


def _delete_chains(table: Table, name: str) -> None:
    """-X without a name deletes every chain that isn't built in."""
    names = [name] if name else [each for each in table.chains if each not in table.bases]
    for each in names:
        if each in table.bases or each not in table.chains:
            raise RulesetError(f"table {table.name} has no chain {each!r} that can be deleted")
        del table.chains[each]


def _copied(ruleset: Ruleset, family: Family) -> Ruleset:
    """A ruleset whose chains of this family can be changed without changing the original's."""
    copy = Ruleset(dict(ruleset.tables))
    for key, table in ruleset.tables.items():
        if table.family == family and table.name in _PRIORITIES:
            chains = {
                name: Chain(name, list(each.rules), each.hook, each.type, each.priority, each.policy, each.order)
                for name, each in table.chains.items()
            }
            bases = {name: chains[name] for name in table.bases}
            copy.tables[key] = Table(table.family, table.name, chains, table.collections, bases, table.dormant)
    return copy
