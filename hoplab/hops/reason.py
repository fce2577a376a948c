"""Why a flow did not end as it should: a cause, where it lies, the object behind it, the evidence, what to do next.

A reason is what a person would say who had watched every interface, every rule trace
and every counter.  It is made from what the kernel was seen to do and answered when
asked (`hoplab.reasons` decides, docs/reasons.md explains every cause); it never comes
from the configuration that the lab itself wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Cause = Literal[
    "rule",
    "policy",
    "invalid-state",
    "health-check",
    "no-candidates",
    "no-endpoint-chosen",
    "uneven-choice",
    "no-route",
    "forwarding-off",
    "reverse-path",
    "no-arp-answer",
    "wrong-gateway",
    "wrong-neighbour",
    "link-down",
    "ttl",
    "mtu",
    "port-closed",
    "conntrack-full",
    "queue-full",
    "stale-conntrack",
    "answer-bypasses-nat",
    "bridge-netfilter-off",
    "hairpin-off",
    "hairpin-not-masqueraded",
    "duplicate-address",
    "per-packet-balancing",
    "wrong-source",
    "not-rewritten",
    "unknown",
]
"""One word for each cause; docs/reasons.md has a section for each."""

CAUSES: tuple[Cause, ...] = get_args(Cause)


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason.  Of several on a flow the likeliest comes first."""

    cause: Cause
    node: str
    """The namespace where the fault lies: where something has to be changed."""
    words: str
    """One sentence: what took the packet, or turned its answer into nobody's."""
    object: str = ""
    """The Kubernetes object, the rule, the address or the device that it is about, '' when there is none."""
    last_seen: str = ""
    """Where the packet (or its answer) was last seen: namespace, interface, frame."""
    interface: str = ""
    frame: int = 0
    """Number of that frame, 0 when no frame shows it."""
    evidence: tuple[str, ...] = ()
    """What was seen and what the kernel answered, a line each."""
    next_step: str = ""
    """What a person would do next."""
    decided: bool = True
    """False: the evidence fits the other reasons of the flow as well."""
    experiment: str = ""
    """If it is not decided: what to try, and what each result would mean."""
