"""What each frame and each rule has to do with the story, for whoever shows frames or rules.

Of all rules that a packet meets, a few decide: the ones that rewrite, refuse or drop.
These stand in the story; the rest can be asked for.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from hoplab.hops.evidence import Frame
from hoplab.hops.findings import is_masquerade
from hoplab.hops.story import Flow, Hop, RuleHit
from hoplab.report.run import Explain, explain_nothing

_REWRITES = re.compile(
    r"(?:-j |\b)(?:DNAT|SNAT|REDIRECT|NETMAP|TPROXY)\b|\b(?:dnat|snat|redirect|tproxy)\b", re.IGNORECASE
)


def decides(hit: RuleHit) -> str:
    """What a rule does to the packet: 'DNAT', 'SNAT', 'masquerade', 'reject', 'drop', or '' for nothing final."""
    if hit.verdict.lower() == "drop":
        return "reject" if "reject" in _bare(hit.rule).lower() else "drop"
    if hit.rule == "policy" or hit.verdict.startswith(("jump", "goto", "return")):
        return ""
    if is_masquerade(hit):
        return "masquerade"
    found = _REWRITES.search(_bare(hit.rule))
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


def frame_comments(
    flows: Sequence[Flow], frames: Iterable[Frame], explain: Explain = explain_nothing
) -> dict[int, tuple[str, ...]]:
    """For each frame of a flow: which flow, packet and hop it belongs to, and what had been done to it by then.

    Flows count from 1, so Wireshark's filter is `frame.comment contains "flow 3:"`.
    """
    leaving = {frame.number for frame in frames if frame.direction == "out"}
    comments: defaultdict[int, list[str]] = defaultdict(list)
    every = [(f"flow {n}", flow) for n, flow in enumerate(flows, 1)]
    every += [(f"flow {n}, leg {leg.number}", leg.flow) for n, flow in enumerate(flows, 1) for leg in flow.legs]
    for what, flow in every:
        for passage in flow.passages:
            again = " (again)" if passage.retransmission else ""
            for place, hop in enumerate(passage.hops, 1):
                where = f"{passage.label}{again}, hop {place} of {len(passage.hops)}: {hop.node}"
                done = _done(hop, explain)
                for frame in hop.frames:
                    comments[frame].append(f"{what}: {where}")
                    if frame in leaving:
                        comments[frame] += [f"{what}: {one}" for one in done]
                if hop.out_interface is None and hop.frames:
                    refused = [one for one in done if one.startswith(("drop", "reject"))]
                    comments[hop.frames[-1]] += [f"{what}: {one}" for one in refused]
    return {frame: tuple(dict.fromkeys(texts)) for frame, texts in comments.items()}


def _done(hop: Hop, explain: Explain) -> list[str]:
    """'DNAT by KUBE-SEP-... for default/service-b', for each rule that decided; what no rule explains is told bare."""
    told = []
    for what, hit in decisive(hop):
        behind = object_behind(hop, hit, explain)
        told.append(f"{what} by {hit.chain}" + (f" for {behind}" if behind else ""))
    kinds = {what for what, _hit in decisive(hop)}
    if "DNAT" in hop.rewrite and not kinds & {"DNAT", "redirect"}:
        told.append("destination rewritten (connection tracking)")
    if "SNAT" in hop.rewrite and not kinds & {"SNAT", "masquerade"}:
        told.append("source rewritten (connection tracking)")
    return told


def _bare(rule: str) -> str:
    """A rule's text without what stands in quotes: comments do nothing."""
    return "".join(rule.split('"')[::2])
