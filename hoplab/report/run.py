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
from hoplab.report.spread import Spread

__all__ = ["Explain", "RunReport", "all_hold", "explain_by", "explain_nothing"]

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace to draw: what it is, and on which node it lives."""

    name: str
    role: str
    """client, balancer, router, node, pod, switch, host."""
    host: str = ""
    """A pod's node, '' for a machine."""
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Topology:
    """The lab as it stood at the end of the run, for whoever draws it."""

    places: tuple[Place, ...] = ()
    links: tuple[tuple[str, str, str, str], ...] = ()
    """Cables: place, its interface, place, its interface."""


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
    started_at: float = 0.0
    """Seconds since 1970; 0 when nobody looked at the clock."""
    options: Mapping[str, str] = field(default_factory=lambda: _NONE)
    """What was chosen for the run, by name: balancer, proxy mode, fabric, ..."""
    topology: Topology = Topology()
    spread: tuple[Spread, ...] = ()
    """Where equal flows went, also those that are not told one by one."""


def all_hold(checks: Sequence[Check]) -> bool:
    """The verdict: there is at least one check, and every one holds."""
    return bool(checks) and all(check.passed for check in checks)


def explain_by(objects: Mapping[str, str]) -> Explain:
    """An `Explain` from a table of chains and comments to objects; the chain is looked up first."""

    def explain(hit: RuleHit) -> str:
        found = objects.get(hit.chain) or objects.get(hit.comment)
        return found or next((objects[word] for word in hit.verdict.split() if word in objects), "")

    return explain
