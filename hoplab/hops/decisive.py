"""Which of the rules that a packet met decided, and the Kubernetes object behind a rule.

Of all rules that a packet meets, a few decide: the ones that rewrite, refuse or drop.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hoplab.hops.findings import is_masquerade
from hoplab.hops.story import Hop, RuleHit

Explain = Callable[[RuleHit], str]
"""The Kubernetes object behind a rule, in words ('endpoint d of default/service-b'); '' when there is none."""

_REWRITES = re.compile(
    r"(?:-j |\b)(?:DNAT|SNAT|REDIRECT|NETMAP|TPROXY)\b|\b(?:dnat|snat|redirect|tproxy)\b", re.IGNORECASE
)


def explain_nothing(_hit: RuleHit) -> str:
    """An `Explain` that knows no objects."""
    return ""


def decides(hit: RuleHit) -> str:
    """What a rule does to the packet: 'DNAT', 'SNAT', 'masquerade', 'reject', 'drop', or '' for nothing final."""
    if hit.verdict.lower() == "drop":
        return "reject" if "reject" in unquoted(hit.rule).lower() else "drop"
    if hit.rule == "policy" or hit.verdict.startswith(("jump", "goto", "return")):
        return ""
    if is_masquerade(hit):
        return "masquerade"
    found = _REWRITES.search(unquoted(hit.rule))
    if found is None:
        return ""
    word = found.group().removeprefix("-j ").upper()
    return word if word in ("DNAT", "SNAT") else word.lower()


def decisive(hop: Hop) -> list[tuple[str, RuleHit]]:
    """The rules of a hop that decided, each with what it did."""
    return [(what, hit) for hit in hop.rules if (what := decides(hit))]


def object_behind(hop: Hop, hit: RuleHit, explain: Explain = explain_nothing) -> str:
    """The Kubernetes object that a rule stands for; else the one of the nearest rule before it that has one."""
    at = next((i for i, one in enumerate(hop.rules) if one is hit), -1)
    for one in (hit, *reversed(hop.rules[:at])) if at >= 0 else (hit,):
        found = explain(one)
        if found:
            return found
        if one.hook != hit.hook:
            break
    return hit.comment


def unquoted(rule: str) -> str:
    """A rule's text without what stands in quotes: comments do nothing."""
    return "".join(rule.split('"')[::2])
