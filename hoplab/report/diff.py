"""Two runs beside each other: where what was seen in one differs from what was seen in the other, first things first.

Flows are matched by their names in order, their hops by the places that they passed.
What was chosen differently (options, seed) is told beside it and is no difference by
itself: two runs with other settings that saw the same are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from hoplab.report.facts import IGNORED, IGNORED_WITH_OTHER_SEED, Names, facts, in_both
from hoplab.report.json_report import Document

MANY = 20
"""Equal flows from which on a place that got none of them is a difference, and no chance."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference: where, and what is to be seen there in each run."""

    where: str
    what: str
    left: str
    right: str
    left_flow: str = ""
    right_flow: str = ""
    way: str = ""
    """forward or reply, when it is about a hop."""
    left_hop: int = -1
    right_hop: int = -1
    """Places in that way, -1 where that run has no such hop."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of comparing two runs."""

    settings: tuple[tuple[str, str, str], ...]
    """Name, left, right of what was chosen differently."""
    differences: tuple[Difference, ...]
    ignored: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether both runs saw the same."""
        return not self.differences


def compare(left: Document, right: Document) -> Comparison:
    """Compare the JSON documents of two runs (as `read_run` gives them)."""
    same_seed = left["seed"] == right["seed"]
    both = in_both(left, right)
    names = Names(left, both, same_seed=same_seed), Names(right, both, same_seed=same_seed)
    found = [
        *_flows(left["flows"], right["flows"], names),
        *_checks(left["checks"], right["checks"], names),
        *_spread(left["spread"], right["spread"], names),
    ]
    if left["passed"] != right["passed"]:
        found.append(Difference("the verdict", "verdict", _verdict(left), _verdict(right)))
    ignored = IGNORED if same_seed else (*IGNORED, IGNORED_WITH_OTHER_SEED)
    return Comparison(tuple(_settings(left, right)), tuple(found), ignored)


def with_facts(document: Document, other: Document) -> Document:
    """A run's document whose hops say what counts of them beside `other`, for the page."""
    names = Names(document, in_both(document, other), same_seed=document["seed"] == other["seed"])

    def flow(one: Document) -> Document:
        ways = {
            way: [{**hop, "facts": facts(hop, names, one["protocol"], reply=way == "reply")} for hop in one[way]]
            for way in ("forward", "reply")
        }
        return {**one, **ways, "legs": [flow(leg) for leg in one["legs"]]}

    return {**document, "flows": [flow(one) for one in document["flows"]]}


def _settings(left: Document, right: Document) -> Iterator[tuple[str, str, str]]:
    one = {"scenario": left["scenario"], "seed": left["seed"], **left["options"]}
    other = {"scenario": right["scenario"], "seed": right["seed"], **right["options"]}
    for name in dict.fromkeys((*one, *other)):
        if one.get(name) != other.get(name):
            yield name, str(one.get(name, "not told")), str(other.get(name, "not told"))


def _verdict(run: Document) -> str:
    return "passed" if run["passed"] else "failed"


