"""Where equal flows went: by which node they entered the cluster, and who answered.

One flow shows a way; many show a choice.  Flows are equal when the same sender asked
the same address and port by the same protocol.  What is counted was seen: a node
because its frames were, an endpoint because an answer was made there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from hoplab.hops.findings import receiver
from hoplab.hops.story import Flow
from hoplab.hops.words import endpoint

FEWEST = 4
"""Equal flows, below which a picture of their spread would say nothing."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Equal flows, counted; the counts of each mapping add up to `flows`."""

    title: str
    flows: int
    entered: Mapping[str, int]
    """First node -> flows; '' for those that no node was seen to get."""
    answered: Mapping[str, int]
    """Place that made the answer -> flows; '' for those that nobody was seen to answer."""
    outcomes: Mapping[str, int]


def spreads(flows: Sequence[Flow], nodes: Collection[str], fewest: int = FEWEST) -> tuple[Spread, ...]:
    """The spread of each group of at least `fewest` equal flows; `nodes` are the names of the cluster's nodes."""
    groups: dict[tuple[str, str, str], list[Flow]] = {}
    for flow in flows:
        if flow.forward:
            first = flow.forward[0].before
            groups.setdefault((flow.sender, endpoint(first.dst, first.dport), flow.protocol), []).append(flow)
    return tuple(_spread(key, group, nodes) for key, group in groups.items() if len(group) >= fewest)


def _spread(key: tuple[str, str, str], flows: Sequence[Flow], nodes: Collection[str]) -> Spread:
    sender, to, protocol = key
    entered = Counter(next((hop.node for hop in flow.forward if hop.node in nodes), "") for flow in flows)
    answered: Counter[str] = Counter()
    for flow in flows:
        last = receiver(flow)
        answered[last.node if last else ""] += 1
    outcomes = Counter(flow.outcome for flow in flows)
    return Spread(
        f"{sender} to {to}, {protocol}", len(flows), _sorted(entered), _sorted(answered), dict(outcomes.most_common())
    )


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts)}
