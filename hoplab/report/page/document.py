"""What of a run its page holds: the run's JSON, with every packet's hops, each rule once, and no more than it bears.

A page with hundreds of flows would be megabytes of the same.  Flows that did not end
well come first, then one of each way that was gone, then the rest, until the budget is
spent; how many are left out is told in words, and the spread counts them all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hoplab.hops.story import Flow
from hoplab.report.json_report import Document, hop_document
from hoplab.report.run import RunReport

BUDGET = 240_000
"""Bytes of JSON for the flows of a page; with styles, scripts and checks it stays under 400 kB."""
CHECKS_BUDGET = 50_000
"""Bytes of JSON for its checks; a usual run has a fifth of that."""
MOST_PACKETS = 200
"""Packets of one exchange that are listed where it alone would be too much."""
MOST_NOTES = 20
MOST_TEXT = 2_000
"""Characters of one text of a check, a response, a problem: its middle is left out beyond."""
BRIEF_TEXT, BRIEF_LINES = 160, 2
"""The same, and lines of evidence, of a check for which there is little room left."""


def page_document(run: RunReport, document: Document) -> Document:
    """The page's data for a run and its JSON document (`to_document`)."""
    return trimmed(document, run.flows)


def trimmed(
    document: Document, flows: Sequence[Flow] = (), budget: int = BUDGET, checks_budget: int = CHECKS_BUDGET
) -> Document:
    """A run's JSON as its page holds it.

    Without `flows` (a run that was read from its JSON) packets other than the first
    and its answer have no hops.
    """
    rules: dict[str, int] = {}
    kept: dict[int, Document] = {}
    spent = 0
    told = document.get("flows", [])
    for number in _by_weight(told):
        known = len(rules)
        page = _flow(told[number], flows[number] if flows else None, rules)
        if not kept and _size(page) > budget:
            # The first one is there in any case: without every packet's hops, and of a long exchange the beginning.
            rules = {}
            page = _flow({**told[number], "passages": told[number].get("passages", [])[:MOST_PACKETS]}, None, rules)
        page["number"] = number + 1
        size = _size(page) + sum(map(len, list(rules)[known:]))
        if kept and spent + size > budget:
            rules = dict(list(rules.items())[:known])
            continue
        spent += size
        kept[number] = page
    checks = document.get("checks", [])
    shown = _checks(checks, checks_budget)
    return {
        **document,
        "flows": [kept[number] for number in sorted(kept)],
        "flows_left_out": len(told) - len(kept),
        "rules": [json.loads(text) for text in rules],
        "checks": [shown[number] for number in sorted(shown)],
        "checks_held": sum(bool(check["passed"]) for check in checks),
        "checks_made": len(checks),
        "problems": [short(problem) for problem in document.get("problems", ())[:MOST_NOTES]],
        "losses": document.get("losses", [])[:MOST_NOTES],
    }


def _size(data: object) -> int:
    return len(json.dumps(data))


def _checks(checks: Sequence[Document], budget: int) -> dict[int, Document]:
    """Checks by number, those that failed first: whole while there is room, then in brief, then none any more."""
    shown: dict[int, Document] = {}
    for number in sorted(range(len(checks)), key=lambda n: bool(checks[n]["passed"])):
        for page in (_shortened(checks[number]), _shortened(checks[number], BRIEF_TEXT, BRIEF_LINES)):
            # Half of the room is for the first ones in full.
            if _size(page) <= budget // 2:
                shown[number] = page
                budget -= _size(page)
                break
        else:
            return shown
    return shown


def _by_weight(flows: Sequence[Document]) -> list[int]:
    """Numbers of the flows, the most telling ones first."""
    ways: set[str] = set()
    ranks = []
    for number, flow in enumerate(flows):
        way = json.dumps([[hop["node"], hop["rewrite"]] for hop in (*flow["forward"], *flow["reply"])])
        new = way not in ways
        ways.add(way)
        ranks.append((flow["outcome"] == "accepted", not new, number))
    return [number for *_rank, number in sorted(ranks)]


def _flow(flow: Document, seen: Flow | None, rules: dict[str, int]) -> Document:
    page = dict(flow)
    page["forward"] = [_hop(hop, rules) for hop in flow["forward"]]
    page["reply"] = [_hop(hop, rules) for hop in flow["reply"]]
    page |= {key: short(flow.get(key, "")) for key in ("name", "reason", "response")}
    passages = []
    ways = {way: sorted(n for hop in flow[way] for n in hop["frames"]) for way in ("forward", "reply") if flow[way]}
    for place, passage in enumerate(flow.get("passages", [])):
        one = dict(passage)
        same = next((way for way, frames in ways.items() if frames == passage["frames"]), "")
        if same:
            one["same"] = same
            del ways[same]
        elif seen:
            one["hops"] = [_hop(hop_document(hop), rules) for hop in seen.passages[place].hops]
        passages.append(one)
    page["passages"] = passages
    page["legs"] = [
        _flow(leg, seen.legs[place].flow if seen else None, rules) for place, leg in enumerate(flow.get("legs", ()))
    ]
    return page


def _hop(hop: Document, rules: dict[str, int]) -> Document:
    """A hop whose rules are numbers in the page's list of rules."""
    return {**hop, "rules": [rules.setdefault(json.dumps(rule), len(rules)) for rule in hop.get("rules", ())]}


def _shortened(check: Document, most: int = MOST_TEXT, lines: int = 40) -> Document:
    """A check with its texts cut; its reasons are told with the flows."""
    cut = {key: short(check[key], most) for key in ("name", "expected", "observed")}
    return {**cut, "passed": check["passed"], "evidence": [short(one, most) for one in check["evidence"][:lines]]}


def short(text: Any, most: int = MOST_TEXT) -> str:
    """A text without its middle where it is longer than `most` characters."""
    text = str(text)
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"
