"""What checks look at in a flow, and the words for what they find missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from hoplab.hops.reason import Reason
from hoplab.hops.story import Flow, Hop, RuleHit
from hoplab.hops.words import endpoint, frames_words, rule_words, tuple_words, way_words


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation and what became of it; the fields are those of the run's JSON."""

    name: str
    passed: bool
    expected: str
    observed: str
    evidence: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    """Of a failed check: why the flow that it is about went wrong."""


def on_hop(
    title: str,
    expected: str,
    flow: Flow,
    on: str,
    fault: Callable[[Hop], str],
    evident: Callable[[RuleHit], bool] | None = None,
    *,
    reply: bool = False,
) -> Check:
    """A check of the hops in one namespace: it passes when one of them has no fault."""
    hops = [hop for hop in (flow.reply if reply else flow.forward) if hop.node == on]
    if not hops:
        return Check(title, False, expected, absent(flow, on), ways(flow.reply if reply else flow.forward))
    faults = [fault(hop) for hop in hops]
    good = next((hop for hop, words in zip(hops, faults, strict=True) if not words), None)
    rules = [rule_words(hit) for hop in hops for hit in hop.rules if evident is not None and evident(hit)]
    evidence = (*ways([good] if good else hops), *(f"rule {words}" for words in dict.fromkeys(rules)))
    observed = rewrite_words(good) if good else "; ".join(dict.fromkeys(faults))
    return Check(title, good is not None, expected, observed, evidence)


def gaps(hops: Sequence[Hop]) -> list[str]:
    """Where a way was not seen whole: an end of a hop without a frame, or a change between two hops."""
    faults = []
    for number, hop in enumerate(hops):
        first, last = number == 0, number == len(hops) - 1
        if first and hop.in_interface is not None:
            faults.append(f"{hop.node} was not seen to make it: it came in by {hop.in_interface}")
        if not first and hop.in_interface is None:
            faults.append(f"no frame shows it coming into {hop.node}")
        if not last and hop.out_interface is None:
            faults.append(f"no frame shows it leaving {hop.node}")
        if last and hop.out_interface is not None:
            faults.append(
                f"it left {hop.node} by {hop.out_interface} ({frames_words(hop.frames)}) and was not seen again"
            )
        if last:
            continue
        following = hops[number + 1]
        if hop.after != following.before or _ttl_differs(hop, following):
            faults.append(
                f"between {hop.node} ({tuple_words(hop.after)}, TTL {hop.ttl_out}) and {following.node}"
                f" ({tuple_words(following.before)}, TTL {following.ttl_in}) something changed it unseen"
            )
    return faults


def _ttl_differs(hop: Hop, following: Hop) -> bool:
    return hop.ttl_out is not None and following.ttl_in is not None and hop.ttl_out != following.ttl_in


def unseen(hop: Hop, flow: Flow) -> str:
    """Which end of a hop no frame shows; '' when both do, or when the packet was made or taken there."""
    made = hop.in_interface is None and not _is_origin(hop, flow)
    ended = hop.out_interface is None and not _is_destination(hop, flow)
    if made and ended:
        return f"no frame shows it in {hop.node}"
    if made:
        return f"no frame shows it coming into {hop.node}"
    return f"no frame shows it leaving {hop.node}" if ended else ""


def _is_origin(hop: Hop, flow: Flow) -> bool:
    """The sender's own hop, or that of an answer made where the packet was delivered."""
    if hop in flow.forward[:1]:
        return True
    return hop in flow.reply[:1] and hop.node == flow.forward[-1].node


def _is_destination(hop: Hop, flow: Flow) -> bool:
    """Where the packet was delivered, which only an answer made there proves; or the sender, for an answer."""
    if hop in flow.forward[-1:]:
        answered = bool(flow.reply) and flow.reply[0].node == hop.node and flow.reply[0].in_interface is None
        return answered and not _went_on(flow, hop.node)
    return hop in flow.reply[-1:] and hop.node == flow.forward[0].node


def _went_on(flow: Flow, node: str) -> bool:
    """Whether another packet of the flow passed through: then an end in this namespace only looks like one.

    Its own beginning is none: who asks itself through a Service is both ends.
    """
    return any(
        hop.node == node and hop.in_interface is not None
        for passage in flow.passages
        if not passage.reply
        for hop in passage.hops[:-1]
    )


def receiver(flow: Flow) -> Hop | None:
    """The hop that the first packet ended in, proved by an answer that was made there."""
    last = flow.forward[-1] if flow.forward else None
    if last is None or last.in_interface is None or last.out_interface is not None:
        return None
    return last if _is_destination(last, flow) else None


def absent(flow: Flow, on: str = "") -> str:
    """Why there is nothing to look at."""
    seen = " -> ".join(hop.node for hop in flow.forward) or "nowhere"
    words = f"the packet was not seen in {on}" if on else "the packet was not seen to be delivered"
    return f"{words} (seen in: {seen})" + (f"; {flow.reason}" if flow.reason else "")


def lost(flow: Flow, node: str, source: Literal["frames", "trace", "conntrack"]) -> str:
    """What the observer could not keep of this kind in this namespace, in words; '' for nothing."""
    number = sum(loss.lost for loss in flow.losses if loss.node == node and loss.source == source)
    return f"{number} {source} events of {node} were lost" if number else ""


def ways(hops: Iterable[Hop]) -> tuple[str, ...]:
    """Evidence: for each hop its interfaces and frames."""
    return tuple(f"{way_words(hop)}: {frames_words(hop.frames)}" for hop in hops)


def rewrite_words(hop: Hop) -> str:
    """'destination A -> B, source C -> D' of a hop, or what it passed on unchanged."""
    before, after = hop.before, hop.after
    words = []
    for what, old, new in (
        ("destination", (before.dst, before.dport), (after.dst, after.dport)),
        ("source", (before.src, before.sport), (after.src, after.sport)),
    ):
        if old != new:
            words.append(f"{what} {endpoint(*old)} -> {endpoint(*new)}")
    return ", ".join(words) or f"{tuple_words(before)} unchanged"


def source_words(hop: Hop) -> str:
    """What became of the source."""
    if hop.before.src == hop.after.src:
        return f"the source stayed {hop.before.src}"
    return f"the source became {endpoint(hop.after.src, hop.after.sport)}"


def without_rule(hop: Hop) -> str:
    """What the trace of a hop showed instead of the rule that was looked for."""
    if not hop.rules:
        return f"no rule trace of the packet exists in {hop.node}"
    last = hop.rules[-1]
    return f"none of the {len(hop.rules)} rules met in {hop.node} was such a one; the last was {rule_words(last)}"


_MASQUERADE = re.compile(r"(?<![\w-])masquerade(?![\w-])", re.IGNORECASE)
_ELSEWHERE = re.compile(r"\b(?:jump|goto)\s+\S+", re.IGNORECASE)


def is_masquerade(hit: RuleHit) -> bool:
    """iptables' MASQUERADE target or nftables' masquerade statement; a chain or a comment of that name does nothing."""
    if 'xt target "MASQUERADE"' in hit.rule:
        return True
    unquoted = "".join(hit.rule.split('"')[::2])
    return _MASQUERADE.search(_ELSEWHERE.sub("", unquoted)) is not None
