"""The rule behind a handle.

A trace names a rule by its handle.  `nft -a list ruleset` prints handles with rules
of every table, but shows those of iptables-nft in nft's words; `iptables-save`
prints them as the user and kube-proxy know them, without handles.  Both list a
chain's rules in the same order, which is how they are joined.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence

from hoplab.hops.evidence import BaseChain, RuleId, RuleText
from hoplab.net.namespaces import CommandFailed, Namespace

_HANDLE = re.compile(r" # handle (\d+)$")
_TABLE = re.compile(r"^table (\S+) (\S+) \{")
_CHAIN = re.compile(r"^\tchain (\S+) \{")
_OTHER_BLOCK = re.compile(r"^\t(?:set|map|flowtable|ct \S+|quota|counter|limit|secmark|synproxy) \S+ \{")
_COMMENT = re.compile(r'--comment (?:"((?:[^"\\]|\\.)*)"|(\S+))|(?:^| )comment "([^"]*)"')
_HOOK = re.compile(r"^\t\ttype \S+ hook (\S+) (?:device \S+ )?priority (-?\w+)(?: ([+-] \d+))?;")
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_SAVE_TOOLS = {"ip": "iptables-save", "ip6": "ip6tables-save"}

Place = tuple[str, str, str]
"""family, table, chain"""


def nft_rules(listing: str) -> Iterator[tuple[Place, int, str]]:
    """(place, handle, text) of each rule in the output of `nft -a list ruleset`, in order (pure)."""
    family = table = chain = ""
    in_chain = False
    pending = ""
    for line in listing.splitlines():
        if match := _TABLE.match(line):
            family, table = match.groups()
        elif match := _CHAIN.match(line):
            chain, in_chain, pending = match.group(1), True, ""
        elif line == "\t}" or _OTHER_BLOCK.match(line):
            in_chain = False
        elif in_chain and line.strip():
            stripped = line.strip()
            if not pending and stripped.startswith(("type ", "comment ")) and not _HANDLE.search(line):
                continue
            pending = f"{pending} {stripped}".strip()
            if match := _HANDLE.search(pending):
                yield (family, table, chain), int(match.group(1)), pending[: match.start()].strip()
                pending = ""


def base_chains(node: str, listing: str) -> list[BaseChain]:
    """The chains that hang on a hook, from the output of `nft list ruleset` (pure)."""
    family = table = chain = ""
    found = []
    for line in listing.splitlines():
        if match := _TABLE.match(line):
            family, table = match.groups()
        elif match := _CHAIN.match(line):
            chain = match.group(1)
        elif match := _HOOK.match(line):
            hook, name, offset = match.groups()
            number = _PRIORITIES[name] if name in _PRIORITIES else int(name)
            found.append(BaseChain(node, family, table, chain, hook, number + int((offset or "0").replace(" ", ""))))
    return found


def saved_rules(family: str, listing: str) -> dict[Place, list[str]]:
    """Rules of each chain as `iptables-save` prints them, in order (pure)."""
    table = ""
    found: dict[Place, list[str]] = {}
    for line in listing.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A "):
            chain = line.split(" ", 2)[1]
            found.setdefault((family, table, chain), []).append(line)
    return found


def join(node: str, listing: str, saved: Iterable[Mapping[Place, Sequence[str]]]) -> dict[RuleId, RuleText]:
    """Handles with the text that their own tool prints; nft's text where the two lists don't fit (pure)."""
    by_place: dict[Place, list[tuple[int, str]]] = {}
    for place, handle, text in nft_rules(listing):
        by_place.setdefault(place, []).append((handle, text))
    texts = {place: lines for listing_ in saved for place, lines in listing_.items()}
    found = {}
    for place, rules in by_place.items():
        own = texts.get(place)
        for number, (handle, text) in enumerate(rules):
            shown = own[number] if own is not None and len(own) == len(rules) else _without_counters(text)
            identity = RuleId(node, *place, handle)
            found[identity] = RuleText(identity, shown, comment(shown))
    return found


def comment(rule: str) -> str:
    """The comment of a rule, joined when it has several; '' without one (pure)."""
    words = [next(part for part in match if part) for match in _COMMENT.findall(rule) if any(match)]
    return "; ".join(word.replace('\\"', '"') for word in words)


def _without_counters(text: str) -> str:
    return re.sub(r"counter packets \d+ bytes \d+ ?", "", text)


def snapshot(namespaces: Sequence[Namespace]) -> tuple[dict[RuleId, RuleText], list[BaseChain]]:
    """Every rule and base chain of these namespaces, all of them asked at the same time.

    Raises CommandFailed when nft or iptables-save fails.
    """
    listings = _run([(ns, ["nft", "-a", "list", "ruleset"]) for ns in namespaces])
    wanted = [
        (ns, family)
        for ns, listing in zip(namespaces, listings, strict=True)
        for family in ("ip", "ip6")
        if re.search(rf"^table {family} (?:filter|nat|mangle|raw|security) ", listing, re.MULTILINE)
    ]
    outputs = _run([(ns, [_SAVE_TOOLS[family]]) for ns, family in wanted])
    saved: dict[str, list[dict[Place, list[str]]]] = {}
    for (ns, family), output in zip(wanted, outputs, strict=True):
        saved.setdefault(ns.name, []).append(saved_rules(family, output))
    found: dict[RuleId, RuleText] = {}
    chains = []
    for ns, listing in zip(namespaces, listings, strict=True):
        found.update(join(ns.name, listing, saved.get(ns.name, ())))
        chains += base_chains(ns.name, listing)
    return found, chains


def _run(commands: Sequence[tuple[Namespace, list[str]]]) -> list[str]:
    started = [(ns, argv, ns.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)) for ns, argv in commands]
    outputs = []
    for ns, argv, process in started:
        output, complaint = process.communicate(timeout=60)
        if process.returncode != 0:
            raise CommandFailed(ns.name, argv, process.returncode, complaint)
        outputs.append(output)
    return outputs
