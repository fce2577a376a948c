"""A reason as lines of text, for reports that are plain text; and where each reason of a run was met."""

from __future__ import annotations

from collections.abc import Iterable

from hoplab.hops.reason import Reason
from hoplab.hops.story import Flow


def reason_lines(reason: Reason) -> list[str]:
    """The cause first, then object, place, evidence and what to do."""
    lines = [f"reason: {reason.cause} in {reason.node}: {reason.words}"]
    lines += [f"  about: {reason.object}"] if reason.object else []
    lines += [f"  last seen: {reason.last_seen}"] if reason.last_seen else []
    lines += [f"  evidence: {one}" for one in reason.evidence]
    lines += [f"  next: {reason.next_step}"] if reason.next_step else []
    lines += [f"  not decided; to tell: {reason.experiment}"] if reason.experiment else []
    return lines


def by_reason(flows: Iterable[Flow]) -> list[tuple[Reason, list[Flow]]]:
    """Each cause and node once, the most frequent first, with the flows that it is about."""
    found: dict[tuple[str, str], tuple[Reason, list[Flow]]] = {}
    for flow in flows:
        for reason in flow.reasons:
            found.setdefault((reason.cause, reason.node), (reason, []))[1].append(flow)
    return sorted(found.values(), key=lambda one: -len(one[1]))
