"""Holds what was foretold of a flow against what was seen of it; neither is a verdict about the other's subject.

A disagreement means that the kernel did something that the rule text doesn't say, that the evaluator is wrong, or that
the evidence is incomplete: it is shown with both paths side by side, so that a person can tell which.  What was seen is
known here only by its shape (the flow's outcome and hops); whoever compares also says how a masquerade rule is known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any, Protocol

from hoplab.model.cluster_walk import FlowPrediction, PredictedHop
from hoplab.model.state import Step


class SeenTuple(Protocol):
    """Addresses and ports as frames showed them."""

    @property
    def src(self) -> str:
        """Source address."""

    @property
    def sport(self) -> int | None:
        """Source port."""

    @property
    def dst(self) -> str:
        """Destination address."""

    @property
    def dport(self) -> int:
        """Destination port."""


class SeenRule(Protocol):
    """A rule that the packet was traced in."""

    @property
    def table(self) -> str:
        """The rule's table."""

    @property
    def chain(self) -> str:
        """The rule's chain."""

    @property
    def verdict(self) -> str:
        """What it decided."""


class SeenHop(Protocol):
    """One passage that was seen."""

    @property
    def node(self) -> str:
        """The namespace."""

    @property
    def in_interface(self) -> str | None:
        """The interface it came in by; None for its sender."""

    @property
    def before(self) -> SeenTuple:
        """As it came in."""

    @property
    def after(self) -> SeenTuple:
        """As it left."""

    @property
    def rules(self) -> Sequence[SeenRule]:
        """The rules that were traced."""


class SeenFlow(Protocol):
    """A flow that was seen: `hoplab.hops.story.Flow` has this shape."""

    @property
    def outcome(self) -> str:
        """accepted, rejected, dropped or unanswered."""

    @property
    def forward(self) -> Sequence[SeenHop]:
        """The hops of its first packet."""

    @property
    def reason(self) -> str:
        """What was seen, in words, for anything but accepted."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether a flow did what was foretold; `prediction` is the one it agrees with, else the nearest."""

    agrees: bool
    text: str
    prediction: FlowPrediction | None = None


_SEEN_AS = {
    "accepted": ("accepted",),
    "rejected": ("rejected", "unanswered"),
    "dropped": ("dropped", "unanswered"),
    "unhandled": ("accepted", "rejected", "dropped", "unanswered"),
}
"""How each foretold outcome may look.  A drop by the routing leaves no trace, so nothing at all is seen of it; the
kernel limits how often it tells that there is no way (ip_error in net/ipv4/route.c), so an answer may be missing;
what no Service rule takes may be answered by whoever happens to have the address, refused, or vanish."""


def compare(
    observed: SeenFlow, predictions: Sequence[FlowPrediction], *, is_masquerade: Callable[[Any], bool]
) -> Agreement:
    """Whether the flow went one of the ways that were foretold with a probability above 0.

    It must have the same outcome, the same endpoint, the same nodes in the same order, and a masquerade on the same
    nodes. `is_masquerade` tells of a traced rule whether it masquerades (hoplab.hops.findings.is_masquerade).
    """
    possible = [each for each in predictions if each.probability > 0]
    if not possible:
        return Agreement(False, "nothing was foretold")
    faults = [(_faults(observed, each, is_masquerade), each) for each in possible]
    wrong, nearest = min(faults, key=lambda pair: (len(pair[0]), -pair[1].probability))
    if not wrong:
        chance = f"probability {nearest.probability}"
        return Agreement(True, f"{_told(nearest)}, as foretold ({chance})", nearest)
    return Agreement(False, _disagreement(observed, nearest, wrong, len(possible)), nearest)