def _pairs(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Places of what belongs together in two sequences, in order; -1 where the other has nothing."""
    for kind, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if kind == "equal":
            yield from zip(range(a, b), range(c, d), strict=True)
        else:
            yield from ((place, -1) for place in range(a, b))
            yield from ((-1, place) for place in range(c, d))


def _flows(left: Sequence[Document], right: Sequence[Document], names: tuple[Names, Names]) -> Iterator[Difference]:
    # The number at the end of a made-up name counts flows of the whole run, also those that are not told.
    keys = [
        [re.sub(r" #\d+$", "", its.text(flow["name"])) for flow in flows]
        for its, flows in zip(names, (left, right), strict=True)
    ]
    for one, other in _pairs(*keys):
        if one < 0 or other < 0:
            name = (left[one] if other < 0 else right[other])["name"]
            there = ("it was sent", "no such flow")
            told = there if other < 0 else there[::-1]
            yield Difference(f"flow {name}", "flow", *told)
            continue
        yield from _flow(left[one], right[other], names, f"flow {left[one]['name']}", (left[one], right[other]))


def _flow(
    left: Document, right: Document, names: tuple[Names, Names], where: str, of: tuple[Document, Document]
) -> Iterator[Difference]:
    flows: dict[str, Any] = {"left_flow": of[0]["name"], "right_flow": of[1]["name"]}
    ways = [
        one
        for way, word in (("forward", "there"), ("reply", "back"))
        for one in _way(left, right, names, way, f"{where}, {word}", flows)
    ]
    yield from _picked(ways, left, right, names) or ways
    if left["outcome"] != right["outcome"]:
        yield Difference(where, "outcome", _outcome(left), _outcome(right), **flows)
    causes = [[f"{reason.get('cause')} at {reason.get('node')}" for reason in one["reasons"]] for one in (left, right)]
    if causes[0] != causes[1]:
        one, other = (", ".join(each) or "none" for each in causes)
        yield Difference(where, "reason", one, other, **flows)
    legs = left["legs"], right["legs"]
    if len(legs[0]) != len(legs[1]):
        one, other = (f"{len(each)} connections of proxies" for each in legs)
        yield Difference(where, "legs", one, other, **flows)
    for leg, its_match in zip(*legs, strict=False):
        yield from _flow(leg, its_match, names, f"{where}, leg {leg['leg']}", of)


def _picked(
    ways: Sequence[Difference], left: Document, right: Document, names: tuple[Names, Names]
) -> list[Difference]:
    """The one difference that explains all others of a flow: rules picked another endpoint of the same Service.

    Empty when that is not where the two begin to differ.
    """
    if not ways or ways[0].way != "forward" or min(ways[0].left_hop, ways[0].right_hop) < 0:
        return []
    chosen = [
        _endpoint(flow["forward"][place], its)
        for flow, place, its in ((left, ways[0].left_hop, names[0]), (right, ways[0].right_hop, names[1]))
    ]
    (one, service), (other, its_service) = chosen
    if not service or service != its_service or one == other:
        return []
    told = (f"{endpoint} of {service}, as its rules picked by chance" for endpoint in (one, other))
    return [replace(ways[0], what="endpoint", left=next(told), right=next(told))]


def _endpoint(hop: Document, names: Names) -> tuple[str, str]:
    """The endpoint that a rule of this hop rewrote the destination to, and its Service; '' where there is none."""
    for rule in hop["rules"]:
        found = re.match(r"endpoint (\S+)(?: \(.*?\))? of (\S+)$", rule["object"]) if rule["does"] == "DNAT" else None
        if found:
            return names.text(found[1]), found[2]
    return "", ""


def _outcome(flow: Document) -> str:
    return f"{flow['outcome']}: {flow['reason']}" if flow["reason"] else str(flow["outcome"])


def _way(
    left: Document,
    right: Document,
    names: tuple[Names, Names],
    way: str,
    where: str,
    flows: dict[str, Any],
) -> Iterator[Difference]:
    hops = left[way], right[way]
    nodes = [[names[side].place(hop["node"]) for hop in hops[side]] for side in (0, 1)]
    for one, other in _pairs(*nodes):
        at: dict[str, Any] = {**flows, "way": way, "left_hop": one, "right_hop": other}
        if one < 0 or other < 0:
            side, place = (0, one) if other < 0 else (1, other)
            told = ("the packet passes here", "it was not seen here")
            yield Difference(f"{where}, {hops[side][place]['node']}", "hop", *(told if other < 0 else told[::-1]), **at)
            continue
        seen = [
            facts(hops[s][p], names[s], flow["protocol"], reply=way == "reply")
            for s, p, flow in ((0, one, left), (1, other, right))
        ]
        for what, value in seen[0].items():
            if value != seen[1][what]:
                yield Difference(f"{where}, {hops[0][one]['node']}", what, value, seen[1][what], **at)


def _checks(left: Sequence[Document], right: Sequence[Document], names: tuple[Names, Names]) -> Iterator[Difference]:
    keys = [[its.text(check["name"]) for check in checks] for its, checks in zip(names, (left, right), strict=True)]
    for one, other in _pairs(*keys):
        if one < 0 or other < 0:
            name = (left[one] if other < 0 else right[other])["name"]
            told = ("it was made", "no such check")
            yield Difference(f"check {name}", "check", *(told if other < 0 else told[::-1]))
        elif left[one]["passed"] != right[other]["passed"]:
            yield Difference(f"check {left[one]['name']}", "check", _check(left[one]), _check(right[other]))


def _check(check: Document) -> str:
    return "holds" if check["passed"] else f"does not hold: {check['observed']}"


def _spread(left: Sequence[Document], right: Sequence[Document], names: tuple[Names, Names]) -> Iterator[Difference]:
    for one, other in zip(left, right, strict=False):
        if min(one.get("flows", 0), other.get("flows", 0)) < MANY:
            continue
        for what in ("entered", "answered"):
            got = [
                sorted(names[side].place(name) or "nobody" for name in spread.get(what, ()))
                for side, spread in ((0, one), (1, other))
            ]
            if got[0] != got[1]:
                word = "nodes that flows entered by" if what == "entered" else "who answered"
                yield Difference(f"equal flows, {one.get('title', '')}", word, ", ".join(got[0]), ", ".join(got[1]))
