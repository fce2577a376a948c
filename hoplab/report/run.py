"""What a run hands to its reporters: the verdict, the flows, and how the run itself went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from hoplab.hops.decisive import Explain, explain_nothing
from hoplab.hops.evidence import Loss
from hoplab.hops.findings import Check
from hoplab.hops.reason import Reason
from hoplab.hops.story import Flow, RuleHit

__all__ = ["Explain", "RunReport", "all_hold", "explain_by", "explain_nothing"]

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run of one scenario; the field names are those of the run's JSON."""

    scenario: str
    passed: bool
    seed: int
    timings_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds by phase: build, converge, probe, total, ..."""
    checks: tuple[Check, ...] = ()
    flows: tuple[Flow, ...] = ()
    artifacts: Mapping[str, str] = field(default_factory=lambda: _NONE)
    """Paths by kind: pcapng, page, story."""
    losses: tuple[Loss, ...] = ()
    problems: tuple[str, ...] = ()
    """What went wrong beside the verdict: an artifact that could not be written, a note about the machine."""
    reasons: tuple[Reason, ...] = ()
    """What no single flow shows: a choice that is uneven over many flows, say.  Those of flows are with the flows."""
    version: int = 1
    """Of the JSON's format."""


def all_hold(checks: Sequence[Check]) -> bool:
    """The verdict: there is at least one check, and every one holds."""
    return bool(checks) and all(check.passed for check in checks)


def explain_by(objects: Mapping[str, str]) -> Explain:
    """An `Explain` from a table of chains and comments to objects; the chain is looked up first."""

    def explain(hit: RuleHit) -> str:
        found = objects.get(hit.chain) or objects.get(hit.comment)
        return found or next((objects[word] for word in hit.verdict.split() if word in objects), "")

    return explain