def _faults(observed: SeenFlow, prediction: FlowPrediction, is_masquerade: Callable[[Any], bool]) -> list[str]:
    faults = []
    passed = _passed(observed.forward)
    nodes = [hop.node for hop in passed]
    foretold = list(prediction.nodes)
    # Whoever answers where nobody is known to be, and is seen nowhere that is known, was made by somebody else's hand.
    elsewhere = prediction.open_end and prediction.outcome == "dropped" and nodes == foretold
    if observed.outcome not in _SEEN_AS["unhandled" if elsewhere else prediction.outcome]:
        faults.append(f"outcome: seen {observed.outcome}, foretold {prediction.outcome}")
    if (nodes[: len(foretold)] if prediction.open_end else nodes) != foretold:
        faults.append(f"nodes: seen {_way(nodes)}, foretold {_way(foretold)}")
        return faults
    for seen, hop in zip(passed, prediction.hops, strict=False):
        to, expected = (seen.after.dst, seen.after.dport), (hop.after.dst, hop.after.dport)
        if to != expected:
            faults.append(f"{hop.node}: the destination became {_socket(*to)}, foretold {_socket(*expected)}")
        masqueraded = any(is_masquerade(rule) for rule in seen.rules)
        if masqueraded != hop.masqueraded:
            words = {True: "a masquerade", False: "no masquerade"}
            faults.append(f"{hop.node}: seen {words[masqueraded]}, foretold {words[hop.masqueraded]}")
        if seen.after.src != hop.after.src:
            faults.append(f"{hop.node}: the source became {seen.after.src}, foretold {hop.after.src}")
    return faults


def _passed(hops: Sequence[SeenHop]) -> list[SeenHop]:
    """The hops without those by which a node takes in what it sent to itself: the model tells both as one."""
    later = (hop for was, hop in pairwise(hops) if not (was.node == hop.node and hop.in_interface == "lo"))
    return [*hops[:1], *later]


def _disagreement(observed: SeenFlow, nearest: FlowPrediction, faults: list[str], count: int) -> str:
    which = "the one way foretold" if count == 1 else f"the nearest of {count} ways foretold"
    lines = [*faults, "", f"seen: {observed.outcome}{': ' + observed.reason if observed.reason else ''}"]
    lines += [f"{which} (probability {nearest.probability}): {_told(nearest)}", ""]
    # A hop's lines stand beside those of the same hop, however many rules either side names.
    seen, foretold = [], []
    for was, should in zip_longest(observed.forward, nearest.hops):
        left, right = _seen_lines(was) if was else [], _foretold_lines(should) if should else []
        length = max(len(left), len(right))
        seen += left + [""] * (length - len(left))
        foretold += right + [""] * (length - len(right))
    width = max((len(line) for line in (*seen, "seen")), default=0)
    lines += [f"{left:<{width}} | {right}".rstrip() for left, right in (("seen", "foretold"), ("", ""))]
    lines += [f"{left:<{width}} | {right}".rstrip() for left, right in zip(seen, foretold, strict=True)]
    return "\n".join(lines)


def _seen_lines(hop: SeenHop) -> list[str]:
    return [_hop_line(hop.node, hop.before, hop.after), *(f"  {_rule(each)}" for each in hop.rules)]


def _foretold_lines(hop: PredictedHop) -> list[str]:
    return [_hop_line(hop.node, hop.before, hop.after), *(f"  {_step(each)}" for each in hop.path)]


def _hop_line(node: str, before: SeenTuple, after: SeenTuple) -> str:
    line = f"{node}: {_socket(before.src, before.sport)} -> {_socket(before.dst, before.dport)}"
    if (before.src, before.dst, before.dport) != (after.src, after.dst, after.dport):
        line += f" => {_socket(after.src, after.sport)} -> {_socket(after.dst, after.dport)}"
    return line


def _rule(rule: SeenRule) -> str:
    return f"{rule.table} {rule.chain}: {rule.verdict}"


def _step(step: Step) -> str:
    return f"{step.table} {step.chain}: {step.verdict}"


def _told(prediction: FlowPrediction) -> str:
    words = f"{prediction.outcome} at {prediction.endpoint} by {_way(prediction.nodes)}"
    return f"{words} ({prediction.reason})" if prediction.reason else words


def _way(nodes: Sequence[str]) -> str:
    return " -> ".join(nodes) or "no hop"


def _socket(address: str, port: int | None) -> str:
    shown = "*" if port is None else str(port)
    return f"[{address}]:{shown}" if ":" in address else f"{address}:{shown}"
